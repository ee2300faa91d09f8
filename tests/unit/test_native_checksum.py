"""crc32c against an independent library, and the forms in which Python gets it."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed._native import checksum
from fastfeed.errors import ConfigError

UID = bytes(range(16))
RANDOM = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes()


@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_it_is_the_crc32c_of_another_library_whole_continued_and_combined(data: bytes, cut: int) -> None:
    expected = google_crc32c.value(data)
    assert checksum.crc32c(data) == expected
    assert checksum.crc32c_portable(data) == expected
    head, tail = data[:cut], data[cut:]
    assert checksum.crc32c(tail, checksum.crc32c(head)) == expected
    assert checksum.crc32c_portable(tail, checksum.crc32c_portable(head)) == expected
    assert checksum.crc32c_combine(checksum.crc32c(head), checksum.crc32c(tail), len(tail)) == expected


@given(st.integers(0, 200_000), st.integers(0, 200_000))
def test_long_and_unaligned_pieces_agree_too(start: int, stop: int) -> None:
    piece = memoryview(RANDOM)[start:stop]
    assert checksum.crc32c(piece) == google_crc32c.value(bytes(piece)) == checksum.crc32c_portable(piece)


def test_any_contiguous_buffer_will_do_and_no_other() -> None:
    array = np.arange(1000, dtype=np.float32).reshape(10, 100)
    assert checksum.crc32c(array) == checksum.crc32c(array.tobytes()) == checksum.crc32c(bytearray(array.tobytes()))
    assert checksum.crc32c(np.empty((0, 3))) == 0
    with pytest.raises((BufferError, ValueError)):
        checksum.crc32c(array[:, ::2])
    with pytest.raises(TypeError):
        checksum.crc32c("text")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000])
def test_blocks_are_crcs_of_their_bytes(size: int) -> None:
    data = RANDOM[:size]
    crcs = checksum.crc32c_blocks(data, 4096)
    assert crcs.dtype == np.uint32
    assert crcs.tolist() == [google_crc32c.value(data[i:i + 4096]) for i in range(0, size, 4096)]


def test_pages_are_seeded_with_uid_and_number() -> None:
    data = RANDOM[:3 * 4096]
    pages = [(7 + i).to_bytes(8, "little") + data[i * 4096:(i + 1) * 4096] for i in range(3)]
    expected = [google_crc32c.value(UID + page) for page in pages]
    assert checksum.crc32c_seeded_pages(data, UID, 7).tolist() == expected


def test_arguments_that_make_no_sense_are_named() -> None:
    with pytest.raises(ConfigError, match="block_bytes is 0"):
        checksum.crc32c_blocks(b"abc", 0)
    with pytest.raises(ConfigError, match="a uid has 16 bytes, this one 2"):
        checksum.crc32c_seeded_pages(bytes(4096), b"ab", 0)
    with pytest.raises(ConfigError, match="100 bytes are not whole pages"):
        checksum.crc32c_seeded_pages(bytes(100), UID, 0)
    with pytest.raises(OverflowError):
        checksum.crc32c(b"", 2**32)


def test_it_says_which_implementation_runs() -> None:
    assert checksum.implementation() in ("sse4.2", "armv8", "portable")
