"""Which policy a pool follows: choosing it by simulation over the registered futures.

`choose` runs `resident` and `MIN` (csrc/cache/policy) over the uses that the courses will make of a hashed sample of
their chunks, and says what each would cost. `Chooser` turns costs into a plan: the policy with fewer bytes from the
origin, then the one with fewer writes; it changes its mind only for more than SWITCH_GAIN, and only when asked twice.

Pure: no clock of its own, no files. `choose` may take a second and drops the GIL; what it reads are copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed._native.policy import WHOLE_PART, simulate
from fastfeed.cache.future import F64, I64, U64, Course, Future


class Policy(IntEnum):
    """The numbers of csrc/cache/policy.hpp."""

    RESIDENT = 0
    MIN = 1
    LRU = 2
    S3FIFO = 3


# A hit ratio over 16,384 chunks is right to 0.4 points (one standard deviation), a fifth of what a switch asks for.
SAMPLE_CHUNKS_MAX = 1 << 14
# Uses in one simulation: about 0.2 s a policy.
SAMPLE_USES_MAX = 1 << 20
# The simulated pool begins empty: of four rounds of the slowest job the first fills it, and the last is only known to
# MIN. The two between them are counted.
ROUNDS = 4
# Points of the hit ratio that a switch must bring: a switch costs writes, and simulations are samples.
SWITCH_GAIN = 0.02
# Costs that differ by less are equal: then writes decide.
TIE = 0.002
# Ticks a second of simulated time.
_TICKS_A_SECOND = 1000
# Chunks of large sets are looked at in pieces of so many, to sample them.
_PIECE_CHUNKS = 1 << 20


def chunk_hashes(object_hashes: U64, chunks: I64) -> U64:
    """64 bits for each chunk that depend on its object and number alone: who is sampled, and who is resident."""
    with np.errstate(over="ignore"):
        z = object_hashes + (chunks.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes: U64 = z ^ (z >> np.uint64(31))
        return hashes


def object_hash(key: bytes) -> int:
    """64 bits of a key."""
    return int.from_bytes(key[:8], "little")


class Cost(NamedTuple):
    """What a policy makes of the sampled uses. hit_ratio: of the bytes that jobs read, those that no origin gave."""

    hit_ratio: float
    write_ratio: float  # bytes written into the pool, of the bytes that jobs read
    exact_ratio: float  # uses that were read past the pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What simulations said. `costs` by policy; members: who would be resident.

    sampled: chunks that were looked at, of `chunks` that the courses have together.
    """

    costs: dict[Policy, Cost]
    sampled: int
    chunks: int
    members: Members


class Members(NamedTuple):
    """Who is resident: chunks used more often than `uses_a_second`; of those used as often, hashes up to `hash`.

    Hashes are independent of every order, so that residents lie evenly over an epoch, whichever it is.
    """

    uses_a_second: float
    hash: int

    def has(self, uses_a_second: F64, hashes: U64) -> npt.NDArray[np.bool_]:
        # Relative, since rates are sums of floats in any order.
        near = np.isclose(uses_a_second, self.uses_a_second, rtol=1e-6, atol=0.0)
        return ((uses_a_second > self.uses_a_second) & ~near) | (near & (hashes <= np.uint64(self.hash)))


EVERYBODY = Members(0.0, 2**64 - 1)


class _Sample(NamedTuple):
    """Chunks that were chosen by hash, each once however many courses have it."""

    objects: I64
    chunks: I64
    hashes: U64
    rate: float  # of all chunks, how many were chosen
    total: int


def _sample(future: Future, courses: Sequence[Course], chunks_max: int) -> _Sample:
    geometries = {id(course.geometry): course.geometry for course in courses}.values()
    counts: dict[bytes, int] = {}
    for geometry in geometries:
        counts.update(zip(geometry.keys, np.diff(geometry.first_chunks).tolist(), strict=True))
    total = sum(counts.values())
    rate = min(1.0, chunks_max / max(1, total))
    limit = np.uint64(min(2**64 - 1, int(rate * 2**64)))
    found: list[I64] = []
    for geometry in geometries:
        numbers = np.array([future.number(key) for key in geometry.keys], np.int64)
        hashes = np.array([object_hash(key) for key in geometry.keys], np.uint64)
        for first in range(0, geometry.chunk_count, _PIECE_CHUNKS):
            of_set = np.arange(first, min(first + _PIECE_CHUNKS, geometry.chunk_count), dtype=np.int64)
            which = np.searchsorted(geometry.first_chunks, of_set, "right") - 1
            chunks = of_set - geometry.first_chunks[which]
            chosen = chunk_hashes(hashes[which], chunks) <= limit
            found.append(np.stack([numbers[which[chosen]], chunks[chosen]], axis=1))
    pairs = np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)
    objects, chunks = pairs[:, 0].copy(), pairs[:, 1].copy()
    of_object = np.array([object_hash(future.key(int(each))) for each in objects], np.uint64)
    return _Sample(objects, chunks, chunk_hashes(of_object, chunks), rate, total)


class _Uses(NamedTuple):
    """Uses of sampled chunks, ascending by begin, in ticks."""

    chunk: npt.NDArray[np.uint32]
    begin: I64
    end: I64
    part: npt.NDArray[np.uint16]
    dense: npt.NDArray[np.uint8]
    horizon: int


def _planned(future: Future, courses: Sequence[Course], sample: _Sample, uses_max: int) -> _Uses:
    """What the courses will do with the sample from where they are, in ROUNDS rounds of the slowest of them; in less
    where that would be too many uses."""
    rounds_s = [max(1, course.order.n) * course.seconds_a_position for course in courses]
    numbers = [future.numbers_in(course, sample.objects, sample.chunks) for course in courses]
    # About two uses a chunk and epoch: its own, and a neighbour's that shares it.
    a_second = sum(2 * int((each >= 0).sum()) / length for each, length in zip(numbers, rounds_s, strict=True))
    horizon_s = min(ROUNDS * max(rounds_s), uses_max / max(a_second, 1e-9))
    columns: list[list[npt.NDArray[np.int64]]] = [[], [], [], [], []]
    for course, of_set, length in zip(courses, numbers, rounds_s, strict=True):
        scale = course.seconds_a_position * _TICKS_A_SECOND
        for ahead in range(int(horizon_s / length) + 2):
            which, begin, end, part = course.uses(course.epoch + ahead).in_epoch(of_set)
            shift = ahead * course.order.n - course.position
            begin_ticks = ((begin + shift) * scale).astype(np.int64)
            end_ticks = ((end + shift) * scale).astype(np.int64)
            alive = (end_ticks > 0) & (begin_ticks < horizon_s * _TICKS_A_SECOND)
            # A scan reads what it reads at once; others hold on to it.
            end_ticks = begin_ticks if course.is_dense else end_ticks
            values: list[I64] = [which, np.maximum(begin_ticks, 0), np.maximum(end_ticks, 0),
                                 np.ceil(part * course.share).astype(np.int64)]  # fmt: skip
            for column, every in zip(columns, values, strict=False):
                column.append(every[alive])
            columns[4].append(np.full(int(alive.sum()), course.is_dense, np.int64))
    chunk, begins, ends, parts, scans = (np.concatenate(column) for column in columns)
    order = np.argsort(begins, kind="stable")
    return _Uses(chunk[order].astype(np.uint32), begins[order], np.maximum(ends, begins)[order],
                 parts[order].astype(np.uint16), scans[order].astype(np.uint8),
                 int(horizon_s * _TICKS_A_SECOND))  # fmt: skip


def choose(future: Future, courses: Sequence[Course], capacity_chunks: int,
           policies: Sequence[Policy] = (Policy.RESIDENT, Policy.MIN), *, chunks_max: int = SAMPLE_CHUNKS_MAX,
           uses_max: int = SAMPLE_USES_MAX) -> Choice:  # fmt: skip
    """Simulate `policies` for these courses on a pool of so many chunks."""
    sample = _sample(future, courses, chunks_max)
    frequency = np.zeros(len(sample.objects))
    for course in courses:
        frequency += course.uses_a_second(future.numbers_in(course, sample.objects, sample.chunks))
    best = np.lexsort((sample.hashes, -np.round(frequency, 12)))
    ranks = np.empty(len(best), np.uint64)
    ranks[best] = np.arange(len(best), dtype=np.uint64)
    capacity = int(capacity_chunks * sample.rate)
    active = int(sum(course.active_chunks for course in courses) * sample.rate)
    # Where the active blocks exceed the pool, residents have it for themselves, and all else is read past it.
    exceeds = active > capacity
    fits = capacity if exceeds else capacity - active
    if fits >= len(best) or not len(best):
        members = EVERYBODY
    else:
        members = Members(float(frequency[best[fits]]), int(sample.hashes[best[fits]]))
    uses = _planned(future, courses, sample, uses_max) if courses else None
    costs = {}
    for policy in policies:
        if uses is None or not len(uses.begin):
            costs[policy] = Cost(0.0, 0.0, 0.0)
            continue
        followed = Policy.RESIDENT if exceeds and policy is Policy.MIN else policy
        dense = np.ones_like(uses.dense) if exceeds else uses.dense
        made = simulate(followed, uses.chunk, uses.begin, uses.end, uses.part, dense, ranks, capacity,
                        uses.horizon // ROUNDS, uses.horizon * (ROUNDS - 1) // ROUNDS)  # fmt: skip
        demand = max(1, made["demand"])
        costs[policy] = Cost(1 - made["origin"] / demand, made["writes"] * WHOLE_PART / demand,
                             made["exact"] / max(1, made["uses"]))  # fmt: skip
    return Choice(costs=costs, sampled=len(best), chunks=sample.total, members=members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pool does until further notice."""

    policy: Policy
    members: Members
    hit_ratio: float  # what the simulation promises; of the bytes that jobs read


# Before anything is registered: nobody is a member, and strangers come and go by S3-FIFO.
NO_PLAN = Plan(policy=Policy.RESIDENT, members=EVERYBODY, hit_ratio=0.0)


class Chooser:
    """From choices, one after the other, to a plan that does not flutter."""

    def __init__(self) -> None:
        self.plan = NO_PLAN
        self._has_plan = False
        self._wish: Policy | None = None  # what the last choice would have switched to

    def take(self, choice: Choice) -> Plan:
        """The plan after another choice. The first is taken at once; a switch needs the same answer twice in a row."""
        better = preferred(choice.costs)
        policy = better if not self._has_plan else self.plan.policy
        if self._has_plan and better is not policy:
            gain = choice.costs[better].hit_ratio - choice.costs[policy].hit_ratio
            if gain <= SWITCH_GAIN:
                self._wish = None
            elif self._wish is better:
                policy, self._wish = better, None
            else:
                self._wish = better
        else:
            self._wish = None
        self._has_plan = True
        self.plan = Plan(policy=policy, members=choice.members, hit_ratio=choice.costs[policy].hit_ratio)
        return self.plan

    def forget(self) -> None:
        """Nobody is registered any more: the next choice is a first one."""
        self._has_plan, self._wish = False, None


def preferred(costs: dict[Policy, Cost]) -> Policy:
    """The policy with the highest hit ratio; of those within TIE of it, the one that writes least."""
    most = max(cost.hit_ratio for cost in costs.values())
    near = {policy: cost for policy, cost in costs.items() if cost.hit_ratio >= most - TIE}
    return min(near, key=lambda policy: (near[policy].write_ratio, policy))
