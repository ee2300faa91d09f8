"""Pools for tests: small ones in a folder and in RAM, a clock that stands still, and a plain LRU to say who goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastfeed.cache.evictor import Held
from fastfeed.cache.faulty import SlabFaults
from fastfeed.cache.opening import Machine
from fastfeed.cache.options import DiskOptions, PoolOptions
from fastfeed.cache.pool import Pool

CHUNK = 1 << 20
KEY = bytes(range(16))
# A limit that gives so many slots: with the overhead of one disk.
SLOT_AND_TABLE = CHUNK + 4096 + 64
DISK_OVERHEAD = 128 << 10


def limit_of(slots: int, disks: int = 1) -> int:
    """The smallest limit that gives `slots` slots."""
    return slots * SLOT_AND_TABLE + disks * DISK_OVERHEAD


def body(key: bytes, chunk: int, length: int = CHUNK) -> bytes:
    """What a chunk holds: a function of its name, cheap to make and to compare."""
    return ((key + chunk.to_bytes(8, "little") + b"fastfeed") * (length // 32 + 1))[:length]


class Lru:
    """An evictor that gives up what was published first, and wants everything."""

    def __init__(self) -> None:
        self.slots: dict[int, tuple[bytes, int]] = {}
        self.kept: set[int] = set()
        self.wanted = True

    def admits(self, key: bytes, chunk: int) -> bool:
        return self.wanted

    def victim(self, key: bytes, chunk: int) -> int | None:
        return next((slot for slot in self.slots if slot not in self.kept), None)

    def published(self, slot: int, key: bytes, chunk: int) -> None:
        assert slot not in self.slots
        self.slots[slot] = (key, chunk)

    def recovered(self, held: Held) -> None:
        for slot, which, chunk in zip(held.slots.tolist(), held.objects.tolist(), held.chunks.tolist(), strict=True):
            self.published(slot, held.keys[which], chunk)

    def removed(self, slot: int) -> None:
        self.slots.pop(slot, None)

    def used(self, key: bytes, chunk: int) -> None: ...


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Place:
    """Where a test's pool is, and the machine it believes to be on."""

    root: Path
    words: Path
    clock: Clock = field(default_factory=Clock)
    faults: SlabFaults = field(default_factory=SlabFaults)
    boot: bytes = bytes(16)
    sync: Callable[[int], None] = os.fdatasync

    def options(self, slots: int = 16, disks: int | tuple[DiskOptions, ...] = 1, **more: Any) -> PoolOptions:
        if isinstance(disks, int):
            disks = tuple(DiskOptions(name=f"disk{each}", path=self.root / f"disk{each}") for each in range(disks))
        given: dict[str, Any] = {
            "name": "default",
            "limit_bytes": limit_of(slots, len(disks)) if slots else 0,
            "disks": disks,
            "words_path": self.words,
            "growth_bytes": 4 * SLOT_AND_TABLE,
        }
        return PoolOptions(**(given | more))

    def machine(self) -> Machine:
        return Machine(
            clock=self.clock, unix_time=self.clock, boot_id=lambda: self.boot, sync=self.sync, slab=self.faults.slab
        )

    def open(
        self,
        slots: int = 16,
        disks: int | tuple[DiskOptions, ...] = 1,
        evictor: Lru | None = None,
        **more: Any,
    ) -> Pool:
        return Pool.open(self.options(slots, disks, **more), evictor or Lru(), self.machine())

    def new_boot(self) -> None:
        """The machine is restarted: RAM is empty, and says another boot."""
        self.boot = bytes(15) + bytes([self.boot[15] + 1])
        shutil.rmtree(self.words)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """A folder for disks, and one in RAM for the words."""
    root = Path(tempfile.mkdtemp())
    words = Path(tempfile.mkdtemp(prefix="ff-words-", dir="/dev/shm"))
    try:
        yield Place(root, words)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(words, ignore_errors=True)


def put(pool: Pool, chunk: int, key: bytes = KEY, length: int = CHUNK) -> bool:
    """Fill one chunk. False: it could not be kept."""
    reservation = pool.reserve(key, chunk, length)
    kept = reservation is not None and pool.fill(reservation, body(key, chunk, length))
    pool.settle()
    return kept


def get(pool: Pool, chunk: int, key: bytes = KEY) -> bytes | None:
    """The chunk's verified bytes, None where it is not there."""
    located = pool.find(key, chunk)
    return None if located is None else pool.read(located, key, chunk, 0, located.length)


def whole(pool: Pool, chunk: int, key: bytes = KEY) -> bool:
    """Whether the chunk is there with the right bytes; wrong ones are an error."""
    data = get(pool, chunk, key)
    assert data is None or data == body(key, chunk, len(data))
    return data is not None


def keep_house(pool: Pool) -> None:
    """One round of what a daemon does every second."""
    pool.tick()
    for name in pool.disk_states():
        pool.upkeep(name)
    pool.settle()


def abandon_as_after_a_crash(pool: Pool) -> None:
    """What the kernel does when a process is killed: close, and nothing else."""
    for disk in pool._by_slot:
        disk.close()
    pool._words_file.close()
    pool._lock.close()
