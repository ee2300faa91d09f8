"""Steps of a bounded number of tokens (`global_max_tokens=`), and the deal that divides them by tokens.

What a sample costs is its length in a lane, at least 1. A step takes consecutive positions for as long as their costs
stay within the budget of all ranks together; it ends early at the end of a *span*: 2^14 positions, doubled until a
span holds about 64 steps. So a step depends on nothing but the epoch's samples, the budget and where the span, or the
run inside of it, begins: not on ranks, and beyond the span not on where a run was resumed or what the budget was
before. A position is all that a state needs. Pure; the lengths are in memory, 4 or 8 bytes a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.lanes import TOKEN_COUNT_LANE, checked_lane
from fastfeed.errors import ConfigError
from fastfeed.format.schema import StreamSchema
from fastfeed.loader.options import Last
from fastfeed.loader.sampler import EpochSampler, Picks
from fastfeed.loader.steps import Step

SPAN_POSITIONS = 1 << 14
# The last step of a span is half full on average: with 64 steps a span, less than 1 % of the budget is lost there.
SPAN_STEPS = 64
# Costs of positions are computed so many at once, and those of the last few runs are kept: steps follow each other.
RUN_POSITIONS = 1 << 14
RUNS_KEPT = 4

Costs = npt.NDArray[np.int64]


class Lengths:
    """What each row of some datasets costs, from a lane of each."""

    def __init__(self, datasets: Sequence[Dataset], lane: str | None, budget: int) -> None:
        """ConfigError where a dataset has no such lane, or a sample alone is above the budget."""
        self._costs = [_costs_of(dataset, lane, budget) for dataset in datasets]
        self._row_count = sum(map(len, self._costs))
        self._total = sum(int(costs.sum(dtype=np.int64)) for costs in self._costs)
        self.budget = budget

    def of(self, picks: Picks) -> Costs:
        """The cost of each of `picks`."""
        if picks.sources is None:
            return self._costs[0][picks.rows].astype(np.int64)
        costs = np.empty(len(picks.rows), np.int64)
        for number, known in enumerate(self._costs):
            own = picks.sources == number
            costs[own] = known[picks.rows[own]]
        return costs

    def span_positions(self) -> int:
        """Positions a span, by the mean length of all rows."""
        span = SPAN_POSITIONS
        while span * self._total < SPAN_STEPS * self.budget * self._row_count:
            span *= 2
        return span


class BudgetSteps:
    """Steps of at most `lengths.budget`, over the positions of one epoch. One thread at a time."""

    def __init__(self, sampler: EpochSampler, lengths: Lengths, last: Last) -> None:
        self._sampler, self._lengths = sampler, lengths
        self._drops = last is Last.DROP
        self._span = lengths.span_positions()
        self._runs: dict[int, Costs] = {}
        self._count: int | None = None  # of the whole epoch: frameworks ask for len() again and again

    @property
    def length(self) -> int:
        return self._sampler.length

    def count(self, start: int) -> int:
        """Computes every length from `start` on; those of the whole epoch once."""
        if start == 0 and self._count is not None:
            return self._count
        steps, position = 0, start
        while not self.is_over(position):
            steps += 1
            position = self.next_position(position)
        if start == 0:
            self._count = steps
        return steps

    def is_over(self, start: int) -> bool:
        if start >= self.length:
            return True
        if not self._drops or self._span_end(start) < self.length:
            return False
        end = self._end(start)
        return end == self.length and int(self._costs(start, end).sum()) < self._lengths.budget

    def next_position(self, start: int) -> int:
        end = self._end(start)
        return self.length if self.is_over(end) else end

    def step(self, start: int) -> Step:
        end = self._end(start)
        return Step(range(start, end), self._costs(start, end))

    def _end(self, start: int) -> int:
        """Behind the last position that fits, of the span in which `start` is."""
        limit = self._span_end(start)
        left = self._lengths.budget
        while start < limit:
            stop = min(limit, (start // RUN_POSITIONS + 1) * RUN_POSITIONS)
            sums = np.cumsum(self._costs(start, stop))
            fitting = int(np.searchsorted(sums, left, side="right"))
            if fitting < len(sums):
                return start + fitting
            left -= int(sums[-1])
            start = stop
        return limit

    def _span_end(self, position: int) -> int:
        return min(self.length, (position // self._span + 1) * self._span)

    def _costs(self, start: int, stop: int) -> Costs:
        runs = range(start // RUN_POSITIONS, -(-stop // RUN_POSITIONS))
        parts = [self._run(number) for number in runs]
        costs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        first = runs.start * RUN_POSITIONS
        return costs[start - first : stop - first]

    def _run(self, number: int) -> Costs:
        known = self._runs.get(number)
        if known is None:
            first = number * RUN_POSITIONS
            positions = np.arange(first, min(first + RUN_POSITIONS, self.length), dtype=np.int64)
            known = self._lengths.of(self._sampler.picks(positions))
            while len(self._runs) >= RUNS_KEPT:
                del self._runs[next(iter(self._runs))]
            self._runs[number] = known
        return known


class BudgetDeal:
    """By cost: of a step that costs c, rank r of R takes the samples that begin in [cr / R, c(r + 1) / R). So a rank
    gets at most c / R and one sample."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._world_size = rank, world_size

    def share(self, step: Step, picks: Callable[[], Picks]) -> slice:
        assert step.weights is not None  # BudgetSteps gave it
        ends = np.cumsum(step.weights)
        total = int(ends[-1])
        # A sample that begins at b belongs to rank r where cr <= bR < c(r + 1), all of them whole numbers.
        cuts = [-(-total * rank // self._world_size) for rank in (self._rank, self._rank + 1)]
        first, stop = np.searchsorted(ends - step.weights, cuts, side="left").tolist()
        return slice(first, stop)

    def describe(self) -> None:
        return None


def _costs_of(dataset: Dataset, lane: str | None, budget: int) -> npt.NDArray[np.integer]:
    if dataset.window is not None:
        length = dataset.window.length
        raise ConfigError(f"global_max_tokens={budget}: every window has {length} tokens; use global_batch_size="
                          f"{max(1, budget // length)}.")
    name = _lane_name(dataset, lane)
    dtype = checked_lane(dataset.schema, name).type.to_pandas_dtype()
    if np.dtype(dtype).kind not in "iu":
        raise ConfigError(f"length_column={name!r} holds {np.dtype(dtype)}; lengths are whole numbers.")
    lengths = dataset.lane(name)
    if isinstance(lengths, np.ma.MaskedArray):
        lengths = lengths.filled(0)  # nothing is there
    wrong = (lengths < 0) | (lengths > budget)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ConfigError(f"length_column={name!r}: row {row} has the length {lengths[row]}, which does not fit "
                          f"global_max_tokens={budget}. Raise it, or use a view without such rows: "
                          f"ds.filter(\"{name} >= 0 and {name} <= {budget}\").")
    return np.maximum(lengths, 1).astype(np.uint32 if budget < 1 << 32 else np.int64)


def _lane_name(dataset: Dataset, lane: str | None) -> str:
    if lane is not None:
        return lane
    if isinstance(dataset.schema, StreamSchema):
        return TOKEN_COUNT_LANE
    raise ConfigError("global_max_tokens= needs length_column=: the lane that says how long a sample is, like 'tokens' "
                      "(a scalar column) or 'text.bytes'.")
