"""One disk of a pool: its slab, its slot table, its lock. Everything here blocks, and runs in the disk's own threads.

Filling a slot
  1. Let the slab have room for it (it grows in steps).
  2. If the durable table says something of this slot, let the header say durably that such slots were reused: after a
     power loss the old entry could describe a slot that is half something else. Once between two watermarks.
  3. Make the word odd, write chunk and trailer (`_native.cache.Slab.fill`).
  4. Write the table's entry.   5. Make the word even.
  A crash before 5 leaves the word odd. Maps are the pool's to change, after 5.

The watermark is the number up to which all fills have done step 4; sync makes the slab durable, then the table, then
says so.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed._native.cache import CHUNK_BYTES, SLOT_BYTES, Ring, SlotInfo, SlotWords
from fastfeed.cache.health import FULL_ERRORS, SYNC_PATIENCE, DiskHealth
from fastfeed.cache.options import DiskOptions
from fastfeed.cache.owner import OwnerLock
from fastfeed.cache.slab_file import SLAB_NAME, SlabIo
from fastfeed.cache.slot_table import ENTRY_BYTES, Entry, SlotTable
from fastfeed.cache.stats import DiskState

Buffer = Any  # whatever has the buffer protocol

# What one slot costs on the disk.
SLOT_COST_BYTES = SLOT_BYTES + ENTRY_BYTES
# What a pool's folder costs beside its slots: the table's header, the lock, the file system's own records of them.
OVERHEAD_BYTES = 128 << 10


class NoGrowthError(OSError):
    """The slab cannot grow: the disk is full, by others' files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a disk's slots are in the pool's numbering."""

    first_slot: int
    region: int  # slots that the numbering leaves to this disk


class Disk:
    """Thread-safe: fills and reads of different slots, and one upkeep at a time."""

    def __init__(
        self,
        options: DiskOptions,
        folder: Path,
        lock: OwnerLock,
        layout: Layout,
        slab: SlabIo,
        table: SlotTable,
        health: DiskHealth,
        growth_slots: int | None,
        capacity_bytes: int,
    ) -> None:
        """Takes lock, slab and table. `growth_slots` None: the slab is allocated whole."""
        self.options = options
        self.folder = folder
        self.layout = layout
        self.slab = slab
        self.table = table
        self.health = health
        self.capacity_bytes = capacity_bytes  # of the whole disk, whoever uses it
        self.written_bytes = 0
        self.target = 0  # slots that the limit gives this disk now; set by the pool
        self._lock_file = lock
        self._growth_slots = growth_slots
        self._allocated = slab.allocated_slots()
        # Taken before _state_lock; held while the slab grows or shrinks.
        self._size_lock = threading.Lock()
        # Taken before _state_lock; held while the header is written, and so by who overwrites a slot: never for long.
        self._header_lock = threading.Lock()
        # Held for the few words below, never across I/O.
        self._state_lock = threading.Lock()
        self._sequence = 0  # of the newest fill
        self._in_flight: set[int] = set()
        self._newest_reuse = 0  # newest fill of a slot of which the table said something
        # Taken before _state_lock; held while entries are written: sync clears those in doubt, and a fill may give one
        # of them a new entry.
        self._entries_lock = threading.Lock()
        self._doubtful: set[int] = set()
        self._named = np.zeros(layout.region, dtype=np.bool_)  # slots of which the table may say something

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def state(self) -> DiskState:
        return self.health.state

    @property
    def allocated_slots(self) -> int:
        return self._allocated

    @property
    def changed(self) -> bool:
        """Whether fills ended since the watermark."""
        return self._sequence > self.table.header.watermark

    @property
    def slab_path(self) -> Path:
        return self.folder / SLAB_NAME

    def index_of(self, slot: int) -> int:
        """The slot's number on this disk."""
        return slot - self.layout.first_slot

    def remember(self, entries: npt.NDArray[np.void], used: npt.NDArray[np.bool_]) -> None:
        """At the opening: what the table says, and of which slots that is believed, or will be checked."""
        named = entries["length"] > 0
        self._named[: len(entries)] = named
        self._doubtful = set(np.nonzero(named & ~used)[0].tolist())
        self._sequence = max(self.table.header.watermark, int(entries["sequence"].max(initial=0)))

    def fill(self, words: SlotWords, slot: int, key: bytes, chunk: int, data: Buffer) -> int:
        """Write and publish. Returns the generation. OSError: the word stays odd; NoGrowthError: so does the slot's
        room."""
        index = self.index_of(slot)
        with self.health.operation(f"writing slot {slot}"):
            self._grow_to(index + 1)
            with self._overwriting(index) as sequence:
                generation = self.slab.fill(words, slot, key, chunk, data)
                length = memoryview(data).nbytes
                with self._entries_lock:
                    self.table.write(index, Entry(key, chunk, generation, sequence, length))
                    with self._state_lock:
                        self._doubtful.discard(index)
            return words.publish(slot)

    def prove(self, words: SlotWords, slot: int, expected: SlotInfo) -> bool:
        """Read a slot that the table names, byte for byte; publish it if it is what is expected."""
        with self.health.operation(f"checking slot {slot}"):
            if self.slab.verify(slot) == expected:
                return words.publish(slot) == expected.generation
        self.doubt(slot)
        return False

    def doubt(self, slot: int) -> None:
        """What the table says of a slot is not to be believed: it is cleared before the watermark moves."""
        with self._state_lock:
            self._doubtful.add(self.index_of(slot))

    def read(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, length: int
    ) -> bytes | None:
        """Verified bytes of a published slot; None where it holds something else meanwhile. CorruptDataError,
        OSError."""
        with self.health.operation(f"reading slot {slot}"):
            return self.slab.read(words, slot, generation, key, chunk, offset, length)

    def read_into(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, ring: Ring, at: int,
        length: int,
    ) -> bool:  # fmt: skip
        """As read, into a ring. False where read gives None."""
        with self.health.operation(f"reading slot {slot}"):
            return self.slab.read_into(words, slot, generation, key, chunk, offset, ring, at, length)

    def forget(self, slot: int) -> None:
        """Let the table say nothing of a slot."""
        with self.health.operation("writing the slot table"):
            self.doubt(slot)
            self._clear_doubtful()

    def try_slot(self, words: SlotWords, slot: int) -> bool:
        """Write a slot that is nobody's, and read it back from the disk itself. Its word stays odd. OSError."""
        pattern = bytes(range(256)) * (CHUNK_BYTES // 256)
        with self.health.operation(f"trying slot {slot}", accuses=False, patience=SYNC_PATIENCE):
            self._grow_to(self.index_of(slot) + 1)
            with self._overwriting(self.index_of(slot)):
                generation = self.slab.fill(words, slot, bytes(16), 0, pattern)
            self.slab.sync()
            self.slab.forget_pages(slot)
            found = self.slab.verify(slot)
            return found is not None and found.generation == generation

    def allocate_whole(self, slots: int) -> None:
        """Let the slab have room for so many slots now. OSError."""
        self._allocate(slots)

    def trim(self) -> None:
        """Give back what lies beyond the target. The pool has emptied those slots."""
        with self._size_lock:
            if self._allocated > self.target:
                with self.health.operation("shrinking the slab"):
                    self.slab.truncate(self.target)
                    self.table.truncate(self.target)
                    self._allocated = self.slab.allocated_slots()

    def sync(self, *, day: int, written_bytes: int, keep_watermark: bool) -> None:
        """Make durable what was written. `keep_watermark`: slots below it are unproven still, so it says no more."""
        with self._state_lock:
            watermark = min(self._in_flight, default=self._sequence + 1) - 1
        with self.health.operation("syncing", patience=SYNC_PATIENCE):
            self._clear_doubtful()
            # Without the lock: fills go on while gigabytes are written.
            self.slab.sync()
            self.table.sync()
            with self._header_lock:
                header = self.table.header
                if keep_watermark:
                    watermark = header.watermark
                # Overwritten while we synced: that the flag was set for it must not be lost.
                reused = header.reused and (keep_watermark or watermark < self._newest_reuse)
                self.table.write_header(
                    replace(header, watermark=watermark, reused=reused, day=day, written_bytes=written_bytes)
                )

    def look(self) -> None:
        """Write and read something that is nobody's, where no slot is at hand for it. OSError."""
        with self.health.operation("probing", patience=SYNC_PATIENCE):
            self.slab.sync()
            with self._header_lock:
                self.table.write_header(self.table.header)
            if self._allocated:
                self.slab.forget_pages(self.layout.first_slot)
                self.slab.verify(self.layout.first_slot)

    def replace(self, slab: SlabIo, table: SlotTable) -> None:
        """At the opening: use these files."""
        self.slab.close()
        self.table.close()
        self.slab, self.table = slab, table
        self._allocated = slab.allocated_slots()

    def close(self) -> None:
        """Let go of files and lock. Idempotent."""
        self.slab.close()
        self.table.close()
        self._lock_file.close()

    @contextmanager
    def _overwriting(self, index: int) -> Iterator[int]:
        """Around the writing of a slot: its number in the sequence, which the watermark does not pass meanwhile."""
        with self._state_lock:
            self._sequence = sequence = self._sequence + 1
            self._in_flight.add(sequence)
        try:
            if self._named[index]:
                with self._header_lock:
                    self._newest_reuse = max(self._newest_reuse, sequence)
                    if not self.table.header.reused:
                        self.table.write_header(replace(self.table.header, reused=True))
            yield sequence
        except OSError:
            self.doubt(index + self.layout.first_slot)
            raise
        finally:
            with self._state_lock:
                self._in_flight.discard(sequence)
                self._named[index] = True
                self.written_bytes += SLOT_BYTES

    def _clear_doubtful(self) -> None:
        with self._entries_lock:
            with self._state_lock:
                doubtful = list(self._doubtful)
            for index in doubtful:
                self.table.write(index, None)
                with self._state_lock:
                    self._doubtful.discard(index)

    def _grow_to(self, slots: int) -> None:
        if slots <= self._allocated:
            return
        with self._size_lock:
            if slots <= self._allocated:
                return
            wanted = max(slots, min(self.target, self._allocated + (self._growth_slots or slots)))
            try:
                self._allocate(wanted)
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise
                raise NoGrowthError(errno.ENOSPC, f"the slab cannot grow beyond {self._allocated} slots") from error

    def _allocate(self, slots: int) -> None:
        # The table first: a slab without room for its entries is of no use, the other way round costs nothing.
        self.table.allocate(slots)
        self.slab.allocate(slots)
        self._allocated = self.slab.allocated_slots()
