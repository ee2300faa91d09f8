"""Frames whose crc is right and whose content is not: the reference reader and the core refuse them alike."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastfeed._native.checksum import crc32c, crc32c_seeded_pages
from fastfeed.errors import CorruptDataError
from fastfeed.format.layout import SectionId
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Schema, Tensor, Text
from fastfeed.format.verify import verify_shard
from tests.helpers.png import tiny_png
from tests.helpers.shard_parts import parts_of
from tests.helpers.shards import write_shard, write_stream

Edit = Callable[[bytearray], None]


def put(offset: int, form: str, value: int | bytes) -> Edit:
    return lambda frame: struct.pack_into(form, frame, offset, value)


def shard_with(column: ColumnType, value: Any, edit: Edit, place: Path) -> bytes:
    """A shard of one row whose frame was edited before every checksum was taken."""
    data = write_shard(place, Schema({"x": column}), [{"x": value}]).path.read_bytes()
    parts = parts_of(data)
    frame = bytearray(parts.payload)
    edit(frame)
    seed = crc32c(bytes(parts.header[40:56]) + struct.pack("<Q", 0))
    struct.pack_into("<I", frame, 0, crc32c(bytes(frame[4:]), seed))
    parts.payload = bytes(frame)
    parts.put(SectionId.CHUNK_CHECKSUMS, struct.pack("<I", crc32c(bytes(parts.header) + parts.payload)))
    return parts.build()


# A frame of one column: crc 0..3, stored length 4..7 where it is variable, null byte where nullable, fixed, variable.
@pytest.mark.parametrize(
    ("column", "value", "edit", "because"),
    [
        (Bytes(), b"abc", put(4, "<I", 2**32 - 1), "a head of 8 bytes and values of 4294967295"),
        (Bytes(), b"abc", put(4, "<I", 20), "in a frame of 16"),
        (Bytes(), b"abc", put(15, "B", 1), "padding at the end of the frame"),
        (Bytes(nullable=True), b"abc", put(8, "B", 1), "is null and has bytes"),
        (Bytes(nullable=True), b"abc", put(8, "B", 2), "null bits 0x2 beyond the 1"),
        (Scalar("int8", nullable=True), 5, put(4, "B", 1), "is null and has bytes"),
        (Scalar("bool"), True, put(4, "B", 2), "neither 0 nor 1"),
        (Tensor("bool", (2,)), [True, False], put(5, "B", 255), "neither 0 nor 1"),
        (Array("int16", (None,)), [1, 2], put(4, "<I", 3), "padding at the end|no multiple of 2"),
        (Array("int32", (None, 2)), [[0, 0]], put(4, "<I", 4), "no multiple of 8|head of 8"),
        (Text(), "abc", put(8, "B", 0xFF), "is no text"),
        (Json(), "abc", put(8, "B", 0xFF), "is no json"),
        (Json(), 123, put(8, "3s", b"NaN"), "NaN is no JSON"),
        (Json(), 12, put(8, "2s", b"{x"), "is no json"),
        (Image(), tiny_png(2, 2), put(8, "<I", 0), "an image of 0 x 2"),
        (Image(), tiny_png(2, 2), put(8, "<I", 2**32 - 1), "an image of 4294967295 x 2"),
        (Image(), tiny_png(2, 2), put(16, "B", 5), "5 channels"),
        (Image(), tiny_png(2, 2), put(17, "B", 4), "encoding 4"),
        (Image(), tiny_png(2, 2), put(18, "<H", 1), "reserved 1"),
        (Bytes(codec="zstd"), b"a" * 99, put(8, "<I", 2**32 - 1), "stored bytes for a value of 4294967295"),
        (Bytes(codec="zstd"), b"a" * 99, put(8, "<I", 3), "stored bytes for a value of 3"),
        (Bytes(codec="zstd"), b"a" * 99, put(8, "<I", 98), "column 'x'"),
        (Bytes(codec="zstd"), b"a" * 99, put(8, "<I", 100), "decodes to 99 bytes, not 100"),
        (Bytes(codec="zstd"), b"a" * 99, put(12, "<I", 0), "column 'x'"),
        (Bytes(codec="zstd"), b"a" * 99, put(16, "B", 0x24), "column 'x'"),
    ],
)
def test_a_hostile_frame_is_refused(column: ColumnType, value: Any, edit: Edit, because: str, tmp_path: Path) -> None:
    data = shard_with(column, value, edit, tmp_path)
    with pytest.raises(CorruptDataError, match=f"row 0: .*(?:{because})"):
        ReferenceShard(data).sample(0)
    path = tmp_path / "hostile.ffs"
    path.write_bytes(data)
    assert list(verify_shard(path)) != []


def test_a_frame_left_as_it_was_is_read(tmp_path: Path) -> None:
    assert ReferenceShard(shard_with(Bytes(), b"abc", lambda frame: None, tmp_path)).sample(0) == {"x": b"abc"}


@pytest.mark.parametrize("row", [-1, 1])
def test_a_row_out_of_range_is_an_index_error(row: int, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match=f"row {row} of 1"):
        ReferenceShard(shard_with(Bytes(), b"abc", lambda frame: None, tmp_path)).sample(row)


def test_lanes_that_say_otherwise_than_frames_are_found(tmp_path: Path) -> None:
    schema = Schema({"x": Bytes(), "n": Scalar("int16")})
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    one, other = (
        parts_of(write_shard(folder, schema, [{"x": b"abc", "n": n}]).path.read_bytes())
        for n, folder in enumerate(folders)
    )
    one.put(SectionId.LANES, other.section(SectionId.LANES))
    with pytest.raises(CorruptDataError, match="row 0: lane 'n' says 1, the frame 0"):
        ReferenceShard(one.build()).check()


def test_padding_of_a_stream_that_is_not_zero_is_found(tmp_path: Path) -> None:
    parts = parts_of(write_stream(tmp_path, "uint16", [[1, 2]]).path.read_bytes())
    parts.payload = parts.payload[:-1] + b"\1"
    uid = bytes(parts.header[40:56])
    parts.put(SectionId.PAGE_CHECKSUMS, crc32c_seeded_pages(parts.payload, uid, 0).tobytes())
    parts.put(SectionId.CHUNK_CHECKSUMS, struct.pack("<I", crc32c(bytes(parts.header) + parts.payload)))
    with pytest.raises(CorruptDataError, match="padding after the last token"):
        ReferenceShard(parts.build()).sample(0)
    path = tmp_path / "hostile.ffs"
    path.write_bytes(parts.build())
    assert any("padding after the last token" in finding.what for finding in verify_shard(path))
