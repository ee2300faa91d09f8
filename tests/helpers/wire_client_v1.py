"""A client of version 1 of the protocol, written once from docs/wire.md with `struct` alone, and never changed.

It imports nothing of fastfeed: what it says is what readers that are installed somewhere said then. Raises OSError
where a packet is not as the page says.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

HEADER = struct.Struct("<HHIQ")
FIELD = struct.Struct("<HHI")
CHUNK_BYTES = 1 << 20


def number(tag: int, value: int) -> bytes:
    return FIELD.pack(tag, 0, 8) + struct.pack("<Q", value)


def data(tag: int, value: bytes) -> bytes:
    return FIELD.pack(tag, 0, len(value)) + value


def fields_of(body: bytes) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    while body:
        tag, _, size = FIELD.unpack_from(body)
        found.setdefault(tag, []).append(body[8 : 8 + size])
        body = body[8 + size :]
    return found


def value_of(fields: dict[int, list[bytes]], tag: int) -> int:
    return int(struct.unpack("<Q", fields[tag][0])[0])


class ClientV1:
    """Two connections and one set: the object at `url`."""

    def __init__(self, path: Path, url: str) -> None:
        self._request = 0
        self.control, self.data = (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        hello = number(1, 1) + number(2, 1) + number(5, os.getpid())
        self.control.connect(str(path))
        _, _, welcome, _ = self.ask(self.control, 0x01, hello + number(4, 1))
        self.version = value_of(fields_of(welcome), 1)
        token = fields_of(welcome)[4][0]
        self.data.connect(str(path))
        _, _, welcome, descriptors = self.ask(self.data, 0x01, hello + number(4, 2) + data(7, token))
        told = fields_of(welcome)
        self.ring_bytes, self.slots = value_of(told, 16), value_of(told, 17)
        self.slabs = [struct.unpack("<QQ", each) for each in told.get(18, [])]
        self.ring, self.page, self.words, *self.slab_files = descriptors
        opening = number(1, 3) + data(2, url.encode()) + number(4, 30_000)
        kind, _, opened, (self.map,) = self.ask(self.control, 0x29, opening)
        if kind != 0x2A:
            raise OSError(f"OPEN_URL was answered by {kind:#x}")
        self.size_bytes = value_of(fields_of(opened), 4)

    def ask(self, connection: socket.socket, kind: int, body: bytes) -> tuple[int, int, bytes, Sequence[int]]:
        """(type, request, body, descriptors) of the answer."""
        self._request += 1
        connection.send(HEADER.pack(kind, 0, len(body), self._request) + body)
        while True:
            packet, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 16)
            answered, _, size, request = HEADER.unpack_from(packet)
            if request == self._request and size == len(packet) - HEADER.size:
                return answered, request, packet[HEADER.size :], descriptors

    def read(self, offset: int, length: int, flags: int = 1) -> bytes:
        """Bytes inside one chunk, asked for by the ring, or from the slot that the daemon names."""
        body = struct.pack("<IIQIIQI", 3, 0, offset, length, flags, 0, 30_000)
        kind, request, answer, _ = self.ask(self.data, 0x10, body)
        if kind == 0x12:
            at, count = struct.unpack_from("<QI", answer)
            found = os.pread(self.ring, count, at)
            self.data.send(HEADER.pack(0x13, 0, 0, request))
            return found
        if kind != 0x11:
            raise OSError(f"GET was answered by {kind:#x}: {answer!r}")
        (entry,) = struct.unpack_from("<Q", answer)
        slot, generation = entry >> 38, entry & ((1 << 38) - 1)
        slab, (first, _) = next(
            (file, shape) for file, shape in zip(self.slab_files, self.slabs, strict=True)
            if shape[0] <= slot < shape[0] + shape[1]
        )  # fmt: skip
        found = os.pread(slab, length, (slot - first) * (CHUNK_BYTES + 4096) + offset % CHUNK_BYTES)
        (word,) = struct.unpack("<Q", os.pread(self.words, 8, 8 * slot))
        if word & ((1 << 38) - 1) != generation:
            raise OSError("the slot was used again meanwhile")
        return found

    def close(self) -> None:
        for descriptor in (self.ring, self.page, self.words, self.map, *self.slab_files):
            os.close(descriptor)
        self.control.close()
        self.data.close()
