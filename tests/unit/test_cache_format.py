"""docs/cache-format.md, read with struct alone: what the pool writes is what the page says."""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import xxhash

from fastfeed._native.checksum import crc32c
from fastfeed.cache.memory import SEALS
from fastfeed.cache.slot_table import TableHeader, parse_header
from tests.helpers.cache_pools import CHUNK, KEY, Place, body, keep_house, place, put

SLOT = 1_052_672
LENGTH = 100_000


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.fixture
def files(here: Place) -> dict[str, bytes]:
    """Two chunks, the second one short, and a watermark over both."""
    with here.open() as pool:
        put(pool, 0)
        put(pool, 7, length=LENGTH)
        keep_house(pool)
    folder = here.root / "disk0" / "default"
    words = (here.words / "default.words").read_bytes()
    return {"slab": (folder / "slab.0").read_bytes(), "slots": (folder / "slots").read_bytes(), "words": words}


def test_a_trailer_describes_its_slot(files: dict[str, bytes]) -> None:
    slot = files["slab"][SLOT : 2 * SLOT]
    trailer = slot[1_048_576:]
    magic, generation, key, chunk, number, length, zero = struct.unpack_from("<8sQ16sQQII", trailer)
    assert (magic, key, chunk, number, length, zero) == (b"FFSLOT01", KEY, 7, 1, LENGTH, 0)
    assert generation % 2 == 0
    assert struct.unpack_from("<I", trailer, 4092)[0] == crc32c(trailer[:4092])
    checks = struct.unpack_from("<16I", trailer, 56)
    for i in range(16):
        part = slot[:LENGTH][65_536 * i : 65_536 * (i + 1)]
        seed = key + struct.pack("<QQQQ", number, generation, chunk, i)
        assert checks[i] == (crc32c(seed + part) if part else 0)
    assert trailer[120:4092] == bytes(3972)
    assert slot[:LENGTH] == body(KEY, 7, LENGTH)


def test_the_table_and_the_words_say_the_same_of_a_slot(files: dict[str, bytes]) -> None:
    table, words = files["slots"], np.frombuffer(files["words"], dtype="<u8")
    for index, (chunk, length) in enumerate([(0, CHUNK), (7, LENGTH)]):
        entry = table[4096 + 64 * index : 4096 + 64 * (index + 1)]
        fields = struct.unpack_from("<16sQQQI16s", entry)
        assert fields == (KEY, chunk, int(words[index]), index + 1, length, bytes(16))
        assert struct.unpack_from("<I", entry, 60)[0] == crc32c(entry[:60])
    assert all(word % 2 == 0 for word in words)
    assert all(word & (2**38 - 1) for word in words[:16]), "random, and no map entry of them is 0"
    assert not words[16:].any(), "slots beyond the limit have none yet"


def test_the_header_says_where_and_when(files: dict[str, bytes]) -> None:
    header = files["slots"][:4096]
    magic, version, flags, identity, first, region, boot, watermark, reused, day, written = struct.unpack_from(
        "<8sII16sQQ16sQQQQ", header
    )
    assert (magic, version, flags, first) == (b"FFSLOTS1", 1, 0, 0)
    assert identity == xxhash.xxh3_128_digest(b"default")
    assert region == len(files["words"]) // 8
    assert (boot, watermark, reused, day, written) == (bytes(16), 2, 0, 0, CHUNK + LENGTH)
    assert struct.unpack_from("<I", header, 508)[0] == crc32c(header[:508])
    assert header[96:508] == bytes(412)
    assert header[512:] == bytes(3584)


def test_what_is_no_header_is_none(files: dict[str, bytes]) -> None:
    good = files["slots"][:4096]
    assert parse_header(good, "slots") == TableHeader(good[16:32], 0, len(files["words"]) // 8, bytes(16), 2, False, 0,
                                                      CHUNK + LENGTH)  # fmt: skip
    for at in range(512):
        damaged = bytearray(good)
        damaged[at] ^= 1
        assert parse_header(bytes(damaged), "slots") is None
    assert parse_header(good[:4095], "slots") is None
    huge = bytearray(good)
    huge[40:48] = b"\xff" * 8
    huge[508:512] = struct.pack("<I", crc32c(bytes(huge[:508])))
    assert parse_header(bytes(huge), "slots") is None


def test_a_map_is_entries_and_keys_and_is_sealed(here: Place) -> None:
    with here.open() as pool:
        put(pool, 1)
        located = pool.find(KEY, 1)
        assert located is not None
        fd = pool.map_set([b"x" * 16, KEY], [3, 2]).client_fd()
        with open(fd, "rb") as file:
            data = file.read()
            assert fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS) == SEALS
    entry = located.slot << 38 | (located.generation & (2**38 - 1))
    assert located.entry == entry
    assert data == struct.pack("<5Q", 0, 0, 0, 0, entry) + b"x" * 16 + KEY
