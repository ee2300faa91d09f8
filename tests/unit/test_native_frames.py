"""Frames and zstd values through Python: layouts, bytes as docs/format.md has them, and each class of error."""

from __future__ import annotations

import pickle
import struct

import google_crc32c
import numpy as np
import pytest
import zstandard

from fastfeed._native.frames import (
    ColumnSpec,
    EncodedColumn,
    FrameLayout,
    ZstdDecoder,
    ZstdEncoder,
    seal_crcs,
)
from fastfeed.errors import ConfigError, CorruptDataError

UID = bytes(range(16))
LABEL = ColumnSpec("label", 0, 0, True, 8, 1, 8)
NAME = ColumnSpec("name", 4, 0, True, 1, 1, 0)


def encoded() -> tuple[FrameLayout, bytes, np.ndarray]:
    """Rows 7, 8, 9 of shard UID: (1, "ab"), (2, null), (null, "cde"); with their offsets."""
    layout = FrameLayout([LABEL, NAME])
    labels = np.array([1, 2, 3], dtype=np.int64).view(np.uint8)
    frames, sizes, body_crcs = layout.encode(3, [
        EncodedColumn(labels, None, None, np.array([0, 0, 1], dtype=np.uint8)),
        EncodedColumn(None, b"abXXcde", np.array([0, 2, 4, 7]), np.array([0, 1, 0], dtype=np.uint8)),
    ])
    crcs = seal_crcs(UID, 7, body_crcs, sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    raw = bytearray(frames.tobytes())
    for i in range(3):
        struct.pack_into("<I", raw, int(offsets[i]), int(crcs[i]))
    return layout, bytes(raw), offsets


def test_frames_are_the_bytes_of_the_specification() -> None:
    layout, data, offsets = encoded()
    assert (layout.head_size, layout.stride) == (17, 0)
    bodies = [
        struct.pack("<IBq", 2, 0b00, 1) + b"ab" + bytes(5),
        struct.pack("<IBq", 0, 0b10, 2) + bytes(7),
        struct.pack("<IBq", 3, 0b01, 0) + b"cde" + bytes(4),
    ]
    expected = b"".join(
        struct.pack("<I", google_crc32c.value(UID + struct.pack("<Q", 7 + i) + body)) + body
        for i, body in enumerate(bodies))
    assert data == expected
    assert offsets.tolist() == [0, 24, 48, 72]


def test_checking_finds_the_bad_frames_only() -> None:
    layout, data, offsets = encoded()
    for i in range(3):
        layout.check(data[int(offsets[i]):int(offsets[i + 1])], UID, 7 + i)
    assert layout.check_many(data, offsets, UID, 7) == []
    damaged = bytearray(data)
    damaged[30] ^= 1
    ((index, what),) = layout.check_many(damaged, offsets, UID, 7)
    assert index == 1
    assert "crc32c of the frame is 0x" in what
    assert [i for i, _ in layout.check_many(data, offsets, UID, 8)] == [0, 1, 2]
    assert layout.check_many(data, np.zeros(1, dtype=np.uint64), UID, 0) == []


def test_check_many_reports_offsets_that_leave_the_data_and_at_most_a_hundred_findings() -> None:
    layout, data, _ = encoded()
    outside = layout.check_many(data, np.array([0, 10_000], dtype=np.uint64), UID, 7)
    assert outside == [(0, "the frame is at bytes 0 to 10000 of 72")]
    falling = np.array([8, 0, 8, 0] * 200, dtype=np.uint64)
    assert len(layout.check_many(data, falling, UID, 7)) == 100


def test_a_layout_pickles() -> None:
    layout, data, offsets = encoded()
    again = pickle.loads(pickle.dumps(layout))
    assert again.specs == layout.specs == (LABEL, NAME)
    assert again.check_many(data, offsets, UID, 7) == []


def test_no_rows_are_no_frames() -> None:
    frames, sizes, body_crcs = FrameLayout([]).encode(0, [])
    assert (frames.size, sizes.size, body_crcs.size) == (0, 0, 0)
    assert seal_crcs(UID, 0, body_crcs, sizes).tolist() == []
    assert FrameLayout([]).stride == 8


def test_a_corrupt_frame_is_a_corrupt_data_error() -> None:
    layout, data, _ = encoded()
    with pytest.raises(CorruptDataError, match="those of another row or shard"):
        layout.check(data[:24], UID, 8)
    with pytest.raises(CorruptDataError, match="at least 17"):
        layout.check(data[:16], UID, 7)


def column(**changed: object) -> EncodedColumn:
    fields = {"fixed": None, "values": b"abc", "value_offsets": np.array([0, 1, 3]), "nulls": None}
    return EncodedColumn(**{**fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"value_offsets": np.array([0, 3])}, "2 offsets for 2 values"),
        ({"value_offsets": np.array([0, 2, 4])}, "offsets 0 to 4 leave the 3 bytes"),
        ({"value_offsets": np.array([-1, 2, 3])}, "offsets -1 to 3"),
        ({"value_offsets": np.array([0, 3, 2])}, "offset 2 is 2, below the one before, 3"),
        ({"value_offsets": None}, "its values are missing"),
        ({"values": None}, "leave the 0 bytes"),
        ({"nulls": np.zeros(3, dtype=np.uint8)}, "3 null flags for 2 rows"),
        ({"fixed": np.zeros(3, dtype=np.uint8)}, "3 bytes of fixed parts; 2 rows need 0"),
    ],
)
def test_columns_that_do_not_fit_are_config_errors(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FrameLayout([NAME]).encode(2, [column(**changed)])


def test_other_arguments_that_make_no_sense_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="fixed part of 4 bytes"):
        FrameLayout([LABEL._replace(fixed_size=4)])
    with pytest.raises(ConfigError, match="does not fit"):
        FrameLayout([LABEL._replace(item_size=2**40)])
    with pytest.raises(ConfigError, match="0 columns for a schema of 1"):
        FrameLayout([NAME]).encode(1, [])
    with pytest.raises(ConfigError, match="a uid has 16 bytes"):
        seal_crcs(b"short", 0, np.zeros(1, np.uint32), np.zeros(1, np.uint64))
    with pytest.raises(ConfigError, match="1 sizes for 2 crcs"):
        seal_crcs(UID, 0, np.zeros(2, np.uint32), np.zeros(1, np.uint64))


def test_zstd_values_are_frames_that_any_reader_knows() -> None:
    raw = b"some text that repeats. " * 100
    stored, offsets = ZstdEncoder(3).encode(raw + b"xyz", np.array([0, len(raw), len(raw) + 3]))
    frame = stored[:offsets[1]].tobytes()
    assert stored[offsets[1]:].tobytes() == b"xyz"
    assert zstandard.ZstdDecompressor().decompress(frame, max_output_size=len(raw)) == raw
    parameters = zstandard.get_frame_parameters(frame)
    assert (parameters.dict_id, parameters.has_checksum) == (0, False)
    assert ZstdDecoder().decode(frame, len(raw)) == raw


def test_a_dictionary_makes_small_values_smaller() -> None:
    samples = [b'{"name": "item %d", "kind": "record", "rank": %d}' % (i * 7919, i) for i in range(2000)]
    dictionary = zstandard.train_dictionary(2000, samples).as_bytes()
    data, offsets = b"".join(samples[:50]), np.cumsum([0, *map(len, samples[:50])])
    stored, at = ZstdEncoder(3, dictionary).encode(data, offsets)
    plain, _ = ZstdEncoder(3).encode(data, offsets)
    assert stored.size < plain.size / 2
    decoder = ZstdDecoder(dictionary)
    for i, sample in enumerate(samples[:50]):
        assert decoder.decode(stored[at[i]:at[i + 1]], len(sample)) == sample


def test_bad_zstd_values_and_arguments_are_their_errors() -> None:
    with pytest.raises(CorruptDataError, match="do not begin with a zstd frame"):
        ZstdDecoder().decode(b"nonsense", 100)
    with pytest.raises(CorruptDataError, match="dictionary"):
        ZstdDecoder(b"no dictionary")
    with pytest.raises(ConfigError, match="zstd level 99"):
        ZstdEncoder(99)
    with pytest.raises(ConfigError, match="a raw length of -1"):
        ZstdDecoder().decode(b"", -1)
    with pytest.raises(ConfigError, match="value_offsets is empty"):
        ZstdEncoder().encode(b"", np.zeros(0, dtype=np.int64))
