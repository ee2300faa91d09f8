"""Opening a shard: every check that its structures allow, before anything of it is used (docs/format.md, 2 and 7).

Used by the reference reader (with a crc32c in plain Python) and by verify (with the core's). Reads by ranges through
a function, so that a shard need not be in memory; what is kept is the sections. All sizes are bounded by the file's
before anything is read, and Python's integers do not overflow. Raises CorruptDataError or FormatVersionError; the
caller's `name` of the file opens each message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed.errors import CorruptDataError, FormatVersionError
from fastfeed.format import layout
from fastfeed.format.arrow_file import read_batch, read_schema
from fastfeed.format.layout import (
    CHUNK_BYTES,
    HEADER_BYTES,
    PAGE_BYTES,
    SECTION_ALIGN,
    TRAILER_BYTES,
    Crc32c,
    Header,
    LayoutKind,
    Section,
    SectionId,
    ShardShape,
    Trailer,
)
from fastfeed.format.schema import FRAME_BYTES_MAX, AnySchema, Schema, dictionary_hashes, schema_from_arrow

ReadRange = Callable[[int, int], bytes]  # (offset, length) -> exactly that many bytes

_ROWS_SECTIONS = {SectionId.SHAPE, SectionId.CHUNK_CHECKSUMS, SectionId.SCHEMA}
_ROWS_OPTIONAL = {SectionId.ROW_INDEX, SectionId.LANES, SectionId.DICTIONARIES}
_STREAM_SECTIONS = {*_ROWS_SECTIONS, SectionId.PAGE_CHECKSUMS, SectionId.DOCUMENT_INDEX}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStructure:
    """All of a shard but its payload, checked."""

    header: Header
    trailer: Trailer
    sections: dict[int, Section]
    shape: ShardShape
    schema: AnySchema
    frame_starts: npt.NDArray[np.uint64]  # [rows + 1] file offsets, the last is payload_end; streams: empty
    documents: npt.NDArray[np.uint32]  # streams: [rows], first token of each; else empty
    chunk_checksums: npt.NDArray[np.uint32]
    page_checksums: npt.NDArray[np.uint32]
    dictionaries_section: bytes
    dictionaries: dict[str, bytes]  # column -> dictionary
    lanes: pa.RecordBatch | None

    @property
    def uid(self) -> bytes:
        """The hash of the content, 16 bytes."""
        return self.header.uid

    @property
    def rows(self) -> int:
        """Samples; documents of a stream."""
        return self.shape.rows


def open_structure(read: ReadRange, file_bytes: int, crc32c: Crc32c, name: str) -> ShardStructure:
    """Read and check everything of the shard but its payload."""
    try:
        return _open(read, file_bytes, crc32c)
    except (CorruptDataError, FormatVersionError) as error:
        raise type(error)(f"{name}: {error}") from error


def _open(read: ReadRange, file_bytes: int, crc32c: Crc32c) -> ShardStructure:
    if file_bytes < HEADER_BYTES + layout.SHAPE_BYTES + layout.ENTRY_BYTES + TRAILER_BYTES:
        raise CorruptDataError(f"{file_bytes} bytes are too few for a shard")
    header = Header.unpack(read(0, HEADER_BYTES), crc32c)
    trailer = Trailer.unpack(read(file_bytes - TRAILER_BYTES, TRAILER_BYTES), file_bytes, crc32c)
    if trailer.uid != header.uid:
        raise CorruptDataError(f"the header is of shard {header.uid.hex()}, the trailer of {trailer.uid.hex()}")
    directory = read(trailer.directory_offset, trailer.directory_bytes)
    if crc32c(directory) != trailer.directory_crc:
        raise CorruptDataError(
            f"the directory has crc32c {crc32c(directory):08x}, the trailer says {trailer.directory_crc:08x}"
        )
    sections = {each.id: each for each in layout.unpack_directory(directory, trailer.directory_offset)}
    _check_gaps(read, list(sections.values()))
    loaded = _Sections(read, crc32c, sections)

    shape = ShardShape.unpack(loaded.get(SectionId.SHAPE), header.layout)
    if sections[SectionId.SHAPE].offset != shape.payload_end:
        raise CorruptDataError(
            f"the payload ends at {shape.payload_end}, the sections begin at {sections[SectionId.SHAPE].offset}"
        )
    _check_presence(header.layout, sections)
    stored_schema = _read_schema(loaded.get(SectionId.SCHEMA, layout.SCHEMA_BYTES_MAX))
    schema = schema_from_arrow(stored_schema)
    if schema.layout != header.layout.name.lower():
        raise CorruptDataError(f"a schema of layout {schema.layout} in a shard of layout {header.layout.name.lower()}")
    if schema.fingerprint != header.schema_fingerprint:
        raise CorruptDataError(
            f"the schema has fingerprint {schema.fingerprint.hex()}, the header says {header.schema_fingerprint.hex()}"
        )
    dictionaries_section = loaded.get(SectionId.DICTIONARIES, layout.DICTIONARIES_BYTES_MAX)
    structure = ShardStructure(
        header=header,
        trailer=trailer,
        sections=sections,
        shape=shape,
        schema=schema,
        frame_starts=_frame_starts(loaded, shape, schema),
        documents=_documents(loaded, shape),
        chunk_checksums=_checksums(loaded, SectionId.CHUNK_CHECKSUMS, shape.payload_end, CHUNK_BYTES),
        page_checksums=_checksums(loaded, SectionId.PAGE_CHECKSUMS, shape.payload_end - HEADER_BYTES, PAGE_BYTES),
        dictionaries_section=dictionaries_section,
        dictionaries=_dictionaries(dictionaries_section, stored_schema),
        lanes=_lanes(loaded, shape, schema),
    )
    for section in sections.values():
        loaded.check(section)  # those too that this version does not know
    return structure


class _Sections:
    """Reads sections on demand and checks their crcs, each once."""

    def __init__(self, read: ReadRange, crc32c: Crc32c, sections: dict[int, Section]) -> None:
        self._read = read
        self._crc32c = crc32c
        self._sections = sections
        self._checked: set[int] = set()

    def __contains__(self, section_id: SectionId) -> bool:
        return section_id in self._sections

    def get(self, section_id: SectionId, bytes_max: int | None = None) -> bytes:
        """The checked bytes of a section; empty where it is absent."""
        section = self._sections.get(section_id)
        if section is None:
            return b""
        if bytes_max is not None and section.bytes > bytes_max:
            raise CorruptDataError(f"{section.name} has {section.bytes} bytes; at most {bytes_max}")
        data = self._read(section.offset, section.bytes)
        if (actual := self._crc32c(data)) != section.crc:
            raise CorruptDataError(f"{section.name} has crc32c {actual:08x}, the directory says {section.crc:08x}")
        self._checked.add(section.id)
        return data

    def numbers(self, section_id: SectionId, count: int) -> npt.NDArray[np.uint32]:
        """A section of exactly `count` u32."""
        section = self._sections[section_id]
        if section.bytes != 4 * count:
            raise CorruptDataError(f"{section.name} has {section.bytes} bytes, {count} values need {4 * count}")
        return np.frombuffer(self.get(section_id), "<u4")

    def check(self, section: Section) -> None:
        if section.id not in self._checked:
            data = self._read(section.offset, section.bytes)
            if self._crc32c(data) != section.crc:
                raise CorruptDataError(f"{section.name} has another crc32c than the directory says")


def _check_gaps(read: ReadRange, sections: list[Section]) -> None:
    for section in sections:
        gap = layout.align(section.end) - section.end
        if read(section.end, gap).strip(b"\0"):
            raise CorruptDataError(f"the {gap} bytes after {section.name} are not zero")


def _check_presence(kind: LayoutKind, sections: dict[int, Section]) -> None:
    needed = _ROWS_SECTIONS if kind is LayoutKind.ROWS else _STREAM_SECTIONS
    allowed = needed | _ROWS_OPTIONAL if kind is LayoutKind.ROWS else needed
    missing = [section_id.name.lower() for section_id in sorted(needed - sections.keys())]
    surplus = [
        section_id.name.lower() for section_id in SectionId if section_id in sections and section_id not in allowed
    ]
    if missing or surplus:
        raise CorruptDataError(
            f"layout {kind.name.lower()}: sections missing {missing}, sections out of place {surplus}"
        )


def _read_schema(data: bytes) -> pa.Schema:
    # An encapsulated message: u32 0xFFFFFFFF, u32 length of the metadata, the metadata.
    if len(data) < 8 or data[:4] != b"\xff" * 4 or 8 + int.from_bytes(data[4:8], "little") != len(data):
        raise CorruptDataError(f"the schema section of {len(data)} bytes is no Arrow schema message")
    return read_schema(data, "the schema section")


def _frame_starts(sections: _Sections, shape: ShardShape, schema: AnySchema) -> npt.NDArray[np.uint64]:
    if not isinstance(schema, Schema):
        return np.empty(0, np.uint64)
    if shape.stride != schema.stride:
        raise CorruptDataError(f"a frame stride of {shape.stride}; the schema gives {schema.stride}")
    if schema.stride:
        if SectionId.ROW_INDEX in sections:
            raise CorruptDataError("a row index, though all frames have one size")
        return HEADER_BYTES + np.arange(shape.rows + 1, dtype=np.uint64) * np.uint64(shape.stride)
    if SectionId.ROW_INDEX not in sections:
        raise CorruptDataError("no row index, though frames have different sizes")
    units = sections.numbers(SectionId.ROW_INDEX, shape.rows)
    starts = np.append(units.astype(np.uint64) * np.uint64(SECTION_ALIGN), np.uint64(shape.payload_end))
    if starts[0] != HEADER_BYTES:
        raise CorruptDataError(f"the first frame begins at {starts[0]}, not at {HEADER_BYTES}")
    sizes = np.diff(starts.astype(np.int64))
    wrong = (sizes < layout.align(schema.head_bytes)) | (sizes > FRAME_BYTES_MAX)
    if bool(wrong.any()):
        row = int(wrong.argmax())
        raise CorruptDataError(
            f"row {row}: the row index gives a frame of {sizes[row]} bytes at {starts[row]}; a frame of this "
            f"schema has {layout.align(schema.head_bytes)} to {FRAME_BYTES_MAX}"
        )
    return starts


def _documents(sections: _Sections, shape: ShardShape) -> npt.NDArray[np.uint32]:
    if SectionId.DOCUMENT_INDEX not in sections:
        return np.empty(0, np.uint32)
    starts = sections.numbers(SectionId.DOCUMENT_INDEX, shape.rows)
    if starts[0] != 0 or int(starts[-1]) > shape.tokens or bool((starts[1:] < starts[:-1]).any()):
        raise CorruptDataError(f"the document index does not ascend from 0 to at most {shape.tokens} tokens")
    return starts


def _checksums(sections: _Sections, section_id: SectionId, covered: int, unit: int) -> npt.NDArray[np.uint32]:
    if section_id not in sections:
        return np.empty(0, np.uint32)
    return sections.numbers(section_id, -(-covered // unit))


def _dictionaries(section: bytes, stored_schema: pa.Schema) -> dict[str, bytes]:
    by_hash = layout.unpack_dictionaries(section) if section else {}
    hashes = dictionary_hashes(stored_schema)
    for column, digest in hashes.items():
        if digest not in by_hash:
            raise CorruptDataError(f"column {column!r} uses dictionary {digest.hex()}, which the shard does not have")
    if set(hashes.values()) != by_hash.keys():
        raise CorruptDataError("the shard has a dictionary that no column uses")
    return {column: by_hash[digest] for column, digest in hashes.items()}


def _lanes(sections: _Sections, shape: ShardShape, schema: AnySchema) -> pa.RecordBatch | None:
    wanted = schema.lanes if isinstance(schema, Schema) else pa.schema([])
    if (SectionId.LANES in sections) != (len(wanted) > 0):
        raise CorruptDataError(
            f"the schema has {len(wanted)} lanes, but the section is there: {SectionId.LANES in sections}"
        )
    if not len(wanted):
        return None
    batch = read_batch(pa.py_buffer(sections.get(SectionId.LANES)), "the lanes")
    if batch.schema != wanted or batch.num_rows != shape.rows:
        raise CorruptDataError(
            f"the lanes are {batch.num_rows} rows of {batch.schema}, not {shape.rows} of {wanted}"
        )
    return batch
