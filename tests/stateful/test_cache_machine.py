"""A pool against a dict: hypothesis chooses what is kept and dropped, what breaks, and when the machine goes down.

After every step: each chunk that is found has its own bytes or is found out as damaged, where somebody damaged it;
nothing is found that was never filled (a phantom) or that an operator evicted in this boot; everything is found that
the evictor was told of and that was not taken from it; the limit holds; readers of earlier daemons read right bytes
or miss. A long run:
FASTFEED_MACHINE_RUNS=2000 python -m pytest --timeout=0 tests/stateful/test_cache_machine.py
"""

from __future__ import annotations

import os
import random
from contextlib import ExitStack, suppress
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastfeed._native.cache import ChunkMap, Slab, SlotWords
from fastfeed.cache.faulty import OPERATIONS, Fault
from fastfeed.cache.pool import Located, Pool, Reservation
from fastfeed.cache.set_map import SetMap
from fastfeed.cache.stats import DiskState
from fastfeed.errors import CorruptDataError
from tests.helpers.cache_pools import (
    CHUNK,
    SLOT_AND_TABLE,
    Lru,
    abandon_as_after_a_crash,
    body,
    keep_house,
    limit_of,
    place,
)
from tests.helpers.power import Power

RUNS = int(os.environ.get("FASTFEED_MACHINE_RUNS", "12"))
STEPS = 30
KEYS = (b"a" * 16, b"b" * 16)
CHUNKS = 8  # of each object: more than there are slots
PAGE = 4096
SLOT_BYTES = CHUNK + PAGE
# Lengths at the edges: one check, a byte over it, a whole chunk.
LENGTHS = {0: 1, 1: 65_536, 2: 65_537, 3: CHUNK - 1}
DISKS = ("disk0", "disk1")

keys = st.sampled_from(KEYS)
chunks = st.integers(0, CHUNKS - 1)
disks = st.sampled_from(DISKS)
Name = tuple[bytes, int]


def length_of(chunk: int) -> int:
    return LENGTHS.get(chunk, CHUNK)


class Reader:
    """A client that was given words, slabs and map once, and uses them whatever happens to the daemon."""

    def __init__(self, pool: Pool, made: SetMap) -> None:
        with pool.client_files() as files:
            self.words = SlotWords(files.words_fd, files.slots)
            self.slabs = [(Slab(fd, first, slots), first, slots) for fd, first, slots in files.slabs]
        fd = made.client_fd()
        self.map = ChunkMap(fd, CHUNKS * len(KEYS), len(KEYS))
        os.close(fd)

    def read(self, key: bytes, chunk: int) -> bytes | None:
        """As csrc/cache's reader: map, word, bytes, word; None: a miss."""
        entry = self.map.get(KEYS.index(key) * CHUNKS + chunk)
        slot, generation = entry >> 38, self.words.load(entry >> 38) if entry else 0
        if entry == 0 or generation % 2 or (generation ^ entry) & (2**38 - 1):
            return None
        slab = next(slab for slab, first, slots in self.slabs if first <= slot < first + slots)
        return slab.read(self.words, slot, generation, key, chunk, 0, length_of(chunk))

    def close(self) -> None:
        self.words.close()
        self.map.close()
        for slab, _, _ in self.slabs:
            slab.close()


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        self.here = self.undo.enter_context(place())
        self.power = Power(self.here)
        self.slots = 6
        self.evictor = Lru()
        self.filled: set[Name] = set()
        self.evicted: set[Name] = set()  # in this boot, by an operator
        self.damaged: set[int] = set()
        self.held: list[Reservation] = []
        self.located: list[tuple[Name, Located]] = []
        self.readers: list[Reader] = []
        self.pool = self.open()

    def teardown(self) -> None:
        self.here.faults.clear()
        for reader in self.readers:
            reader.close()
        for reservation in self.held:
            self.pool.abandon(reservation)
        assert all(disk.reserved_slots == 0 for disk in self.pool.stats().disks)
        self.pool.close()
        self.undo.close()

    def open(self) -> Pool:
        self.evictor = Lru()
        pool = self.here.open(slots=self.slots, disks=2, evictor=self.evictor, growth_bytes=SLOT_AND_TABLE)
        self.made = pool.map_set(KEYS, [CHUNKS] * len(KEYS))
        self.located.clear()
        return pool

    # --- what users do ---

    @initialize(slots=st.integers(2, 8), key=keys, first=chunks, synced=st.booleans())
    def begin(self, slots: int, key: bytes, first: int, synced: bool) -> None:
        self.slots = slots
        self.pool.set_limit(limit_of(slots, 2))
        self.keep(key, first, slots)
        if synced:
            self.time_passes(11)

    @rule(key=keys, first=chunks, count=st.integers(1, CHUNKS))
    def keep(self, key: bytes, first: int, count: int) -> None:
        for chunk in range(first, first + count):
            reservation = self.pool.reserve(key, chunk % CHUNKS, length_of(chunk % CHUNKS))
            if reservation is not None:
                self.fill(reservation)

    @rule(key=keys, chunk=chunks)
    def hold(self, key: bytes, chunk: int) -> None:
        reservation = self.pool.reserve(key, chunk, length_of(chunk))
        if reservation is not None:
            self.held.append(reservation)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fills=st.booleans())
    def end_held(self, data: st.DataObject, fills: bool) -> None:
        reservation = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        if fills:
            self.fill(reservation)
        else:
            self.pool.abandon(reservation)

    @rule(key=keys, chunk=chunks)
    def evict(self, key: bytes, chunk: int) -> None:
        if self.pool.evict(key, chunk):
            self.evicted.add((key, chunk))

    @rule(slots=st.sampled_from([0, 1, 3, 4, 5, 6, 7, 8, 9]))
    def change_limit(self, slots: int) -> None:
        self.slots = slots
        self.pool.set_limit(limit_of(slots, 2) if slots else 0)

    @rule(key=keys, chunk=chunks)
    def remember_a_place(self, key: bytes, chunk: int) -> None:
        if found := self.pool.find(key, chunk):
            self.located.append(((key, chunk), found))

    @rule()
    def a_reader_comes(self) -> None:
        self.readers.append(Reader(self.pool, self.made))

    @rule(seconds=st.sampled_from([1, 11, 70, 700]))
    def time_passes(self, seconds: int) -> None:
        self.here.clock.now_s += seconds
        keep_house(self.pool)

    # --- what breaks ---

    @rule(operation=st.sampled_from([each for each in OPERATIONS if each != "read"]), disk=disks,
          fault=st.sampled_from([Fault.NONE, Fault.EIO, Fault.TORN, Fault.ENOSPC]))  # fmt: skip
    def a_disk_breaks(self, operation: str, disk: str, fault: Fault) -> None:
        self.here.faults.set(operation, fault, self.here.root / disk)

    @rule()
    def disks_are_well_again(self) -> None:
        """And come back, however long they were out."""
        self.here.faults.clear()
        for _ in range(40):
            self.here.clock.now_s += 31
            keep_house(self.pool)
            if set(self.pool.disk_states().values()) == {DiskState.OK}:
                break
        assert set(self.pool.disk_states().values()) == {DiskState.OK}

    @rule(disk=disks, at=st.floats(0, 1, exclude_max=True), trailer=st.booleans())
    def a_bit_flips(self, disk: str, at: float, trailer: bool) -> None:
        path = self.slab(disk)
        slots = path.stat().st_size // SLOT_BYTES
        if slots == 0:
            return
        index, offset = int(at * slots), int(at * slots % 1 * (PAGE if trailer else CHUNK))
        flip(path, index * SLOT_BYTES + (CHUNK if trailer else 0) + offset)
        self.damaged.add(self.first_slot(disk) + index)

    @rule(disk=disks, data=st.data())
    def two_slots_are_swapped(self, disk: str, data: st.DataObject) -> None:
        path = self.slab(disk)
        slots = path.stat().st_size // SLOT_BYTES
        if slots < 2:
            return
        one, two = data.draw(st.permutations(range(slots)))[:2]
        with open(path, "r+b") as file:
            first = os.pread(file.fileno(), SLOT_BYTES, one * SLOT_BYTES)
            second = os.pread(file.fileno(), SLOT_BYTES, two * SLOT_BYTES)
            os.pwrite(file.fileno(), second, one * SLOT_BYTES)
            os.pwrite(file.fileno(), first, two * SLOT_BYTES)
        self.damaged |= {self.first_slot(disk) + one, self.first_slot(disk) + two}

    # --- when the daemon or the machine goes down ---

    @rule()
    def restart(self) -> None:
        self.end_all_held()
        before = self.present()
        self.pool.close()
        self.pool = self.open()
        self.expect(before)

    @rule(key=keys, first=chunks, count=st.integers(0, 4), words=st.sampled_from(["kept", "kept", "lost"]))
    def kill(self, key: bytes, first: int, count: int, words: str) -> None:
        """The page cache stays. Fills that were under way leave nothing."""
        self.keep(key, first, count)
        self.pool.settle()
        before = self.present()
        abandon_as_after_a_crash(self.pool)
        self.held.clear()
        if words == "lost":
            (self.here.words / "default.words").unlink()
        self.pool = self.open()
        if words == "kept":
            self.expect(before)

    @rule(key=keys, first=chunks, count=st.integers(0, 4), seed=st.integers(0, 2**32), twice=st.booleans())
    def power_loss(self, key: bytes, first: int, count: int, seed: int, twice: bool) -> None:
        """Of what was not made durable, any page may be there or not. `twice`: a kill before all is checked."""
        self.keep(key, first, count)
        abandon_as_after_a_crash(self.pool)
        self.held.clear()
        for reader in self.readers:
            reader.close()
        self.readers.clear()
        self.power.fail(random.Random(seed))
        self.evicted.clear()
        self.pool = self.open()
        if twice:
            abandon_as_after_a_crash(self.pool)
            self.pool = self.open()

    # --- what holds always ---

    @invariant()
    def nothing_is_wrong(self) -> None:
        for key in KEYS:
            for chunk in range(CHUNKS):
                self.look_at(key, chunk)

    @invariant()
    def readers_read_right_or_not_at_all(self) -> None:
        for reader in self.readers:
            for key in KEYS:
                for chunk in range(CHUNKS):
                    with suppress(CorruptDataError):
                        data = reader.read(key, chunk)
                        assert data in (None, body(key, chunk, length_of(chunk)))

    @invariant()
    def stale_places_are_misses(self) -> None:
        for (key, chunk), located in self.located:
            with suppress(CorruptDataError):
                data = self.pool.read(located, key, chunk, 0, located.length)
                assert data in (None, body(key, chunk, located.length))

    @invariant()
    def the_limit_holds(self) -> None:
        stats = self.pool.stats()
        retired = [each for each in self.held if each.slot - self.first_slot(each.disk) >= self.share(each.disk)]
        assert stats.used_bytes - len(retired) * SLOT_AND_TABLE <= stats.limit_bytes
        assert stats.published_slots + stats.reserved_slots <= stats.slots

    @invariant()
    def evictor_index_and_maps_agree(self) -> None:
        self.pool.settle()
        told = {name: slot for slot, name in self.evictor.slots.items()}
        assert len(told) == len(self.evictor.slots), "one slot a chunk"
        for number, key in enumerate(KEYS):
            for chunk in range(CHUNKS):
                found = self.pool.find(key, chunk)
                assert (found.slot if found else None) == told.get((key, chunk))
                assert self.made.get(number, chunk) == (found.entry if found else 0)

    # --- helpers ---

    def fill(self, reservation: Reservation) -> None:
        name = (reservation.key, reservation.chunk)
        if self.pool.fill(reservation, body(*name, reservation.length)):
            self.filled.add(name)
            self.evicted.discard(name)
            self.damaged.discard(reservation.slot)
        self.pool.settle()

    def look_at(self, key: bytes, chunk: int) -> None:
        located = self.pool.find(key, chunk)
        if located is None:
            return
        assert (key, chunk) in self.filled, "a phantom"
        assert (key, chunk) not in self.evicted, "back after an operator evicted it"
        try:
            data = self.pool.read(located, key, chunk, 0, located.length)
        except CorruptDataError:
            assert located.slot in self.damaged, "damage that nobody did"
            assert self.pool.quarantine(located.slot, located.entry)
        else:
            assert data == body(key, chunk, length_of(chunk))

    def present(self) -> set[Name]:
        return {
            (key, chunk)
            for key in KEYS
            for chunk in range(CHUNKS)
            if (found := self.pool.find(key, chunk)) and found.slot not in self.damaged
        }

    def expect(self, before: set[Name]) -> None:
        """All is there again, or was beyond the limit."""
        missing = before - self.present()
        for key, chunk in missing:
            assert self.pool.unproven(key, chunk) is not None or self.pool.counters.evictions

    def end_all_held(self) -> None:
        while self.held:
            self.pool.abandon(self.held.pop())

    def slab(self, disk: str) -> Path:
        return self.here.root / disk / "default" / "slab.0"

    def first_slot(self, disk: str) -> int:
        return next(each.layout.first_slot for each in self.pool._by_slot if each.name == disk)

    def share(self, disk: str) -> int:
        return next(each.slots for each in self.pool.stats().disks if each.name == disk)


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte[0] ^ 0x10]), offset)


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=RUNS, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
