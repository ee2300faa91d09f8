"""What the reader is asked for, step by step: the wishes of one rank, those of small steps computed many at once.

Pure but for what it has computed ahead, which is forgotten where a step comes that it does not begin with. Not
thread-safe.
"""

from __future__ import annotations

from collections import deque

from fastfeed.loader.assemble import EpochPlan, Recipe
from fastfeed.loader.callables import RunKey
from fastfeed.loader.course import Stop
from fastfeed.loader.reading import Wish
from fastfeed.loader.sampler import Picks, physical_rows


class Wishes:
    """The wishes of `recipe`."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._plan: EpochPlan | None = None  # of the steps below
        self._at = 0  # where the first of them begins
        self._ahead: deque[Wish] = deque()

    def take(self, stop: Stop) -> Wish:
        """The wish of the step `stop`. Cheap where it follows the one before."""
        if not self._ahead or stop.plan is not self._plan or stop.start != self._at:
            self._plan = stop.plan
            self._ahead = deque(self._compute(stop))
        self._at = stop.end
        return self._ahead.popleft()

    def _compute(self, stop: Stop) -> list[Wish]:
        plan, datasets = stop.plan, self._recipe.sampler.datasets
        key = RunKey(plan.seed, plan.epoch)
        return [
            Wish(rows, positions, valid, key, physical_rows(datasets, Picks(rows, sources)), sources, plan.sampler)
            for rows, positions, valid, sources in self._recipe.shares(plan, stop.start)
        ]
