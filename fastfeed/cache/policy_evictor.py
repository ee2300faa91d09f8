"""The evictor that knows the future: which chunks get a slot, and which slot is emptied for them.

1. Chunks in nobody's future go first, by S3-FIFO (policy_strangers.py).
2. Then, by the plan: under RESIDENT those that are no members, under MIN all, who is needed last first.
3. Never one that is in use, that is pinned, or that is needed before the chunk that would take its slot.
4. A chunk is kept if the plan wants it beyond its present use, which still reads a quarter of it or more. Else it is
   staged, which means kept for that use: worth a slot only if most of it is read, in many small requests. Else its
   bytes pass through: `admits` says no.
5. A free slot takes whatever comes, unless the day's writes are used up. Where the active blocks of all jobs exceed the
   pool, only members come, and they stay: rows of other chunks are read by their exact bytes.
6. A scan (a job without shuffle: mostly an evaluation) takes free slots and those of strangers, and no others, however
   often it comes back.

Who goes next is computed for all slots together and then used up one by one, each checked again when its turn comes.
Not thread-safe: the pool's thread calls it. No files; the clocks come in.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isfinite

import numpy as np
import numpy.typing as npt

from fastfeed._native.policy import KEPT_PART_MIN, STAGE_PART_MIN
from fastfeed.cache.evictor import Held
from fastfeed.cache.future import CHUNK_BYTES, Course, Future, Wanted, WantedOne
from fastfeed.cache.policy import NO_PLAN, Plan, Policy, chunk_hashes, object_hash
from fastfeed.cache.policy_strangers import Strangers

# Ranking all slots takes 3 ms for a pool of 4 GiB: at most a fiftieth of a core is spent on it.
RANK_SHARE = 50
# So much of a ranking is used up before there is a new one, if time allows: whose use has just ended is often needed
# later than whoever is left in an old one.
RANKING_SHARE = 64
# Candidates of one ranking: enough for seconds at the speed of a disk.
RANKED_MAX = 1 << 15
# More than this part of the pool is room for what is far ahead.
ROOM_SHARE = 16
# Chunks on their way at a time: more than the buffers hold.
EXPECTED_MAX = 1 << 12
# Of who left lately, so many are remembered for `explain`.
GONE_MAX = 1 << 15

Slots = npt.NDArray[np.int64]


# What is pinned is needed now, so that it takes any slot that nobody is reading.
_NOW = WantedOne(0.0, 0.0, 0, False)


class Why(StrEnum):
    """Why a chunk may have a slot, or not. The values are read by people."""

    PINNED = "pinned by an operator"
    FREE = "there are free slots"
    KEPT = "it will be read again before others that are here"
    STAGED = "it is being read, a few rows at a time"
    EXPECTED = "it is being fetched for a slot"
    STRANGERS = "others here are in nobody's future"
    NO_BUDGET = "the bytes that may be written today are used up"
    ACTIVE_EXCEED = "the blocks that are being read exceed the pool, and it is no resident"
    NOT_AGAIN = "others that are here will be read again before it, and it is read at once or in part"
    ALL_IN_USE = "everything here is in use, pinned, or needed sooner"
    SCAN = "it is read by a scan, which takes nothing from others"


@dataclass(frozen=True, slots=True)
class Gone:
    """A chunk that left its slot: when, and seconds from then until it was wanted again (inf: by nobody)."""

    at_s: float
    wanted_in_s: float


@dataclass(slots=True)
class EvictorCounters:
    """What happened, in chunks, since the start."""

    admitted: int = 0  # asked for, and the answer was yes
    refused: int = 0
    rankings: int = 0
    rank_s: float = 0.0


class FutureEvictor:
    """Implements `Evictor` for one pool of `slots` slots."""

    def __init__(self, slots: int, *, may_write: Callable[[], bool] = lambda: True,
                 clock: Callable[[], float] = time.monotonic,
                 cpu_clock: Callable[[], float] = time.thread_time) -> None:
        """may_write: whether the day's budget of writes has any left. cpu_clock: what rankings cost is measured by it,
        so that a busy machine does not make them rare."""
        self.future = Future()
        self.plan: Plan = NO_PLAN
        self.counters = EvictorCounters()
        self._capacity = slots
        self._may_write, self._clock, self._cpu_clock = may_write, clock, cpu_clock
        self._objects = np.full(0, -1, np.int64)  # by slot; -1: empty
        self._chunks = np.zeros(0, np.int64)
        # Numbers of fills: a slot that was filled since the ranking holds another chunk than the one that was ranked.
        self._filled_at = np.zeros(0, np.int64)
        self._fill = self._ranked_fill = 0
        self._occupied = 0
        # Grows with every chunk that comes or goes: who has looked need not look again while it stands still.
        self.changes = 0
        self._slots_of: dict[tuple[int, int], int] = {}
        self._strangers = Strangers()
        self._pinned: set[int] = set()  # objects
        self._expected: OrderedDict[tuple[int, int], None] = OrderedDict()
        self._gone: OrderedDict[tuple[int, int], Gone] = OrderedDict()
        self._ranked: Slots = np.zeros(0, np.int64)
        self._stranger_count = 0  # the first of _ranked are in nobody's future
        self._at = 0
        self._ranked_at_s = -1e9
        self._rank_every_s = 0.0
        self._fresh_until = 0  # places of _ranked that are used before a new ranking is worth it
        self._furthest_s = 0.0  # of the last ranking: when who goes first is needed

    # --- what the pool asks (evictor.py) -------------------------------------------------------------------------

    def admits(self, key: bytes, chunk: int) -> bool:
        """Whether this chunk may have a slot now, be it a free one."""
        may, _ = self.judge(key, chunk)
        self.counters.admitted += may
        self.counters.refused += not may
        return may

    def victim(self, key: bytes, chunk: int) -> int | None:
        """The slot to empty for this chunk; None: all must stay."""
        number = self.future.number(key)
        if number in self._pinned:
            return self._first_to_go(_NOW, strangers_only=False)
        wanted = self.future.wanted_one(number, chunk)
        return self._first_to_go(wanted, strangers_only=self._takes_strangers_only(wanted))

    def published(self, slot: int, key: bytes, chunk: int) -> None:
        """The slot holds this chunk from now on."""
        self.removed(slot)
        self._make_room(slot + 1)
        name = (self.future.number(key), chunk)
        self._objects[slot], self._chunks[slot] = name
        self._fill += 1
        self._filled_at[slot] = self._fill
        self._slots_of[name] = slot
        self._occupied += 1
        self.changes += 1
        self._strangers.entered(slot, name)
        if not isfinite(self.future.wanted_one(*name).until_s):
            self._fresh_until = 0  # it goes before all that are ranked
        self._gone.pop(name, None)
        self._expected.pop(name, None)

    def recovered(self, held: Held) -> None:
        """All these slots hold their chunks from now on: what `published` does, a million slots in half a second."""
        slots, keys, which, chunks = held
        self._make_room(int(slots.max()) + 1)
        numbers = np.full(len(keys), -1, np.int64)
        for each in np.unique(which).tolist():
            numbers[each] = self.future.number(keys[each])
        objects = numbers[which]
        self._objects[slots], self._chunks[slots] = objects, chunks
        self._filled_at[slots] = self._fill + 1 + np.arange(len(slots))
        self._fill += len(slots)
        names = zip(objects.tolist(), chunks.tolist(), strict=True)
        self._slots_of.update(zip(names, slots.tolist(), strict=True))
        self._occupied += len(slots)
        self._strangers.entered_first(slots)
        self._fresh_until = 0

    def removed(self, slot: int) -> None:
        """The slot holds nothing any more."""
        if slot >= len(self._objects) or self._objects[slot] < 0:
            return
        name = (int(self._objects[slot]), int(self._chunks[slot]))
        self._gone[name] = Gone(self._clock(), self.future.wanted_one(*name).until_s)
        if len(self._gone) > GONE_MAX:
            self._gone.popitem(last=False)
        self._strangers.left(slot, name)
        self._slots_of.pop(name, None)
        self._objects[slot] = -1
        self._occupied -= 1
        self.changes += 1

    def used(self, key: bytes, chunk: int) -> None:
        """A reader asked the daemon for this chunk."""
        slot = self._slots_of.get((self.future.number(key), chunk))
        if slot is not None:
            self._strangers.used(slot)

    # --- what the daemon tells -----------------------------------------------------------------------------------

    def resize(self, slots: int) -> None:
        """The pool has so many slots now."""
        self._capacity = slots

    def set_courses(self, courses: Iterable[Course]) -> None:
        """These jobs have a future from now on. Who goes next is computed anew."""
        self.future.set_courses(courses)
        self.rank_again()

    def set_plan(self, plan: Plan) -> None:
        """Follow this plan from now on."""
        if plan != self.plan:
            self.plan = plan
            self.rank_again()

    def rank_again(self) -> None:
        """What was computed is no longer true."""
        self._ranked, self._at, self._stranger_count, self._fresh_until = np.zeros(0, np.int64), 0, 0, 0
        self._ranked_at_s = -1e9

    def pin(self, key: bytes) -> None:
        """Chunks of this object stay, once they are here, until `unpin`."""
        self._pinned.add(self.future.number(key))
        self.rank_again()

    def unpin(self, key: bytes) -> None:
        """The object is like any other again."""
        self._pinned.discard(self.future.number(key))
        self.rank_again()

    def expect(self, key: bytes, chunk: int) -> bool:
        """Whether the chunk may have a slot now; if so, it is being fetched for that, and has it when it comes, if
        anyone can go: what was fetched whole is not refused because a part of its use is over meanwhile."""
        may, _ = self.judge(key, chunk)
        if may:
            self._expected[self.future.number(key), chunk] = None
            if len(self._expected) > EXPECTED_MAX:
                self._expected.popitem(last=False)
        return may

    # --- answers -------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def occupied(self) -> int:
        """Slots that hold a chunk."""
        return self._occupied

    @property
    def pinned_chunks(self) -> int:
        """Slots that hold pinned chunks, now."""
        return int(np.isin(self._objects, list(self._pinned)).sum()) if self._pinned else 0

    @property
    def has_room(self) -> bool:
        """Whether many slots are free, or hold chunks in nobody's future. A few are always free: on their way from one
        chunk to another."""
        strangers = max(0, self._stranger_count - self._at)
        return (self._capacity - self._occupied + strangers) * ROOM_SHARE > self._capacity

    @property
    def active_exceeds(self) -> bool:
        """Whether the blocks that are being read are more than the pool holds."""
        return self.future.active_chunks > self._capacity

    @property
    def now_s(self) -> float:
        """The evictor's clock."""
        return self._clock()

    def holds(self, key: bytes, chunk: int) -> bool:
        """Whether the chunk is in a slot."""
        return (self.future.number(key), chunk) in self._slots_of

    def holds_all(self, course: Course, chunks: npt.NDArray[np.bool_]) -> bool:
        """Whether these chunks of a course's set, by number, are all in slots."""
        count = int(chunks.sum())
        if self._occupied < count:
            return False
        slots = np.flatnonzero(self._objects >= 0)
        numbers = self.future.numbers_in(course, self._objects[slots], self._chunks[slots])
        return int(chunks[numbers[numbers >= 0]].sum()) == count

    def held_keys(self) -> list[bytes]:
        """The objects that have chunks in slots."""
        return [self.future.key(int(number)) for number in np.unique(self._objects) if number >= 0]

    def gone(self, key: bytes, chunk: int) -> Gone | None:
        """When the chunk left, if it was here lately."""
        return self._gone.get((self.future.number(key), chunk))

    def is_member(self, key: bytes, chunk: int) -> bool:
        """Whether the plan wants it resident."""
        objects, chunks = np.array([self.future.number(key)], np.int64), np.array([chunk], np.int64)
        return bool(self._members(objects, chunks)[0])

    def judge(self, key: bytes, chunk: int) -> tuple[bool, Why]:
        """Whether the chunk may have a slot now, and why."""
        number = self.future.number(key)
        free = self._occupied < self._capacity
        if not self._may_write():
            return False, Why.NO_BUDGET
        if number in self._pinned:
            may = free or self._first_to_go(_NOW, strangers_only=False) is not None
            return may, Why.PINNED if may else Why.ALL_IN_USE
        exceeds = self.active_exceeds
        if free and not exceeds:
            return True, Why.FREE
        wanted = self.future.wanted_one(number, chunk)
        if exceeds and isfinite(wanted.until_s):
            # What is here is resident, or goes for residents; the rest is read by exact bytes.
            if not self.is_member(key, chunk):
                return False, Why.ACTIVE_EXCEED
            may = free or self._first_to_go(wanted, strangers_only=False) is not None
            return may, Why.KEPT if may else Why.ALL_IN_USE
        if free:
            return True, Why.FREE
        only_strangers = self._takes_strangers_only(wanted)
        if self._first_to_go(wanted, strangers_only=only_strangers) is None:
            return False, Why.SCAN if only_strangers and isfinite(wanted.until_s) else Why.ALL_IN_USE
        if self._stranger_count > self._at:
            return True, Why.STRANGERS
        if (number, chunk) in self._expected:
            return True, Why.EXPECTED
        if self._is_kept(key, chunk, wanted):
            return True, Why.KEPT
        if wanted.part >= STAGE_PART_MIN:
            return True, Why.STAGED
        return False, Why.NOT_AGAIN

    # --- inside --------------------------------------------------------------------------------------------------

    @property
    def _policy(self) -> Policy:
        """What is followed: under MIN, too, only residents stay where the active blocks exceed the pool."""
        return Policy.RESIDENT if self.active_exceeds else self.plan.policy

    def _takes_strangers_only(self, wanted: WantedOne) -> bool:
        return wanted.dense or not isfinite(wanted.until_s)

    def _is_kept(self, key: bytes, chunk: int, wanted: WantedOne) -> bool:
        if wanted.part < KEPT_PART_MIN:
            return False
        if self._policy is Policy.RESIDENT:
            return self.is_member(key, chunk)
        return wanted.after_s < self._furthest_s

    def _members(self, objects: Slots, chunks: Slots) -> npt.NDArray[np.bool_]:
        keys = {int(each): object_hash(self.future.key(int(each))) for each in np.unique(objects)}
        hashes = np.array([keys[int(each)] for each in objects], np.uint64)
        return self.plan.members.has(self.future.uses_a_second(objects, chunks), chunk_hashes(hashes, chunks))

    def _wanted_slots(self, slots: Slots) -> Wanted:
        return self.future.wanted(self._objects[slots], self._chunks[slots])

    def _make_room(self, slots: int) -> None:
        if slots > len(self._objects):
            more = max(slots, 2 * len(self._objects)) - len(self._objects)
            self._objects = np.concatenate([self._objects, np.full(more, -1, np.int64)])
            self._chunks = np.concatenate([self._chunks, np.zeros(more, np.int64)])
            self._filled_at = np.concatenate([self._filled_at, np.zeros(more, np.int64)])

    def _first_to_go(self, wanted: WantedOne, *, strangers_only: bool) -> int | None:
        """The first slot of the ranking that may still go, for a chunk that is wanted so; None."""
        if self._at >= self._fresh_until:
            self._rank()
        while self._at < len(self._ranked):
            is_stranger = self._at < self._stranger_count
            if strangers_only and not is_stranger:
                return None
            slot = int(self._ranked[self._at])
            if self._filled_at[slot] <= self._ranked_fill and self._objects[slot] >= 0:
                until_s = self.future.wanted_one(int(self._objects[slot]), int(self._chunks[slot])).until_s
                if is_stranger and until_s == inf:
                    return slot
                if until_s > 0:
                    # Those behind it are needed sooner still.
                    return slot if until_s > wanted.until_s else None
            self._at += 1
            if self._at >= self._fresh_until:
                self._rank()
        return None

    def _rank(self) -> None:
        """Compute who goes next, unless that was done a moment ago."""
        now_s = self._clock()
        if now_s < self._ranked_at_s + self._rank_every_s:
            return
        begun_s = self._cpu_clock()
        occupied = np.flatnonzero(self._objects >= 0)
        wanted = self._wanted_slots(occupied)
        may_go = wanted.until_s > 0
        if self._pinned:
            may_go &= ~np.isin(self._objects[occupied], list(self._pinned))
        strangers = may_go & ~np.isfinite(wanted.until_s)
        others = may_go & np.isfinite(wanted.until_s)
        if self._policy is Policy.RESIDENT and others.any():
            where = np.flatnonzero(others)
            members = self._members(self._objects[occupied[where]], self._chunks[occupied[where]])
            others[where[members]] = False
        candidates, until_s = occupied[others], wanted.until_s[others]
        if len(candidates) > RANKED_MAX:
            last = np.argpartition(-until_s, RANKED_MAX)[:RANKED_MAX]
            candidates, until_s = candidates[last], until_s[last]
        ranked = candidates[np.argsort(-until_s, kind="stable")]
        first = self._strangers.ranked(occupied[strangers])[:RANKED_MAX]
        self._ranked, self._at, self._stranger_count = np.concatenate([first, ranked]), 0, len(first)
        self._furthest_s = float(until_s.max()) if len(until_s) else 0.0
        self._ranked_fill = self._fill
        took_s = self._cpu_clock() - begun_s
        self._ranked_at_s = now_s
        self._rank_every_s = RANK_SHARE * took_s
        self._fresh_until = max(1, len(self._ranked) // RANKING_SHARE)
        self.counters.rankings += 1
        self.counters.rank_s += took_s


def slots_of_bytes(limit_bytes: int, slot_bytes: int = CHUNK_BYTES + 4096) -> int:
    """Slots that a pool of so many bytes has."""
    return limit_bytes // slot_bytes


__all__ = ["CHUNK_BYTES", "EvictorCounters", "FutureEvictor", "Gone", "Why", "slots_of_bytes"]
