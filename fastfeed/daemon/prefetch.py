"""What one job needs next: its blocks in the order in which their uses begin, over the end of the epoch.

Pure: follows a course, remembers how far it has come, and says runs of chunks; who fetches them, and whether they are
here already, is others' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fastfeed.cache.future import Course
from fastfeed.order import Order

# Blocks that are asked for at a time: 256 MiB, and more than begin together with one group of eight slots.
_PAGE_BLOCKS = 64
# Epochs after the job's own in which blocks are looked for: the first one brings in every chunk that there is, and what
# comes later finds them here. Data that is far smaller than what may be fetched ahead has no end otherwise.
_EPOCHS_AHEAD = 1
# Positions of a full shuffle that are looked at together: of their blocks the first needed comes first.
_PAGE_POSITIONS = 4096
# Requests of object stores are fastest from 8 MiB on.
RUN_CHUNKS_MAX = 8


class Due(NamedTuple):
    """A block, and in how many positions the job begins to read it; 0 or less: it does."""

    block: int
    epoch: int
    distance: int


class Run(NamedTuple):
    """Chunks next to each other in object number `which` of a set."""

    which: int
    first_chunk: int
    chunks: int


class Ahead:
    """A course's blocks from its place on, each once a use."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._blocks = self._walk(course.epoch, course.position)
        self._head: Due | None = None

    def head(self) -> Due | None:
        """The block that is needed next; None: no more until the job is in a later epoch, or ever, of no rows."""
        if self._head is None:
            self._head = next(self._blocks, None)
        if self._head is None or self._head.epoch > self.course.epoch + _EPOCHS_AHEAD:
            return None
        block, epoch, begin = self._head
        course = self.course
        ahead = (epoch - course.epoch) * course.order.n - course.position - course.lead
        return Due(block, epoch, begin + ahead)

    def advance(self) -> None:
        """The head was dealt with."""
        self._head = None

    def _walk(self, epoch: int, position: int) -> Iterator[Due]:
        """(block, epoch, begin in it), for the rest of this epoch and all later ones: the last steps of an epoch bring
        in the first blocks of the next."""
        while self.course.order.n > 0:
            yield from self._walk_epoch(epoch, position)
            epoch, position = epoch + 1, 0

    def _walk_epoch(self, epoch: int, position: int) -> Iterator[Due]:
        course = self.course
        uses, n = course.uses(epoch), course.order.n
        if course.is_full:
            yield from self._walk_full(epoch, position)
            return
        for block in uses.blocks_at(position, uses.block_count).tolist():
            yield Due(block, epoch, position)
        at = position + 1
        while at < n:
            blocks = uses.blocks_from(at, _PAGE_BLOCKS).tolist()
            # Where a use is cut in two by the epoch's end, what begins here is its second range.
            begins = [uses.block_use(block)[-1][0] for block in blocks]
            whole = len(blocks) < _PAGE_BLOCKS
            for block, begin in zip(blocks, begins, strict=True):
                # The blocks of one group begin together: the last group of a full page may go on in the next page.
                if whole or begin < begins[-1]:
                    yield Due(block, epoch, begin)
            if whole:
                return
            at = begins[-1]

    def _walk_full(self, epoch: int, position: int) -> Iterator[Due]:
        n, seed, shuffle, window, block_rows = self.course.order
        order = Order(n, seed=seed, epoch=epoch, shuffle=shuffle.argument, shuffle_window=window, block_rows=block_rows)
        seen = np.zeros(len(self.course.geometry.starts), np.bool_)
        for first in range(position, n, _PAGE_POSITIONS):
            blocks = order.rows(first, min(first + _PAGE_POSITIONS, n)) // block_rows
            _, at = np.unique(blocks, return_index=True)
            for index in np.sort(at).tolist():
                block = int(blocks[index])
                if not seen[block]:
                    seen[block] = True
                    yield Due(block, epoch, first + index)
            if bool(seen.all()):
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
