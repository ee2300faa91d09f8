"""When chunks will be needed: the uses of all jobs on one pool, merged, in seconds from now.

A *geometry* says where the blocks of a view lie in the bytes of a set; a *course* is one job's walk over a geometry in
its order. A use is an interval of positions, computed by csrc/cache from the order's inverse, O(log blocks) a chunk and
block, for the epoch that the job is in and the next one; nothing of it is stored. `Future` merges the courses.

Pure: no clock, no files; not thread-safe. Seconds are estimates for decisions of this node alone: nothing that two
hosts must agree on depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed._native.policy import NO_USE, WHOLE_PART, ChunkUses
from fastfeed.order import ShuffleMode

CHUNK_BYTES = 1 << 20
# Of a job whose speed is not known yet: an epoch an hour.
EPOCH_S_UNKNOWN = 3600.0

# Slots a group of the order (docs/order.md, section 4).
GROUP_SLOTS = 8

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Blocks in the bytes of a set of objects. Object o's chunks have the numbers first_chunks[o] ..
    first_chunks[o+1]-1 of the set, and block b lies in the set's bytes starts[b] .. ends[b]-1, both ascending. A block
    without bytes is read on other nodes.

    keys: 16 bytes an object. data_ends: of each object, where its rows end, in the set's bytes: what lies behind (a
    shard's footer) is in no block, even where a block goes on in the next object.
    """

    keys: Sequence[bytes]
    first_chunks: I64
    starts: U64
    ends: U64
    data_ends: U64

    @property
    def chunk_count(self) -> int:
        return int(self.first_chunks[-1])

    @property
    def data_bytes(self) -> int:
        """Bytes of all blocks."""
        return int((self.ends - self.starts).sum())

    def place(self, number: int) -> tuple[int, int]:
        """The object, and the chunk in it, that the set's chunk `number` is."""
        which = int(np.searchsorted(self.first_chunks, number, "right")) - 1
        return which, number - int(self.first_chunks[which])

    def read_chunks(self) -> npt.NDArray[np.bool_]:
        """Of all chunks of the set, by number, whether a block has bytes in them."""
        some, count = self.ends > self.starts, self.chunk_count
        begin = (self.starts[some] // CHUNK_BYTES).astype(np.int64)
        stop = ((self.ends[some] - np.uint64(1)) // CHUNK_BYTES).astype(np.int64) + 1
        blocks = np.cumsum(np.bincount(begin, minlength=count + 1) - np.bincount(stop, minlength=count + 1))[:count]
        first = np.arange(count, dtype=np.uint64) * np.uint64(CHUNK_BYTES)
        objects = np.repeat(np.arange(len(self.keys)), np.diff(self.first_chunks))
        read: npt.NDArray[np.bool_] = (blocks > 0) & (first < self.data_ends[objects])
        return read

    def chunks_of(self, block: int) -> Iterator[tuple[int, int, int]]:
        """(object, first chunk in it, count) for the bytes of one block, in their order."""
        first = int(self.starts[block]) // CHUNK_BYTES
        stop = -(-int(self.ends[block]) // CHUNK_BYTES) if self.ends[block] > self.starts[block] else first
        while first < stop:
            which, chunk = self.place(first)
            data_stop = -(-int(self.data_ends[which]) // CHUNK_BYTES)
            end = min(stop, data_stop)
            if end > first:
                yield which, chunk, end - first
            first = max(end, int(self.first_chunks[which + 1]))


def geometry_of(keys: Sequence[bytes], object_bytes: npt.ArrayLike, starts: U64, ends: U64,
                data_bytes: npt.ArrayLike | None = None) -> Geometry:
    """A geometry of objects one behind the other, each from a chunk of its own. data_bytes: where rows end in each."""
    counts = -(-np.asarray(object_bytes, np.int64) // CHUNK_BYTES)
    first_chunks = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    inside = np.asarray(object_bytes if data_bytes is None else data_bytes, np.uint64)
    data_ends = first_chunks[:-1].astype(np.uint64) * np.uint64(CHUNK_BYTES) + inside
    return Geometry(keys, first_chunks, starts, ends, data_ends)


class OrderShape(NamedTuple):
    """What decides an order beside the epoch (fastfeed/order.py)."""

    n: int
    seed: int
    shuffle: ShuffleMode
    window_blocks: int
    block_rows: int


class Wanted(NamedTuple):
    """When chunks are needed, one value a chunk. until_s: seconds until a use begins; 0: one runs; inf: nobody's
    future. after_s: until the one behind it begins. part: of WHOLE_PART, what the first use still reads. dense:
    whether it reads in few large requests."""

    until_s: F64
    after_s: F64
    part: npt.NDArray[np.uint16]
    dense: npt.NDArray[np.bool_]


class WantedOne(NamedTuple):
    """The same of one chunk."""

    until_s: float
    after_s: float
    part: int
    dense: bool


class Course:
    """One job's walk: (epoch, position) moves, everything else stays."""

    def __init__(self, name: str, geometry: Geometry, order: OrderShape, epoch: int = 0, position: int = 0) -> None:
        self.name, self.geometry, self.order = name, geometry, order
        self.rate: float | None = None  # positions a second; None: not known
        # Of every step, what this node takes: the rest is read by the job's ranks on other nodes.
        self.share = 1.0
        # Positions that the job reads ahead of its place: uses begin that much earlier.
        self.lead = 0
        self._uses: ChunkUses | None = None
        self.epoch, self.position = epoch, position
        self.bytes_per_position = geometry.data_bytes / max(1, order.n)
        self.active_chunks = self._active_chunks()
        # Epochs a second as the plan counts them: a rate that is frozen, so that who is resident does not flutter.
        self.weight = 1 / EPOCH_S_UNKNOWN

    @property
    def is_dense(self) -> bool:
        """Whether neighbouring rows are read together: a scan, which needs no chunk for longer than a moment."""
        return self.order.shuffle is ShuffleMode.NONE

    @property
    def is_full(self) -> bool:
        """Whether every chunk is in use all the time: a full shuffle, or a window that holds everything."""
        whole_blocks = self.order.n // self.order.block_rows
        window = self.order.shuffle is ShuffleMode.WINDOW and self.order.window_blocks >= whole_blocks
        return window or self.order.shuffle is ShuffleMode.FULL

    @property
    def seconds_a_position(self) -> float:
        rate = self.rate if self.rate else max(1, self.order.n) / EPOCH_S_UNKNOWN
        return 1.0 / rate

    def _active_chunks(self) -> int:
        """About as many chunks are in use at any moment."""
        blocks = len(self.geometry.starts)
        if self.is_full or blocks == 0:
            return self.geometry.chunk_count
        # The groups of up to eight slots that a window begins and ends in are read with it.
        window = 2 if self.is_dense else self.order.window_blocks + 2 * min(GROUP_SLOTS, self.order.window_blocks)
        chunks_a_block = self.geometry.data_bytes / blocks / CHUNK_BYTES + 1
        return min(self.geometry.chunk_count, int(min(window, blocks) * chunks_a_block))

    def move(self, epoch: int, position: int) -> None:
        """The job is here now."""
        self.epoch, self.position = epoch, position

    def uses(self, epoch: int | None = None) -> ChunkUses:
        """The uses in an epoch, the current one by default."""
        wanted = self.epoch if epoch is None else epoch
        if self._uses is None or self._uses.epoch != wanted:
            n, seed, shuffle, window_blocks, block_rows = self.order
            made = ChunkUses(n, seed, wanted, int(shuffle), window_blocks, block_rows, self.geometry.starts,
                             self.geometry.ends)  # fmt: skip
            if wanted != self.epoch:
                return made
            self._uses = made
        return self._uses

    def wanted(self, numbers: I64) -> Wanted:
        """When this job needs chunks of its set; a negative number is none of them."""
        until, after, part = self.uses().next(self.position, numbers, self.lead)
        scale = self.seconds_a_position
        part = part if self.share == 1.0 else np.ceil(part * self.share).astype(np.uint16)
        return Wanted(_seconds(until, scale), _seconds(after, scale), part, np.full(len(numbers), self.is_dense))

    def wanted_one(self, number: int) -> tuple[float, float, int]:
        """until_s, after_s and part of one chunk of its set."""
        until, after, part = self.uses().next_one(self.position, number, self.lead)
        scale = self.seconds_a_position
        part = part if self.share == 1.0 else ceil(part * self.share)
        return inf if until == NO_USE else until * scale, inf if after == NO_USE else after * scale, part

    def settle(self) -> None:
        """The plan counts with the present speed from now on."""
        self.weight = 1 / (max(1, self.order.n) * self.seconds_a_position)

    def uses_a_second(self, numbers: I64) -> F64:
        """How often each chunk is used on average, at the speed that the plan counts with."""
        first = numbers.astype(np.uint64) * np.uint64(CHUNK_BYTES)
        low = np.searchsorted(self.geometry.ends, first, "right")
        high = np.searchsorted(self.geometry.starts, first + np.uint64(CHUNK_BYTES), "left")
        return np.where(numbers >= 0, np.maximum(high - low, 0) * self.weight, 0.0)


def _seconds(distance: I64, scale: float) -> F64:
    return np.where(distance == NO_USE, np.inf, distance * scale)


class Future:
    """The courses of a pool, merged. Objects have small numbers here, so that tables of slots stay small."""

    def __init__(self) -> None:
        self.courses: list[Course] = []
        self._numbers: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        # Of each geometry, by id: itself, so that the id stays its own, and the first chunk in its set of each object;
        # -1: it has none.
        self._bases: dict[int, tuple[Geometry, I64]] = {}

    def number(self, key: bytes) -> int:
        """The number of an object; it keeps it."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
        return number

    def key(self, number: int) -> bytes:
        return self._keys[number]

    def set_courses(self, courses: Iterable[Course]) -> None:
        """From now on these jobs have a future, and no other."""
        self.courses = list(courses)
        kept = {id(course.geometry) for course in self.courses}
        self._bases = {which: each for which, each in self._bases.items() if which in kept}

    def numbers_in(self, course: Course, objects: I64, chunks: I64) -> I64:
        """The set's numbers of chunks for a course; -1 where its set has no such object."""
        bases = self._bases_of(course)
        base = np.where(objects < len(bases), bases[np.minimum(objects, len(bases) - 1)], -1)
        return np.where(base >= 0, base + chunks, -1)

    def wanted(self, objects: I64, chunks: I64) -> Wanted:
        """When chunks are needed by anyone; arrays of equal length."""
        count = len(objects)
        until, after = np.full(count, np.inf), np.full(count, np.inf)
        part, dense = np.zeros(count, np.uint16), np.ones(count, np.bool_)
        for course in self.courses:
            of_course = course.wanted(self.numbers_in(course, objects, chunks))
            until_s, after_s = of_course.until_s, of_course.after_s
            first = until_s < until
            both = (until_s == until) & np.isfinite(until)
            part = np.where(first, of_course.part, np.where(both, np.maximum(part, of_course.part), part))
            dense = np.where(first, of_course.dense, np.where(both, dense & of_course.dense, dense))
            # What comes behind the first use: the later one of two first uses, or what comes behind either.
            behind = np.where(first, np.minimum(after_s, until), np.where(both, after_s, until_s))
            after = np.minimum(after, behind)
            until = np.minimum(until, until_s)
        return Wanted(until, after, part.astype(np.uint16), dense)

    def wanted_one(self, key_number: int, chunk: int) -> WantedOne:
        """The same for one chunk of the object with this number; a hundred times as fast as for arrays of one."""
        until, after, part, dense = inf, inf, 0, True
        for course in self.courses:
            base = self._base(course, key_number)
            if base < 0:
                continue
            until_s, after_s, part_read = course.wanted_one(base + chunk)
            if until_s < until:
                after = min(after, after_s, until)
                until, part, dense = until_s, part_read, course.is_dense
            elif until_s == until and until < inf:
                after = min(after, after_s)
                part, dense = max(part, part_read), dense and course.is_dense
            else:
                after = min(after, until_s)
        return WantedOne(until, after, part, dense)

    def uses_a_second(self, objects: I64, chunks: I64) -> F64:
        """How often chunks are used, by all jobs together, at the speeds that the plan counts with."""
        total = np.zeros(len(objects))
        for course in self.courses:
            total += course.uses_a_second(self.numbers_in(course, objects, chunks))
        return total

    @property
    def active_chunks(self) -> int:
        """About as many chunks are in use at any moment; those that jobs share are counted for each."""
        return sum(course.active_chunks for course in self.courses)

    def _base(self, course: Course, key_number: int) -> int:
        bases = self._bases_of(course)
        return int(bases[key_number]) if key_number < len(bases) else -1

    def _bases_of(self, course: Course) -> I64:
        """By number of an object, the first chunk in a course's set; objects behind the end are not in it."""
        known = self._bases.get(id(course.geometry))
        if known is not None:
            return known[1]
        geometry = course.geometry
        numbers = [self.number(key) for key in geometry.keys]
        bases = np.full(max(numbers, default=0) + 1, -1, np.int64)
        bases[numbers] = geometry.first_chunks[:-1]
        self._bases[id(geometry)] = geometry, bases
        return bases


__all__ = ["CHUNK_BYTES", "WHOLE_PART", "Course", "Future", "Geometry", "OrderShape", "Wanted", "WantedOne",
           "geometry_of"]  # fmt: skip
