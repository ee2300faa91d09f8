"""Which positions of an epoch the steps of a run take. Pure: integers in, integers out.

A step is what all ranks consume together; it does not depend on how many they are. A run takes steps from the position
at which it begins or resumes to the end of the epoch. `FixedSteps` takes G consecutive positions a step; what follows
the last whole one is dropped, padded or kept short (`last=`):

drop   not delivered;
pad    the step is filled up with positions from the epoch's length on: they are padding, and position p stands for
       the row at position p mod n of the same epoch (`share.py`), marked invalid;
short  the last step has as many positions as are left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fastfeed.loader.options import Last

# Consecutive positions are a range, so that a rank never computes those of the others.
Positions: TypeAlias = range | npt.NDArray[np.int64]


class Step(NamedTuple):
    """The positions that all ranks take together; those at or past the epoch's length are padding, and come last.

    weights: int64 of the same length, what each position costs (tokens) where steps are packed by cost; None: each 1.
    """

    positions: Positions
    weights: npt.NDArray[np.int64] | None = None


class Steps(Protocol):
    """The steps of one epoch. Immutable; positions ascend from 0, and a run may begin at any `next_position`."""

    def count(self, start: int) -> int:
        """Steps from `start` to the end of the epoch. May look at every sample: `is_over` is what loops ask."""
        ...

    def is_over(self, start: int) -> bool:
        """Whether no step begins at `start`."""
        ...

    def next_position(self, start: int) -> int:
        """Where the step after the one at `start` begins; the epoch's length after the last, whatever was dropped."""
        ...

    def step(self, start: int) -> Step:
        """The step that begins at `start`, where the epoch is not over."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedSteps:
    """`global_batch` consecutive positions a step, of `length`."""

    length: int
    global_batch: int
    last: Last

    def count(self, start: int) -> int:
        left = max(0, self.length - start)
        if self.last is Last.DROP:
            return left // self.global_batch
        return -(-left // self.global_batch)

    def is_over(self, start: int) -> bool:  # asked three times a step
        return start + self.global_batch > self.length if self.last is Last.DROP else start >= self.length

    def whole_steps(self, start: int) -> int:
        """How many steps from `start` on have all their positions: neither padding nor fewer."""
        return max(0, self.length - start) // self.global_batch

    def next_position(self, start: int) -> int:
        end = start + self.global_batch
        return self.length if self.is_over(end) else end

    def step(self, start: int) -> Step:
        end = start + self.global_batch
        return Step(range(start, min(end, self.length) if self.last is Last.SHORT else end))
