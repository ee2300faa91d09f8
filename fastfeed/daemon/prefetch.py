"""What one job needs next: its blocks in the order in which their uses begin, over the end of the epoch.

Where slots are scarce, blocks are cut into their chunks, each of which is needed when the first of its own rows comes:
the blocks of a group begin together, and of all their chunks half would come many slots before anybody reads them.
A full shuffle has use for all blocks at once, and waits for whatever comes last: the last quarter of them is cut, too,
so that the last chunk is needed late.

Pure: follows a course, remembers how far it has come, and says runs of chunks; who fetches them, and whether they are
here already, is others' business.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastfeed.cache.future import CHUNK_BYTES, Course
from fastfeed.order import Order

# Blocks that are asked for at a time: 256 MiB, and more than begin together with one group of eight slots.
_PAGE_BLOCKS = 64
# Epochs after the job's own in which blocks are looked for: the first one brings in every chunk that there is, and what
# comes later finds them here. Data that is far smaller than what may be fetched ahead has no end otherwise.
_EPOCHS_AHEAD = 1
# Positions of a full shuffle that are looked at together: of their blocks the first needed comes first.
_PAGE_POSITIONS = 4096
# Of more rows than these one comes soon after the block has begun: cutting brings nothing, and costs their positions.
ROWS_A_CHUNK_MAX = 64
# Of a full shuffle the last quarter of the blocks is cut: that wins most of what cutting all would (a model of a line
# of 200 MB/s: 0.949 of it; 0.954 with all cut, 0.936 with none), and most requests stay as large as they are.
LATE_PARTS = 4
# Requests of object stores are fastest from 8 MiB on.
RUN_CHUNKS_MAX = 8


class Due(NamedTuple):
    """Chunks of a block, as (object, first chunk, count), and in how many positions the job begins to read them; 0 or
    less: it does."""

    block: int
    epoch: int
    distance: int
    chunks: Sequence[tuple[int, int, int]]


class Run(NamedTuple):
    """Chunks next to each other in object number `which` of a set."""

    which: int
    first_chunk: int
    chunks: int


class _Use(NamedTuple):
    """What of a block is read in an epoch: its rows at the positions begin .. end - 1. order: of that epoch. is_late:
    most of all blocks are needed before it, and the rest soon."""

    block: int
    epoch: int
    begin: int
    end: int
    order: Order
    is_late: bool = False


class _Cut(NamedTuple):
    """One chunk of a block. Least first: `at` counts positions over all epochs."""

    at: int
    object: int
    chunk: int
    block: int
    epoch: int


class Ahead:
    """A course's blocks from its place on, each once a use."""

    def __init__(self, course: Course) -> None:
        self.course = course
        # Whether slots are scarce: blocks of windows that are looked at from now on are cut, if chunks have few rows.
        self.cuts = False
        self._blocks = self._walk(course.epoch, course.position)
        self._following: _Use | None = None
        self._cut: list[_Cut] = []  # a heap
        self._head: tuple[int, Due] | None = None  # and the positions over all epochs at which it begins

    def head(self) -> Due | None:
        """What is needed next; None: no more until the job is in a later epoch, or ever, of no rows."""
        if self._head is None:
            self._head = self._next()
        if self._head is None:
            return None
        course, (at, due) = self.course, self._head
        if due.epoch > course.epoch + _EPOCHS_AHEAD:
            return None
        return due._replace(distance=at - course.epoch * course.order.n - course.position - course.lead)

    def advance(self) -> None:
        """The head was dealt with."""
        self._head = None

    def _next(self) -> tuple[int, Due] | None:
        course = self.course
        n, geometry = course.order.n, course.geometry
        while True:
            if self._following is None:
                self._following = next(self._blocks, None)
            use = self._following
            # Chunks of blocks that begin later begin later still.
            if self._cut and (use is None or self._cut[0].at <= use.epoch * n + use.begin):
                cut = heapq.heappop(self._cut)
                return cut.at, Due(cut.block, cut.epoch, 0, [(cut.object, cut.chunk, 1)])
            if use is None:
                return None
            self._following = None
            if not self._cuts_now(use):
                return use.epoch * n + use.begin, Due(use.block, use.epoch, 0, list(geometry.chunks_of(use.block)))
            for cut in self._cuts_of(use):
                heapq.heappush(self._cut, cut)

    def _cuts_now(self, use: _Use) -> bool:
        course = self.course
        few = course.bytes_per_position * ROWS_A_CHUNK_MAX >= CHUNK_BYTES
        windows = not course.is_full and not course.is_dense
        return few and (use.is_late or (self.cuts and windows)) and use.epoch <= course.epoch + _EPOCHS_AHEAD

    def _cuts_of(self, use: _Use) -> Iterator[_Cut]:
        """The chunks of a block that the use reads, each from its first row on. Rows count as equally long: where they
        are not, some chunk comes a little early or late."""
        n, geometry = self.course.order.n, self.course.geometry
        start, end = int(geometry.starts[use.block]), int(geometry.ends[use.block])
        if start == end:
            return
        first_row = use.block * self.course.order.block_rows
        rows = np.arange(first_row, min(first_row + self.course.order.block_rows, n), dtype=np.int64)
        positions = use.order.positions_of(rows)
        edges = start + (end - start) * np.arange(len(rows) + 1, dtype=np.int64) // len(rows)
        first, last = edges[:-1] // CHUNK_BYTES, (edges[1:] - 1) // CHUNK_BYTES
        inside = (positions >= use.begin) & (positions < use.end)
        positions, first, last = positions[inside], first[inside], last[inside]
        base = start // CHUNK_BYTES
        begins = np.full((end - 1) // CHUNK_BYTES - base + 1, n, np.int64)
        for further in range(int((last - first).max(initial=-1)) + 1):
            np.minimum.at(begins, np.minimum(first + further, last) - base, positions)
        for which, first_chunk, count in geometry.chunks_of(use.block):
            number = int(geometry.first_chunks[which]) - base
            for chunk in range(first_chunk, first_chunk + count):
                if begins[number + chunk] < n:
                    yield _Cut(use.epoch * n + int(begins[number + chunk]), which, chunk, use.block, use.epoch)

    def _walk(self, epoch: int, position: int) -> Iterator[_Use]:
        """For the rest of this epoch and all later ones: the last steps of an epoch bring in the first blocks of the
        next."""
        while self.course.order.n > 0:
            yield from self._walk_epoch(epoch, position)
            epoch, position = epoch + 1, 0

    def _walk_epoch(self, epoch: int, position: int) -> Iterator[_Use]:
        course = self.course
        n, seed, shuffle, window, block_rows = course.order
        order = Order(n, seed=seed, epoch=epoch, shuffle=shuffle.argument, shuffle_window=window, block_rows=block_rows)
        if course.is_full:
            yield from self._walk_full(epoch, position, order)
            return
        uses = course.uses(epoch)
        for block in uses.blocks_at(position, uses.block_count).tolist():
            end = next(end for begin, end in uses.block_use(block) if begin <= position < end)
            yield _Use(block, epoch, position, end, order)
        at = position + 1
        while at < n:
            blocks = uses.blocks_from(at, _PAGE_BLOCKS).tolist()
            # Where a use is cut in two by the epoch's end, what begins here is its second range.
            ranges = [uses.block_use(block)[-1] for block in blocks]
            whole = len(blocks) < _PAGE_BLOCKS
            for block, (begin, end) in zip(blocks, ranges, strict=True):
                # The blocks of one group begin together: the last group of a full page may go on in the next page.
                if whole or begin < ranges[-1][0]:
                    yield _Use(block, epoch, begin, end, order)
            if whole:
                return
            at = ranges[-1][0]

    def _walk_full(self, epoch: int, position: int, order: Order) -> Iterator[_Use]:
        n, block_rows = self.course.order.n, self.course.order.block_rows
        seen, count = bytearray(len(self.course.geometry.starts)), 0
        for first in range(position, n, _PAGE_POSITIONS):
            blocks = order.rows(first, min(first + _PAGE_POSITIONS, n)) // block_rows
            for position, block in enumerate(blocks.tolist(), first):
                if not seen[block]:
                    seen[block] = 1
                    count += 1
                    is_late = LATE_PARTS * count > (LATE_PARTS - 1) * len(seen)
                    yield _Use(block, epoch, position, n, order, is_late)
            if count == len(seen):
                return


def runs_of(chunks: Iterator[tuple[int, int]]) -> Iterator[Run]:
    """(object, chunk) pairs that ascend, as runs of neighbours."""
    current: Run | None = None
    for which, chunk in chunks:
        if current is None:
            current = Run(which, chunk, 1)
        elif (which, chunk) == (current.which, current.first_chunk + current.chunks) and (
            current.chunks < RUN_CHUNKS_MAX
        ):
            current = current._replace(chunks=current.chunks + 1)
        else:
            yield current
            current = Run(which, chunk, 1)
    if current is not None:
        yield current
