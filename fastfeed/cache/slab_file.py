"""The slab of one disk as a file: its slots, its size, and making it durable. What fails on purpose is in faulty.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from fastfeed._native.cache import SLOT_BYTES, Ring, Slab, SlotInfo, SlotWords
from fastfeed.cache.places import is_alone

SLAB_NAME = "slab.0"
Buffer = Any  # whatever has the buffer protocol


class SlabIo(Protocol):
    """What a disk asks of its slab. All of it blocks, and raises OSError where the disk fails."""

    def fill(self, words: SlotWords, slot: int, key: bytes, chunk: int, data: Buffer) -> int: ...
    def verify(self, slot: int) -> SlotInfo | None: ...
    def read(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, length: int
    ) -> bytes | None: ...
    def read_into(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, ring: Ring, at: int,
        length: int,
    ) -> bool: ...  # fmt: skip
    def allocate(self, slots: int) -> None:
        """Let the file have room for its first `slots` slots, for certain."""
        ...

    def truncate(self, slots: int) -> None:
        """Let the file end after its first `slots` slots."""
        ...

    def sync(self) -> None:
        """What was written becomes durable."""
        ...

    def allocated_slots(self) -> int: ...
    def forget_pages(self, slot: int) -> None:
        """Drop the slot from the page cache, so that the next read is the disk's."""
        ...

    def is_alone(self) -> bool:
        """Whether nobody else has the file open: no reader of an earlier daemon."""
        ...

    def close(self) -> None: ...


class SlabFile:
    """The real one. Slot methods are those of `_native.cache.Slab`."""

    def __init__(self, path: Path, first_slot: int, slots: int, sync: Callable[[int], None]) -> None:
        """Open, or make, the file. Nothing is allocated yet."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._first_slot = first_slot
        self._sync = sync
        self._slab = Slab(self._fd, first_slot, slots)
        self.fill = self._slab.fill
        self.verify = self._slab.verify
        self.read = self._slab.read
        self.read_into = self._slab.read_into

    def allocate(self, slots: int) -> None:
        had = self.allocated_slots()
        if slots <= had:
            return
        try:
            os.posix_fallocate(self._fd, had * SLOT_BYTES, (slots - had) * SLOT_BYTES)
        except OSError:
            # A part may have been allocated: it is of no use to us, and others may need it.
            os.ftruncate(self._fd, had * SLOT_BYTES)
            raise

    def truncate(self, slots: int) -> None:
        if slots < self.allocated_slots():
            os.ftruncate(self._fd, slots * SLOT_BYTES)

    def sync(self) -> None:
        self._sync(self._fd)

    def allocated_slots(self) -> int:
        return os.fstat(self._fd).st_size // SLOT_BYTES

    def forget_pages(self, slot: int) -> None:
        os.posix_fadvise(self._fd, (slot - self._first_slot) * SLOT_BYTES, SLOT_BYTES, os.POSIX_FADV_DONTNEED)

    def is_alone(self) -> bool:
        return is_alone(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self._slab.close()
            os.close(self._fd)
            self._fd = -1
