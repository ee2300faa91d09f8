"""Shards whose checksums are right and whose content is not: every one is refused before it is used."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fastfeed._native.checksum import crc32c
from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format import layout
from fastfeed.format.layout import Section, SectionId
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.schema import Bytes, Scalar, Schema, Text
from fastfeed.format.verify import verify_shard
from tests.helpers.shard_parts import Parts, parts_of
from tests.helpers.shards import small_dictionary, write_shard, write_stream

U64_MAX = 2**64 - 1


@pytest.fixture(scope="module")
def rows_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    schema = Schema({"n": Scalar("int16", nullable=True), "t": Text(codec="zstd"), "b": Bytes()})
    samples = [{"n": i, "t": "word " * 20 * i, "b": bytes(range(i))} for i in range(5)]
    place = tmp_path_factory.mktemp("rows")
    return write_shard(place, schema, samples, dictionaries={"t": small_dictionary()}).path.read_bytes()


@pytest.fixture(scope="module")
def stream_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_stream(tmp_path_factory.mktemp("stream"), "uint16", [range(300), [], range(50)]).path.read_bytes()


@pytest.fixture
def rows(rows_bytes: bytes) -> Parts:
    return parts_of(rows_bytes)


@pytest.fixture
def stream(stream_bytes: bytes) -> Parts:
    return parts_of(stream_bytes)


def refused(parts: Parts, tmp_path: Path, because: str, error: type[Exception] = CorruptDataError) -> None:
    data = parts.build()
    with pytest.raises(error, match=because):
        ReferenceShard(data).check()
    path = tmp_path / "hostile.ffs"
    path.write_bytes(data)
    assert list(verify_shard(path)) != []


def test_taking_a_shard_apart_and_putting_it_together_changes_nothing(rows_bytes: bytes, stream_bytes: bytes) -> None:
    assert parts_of(rows_bytes).build() == rows_bytes
    assert parts_of(stream_bytes).build() == stream_bytes


# --- header ---


@pytest.mark.parametrize(
    ("offset", "form", "value", "because", "error"),
    [
        (8, "<H", 2, "format version 2.0", FormatVersionError),
        (16, "<Q", 1 << 63, "incompatible feature flags 0x8000000000000000", FormatVersionError),
        (12, "<I", 8192, "8192 bytes, not 4096", CorruptDataError),
        (72, "<I", 2, "layout 2", CorruptDataError),
        (76, "<B", 1, "reserved bytes 76..4091", CorruptDataError),
        (4091, "<B", 1, "reserved bytes 76..4091", CorruptDataError),
        (0, "<B", 0x47, "does not begin with FFSHARD1", CorruptDataError),
        (40, "<B", 0xEE, "crc32c|uid", CorruptDataError),
        (56, "<Q", 0, "fingerprint", CorruptDataError),
    ],
)  # fmt: skip
def test_a_hostile_header_is_refused(
    rows: Parts, tmp_path: Path, offset: int, form: str, value: int, because: str, error: type[Exception]
) -> None:
    struct.pack_into(form, rows.header, offset, value)
    refused(rows, tmp_path, because, error)


def test_a_newer_minor_version_and_compatible_flags_are_accepted(rows: Parts) -> None:
    struct.pack_into("<H", rows.header, 10, 7)
    struct.pack_into("<QQ", rows.header, 24, U64_MAX, U64_MAX)
    ReferenceShard(replace_uid_independent_checks(rows)).sample(1)


def replace_uid_independent_checks(parts: Parts) -> bytes:
    """The header is inside chunk 0: its checksum must follow."""
    head = parts.header
    struct.pack_into("<I", head, 4092, crc32c(bytes(head[:4092])))
    parts.put(SectionId.CHUNK_CHECKSUMS, struct.pack("<I", crc32c(bytes(head) + parts.payload)))
    return parts.build()


# --- trailer ---


@pytest.mark.parametrize(
    ("offset", "form", "value", "because"),
    [
        (8, "<Q", U64_MAX, "does not lie right before the trailer"),
        (8, "<Q", 0, "does not lie right before the trailer"),
        (16, "<Q", U64_MAX - 31, "does not hold"),
        (16, "<Q", 2**63, "does not hold"),
        (24, "<Q", U64_MAX, "the trailer says 18446744073709551615 bytes"),
        (32, "<B", 0xEE, "the header is of shard"),
        (48, "<I", 0, "the directory has crc32c"),
        (52, "<I", 0, "0 sections"),
        (52, "<I", 65, "65 sections"),
        (52, "<I", 2**32 - 1, "4294967295 sections"),
        (56, "<I", 1, "reserved bytes of the trailer"),
    ],
)
def test_a_hostile_trailer_is_refused(
    rows: Parts, tmp_path: Path, offset: int, form: str, value: int, because: str
) -> None:
    rows.trailer = lambda trailer: struct.pack_into(form, trailer, offset, value)
    refused(rows, tmp_path, because)


# --- directory ---


def with_entry(index: int, **changes: int) -> Callable[[list[Section]], list[Section]]:
    def change(entries: list[Section]) -> list[Section]:
        entries[index] = replace(entries[index], **changes)
        return entries

    return change


@pytest.mark.parametrize(
    ("entries", "because"),
    [
        (with_entry(0, offset=U64_MAX - 7), "lies outside"),
        (with_entry(1, bytes=U64_MAX), "lies outside"),
        (with_entry(1, bytes=2**40), "lies outside"),
        (with_entry(0, offset=0), "lies outside"),
        (with_entry(0, offset=4097), "lies outside|off a multiple"),
        (with_entry(2, id=1), "ids ascend"),
        (with_entry(0, id=0), "does not begin with the shape"),
        (lambda entries: [entries[1], entries[0], *entries[2:]], "does not begin with|ids ascend"),
        (lambda entries: [entries[0], replace(entries[1], offset=entries[0].offset), *entries[2:]], "begins at"),
        (lambda entries: entries[:-1], "the last section ends at"),
        (lambda entries: [entries[0], *entries[2:]], "begins at"),
        (lambda entries: [], "0 sections"),
        (with_entry(1, crc=1), "row index has crc32c"),
    ],
)
def test_a_hostile_directory_is_refused(
    rows: Parts, tmp_path: Path, entries: Callable[[list[Section]], list[Section]], because: str
) -> None:
    rows.entries = entries
    refused(rows, tmp_path, because)


@pytest.mark.parametrize("offset", [4, 28])
def test_reserved_fields_of_a_directory_entry_must_be_zero(rows: Parts, tmp_path: Path, offset: int) -> None:
    rows.directory = lambda directory: directory[:offset] + b"\1" + directory[offset + 1 :]
    refused(rows, tmp_path, "reserved fields of shape")


def test_a_gap_between_sections_must_be_zero(rows: Parts, tmp_path: Path) -> None:
    rows.gap = b"\1"
    refused(rows, tmp_path, "are not zero")


def test_a_section_that_this_version_does_not_know_is_skipped_but_checked(rows: Parts, tmp_path: Path) -> None:
    rows.sections.append((40, b"from the future"))
    ReferenceShard(rows.build()).check()
    rows.entries = with_entry(-1, crc=1)
    refused(rows, tmp_path, "section 40 has another crc32c")


# --- shape, indexes ---


@pytest.mark.parametrize(
    ("offset", "form", "value", "because"),
    [
        (0, "<Q", 0, "0 rows"),
        (0, "<Q", 2**32, "4294967296 rows"),
        (0, "<Q", U64_MAX, "rows; a shard has"),
        (0, "<Q", 2**31, "values need"),
        (8, "<Q", U64_MAX - 7, "payload end"),
        (8, "<Q", 4096, "the payload ends at 4096"),
        (8, "<Q", 4097, "payload end 4097"),
        (16, "<Q", 8, "do not end at"),
        (16, "<Q", 2**63, "do not end at"),
        (24, "<Q", 1, "has 1 tokens"),
        (32, "<I", 2, "tokens of 2 bytes"),
        (36, "<B", 1, "reserved bytes 36..63"),
    ],
)
def test_a_hostile_shape_is_refused(
    rows: Parts, tmp_path: Path, offset: int, form: str, value: int, because: str
) -> None:
    shape = bytearray(rows.section(SectionId.SHAPE))
    struct.pack_into(form, shape, offset, value)
    rows.put(SectionId.SHAPE, bytes(shape))
    refused(rows, tmp_path, because)


@pytest.mark.parametrize(
    ("offset", "form", "value", "because"),
    [
        (16, "<Q", 8, "frame stride of 8"),
        (24, "<Q", 2**32, "4294967296 tokens"),
        (24, "<Q", 2**31, "do not end at"),
        (32, "<I", 3, "of 3 bytes"),
        (0, "<Q", 4, "values need"),
    ],
)
def test_a_hostile_shape_of_a_stream_is_refused(
    stream: Parts, tmp_path: Path, offset: int, form: str, value: int, because: str
) -> None:
    shape = bytearray(stream.section(SectionId.SHAPE))
    struct.pack_into(form, shape, offset, value)
    stream.put(SectionId.SHAPE, bytes(shape))
    refused(stream, tmp_path, because)


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("unit", [0, 511, 2**32 - 1])
def test_a_row_index_that_does_not_ascend_inside_the_payload_is_refused(
    rows: Parts, tmp_path: Path, row: int, unit: int
) -> None:
    index = bytearray(rows.section(SectionId.ROW_INDEX))
    struct.pack_into("<I", index, 4 * row, unit)
    rows.put(SectionId.ROW_INDEX, bytes(index))
    refused(rows, tmp_path, "the first frame begins|row index gives a frame")


@pytest.mark.parametrize("starts", [(1, 300, 300), (0, 351, 351), (0, 300, 299)])
def test_a_document_index_that_does_not_ascend_inside_the_tokens_is_refused(
    stream: Parts, tmp_path: Path, starts: tuple[int, ...]
) -> None:
    stream.put(SectionId.DOCUMENT_INDEX, struct.pack("<3I", *starts))
    refused(stream, tmp_path, "document index does not ascend")


def test_other_document_borders_are_found_by_the_uid(stream: Parts, tmp_path: Path) -> None:
    stream.put(SectionId.DOCUMENT_INDEX, struct.pack("<3I", 0, 299, 300))
    refused(stream, tmp_path, "the content has the uid")


@pytest.mark.parametrize(
    "section_id", [SectionId.CHUNK_CHECKSUMS, SectionId.SCHEMA, SectionId.ROW_INDEX, SectionId.LANES]
)
def test_a_shard_that_lacks_a_section_is_refused(rows: Parts, tmp_path: Path, section_id: SectionId) -> None:
    rows.drop(section_id)
    refused(rows, tmp_path, "missing|no row index|lanes")


def test_a_section_of_the_other_layout_is_refused(rows: Parts, stream: Parts, tmp_path: Path) -> None:
    rows.put(SectionId.PAGE_CHECKSUMS, bytes(4))
    refused(rows, tmp_path, "out of place")
    stream.put(SectionId.ROW_INDEX, bytes(12))
    refused(stream, tmp_path, "out of place")


def test_wrong_chunk_and_page_checksums_are_found(rows: Parts, stream: Parts, tmp_path: Path) -> None:
    rows.put(SectionId.CHUNK_CHECKSUMS, bytes(4))
    refused(rows, tmp_path, "are not what their checksum says")
    stream.put(SectionId.PAGE_CHECKSUMS, bytes(4))
    refused(stream, tmp_path, "are not what their checksum says")


# --- schema, dictionaries, lanes ---


@pytest.mark.parametrize("schema", [b"", b"\xff" * 4, b"\xff" * 4 + struct.pack("<I", 8) + bytes(8), bytes(64)])
def test_a_schema_section_that_is_none_is_refused(rows: Parts, tmp_path: Path, schema: bytes) -> None:
    rows.put(SectionId.SCHEMA, schema)
    refused(rows, tmp_path, "schema section")


def test_another_schema_is_refused_by_its_fingerprint(rows: Parts, tmp_path: Path) -> None:
    rows.put(SectionId.SCHEMA, Schema({"x": Scalar("int8")}).to_arrow().serialize().to_pybytes())
    refused(rows, tmp_path, "fingerprint")


def dictionaries(*each: bytes, count: int | None = None) -> bytes:
    packed = [layout.dictionary_hash(one) + struct.pack("<I", len(one)) + one for one in each]
    return struct.pack("<I", len(each) if count is None else count) + b"".join(sorted(packed))


@pytest.mark.parametrize(
    ("section", "because"),
    [
        (b"\1\0", "has 2 bytes"),
        (dictionaries(b"abc", count=0), "0 dictionaries"),
        (dictionaries(b"abc", count=2**32 - 1), "4294967295 dictionaries"),
        (dictionaries(b"\x37\xa4\x30\xec", count=2), "ends inside dictionary 1"),
        (dictionaries(b"\x37\xa4\x30\xec", b"\x37\xa4\x30\xec!") + b"\0", "1 bytes follow"),
        (dictionaries(b"abc")[:-1] + b"d", "another hash"),
        (struct.pack("<I", 1) + bytes(16) + struct.pack("<I", 2**32 - 1) + b"abc", "says 4294967295 bytes"),
        (struct.pack("<I", 2) + dictionaries(b"\x37\xa4\x30\xec")[4:] * 2, "ascending order"),
        (dictionaries(b"abc"), "begins as no zstd dictionary"),
        (dictionaries(b"\x37\xa4\x30\xec and more"), "which the shard does not have"),
    ],
)
def test_hostile_dictionaries_are_refused(rows: Parts, tmp_path: Path, section: bytes, because: str) -> None:
    rows.put(SectionId.DICTIONARIES, section)
    refused(rows, tmp_path, because)


@pytest.mark.parametrize("lanes", [b"", b"ARROW1\0\0" + bytes(40) + b"ARROW1"])
def test_lanes_that_are_no_arrow_file_are_refused(rows: Parts, tmp_path: Path, lanes: bytes) -> None:
    rows.put(SectionId.LANES, lanes)
    refused(rows, tmp_path, "lanes: not an Arrow file")


# --- the file ---


@pytest.mark.parametrize("size", [0, 1, 4096, 4096 + 64, 4096 + 64 + 32 + 63])
def test_a_file_too_short_for_a_shard_is_refused(rows_bytes: bytes, size: int) -> None:
    with pytest.raises(CorruptDataError, match="too few"):
        ReferenceShard(rows_bytes[:size])


def test_bytes_after_the_trailer_are_refused(rows_bytes: bytes) -> None:
    with pytest.raises(CorruptDataError, match="trailer"):
        ReferenceShard(rows_bytes + bytes(64))


def test_an_error_names_the_file(rows_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.ffs"
    path.write_bytes(rows_bytes[:-1])
    with pytest.raises(CorruptDataError, match=r"some\.ffs: "):
        ReferenceShard(path)
