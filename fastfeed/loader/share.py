"""Which samples of a step a rank takes. Pure.

A deal divides a step among ranks: every sample to exactly one rank. It sees the step's rows only when it asks for them:
the fixed deal, by position, does not, so a rank computes nobody's rows but its own. A rank without a sample in a step
gets one masked row, the one at the step's first position, so that it takes part in the step and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fastfeed.loader.sampler import EpochSampler, Picks
from fastfeed.loader.steps import Positions, Step

# Numbers of samples in their step, ascending.
Indices: TypeAlias = slice | npt.NDArray[np.int64]


class Share(NamedTuple):
    """What one rank takes in one step. `positions` may be past the epoch's end where the step is padded."""

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_] | None  # None: all are
    sources: npt.NDArray[np.int32] | None


class Deal(Protocol):
    """How one rank takes its share. The shares of all ranks are disjoint, and together the whole step."""

    def share(self, step: Step, picks: Callable[[], Picks]) -> Indices:
        """This rank's samples of `step`; may be none. `picks` gives the rows of the whole step."""
        ...

    def describe(self) -> Mapping[str, Any] | None:
        """What beside rank and world size decides who gets what, as JSON of about 100 bytes; None: nothing."""
        ...


class FixedDeal:
    """By position: of m samples rank r of R takes those from floor(rm/R) to floor((r+1)m/R) - 1."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._world_size = rank, world_size

    def share(self, step: Step, picks: Callable[[], Picks]) -> slice:
        return self.part_of(len(step.positions))

    def part_of(self, count: int) -> slice:
        """This rank's part of any step of `count` samples."""
        return slice(self._rank * count // self._world_size, (self._rank + 1) * count // self._world_size)

    def describe(self) -> None:
        return None


def shares_of_run(start: int, step_size: int, count: int, sampler: EpochSampler, deal: FixedDeal) -> list[Share]:
    """What the rank of `deal` takes in `count` steps of `step_size` positions each, the first of which begins at
    `start`: `share_of` of each, in one computation. No step has padding, and the rank has a sample in each."""
    mine = deal.part_of(step_size)
    firsts = np.arange(start + mine.start, start + count * step_size, step_size, dtype=np.int64)
    positions = (firsts[:, None] + np.arange(mine.stop - mine.start, dtype=np.int64)).reshape(-1)
    rows, sources = sampler.picks(positions)
    size = mine.stop - mine.start
    cuts = [slice(first, first + size) for first in range(0, count * size, size)]
    return [Share(rows[cut], positions[cut], None, None if sources is None else sources[cut]) for cut in cuts]


class _StepPicks:
    """The rows of a whole step, computed once, if anyone asks."""

    def __init__(self, sampler: EpochSampler, positions: Positions) -> None:
        self._sampler, self._positions = sampler, positions
        self.known: Picks | None = None

    def __call__(self) -> Picks:
        if self.known is None:
            self.known = picks_of(self._sampler, np.asarray(self._positions, np.int64))
        return self.known


def picks_of(sampler: EpochSampler, positions: npt.NDArray[np.int64]) -> Picks:
    """The rows of `positions`, padding included: position p past the end stands for p mod length."""
    return sampler.picks(positions % sampler.length if _has_padding(sampler, positions) else positions)


def share_of(step: Step, sampler: EpochSampler, deal: Deal) -> Share:
    """What the rank of `deal` takes in `step`."""
    whole = _StepPicks(sampler, step.positions)
    indices = deal.share(step, whole)
    positions = _at(step.positions, indices)
    is_empty = len(positions) == 0
    if is_empty:
        indices = slice(0, 1)
        positions = _at(step.positions, indices)
    if whole.known is None:
        picks = picks_of(sampler, positions)
    else:
        rows, sources = whole.known
        picks = Picks(rows[indices], None if sources is None else sources[indices])
    valid = None
    if is_empty:
        valid = np.zeros(1, np.bool_)
    elif _has_padding(sampler, positions):
        valid = positions < sampler.length
    return Share(picks.rows, positions, valid, picks.sources)


def _has_padding(sampler: EpochSampler, positions: npt.NDArray[np.int64]) -> bool:
    return len(positions) > 0 and bool(positions[-1] >= sampler.length)


def _at(positions: Positions, indices: Indices) -> npt.NDArray[np.int64]:
    if not isinstance(positions, range):
        return positions[indices]
    if isinstance(indices, slice):
        part = positions[indices]
        return np.arange(part.start, part.stop, dtype=np.int64)
    return positions.start + indices
