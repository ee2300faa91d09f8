"""Which positions of an epoch a rank takes in a step. Pure: integers in, integers out.

A step consumes one global batch of G consecutive positions, of which rank r of R takes floor(rG/R) to
floor((r+1)G/R) - 1. So every position below n belongs to exactly one rank, for any n, G and R, and all ranks take the
same number of steps. What follows the last whole global batch is dropped, padded or split (`last`):

drop   not delivered;
pad    the batch is filled up: position p >= n stands for the row at position p mod n of the same epoch, marked
       invalid;
short  the m positions that are left are split like a global batch of m.

A rank without a position in a step gets one masked row, the one at the step's first position, so that it takes part in
the step and nobody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed.loader.options import Last


class Share(NamedTuple):
    """What one rank takes in one step. `positions` may be n or more where the batch is padded."""

    positions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_] | None  # None: all are


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How `row_count` positions are shared among ranks."""

    row_count: int
    global_batch: int
    rank: int
    world_size: int
    last: Last

    def step_count(self, start: int) -> int:
        """Steps from position `start` to the end of the epoch: the same for every rank."""
        left = max(0, self.row_count - start)
        if self.last is Last.DROP:
            return left // self.global_batch
        return -(-left // self.global_batch)

    def next_position(self, start: int) -> int:
        """Where the step after the one at `start` begins; n after the last step, whatever was dropped or padded."""
        end = start + self.global_batch
        return end if self.step_count(min(end, self.row_count)) else self.row_count

    def share(self, start: int) -> Share:
        """What this rank takes in the step that begins at position `start`, which is one that step_count() counts."""
        count = self.global_batch
        if self.last is Last.SHORT:
            count = min(count, self.row_count - start)
        first = start + self.rank * count // self.world_size
        end = start + (self.rank + 1) * count // self.world_size
        if first == end:
            return Share(np.array([start], np.int64), np.zeros(1, np.bool_))
        positions = np.arange(first, end, dtype=np.int64)
        return Share(positions, positions < self.row_count if end > self.row_count else None)
