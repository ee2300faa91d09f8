"""A shard taken apart, changed, and put together again with right checksums: what an attacker can do, or a bug."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from fastfeed._native.checksum import crc32c
from fastfeed.format import layout
from fastfeed.format.layout import ENTRY_BYTES, HEADER_BYTES, TRAILER_BYTES, Section, SectionId


@dataclass
class Parts:
    """A shard in pieces. `entries`, `directory` and `trailer` change these parts while they are put together."""

    header: bytearray
    payload: bytes
    sections: list[tuple[int, bytes]]
    entries: Callable[[list[Section]], list[Section]] = field(default=lambda entries: entries)
    directory: Callable[[bytes], bytes] = field(default=lambda directory: directory)
    trailer: Callable[[bytearray], None] = field(default=lambda trailer: None)
    gap: bytes = b"\0"

    def section(self, section_id: SectionId) -> bytes:
        return dict(self.sections)[section_id]

    def put(self, section_id: SectionId, data: bytes) -> None:
        self.sections = sorted({**dict(self.sections), section_id: data}.items())

    def drop(self, section_id: SectionId) -> None:
        self.sections = [each for each in self.sections if each[0] != section_id]

    def build(self) -> bytes:
        struct.pack_into("<I", self.header, 4092, crc32c(bytes(self.header[:4092])))
        data = bytes(self.header) + self.payload
        entries = []
        for section_id, content in self.sections:
            entries.append(Section(section_id, len(data), len(content), crc32c(content)))
            data += content + self.gap * (-len(content) % 8)
        directory = self.directory(layout.pack_directory(self.entries(entries)))
        trailer = bytearray(
            layout.Trailer(
                directory_offset=len(data),
                directory_bytes=len(directory),
                file_bytes=len(data) + len(directory) + TRAILER_BYTES,
                uid=bytes(self.header[40:56]),
                directory_crc=crc32c(directory),
                section_count=len(directory) // ENTRY_BYTES,
            ).pack(crc32c)
        )
        self.trailer(trailer)
        struct.pack_into("<I", trailer, 60, crc32c(bytes(trailer[:60])))
        return data + directory + bytes(trailer)


def parts_of(data: bytes) -> Parts:
    """Take a good shard apart."""
    trailer = layout.Trailer.unpack(data[-TRAILER_BYTES:], len(data), crc32c)
    at = trailer.directory_offset
    entries = layout.unpack_directory(data[at : at + trailer.directory_bytes], at)
    payload = data[HEADER_BYTES : entries[0].offset]
    return Parts(bytearray(data[:HEADER_BYTES]), payload, [(e.id, data[e.offset : e.end]) for e in entries])
