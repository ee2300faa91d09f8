"""The fixed structures of a shard: constants, and packing and unpacking of each (docs/format.md, section 2).

Pure functions of bytes. Unpacking checks everything that the structure alone can say and raises
CorruptDataError (FormatVersionError for a version or a flag that is not known); what one structure says of
another is checked in structure.py. The crc32c function is an argument, so that the reference reader stays
without native code. Names of files are added by the callers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import xxhash

from fastfeed.errors import CorruptDataError, FormatVersionError

# Sizes and limits of the format, each where docs/format.md has it (sections 2, 3 and 7).
HEADER_BYTES = 4096
TRAILER_BYTES = 64
ENTRY_BYTES = 32
SHAPE_BYTES = 64
PAGE_BYTES = 4096
CHUNK_BYTES = 1024 * 1024
SECTION_ALIGN = 8
MAJOR_VERSION = 1
MINOR_VERSION = 0

ROWS_MAX = 2**32 - 1
TOKENS_MAX = 2**32 - 1
PAYLOAD_END_MAX = 2**35  # the row index counts 8 bytes in u32
SECTION_COUNT_MAX = 64
SCHEMA_BYTES_MAX = 16 * 1024 * 1024
DICTIONARY_BYTES_MAX = 1024 * 1024
DICTIONARY_COUNT_MAX = 64
DICTIONARIES_BYTES_MAX = 4 + DICTIONARY_COUNT_MAX * (20 + DICTIONARY_BYTES_MAX)

HEADER_MAGIC = b"FFSHARD1"
TRAILER_MAGIC = b"FFTRAIL1"
DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"  # of zstd

_HEADER = struct.Struct("<8sHHIQQQ16s16sI")
_TRAILER = struct.Struct("<8sQQQ16sIIII")
_ENTRY = struct.Struct("<IIQQII")
_SHAPE = struct.Struct("<QQQQI")
_U32 = struct.Struct("<I")

Crc32c = Callable[[Any], int]  # of one buffer
Digest = bytes  # 16 of them: a uid, a fingerprint, an xxh3-128


class LayoutKind(IntEnum):
    """How the payload is laid out; the numbers are those of the header."""

    ROWS = 0
    STREAM = 1


class SectionId(IntEnum):
    """The numbers of sections in the directory."""

    SHAPE = 1
    ROW_INDEX = 2
    LANES = 3
    CHUNK_CHECKSUMS = 4
    DICTIONARIES = 5
    SCHEMA = 6
    PAGE_CHECKSUMS = 7
    DOCUMENT_INDEX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first HEADER_BYTES of a shard (docs/format.md, section 2.1)."""

    uid: bytes
    schema_fingerprint: bytes
    layout: LayoutKind
    minor_version: int = MINOR_VERSION
    incompatible_flags: int = 0
    read_only_flags: int = 0
    compatible_flags: int = 0

    def pack(self, crc32c: Crc32c) -> bytes:
        """The header's bytes, with their crc."""
        fields = _HEADER.pack(
            HEADER_MAGIC,
            MAJOR_VERSION,
            self.minor_version,
            HEADER_BYTES,
            self.incompatible_flags,
            self.read_only_flags,
            self.compatible_flags,
            self.uid,
            self.schema_fingerprint,
            self.layout,
        )
        return with_crc(fields.ljust(HEADER_BYTES - 4, b"\0"), crc32c)

    @classmethod
    def unpack(cls, data: bytes, crc32c: Crc32c) -> Header:
        """A header, checked. CorruptDataError; FormatVersionError for a version or flag that is not known."""
        _check_framed("header", data, HEADER_BYTES, HEADER_MAGIC, crc32c)
        _, major, minor, size, incompatible, read_only, compatible, uid, fingerprint, layout = _HEADER.unpack_from(data)
        if major != MAJOR_VERSION:
            raise FormatVersionError(f"format version {major}.{minor}; this fastfeed reads {MAJOR_VERSION}.x. Upgrade.")
        if incompatible:
            raise FormatVersionError(
                f"incompatible feature flags {incompatible:#x}; this fastfeed knows none of them. Upgrade."
            )
        if size != HEADER_BYTES:
            raise CorruptDataError(f"the header says that it has {size} bytes, not {HEADER_BYTES}")
        if layout not in (LayoutKind.ROWS, LayoutKind.STREAM):
            raise CorruptDataError(f"layout {layout} in the header is neither 0 (rows) nor 1 (stream)")
        _check_zero("header", data, _HEADER.size, HEADER_BYTES - 4)
        return cls(
            uid=uid,
            schema_fingerprint=fingerprint,
            layout=LayoutKind(layout),
            minor_version=minor,
            incompatible_flags=incompatible,
            read_only_flags=read_only,
            compatible_flags=compatible,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """The last TRAILER_BYTES of a shard (docs/format.md, section 2.2)."""

    directory_offset: int
    directory_bytes: int
    file_bytes: int
    uid: bytes
    directory_crc: int
    section_count: int

    def pack(self, crc32c: Crc32c) -> bytes:
        """The trailer's bytes, with their crc."""
        fields = _TRAILER.pack(
            TRAILER_MAGIC,
            self.directory_offset,
            self.directory_bytes,
            self.file_bytes,
            self.uid,
            self.directory_crc,
            self.section_count,
            0,
            0,
        )
        return with_crc(fields[: TRAILER_BYTES - 4], crc32c)

    @classmethod
    def unpack(cls, data: bytes, file_bytes: int, crc32c: Crc32c) -> Trailer:
        """A trailer, checked against the file's length. CorruptDataError."""
        _check_framed("trailer", data, TRAILER_BYTES, TRAILER_MAGIC, crc32c)
        _, offset, length, stated_bytes, uid, directory_crc, count, reserved, _ = _TRAILER.unpack(data)
        if stated_bytes != file_bytes:
            raise CorruptDataError(f"the trailer says {stated_bytes} bytes, the file has {file_bytes}")
        if not 1 <= count <= SECTION_COUNT_MAX:
            raise CorruptDataError(f"{count} sections; a shard has 1 to {SECTION_COUNT_MAX}")
        if length != count * ENTRY_BYTES:
            raise CorruptDataError(f"a directory of {length} bytes does not hold {count} entries of {ENTRY_BYTES}")
        if offset + length + TRAILER_BYTES != file_bytes or offset < HEADER_BYTES or offset % SECTION_ALIGN:
            raise CorruptDataError(
                f"a directory of {length} bytes at {offset} does not lie right before the trailer of a file of "
                f"{file_bytes} bytes"
            )
        if reserved:
            raise CorruptDataError(f"reserved bytes of the trailer are {reserved:#x}, not zero")
        return cls(
            directory_offset=offset,
            directory_bytes=length,
            file_bytes=stated_bytes,
            uid=uid,
            directory_crc=directory_crc,
            section_count=count,
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the directory. `id` may be one that this version does not know."""

    id: int
    offset: int
    bytes: int
    crc: int

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.offset + self.bytes

    @property
    def name(self) -> str:
        """What it is called in messages."""
        known = self.id in SectionId.__members__.values()
        return SectionId(self.id).name.lower().replace("_", " ") if known else f"section {self.id}"


def pack_directory(sections: Iterable[Section]) -> bytes:
    """The directory's bytes; the crc of it stands in the trailer."""
    return b"".join(_ENTRY.pack(each.id, 0, each.offset, each.bytes, each.crc, 0) for each in sections)


def unpack_directory(data: bytes, directory_offset: int) -> list[Section]:
    """The entries in order. They ascend, do not overlap, have no other gaps than alignment, and end at the
    directory.
    """
    sections: list[Section] = []
    for section_id, flags, offset, length, crc, reserved in _ENTRY.iter_unpack(data):
        section = Section(section_id, offset, length, crc)
        if flags or reserved:
            raise CorruptDataError(f"reserved fields of {section.name} in the directory are not zero")
        if section.end > directory_offset or offset < HEADER_BYTES or offset % SECTION_ALIGN:
            raise CorruptDataError(
                f"{section.name} at {offset}, {length} bytes, lies outside of bytes {HEADER_BYTES}..{directory_offset} "
                f"or off a multiple of {SECTION_ALIGN}"
            )
        if sections and section_id <= sections[-1].id:
            raise CorruptDataError(f"section id {section_id} follows {sections[-1].id}; ids ascend")
        if sections and offset != align(sections[-1].end):
            raise CorruptDataError(f"{section.name} begins at {offset}; {sections[-1].name} ends at {sections[-1].end}")
        sections.append(section)
    if not sections or sections[0].id != SectionId.SHAPE:
        raise CorruptDataError("the directory does not begin with the shape section")
    if align(sections[-1].end) != directory_offset:
        raise CorruptDataError(f"the last section ends at {sections[-1].end}, the directory is at {directory_offset}")
    return sections


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardShape:
    """The shape section: the sizes that a reader needs before anything else (docs/format.md, section 2.4)."""

    rows: int
    payload_end: int
    stride: int = 0
    tokens: int = 0
    token_bytes: int = 0

    def pack(self) -> bytes:
        """The section's bytes."""
        fields = _SHAPE.pack(self.rows, self.payload_end, self.stride, self.tokens, self.token_bytes)
        return fields.ljust(SHAPE_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes, layout: LayoutKind) -> ShardShape:
        """A shape that its layout can have. CorruptDataError."""
        if len(data) != SHAPE_BYTES:
            raise CorruptDataError(f"the shape section has {len(data)} bytes, not {SHAPE_BYTES}")
        rows, payload_end, stride, tokens, token_bytes = _SHAPE.unpack_from(data)
        _check_zero("shape section", data, _SHAPE.size, SHAPE_BYTES)
        shape = cls(rows=rows, payload_end=payload_end, stride=stride, tokens=tokens, token_bytes=token_bytes)
        if not 1 <= rows <= ROWS_MAX:
            raise CorruptDataError(f"{rows} rows; a shard has 1 to {ROWS_MAX}")
        if not HEADER_BYTES <= payload_end <= PAYLOAD_END_MAX or payload_end % SECTION_ALIGN:
            raise CorruptDataError(f"payload end {payload_end} is outside of {HEADER_BYTES}..{PAYLOAD_END_MAX} "
                                   f"or no multiple of {SECTION_ALIGN}")  # fmt: skip
        if layout is LayoutKind.ROWS:
            shape._check_rows()
        else:
            shape._check_stream()
        return shape

    def _check_rows(self) -> None:
        if self.tokens or self.token_bytes:
            raise CorruptDataError(f"a shard in rows layout has {self.tokens} tokens of {self.token_bytes} bytes")
        if self.stride and HEADER_BYTES + self.rows * self.stride != self.payload_end:
            raise CorruptDataError(f"{self.rows} rows of {self.stride} bytes do not end at {self.payload_end}")

    def _check_stream(self) -> None:
        if self.stride:
            raise CorruptDataError(f"a stream has a frame stride of {self.stride}")
        if self.token_bytes not in (2, 4) or self.tokens > TOKENS_MAX:
            raise CorruptDataError(f"{self.tokens} tokens of {self.token_bytes} bytes; a stream has at most "
                                   f"{TOKENS_MAX} of 2 or 4")  # fmt: skip
        if HEADER_BYTES + align(self.tokens * self.token_bytes, PAGE_BYTES) != self.payload_end:
            raise CorruptDataError(f"{self.tokens} tokens of {self.token_bytes} bytes do not end at {self.payload_end}")


def dictionary_hash(dictionary: bytes) -> bytes:
    """The 16 bytes by which shards and manifests name a dictionary."""
    return xxhash.xxh3_128_digest(dictionary)


def pack_dictionaries(dictionaries: Iterable[bytes]) -> bytes:
    """The dictionaries section; empty where there are none (the section is then absent)."""
    by_hash = {dictionary_hash(each): each for each in dictionaries}
    if not by_hash:
        return b""
    parts = [_U32.pack(len(by_hash))]
    for digest, dictionary in sorted(by_hash.items()):
        parts += [digest, _U32.pack(len(dictionary)), dictionary]
    return b"".join(parts)


def unpack_dictionaries(data: bytes) -> dict[bytes, bytes]:
    """Dictionaries by hash, each checked against it."""
    if len(data) < 4:
        raise CorruptDataError(f"the dictionaries section has {len(data)} bytes")
    (count,) = _U32.unpack_from(data)
    if not 1 <= count <= DICTIONARY_COUNT_MAX:
        raise CorruptDataError(f"{count} dictionaries; a shard has 1 to {DICTIONARY_COUNT_MAX}")
    found: dict[bytes, bytes] = {}
    at = 4
    for _ in range(count):
        digest, length = data[at : at + 16], data[at + 16 : at + 20]
        if len(length) < 4:
            raise CorruptDataError(f"the dictionaries section ends inside dictionary {len(found)} of {count}")
        size = _U32.unpack(length)[0]
        dictionary = data[at + 20 : at + 20 + size]
        if not 1 <= size <= DICTIONARY_BYTES_MAX or len(dictionary) < size:
            raise CorruptDataError(f"dictionary {len(found)} says {size} bytes; {len(dictionary)} are there, at most "
                                   f"{DICTIONARY_BYTES_MAX} are allowed")  # fmt: skip
        if dictionary_hash(dictionary) != digest:
            raise CorruptDataError(f"dictionary {digest.hex()} has another hash")
        if dictionary[:4] != DICTIONARY_MAGIC:
            raise CorruptDataError(f"dictionary {digest.hex()} begins as no zstd dictionary does: {dictionary[:4]!r}")
        if found and digest <= max(found):
            raise CorruptDataError("the dictionaries are not in ascending order of their hashes")
        found[digest] = dictionary
        at += 20 + size
    if at != len(data):
        raise CorruptDataError(f"{len(data) - at} bytes follow the last dictionary")
    return found


def uid_prefix(schema_fingerprint: bytes, layout: LayoutKind, dictionaries_section: bytes) -> bytes:
    """What the hash of a uid begins with; the content follows (docs/format.md, section 2.9)."""
    return schema_fingerprint + _U32.pack(layout) + dictionaries_section


def align(value: int, unit: int = SECTION_ALIGN) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def with_crc(fields: bytes, crc32c: Crc32c) -> bytes:
    """`fields` followed by their crc."""
    return fields + _U32.pack(crc32c(fields))


def place_sections(sections: Sequence[tuple[SectionId, bytes]], start: int, crc32c: Crc32c) -> tuple[bytes, bytes, int]:
    """Lay sections out from `start` on. Return (their bytes with gaps, the directory, the directory's
    offset).
    """
    parts: list[bytes] = []
    entries: list[Section] = []
    at = start
    for section_id, data in sections:
        entries.append(Section(section_id, at, len(data), crc32c(data)))
        padded = align(len(data))
        parts += [data, b"\0" * (padded - len(data))]
        at += padded
    return b"".join(parts), pack_directory(entries), at


def _check_framed(what: str, data: bytes, size: int, magic: bytes, crc32c: Crc32c) -> None:
    if len(data) != size or data[:8] != magic:
        raise CorruptDataError(f"the {what} does not begin with {magic.decode()} (it is {data[:8]!r})")
    stated, actual = _U32.unpack_from(data, size - 4)[0], crc32c(data[: size - 4])
    if stated != actual:
        raise CorruptDataError(f"the {what} has crc32c {actual:08x}, it says {stated:08x}")


def _check_zero(what: str, data: bytes, start: int, stop: int) -> None:
    if data.count(0, start, stop) != stop - start:
        raise CorruptDataError(f"reserved bytes {start}..{stop - 1} of the {what} are not zero")
