"""One pool of the node cache: chunks in slots, within a limit, over several disks.

Threads. One thread owns the pool (the daemon's event loop): it calls everything but `fill`, `prove`, `read`,
`read_into` and `upkeep`. Those block, and run in threads of the slot's disk (`Reservation.disk`, `Located.disk`);
what they did is taken up by the owner's next call of anything. The owner's calls do no I/O: a disk that hangs stops
its own threads only.

Publishing a chunk
  1. reserve(): a free slot, else one whose chunk the evictor gives up. That chunk's word becomes odd, then its
     entries in maps become 0: readers miss.
  2. fill(), in the disk's thread: word odd, bytes and trailer, table entry, word even (disk.py).
  3. At the owner's next call: the chunk is found, and is in the maps of all sets that have it.
A slot is filled by one reservation at a time. Space is given out slot by slot: used_bytes is at most the limit,
unless the limit was just lowered and fills into slots beyond it are still under way.

Whoever runs a pool calls `tick()` and, in each disk's thread, `upkeep(disk)` about once a second (`UPKEEP_INTERVAL_S`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastfeed._native.cache import CHUNK_BYTES, GENERATION_MASK, KEY_BYTES, SLOT_BYTES, Ring, SlotInfo, map_entry
from fastfeed.cache.descriptors import ClientFiles, close_all, open_for_client
from fastfeed.cache.disk import OVERHEAD_BYTES, SLOT_COST_BYTES, Disk, NoGrowthError
from fastfeed.cache.evictor import Evictor
from fastfeed.cache.opening import Machine, Opened, open_pool, slots_for
from fastfeed.cache.options import PoolOptions
from fastfeed.cache.set_map import SetMap
from fastfeed.cache.slot_index import CHUNKS_MAX, SlotState
from fastfeed.cache.space import Space, shares
from fastfeed.cache.stats import (
    DiskState,
    DiskStats,
    EvictReason,
    PoolCounters,
    PoolStats,
    Recovery,
    Refusal,
)
from fastfeed.cache.work import (
    ORDERS_MAX,
    DiskWork,
    Failed,
    Filled,
    Prove,
    Proven,
    Reservation,
    Result,
    Trial,
    Tried,
    Try,
)
from fastfeed.errors import ConfigError

__all__ = ["UPKEEP_INTERVAL_S", "Located", "Pool", "Reservation"]

Buffer = Any  # whatever has the buffer protocol

UPKEEP_INTERVAL_S = 1.0
# A slab that could not grow tries again after so long (one fallocate); until then the pool makes do with what it has.
GROWTH_RETRY_S = 10.0
# So many failures of one slot, and it stays fenced until the pool is opened again.
SLOT_FAILURES_MAX = 3


@dataclass(frozen=True, slots=True)
class Located:
    """A chunk in a slot, as of now: the word says whether it still is."""

    slot: int
    entry: int  # as in the map
    generation: int  # the whole word
    length: int  # bytes of the chunk
    disk: str


class Pool:
    """See the module. Use `Pool.open`."""

    def __init__(self, options: PoolOptions, opened: Opened, evictor: Evictor, machine: Machine) -> None:
        self.options = options
        self.evictor = evictor
        self.counters = PoolCounters()
        self.recovery: Recovery = opened.recovery
        self.limit_bytes = options.limit_bytes
        self._machine = machine
        self._words_file = opened.words
        self._words = opened.words.words
        self._index = opened.index
        self._disks = {disk.name: disk for disk in opened.disks}
        self._absent = opened.absent
        self._budget = opened.budget
        self._lock = opened.lock
        self._spaces: dict[str, Space] = {}
        self._by_slot = sorted(opened.disks, key=lambda disk: disk.layout.first_slot)
        self._used: dict[str, int] = dict.fromkeys(self._disks, 0)
        # Filled by the disks' threads, emptied by the owner.
        self._results: deque[Result] = deque()
        self._work = {
            disk.name: DiskWork(disk, self._words, self._results, machine.clock) for disk in opened.disks
        }
        self._unproven: dict[str, deque[int]] = {name: deque() for name in self._disks}
        self._hidden: set[str] = set()
        self._not_ok: set[str] = set()
        self._failures: Counter[int] = Counter()
        self._on_trial: set[int] = set()  # fenced slots with an order to try them
        self._grow_again_at_s: dict[str, float] = {}
        self._bindings: dict[bytes, list[tuple[SetMap, int]]] = {}
        self._draining = False
        self._closed = False
        self._begin()

    @classmethod
    def open(cls, options: PoolOptions, evictor: Evictor, machine: Machine | None = None) -> Pool:
        """Open, or make, the pool's files, and take up what is in them. Blocks.

        ConfigError: folders that cannot be used, or are in use by another daemon. CacheFullError: a disk is too small.
        OSError: all disks fail; one of several that fails is out, and the pool goes on without it.
        """
        machine = Machine() if machine is None else machine
        opened = open_pool(options, machine)
        try:
            return cls(options, opened, evictor, machine)
        except BaseException:
            opened.close()
            raise

    # --- chunks ---

    def find(self, key: bytes, chunk: int) -> Located | None:
        """Where a chunk is; None: in no slot that may be read now."""
        self.settle()
        slot = self._index.at(key, chunk)
        if slot is None or self._index.state[slot] != SlotState.PUBLISHED:
            return None
        generation = int(self._index.generation[slot])
        return Located(
            slot, map_entry(slot, generation), generation, int(self._index.length[slot]), self._disk_of(slot).name
        )

    def unproven(self, key: bytes, chunk: int) -> int | None:
        """The slot that a chunk had before a power loss, if it waits for its check: `prove` it before fetching anew."""
        self.settle()
        slot = self._index.at(key, chunk)
        if slot is None or self._index.state[slot] != SlotState.UNPROVEN:
            return None
        return slot if self._disk_of(slot).state is DiskState.OK else None

    def begin_proof(self, slot: int) -> str | None:
        """The owner says that `prove(slot)` comes next; the disk in whose thread. None: it waits for a check no
        longer."""
        if self._index.state[slot] != SlotState.UNPROVEN:
            return None
        self._index.state[slot] = SlotState.PROVING
        return self._disk_of(slot).name

    def prove(self, slot: int) -> bool:
        """Check a slot's bytes. After `begin_proof`. Blocks; runs in its disk's thread. OSError goes to the disk's
        state."""
        return self._work_of(slot).prove(self._proof(slot))

    def abandon_proof(self, slot: int) -> None:
        """`prove(slot)` will not come after all."""
        self.settle()
        if self._index.state[slot] == SlotState.PROVING:
            self._index.state[slot] = SlotState.UNPROVEN
            self._unproven[self._disk_of(slot).name].append(slot)

    def reserve(self, key: bytes, chunk: int, length: int, busy: Collection[str] = ()) -> Reservation | None:
        """Keep a slot for a chunk of `length` bytes; None: it shall not be kept now (counters.refusals says why).

        May empty another chunk's slot, but on none of the disks `busy`, whose queues are full. Every reservation ends
        by `fill` or `abandon`.
        """
        self.settle()
        if len(key) != KEY_BYTES or not 0 < length <= CHUNK_BYTES or not 0 <= chunk < CHUNKS_MAX:
            raise ConfigError(f"chunk {chunk} of {length} bytes of key {key.hex()} cannot be in a slot")
        refusal = self._refusal(key, chunk, busy)
        slot = None if refusal else self._free_slot(key, chunk, busy)
        if slot is None:
            self.counters.refusals[refusal or Refusal.NO_VICTIM] += 1
            return None
        if not self._budget.take(length):
            self._return(slot)
            self.counters.refusals[Refusal.BUDGET] += 1
            return None
        disk = self._disk_of(slot)
        self._index.put(slot, key, chunk, length, SlotState.RESERVED)
        self._used[disk.name] += 1
        return Reservation(slot, key, chunk, length, disk.name)

    def fill(self, reservation: Reservation, data: Buffer) -> bool:
        """Write the chunk and publish it. Blocks; runs in a thread of `reservation.disk`. False: it could not be kept.

        A failure of the disk changes its state and fences the slot; it is not raised: whoever has the bytes goes on.
        """
        length = memoryview(data).nbytes
        if length != reservation.length:
            raise ConfigError(f"{length} bytes for a reservation of {reservation.length}")
        disk = self._disks[reservation.disk]
        try:
            generation = disk.fill(self._words, reservation.slot, reservation.key, reservation.chunk, data)
        except OSError as error:
            self._results.append(Failed(reservation, error))
            return False
        self._results.append(Filled(reservation, generation))
        return True

    def abandon(self, reservation: Reservation) -> None:
        """The chunk will not be filled."""
        self.settle()
        self.counters.abandoned += 1
        self._budget.give_back(reservation.length)
        self._unreserve(reservation, SlotState.FREE)

    def read(self, located: Located, key: bytes, chunk: int, offset: int, length: int) -> bytes | None:
        """Verified bytes of a chunk; None: the slot holds something else by now. Blocks; runs in `located.disk`'s
        thread.

        CorruptDataError: the slot is to be quarantined. OSError: the disk's.
        """
        return self._disks[located.disk].read(self._words, located.slot, located.generation, key, chunk, offset, length)

    def read_into(
        self, located: Located, key: bytes, chunk: int, offset: int, length: int, ring: Ring, at: int
    ) -> bool:
        """As read, into a ring; False where read gives None."""
        return self._disks[located.disk].read_into(
            self._words, located.slot, located.generation, key, chunk, offset, ring, at, length
        )

    def quarantine(self, slot: int, entry: int, reason: EvictReason = EvictReason.BAD_BYTES) -> bool:
        """The daemon read bytes that have not their checksum, at this entry, or could not read it (`reason` DISK). The
        slot is out of use until it was tried. False: it holds something else by now, or is not used."""
        self.settle()
        self._hide_what_is_out()
        if not 0 <= slot < len(self._index.state) or self._index.state[slot] != SlotState.PUBLISHED:
            return False
        if map_entry(slot, int(self._index.generation[slot])) != entry:
            return False
        self.counters.quarantined += 1
        self._empty(slot, reason, SlotState.FENCED)
        self._fence(slot)
        self._order_trial(slot)
        return True

    def held_keys(self) -> list[bytes]:
        """The objects of which anything is in slots."""
        self.settle()
        return list(self._index.keys())

    def held(self, key: bytes) -> tuple[list[int], int]:
        """The chunks of an object that are in slots, ascending, and their bytes. What is being filled is not in it."""
        self.settle()
        chunks, slots = self._index.slots_of(key)
        states = self._index.state[slots]
        here = (states == SlotState.PUBLISHED) | (states == SlotState.UNPROVEN) | (states == SlotState.HIDDEN)
        return chunks[here].tolist(), int(self._index.length[slots[here]].sum())

    def evict(self, key: bytes, chunk: int) -> bool:
        """Empty the slot of a chunk, on an operator's word. False: it is in none, or being filled."""
        self.settle()
        slot = self._index.at(key, chunk)
        if slot is None or self._index.state[slot] not in (SlotState.PUBLISHED, SlotState.UNPROVEN, SlotState.HIDDEN):
            return False
        self._drop(slot, EvictReason.OPERATOR)
        return True

    # --- sets ---

    def map_set(self, keys: Sequence[bytes], chunks: Sequence[int]) -> SetMap:
        """A map of objects for clients, true from now on until it is closed."""
        self.settle()
        made = SetMap(keys, chunks, self._unbind)
        for number, key in enumerate(made.keys):
            self._bindings.setdefault(key, []).append((made, number))
            at, slots = self._index.slots_of(key)
            usable = self._index.state[slots] == SlotState.PUBLISHED
            if usable.any():
                slots = slots[usable].astype(np.uint64)
                entries = (slots << np.uint64(38)) | (self._index.generation[slots] & np.uint64(GENERATION_MASK))
                made.set_many(number, at[usable], entries)
        return made

    def client_files(self) -> ClientFiles:
        """Fresh read-only descriptors of words and slabs, for one client. Disks that are out are in it, too."""
        opened: list[int] = []
        try:
            words = open_for_client(self._words_file.path, self.options.words_readonly_path)
            opened.append(words)
            slabs = []
            for disk in self._by_slot:
                readonly = disk.options.readonly_path
                fd = open_for_client(disk.slab_path, None if readonly is None else readonly / self.options.name)
                opened.append(fd)
                slabs.append((fd, disk.layout.first_slot, disk.layout.region))
        except BaseException:
            close_all(opened)
            raise
        return ClientFiles(words, self._words_file.slots, tuple(slabs))

    # --- space ---

    @property
    def used_bytes(self) -> int:
        """What slots in use cost on the disks, and the pool's folders themselves. At most limit_bytes."""
        return sum(self._used.values()) * SLOT_COST_BYTES + (OVERHEAD_BYTES * len(self._disks) if self._slots else 0)

    @property
    def _slots(self) -> int:
        return sum(space.target for space in self._spaces.values())

    def set_limit(self, limit_bytes: int) -> None:
        """Another limit, now. Chunks in slots beyond it are gone at once; their disk space within an upkeep.

        ConfigError where the pool has no disk, or too little for one slot.
        """
        self.settle()
        if limit_bytes > 0 and not self._disks:
            raise ConfigError(f"pool {self.options.name} was opened without slots: restart it to give it some.")
        slots = slots_for(limit_bytes, len(self._disks), self.options.name)
        self.limit_bytes = limit_bytes
        for disk, target in zip(self._by_slot, self._shares(slots), strict=True):
            self._retarget(disk, target)
            self._grow_again_at_s.pop(disk.name, None)

    def set_write_budget(self, bytes_per_day_max: int | None) -> None:
        """Another number of bytes a day; what was written today counts."""
        self._budget.bytes_per_day_max = bytes_per_day_max

    # --- disks ---

    def tick(self) -> None:
        """About once a second, by the owner: looks at the disks' states, and hands out the work of their upkeeps."""
        self.settle()
        now_s = self._machine.clock()
        self._hide_what_is_out()
        for disk in self._by_slot:
            if disk.state is not DiskState.OUT and disk.name in self._hidden:
                self._show(disk)
            if disk.state is not DiskState.OK:
                self._not_ok.add(disk.name)
                continue
            if disk.name in self._not_ok:
                self._not_ok.discard(disk.name)
                self._try_fenced(disk)
            self._order_proofs(disk)
            if now_s >= self._grow_again_at_s.get(disk.name, float("inf")):
                del self._grow_again_at_s[disk.name]
                self._retarget(disk, self._shares(self._slots_of_limit())[self._by_slot.index(disk)])
            work = self._work[disk.name]
            for slot in [slot for slot, until_s in work.fenced_until_s.items() if now_s >= until_s]:
                work.fenced_until_s[slot] = now_s + self.options.health.fence_s
                self._order_trial(slot)

    def upkeep(self, disk_name: str) -> None:
        """What a disk needs from time to time: probes, checks of slots, shrinking, the watermark. Blocks; one at a
        time a disk, in its thread. Failures go to the disk's state."""
        if disk_name in self._absent:
            return
        day, written = self._budget.today(), self._budget.written_today
        self._work[disk_name].upkeep(self.options.sync_interval_s, day, written)

    def disk_states(self) -> dict[str, DiskState]:
        """The state of each disk, now."""
        return {disk.name: disk.state for disk in self._by_slot} | dict.fromkeys(self._absent, DiskState.OUT)

    def settle(self) -> None:
        """Take up what the disks' threads did. Every other call of the owner does so first."""
        while self._results:
            result = self._results.popleft()
            if isinstance(result, Filled):
                self._filled(result)
            elif isinstance(result, Failed):
                self._failed(result)
            elif isinstance(result, Proven):
                self._proven(result)
            else:
                self._tried(result)

    def drain(self) -> None:
        """No new reservations from now on; those that are out may end."""
        self._draining = True

    def close(self) -> None:
        """Make everything durable and let go. Blocks. The disks' threads have ended; maps stay with who has them.
        Idempotent. A disk that fails now is left as after a crash."""
        if self._closed:
            return
        self._closed = True
        self.settle()
        for disk in self._by_slot:
            if disk.state is DiskState.OK and disk.changed:
                try:
                    self._work[disk.name].sync(self._budget.today(), self._budget.written_today)
                except OSError:
                    continue  # the next opening checks what is newer than the watermark
        for bound in {id(made): made for each in self._bindings.values() for made, _ in each}.values():
            bound.close()
        for disk in self._by_slot:
            disk.close()
        self._words_file.close()
        self._lock.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stats(self) -> PoolStats:
        """Everything countable, from memory."""
        self.settle()
        disks = tuple(self._disk_stats(disk) for disk in self._by_slot) + tuple(self._absent.values())
        return PoolStats(
            name=self.options.name,
            limit_bytes=self.limit_bytes,
            used_bytes=self.used_bytes,
            slots=self._slots,
            published_slots=sum(disk.published_slots for disk in disks),
            reserved_slots=sum(disk.reserved_slots for disk in disks),
            written_bytes_today=self._budget.written_today,
            write_bytes_per_day_max=self._budget.bytes_per_day_max,
            counters=self.counters,
            recovery=self.recovery,
            disks=disks,
        )

    def _disk_stats(self, disk: Disk) -> DiskStats:
        first, target = disk.layout.first_slot, self._spaces[disk.name].target
        counts = np.bincount(self._index.state[first : first + target], minlength=len(SlotState))
        return DiskStats(
            name=disk.name,
            path=str(disk.options.path),
            state=disk.state,
            reason=disk.health.reason,
            slots=target,
            used_slots=self._used[disk.name],
            fenced_slots=int(counts[SlotState.FENCED]),
            published_slots=int(counts[SlotState.PUBLISHED]),
            reserved_slots=int(counts[SlotState.RESERVED]),
            unproven_slots=self._work[disk.name].unproven_left,
            hidden_slots=int(counts[SlotState.HIDDEN]),
            allocated_bytes=disk.allocated_slots * SLOT_BYTES,
            used_bytes=self._used[disk.name] * SLOT_COST_BYTES,
            capacity_bytes=target * SLOT_COST_BYTES,
            written_bytes=disk.written_bytes,
            errors=disk.health.errors,
            full_errors=disk.health.full_errors,
        )

    # --- inside: slots ---

    def _begin(self) -> None:
        """Take up what recovery found."""
        states = self._index.state
        targets = self._shares(self._slots_of_limit())
        for disk, target in zip(self._by_slot, targets, strict=True):
            first, region = disk.layout.first_slot, disk.layout.region
            space = self._spaces[disk.name] = Space(0)
            taken = np.nonzero(states[first : first + region] != SlotState.FREE)[0]
            self._used[disk.name] = len(taken)
            space.restore(taken.tolist())
            self._retarget(disk, target, at_least=int(taken[-1]) + 1 if len(taken) else 0)
            published = np.nonzero(states[first : first + region] == SlotState.PUBLISHED)[0] + first
            if len(published):
                self.evictor.recovered(self._index.named(published))
            unproven = self._slots_in(disk, SlotState.UNPROVEN)
            self._unproven[disk.name].extend(unproven)
            self._work[disk.name].unproven_left = len(unproven)

    def _disk_of(self, slot: int) -> Disk:
        for disk in self._by_slot:
            if 0 <= slot - disk.layout.first_slot < disk.layout.region:
                return disk
        raise ConfigError(f"slot {slot} is on no disk of pool {self.options.name}")

    def _work_of(self, slot: int) -> DiskWork:
        return self._work[self._disk_of(slot).name]

    def _refusal(self, key: bytes, chunk: int, busy: Collection[str]) -> Refusal | None:
        if self._draining:
            return Refusal.DRAINING
        well = [disk.name for disk in self._by_slot if disk.state is DiskState.OK]
        if self._disks and not well:
            return Refusal.DISK_OUT
        if well and all(name in busy for name in well):
            return Refusal.DISK_BUSY
        slot = self._index.at(key, chunk)
        waits = slot is not None and self._index.state[slot] in (SlotState.UNPROVEN, SlotState.HIDDEN)
        if slot is not None and not waits:
            return Refusal.KNOWN
        if not self.evictor.admits(key, chunk):
            return Refusal.NOT_ADMITTED
        if slot is not None:
            self._drop(slot, EvictReason.DISK)
        return None

    def _free_slot(self, key: bytes, chunk: int, busy: Collection[str]) -> int | None:
        """A slot that nobody has: a free one of the emptiest disk, else the evictor's victim."""
        well = [disk for disk in self._by_slot if disk.name not in busy and disk.state is DiskState.OK]
        for disk in sorted(well, key=lambda disk: self._used[disk.name] / max(1, self._spaces[disk.name].target)):
            while (index := self._spaces[disk.name].take()) is not None:
                slot = disk.layout.first_slot + index
                # In use beyond a target that was lowered and raised again: it comes back when that ends.
                if self._index.state[slot] == SlotState.FREE:
                    return slot
        victim = self.evictor.victim(key, chunk)
        if victim is None or self._index.state[victim] != SlotState.PUBLISHED or self._disk_of(victim) not in well:
            return None
        self._empty(victim, EvictReason.ROOM, SlotState.FREE)
        return victim

    def _empty(self, slot: int, reason: EvictReason, state: SlotState) -> None:
        """Take a slot's chunk out of use. Its word first: who found it in a map misses from then on."""
        self._words.begin(slot)
        self.counters.evictions[reason] += 1
        if self._index.state[slot] == SlotState.PUBLISHED:
            self._unpublish(slot)
        if self._index.state[slot] == SlotState.UNPROVEN:
            self._disk_of(slot).doubt(slot)
            self._work_of(slot).unproven_left -= 1
        self._clear(slot, state)

    def _drop(self, slot: int, reason: EvictReason) -> None:
        """The same, and the slot is free."""
        self._empty(slot, reason, SlotState.FREE)
        self._return(slot)

    def _clear(self, slot: int, state: SlotState) -> None:
        self._index.clear(slot, state)
        self._used[self._disk_of(slot).name] -= 1

    def _return(self, slot: int) -> None:
        disk = self._disk_of(slot)
        self._spaces[disk.name].put_back(disk.index_of(slot))

    def _publish(self, slot: int) -> None:
        """From here on the chunk is found, in the index and in maps. Its word is even already."""
        key, chunk, _ = self._index.content(slot)
        self._index.state[slot] = SlotState.PUBLISHED
        entry = map_entry(slot, int(self._index.generation[slot]))
        for bound, number in self._bindings.get(key, ()):
            bound.set(number, chunk, entry)
        self.evictor.published(slot, key, chunk)

    def _unpublish(self, slot: int) -> None:
        key, chunk, _ = self._index.content(slot)
        for bound, number in self._bindings.get(key, ()):
            bound.set(number, chunk, 0)
        self.evictor.removed(slot)

    def _unbind(self, closed: SetMap) -> None:
        for key in closed.keys:
            left = [each for each in self._bindings.get(key, ()) if each[0] is not closed]
            if left:
                self._bindings[key] = left
            else:
                self._bindings.pop(key, None)

    # --- inside: what disks' threads did ---

    def _filled(self, result: Filled) -> None:
        slot = result.reservation.slot
        self.counters.fills += 1
        self.counters.filled_bytes += result.reservation.length
        if self._index.state[slot] == SlotState.RETIRED:
            self._words.begin(slot)
            self._unreserve(result.reservation, SlotState.FREE)
            return
        self._index.generation[slot] = result.generation
        self._show_or_hide(slot)

    def _failed(self, result: Failed) -> None:
        slot, disk = result.reservation.slot, self._disks[result.reservation.disk]
        self.counters.failed_fills += 1
        if isinstance(result.error, NoGrowthError):
            self._unreserve(result.reservation, SlotState.FREE)
            self._retarget(disk, min(self._spaces[disk.name].target, disk.allocated_slots))
            self._grow_again_at_s[disk.name] = self._machine.clock() + GROWTH_RETRY_S
            return
        if self._index.state[slot] == SlotState.RETIRED:
            self._unreserve(result.reservation, SlotState.FREE)
            return
        self._clear(slot, SlotState.FENCED)
        self._fence(slot)
        # A second slot, so that a probe can tell a bad sector from a bad disk.
        if len(self._work[disk.name].fenced_until_s) < 2:
            other = self._spaces[disk.name].take()
            if other is not None and self._index.state[disk.layout.first_slot + other] == SlotState.FREE:
                self._index.state[disk.layout.first_slot + other] = SlotState.FENCED
                self._fence(disk.layout.first_slot + other)

    def _unreserve(self, reservation: Reservation, state: SlotState) -> None:
        slot = reservation.slot
        if self._index.state[slot] == SlotState.RETIRED:
            self._work[reservation.disk].retired -= 1
        self._clear(slot, state)
        self._return(slot)

    def _proven(self, result: Proven) -> None:
        slot, disk = result.slot, self._disk_of(result.slot)
        self._work[disk.name].unproven_left -= 1
        if self._index.state[slot] == SlotState.RETIRED:
            self._work[disk.name].retired -= 1
            self._words.begin(slot)
        elif result.good:
            self.counters.proven += 1
            self._show_or_hide(slot)
            return
        else:
            self.counters.disproven += 1
        self._clear(slot, SlotState.FREE)
        self._return(slot)

    def _tried(self, result: Tried) -> None:
        slot = result.slot
        if result.ordered:
            self._on_trial.discard(slot)
        # With an order, it will be overwritten once more; twice in a row, a probe has found the same.
        if slot in self._on_trial or self._index.state[slot] != SlotState.FENCED:
            return
        if result.trial is Trial.GOOD:
            self._work_of(slot).fenced_until_s.pop(slot, None)
            self._failures.pop(slot, None)
            self._index.state[slot] = SlotState.FREE
            self._return(slot)
        elif result.trial is Trial.BAD:
            self._fence(slot)

    def _order_trial(self, slot: int) -> None:
        """One order a slot, which is nobody's until it has been done."""
        if slot not in self._on_trial:
            self._on_trial.add(slot)
            self._work_of(slot).orders.append(Try(slot))

    def _fence(self, slot: int) -> None:
        self._failures[slot] += 1
        fenced_until_s = self._work_of(slot).fenced_until_s
        if self._failures[slot] >= SLOT_FAILURES_MAX:
            fenced_until_s.pop(slot, None)
        else:
            fenced_until_s[slot] = self._machine.clock() + self.options.health.fence_s

    def _show_or_hide(self, slot: int) -> None:
        if self._disk_of(slot).name in self._hidden:
            self._index.state[slot] = SlotState.HIDDEN
        else:
            self._publish(slot)

    # --- inside: disks ---

    def _hide_what_is_out(self) -> None:
        for disk in self._by_slot:
            if disk.state is DiskState.OUT and disk.name not in self._hidden:
                self._hide(disk)

    def _hide(self, disk: Disk) -> None:
        """Nobody shall read there: who does waits for a disk that does not answer."""
        self._hidden.add(disk.name)
        for slot in self._slots_in(disk, SlotState.PUBLISHED):
            self._unpublish(slot)
            self._index.state[slot] = SlotState.HIDDEN

    def _show(self, disk: Disk) -> None:
        self._hidden.discard(disk.name)
        for slot in self._slots_in(disk, SlotState.HIDDEN):
            self._publish(slot)

    def _try_fenced(self, disk: Disk) -> None:
        """It is well again: what it failed at is tried now."""
        fenced_until_s = self._work[disk.name].fenced_until_s
        for slot in fenced_until_s:
            # More than one failure: a probe found it bad as well.
            if self._failures[slot] < 2:
                fenced_until_s[slot] = self._machine.clock()

    def _slots_in(self, disk: Disk, state: SlotState) -> list[int]:
        first = disk.layout.first_slot
        found: list[int] = (
            np.nonzero(self._index.state[first : first + disk.layout.region] == state)[0] + first
        ).tolist()
        return found

    def _order_proofs(self, disk: Disk) -> None:
        waiting, orders = self._unproven[disk.name], self._work[disk.name].orders
        while waiting and len(orders) < ORDERS_MAX:
            slot = waiting.popleft()
            if self.begin_proof(slot):
                orders.append(self._proof(slot))

    def _proof(self, slot: int) -> Prove:
        key, chunk, length = self._index.content(slot)
        return Prove(slot, SlotInfo(key, chunk, int(self._index.generation[slot]), length))

    # --- inside: space ---

    def _slots_of_limit(self) -> int:
        return slots_for(self.limit_bytes, len(self._disks), self.options.name)

    def _shares(self, slots: int) -> list[int]:
        return shares(slots, [disk.capacity_bytes for disk in self._by_slot], [d.layout.region for d in self._by_slot])

    def _retarget(self, disk: Disk, target: int, at_least: int = 0) -> None:
        """Another number of slots for a disk; `at_least`: slots that recovery found in use, be they beyond the
        target."""
        first, space = disk.layout.first_slot, self._spaces[disk.name]
        before = max(space.target, at_least)
        if target > space.target:
            self._words_file.begin_range(first + space.target, target - space.target)
        for slot in range(first + target, first + before):
            state = self._index.state[slot]
            if state in (SlotState.PUBLISHED, SlotState.UNPROVEN, SlotState.HIDDEN):
                self._empty(slot, EvictReason.LIMIT, SlotState.FREE)
            elif state in (SlotState.RESERVED, SlotState.PROVING):
                # Before the target: the slab shrinks when none of them is left.
                self._work[disk.name].retired += 1
                self._index.state[slot] = SlotState.RETIRED
        space.retarget(target)
        disk.target = target
