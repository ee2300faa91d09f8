"""The durable slot table of one disk: which chunk each slot of its slab holds. Private to the daemon.

A header of 4 KiB, then 64 bytes a slot, in the order of the slab (docs/cache-format.md). Entries are written with
pwrite as slots are filled; the header's watermark says up to which they, and their slots, are durable.
Entries and header carry a crc32c, so what a crash tore is empty. What an entry means after a crash is for recovery.py
to say.

One writer an entry at a time (who fills the slot); who writes the header has the lock of disk.py.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed._native.cache import SLOTS_MAX
from fastfeed._native.checksum import crc32c, crc32c_blocks
from fastfeed.errors import FormatVersionError

MAGIC = b"FFSLOTS1"
VERSION = 1
HEADER_BYTES = 4096
ENTRY_BYTES = 64
TABLE_NAME = "slots"
# crc32c(m + le32(crc32c(m))), whatever m is.
CRC_RESIDUE = 0x48674BC7
# magic, version, incompatible flags, identity, first slot, region, boot id, watermark, state, day, written
_HEADER = struct.Struct("<8sII16sQQ16sQQQQ")
_ENTRY = struct.Struct("<16sQQQI16x")
_CRC = struct.Struct("<I")
_CRC_AT = 508  # header and crc lie in one sector of 512 bytes, which disks write whole

ENTRY_TYPE = np.dtype(
    [
        ("key", "V16"),
        ("chunk", "<u8"),
        ("generation", "<u8"),
        ("sequence", "<u8"),
        ("length", "<u4"),
        ("reserved", "V16"),
        ("crc", "<u4"),
    ]
)
assert ENTRY_TYPE.itemsize == ENTRY_BYTES  # the table's format, version 1


@dataclass(frozen=True, slots=True)
class TableHeader:
    """What is true of the whole table."""

    identity: bytes  # 16 bytes: xxh3-128 of the pool's name; a folder of another pool is nobody's
    first_slot: int  # the pool's number of slot 0 of this slab
    region: int  # slots that the pool's numbering leaves to this slab
    boot_id: bytes  # 16 bytes: the machine's boot in which the table was last in use
    watermark: int = 0  # entries with a sequence up to this one, and their slots, are durable
    reused: bool = False  # since the watermark, slots were overwritten that it covers
    day: int = 0  # of UTC, since 1970
    written_bytes: int = 0  # on that day


class Entry(NamedTuple):
    """What the table says of one slot."""

    key: bytes
    chunk: int
    generation: int  # the slot's word while it is published
    sequence: int  # fills of this disk, counted from 1
    length: int


def pack_header(header: TableHeader) -> bytes:
    """The header's 4 KiB."""
    packed = _HEADER.pack(
        MAGIC, VERSION, 0, header.identity, header.first_slot, header.region, header.boot_id, header.watermark,
        int(header.reused), header.day, header.written_bytes,
    ).ljust(_CRC_AT, b"\0")  # fmt: skip
    return (packed + _CRC.pack(crc32c(packed))).ljust(HEADER_BYTES, b"\0")


def parse_header(data: bytes, name: str) -> TableHeader | None:
    """None where the bytes are no whole header. FormatVersionError where a newer fastfeed wrote them."""
    if len(data) < HEADER_BYTES or data[:8] != MAGIC or crc32c(data[: _CRC_AT + 4]) != CRC_RESIDUE:
        return None
    _, version, flags, *rest = _HEADER.unpack_from(data)
    if version != VERSION or flags:
        raise FormatVersionError(
            f"{name}: a slot table of version {version} with flags {flags:#x}; this fastfeed knows version {VERSION}. "
            "Upgrade fastfeed, or remove the pool's folder: it is a cache."
        )
    identity, first_slot, region, boot_id, watermark, state, day, written = rest
    if first_slot > SLOTS_MAX or region > SLOTS_MAX - first_slot or state > 1:
        return None
    return TableHeader(identity, first_slot, region, boot_id, watermark, bool(state), day, written)


def pack_entry(entry: Entry) -> bytes:
    """One slot's 64 bytes."""
    packed = _ENTRY.pack(entry.key, entry.chunk, entry.generation, entry.sequence, entry.length)
    return packed + _CRC.pack(crc32c(packed))


class SlotTable:
    """The file. All methods block; OSError is the disk's."""

    def __init__(self, fd: int, header: TableHeader, sync: Callable[[int], None]) -> None:
        """Use `table_at` or `new_table`. Takes the descriptor."""
        self._fd = fd
        self._sync = sync
        self.header = header

    def write(self, index: int, entry: Entry | None) -> None:
        """Say what slot `index` of the slab holds; None: nothing."""
        data = bytes(ENTRY_BYTES) if entry is None else pack_entry(entry)
        _write_all(self._fd, data, HEADER_BYTES + index * ENTRY_BYTES)

    def write_header(self, header: TableHeader) -> None:
        """Durable on return."""
        _write_all(self._fd, pack_header(header), 0)
        self._sync(self._fd)
        self.header = header

    def sync(self) -> None:
        """Entries become durable."""
        self._sync(self._fd)

    def allocate(self, slots: int) -> None:
        """Let the file have room for the entries of so many slots. OSError."""
        os.posix_fallocate(self._fd, HEADER_BYTES, slots * ENTRY_BYTES)

    def truncate(self, slots: int) -> None:
        """Forget everything from slot `slots` on."""
        if os.fstat(self._fd).st_size > HEADER_BYTES + slots * ENTRY_BYTES:
            os.ftruncate(self._fd, HEADER_BYTES + slots * ENTRY_BYTES)

    def load(self) -> npt.NDArray[np.void]:
        """All entries [n] of ENTRY_TYPE; `length` is 0 where a slot holds nothing, or its entry is damaged."""
        size = os.fstat(self._fd).st_size
        data = bytearray(max(0, size - HEADER_BYTES) // ENTRY_BYTES * ENTRY_BYTES)
        _read_all(self._fd, memoryview(data), HEADER_BYTES)
        entries = np.frombuffer(data, dtype=ENTRY_TYPE)
        if len(data):
            whole = crc32c_blocks(data, ENTRY_BYTES) == CRC_RESIDUE
            entries["length"][~whole] = 0
        return entries

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def table_at(folder: Path, sync: Callable[[int], None]) -> SlotTable | None:
    """Open the table of a pool's folder; None where there is none, or its header is damaged. FormatVersionError,
    OSError."""
    path = folder / TABLE_NAME
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    header = None
    try:
        header = parse_header(os.pread(fd, HEADER_BYTES, 0), str(path))
    finally:
        if header is None:
            os.close(fd)
    if header is None:
        return None
    return SlotTable(fd, header, sync)


def new_table(folder: Path, header: TableHeader, sync: Callable[[int], None]) -> SlotTable:
    """An empty table in place of the one that may be there."""
    fd = os.open(folder / TABLE_NAME, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    table = SlotTable(fd, header, sync)
    try:
        table.write_header(header)
    except OSError:
        table.close()
        raise
    return table


def _write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        wrote = os.pwrite(fd, data, offset)
        data, offset = data[wrote:], offset + wrote


def _read_all(fd: int, into: memoryview, offset: int) -> None:
    """What the file does not have stays zero."""
    while into and (got := os.preadv(fd, [into], offset)):
        into, offset = into[got:], offset + got
