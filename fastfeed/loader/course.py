"""Which steps come next: those on their way, oldest first, and the one to be submitted after them.

Pure bookkeeping: no reader, no clock; not thread-safe. A course goes from a position to the end of its epoch, and on
into the next epoch, whose first steps are submitted while the last ones of this epoch are still used, so that there is
no wait between two epochs. Steps are taken to be submitted, and leave in the same order when their batches are handed
out. One epoch ahead is enough, and it is a guess: a loader that goes elsewhere begins another course.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from fastfeed.loader.assemble import EpochPlan


class Stop(NamedTuple):
    """One step of a course: where it begins and ends, and whether it is the last of its epoch."""

    plan: EpochPlan
    start: int
    end: int
    is_last: bool


class Course:
    """The steps from `start` in the epoch of `plan`. `plan_of` gives the plan of another epoch of the same run."""

    def __init__(self, plan: EpochPlan, start: int, plan_of: Callable[[int, int], EpochPlan]) -> None:
        self._plan, self._at = plan, start
        self._plan_of = plan_of
        self._epoch = plan.epoch
        self._epoch_is_done = plan.steps.is_over(start)
        self._is_over = self._epoch_is_done  # whether no step begins where the next one would
        self._under_way: deque[Stop] = deque()

    @property
    def under_way(self) -> int:
        """Steps that were taken and have not left, those of the next epoch included."""
        return len(self._under_way)

    @property
    def epoch_is_done(self) -> bool:
        """Whether every step of the current epoch has left."""
        return self._epoch_is_done

    def take(self) -> Stop | None:
        """The next step to submit; None at the end of the next epoch."""
        if self._is_over:
            if self._plan.epoch != self._epoch:
                return None
            self._plan, self._at = self._plan_of(self._plan.seed, self._epoch + 1), 0
            if self._plan.steps.is_over(0):
                return None
        plan, start = self._plan, self._at
        self._at = plan.steps.next_position(start)
        self._is_over = plan.steps.is_over(self._at)
        stop = Stop(plan, start, self._at, self._is_over)
        self._under_way.append(stop)
        return stop

    def leave(self) -> Stop:
        """The oldest step, of the current epoch, was handed out or failed."""
        stop = self._under_way.popleft()
        self._epoch_is_done = stop.is_last
        return stop

    def goes_on_at(self, plan: EpochPlan, position: int) -> bool:
        """Whether the oldest step under way is the one at `position` of `plan`. If so, its epoch is the current one
        from now on."""
        if not self._under_way:
            return False
        oldest = self._under_way[0]
        if (oldest.plan.seed, oldest.plan.epoch, oldest.start) != (plan.seed, plan.epoch, position):
            return False
        self._epoch, self._epoch_is_done = plan.epoch, False
        return True

    def plan_at(self, seed: int, epoch: int) -> EpochPlan | None:
        """The plan of an epoch that this course has made already."""
        plan = self._under_way[0].plan if self._under_way else self._plan
        return plan if (plan.seed, plan.epoch) == (seed, epoch) else None

    def rewind(self) -> None:
        """The steps under way were lost with their reader: they are taken again."""
        if self._under_way:
            oldest = self._under_way[0]
            self._plan, self._at, self._is_over = oldest.plan, oldest.start, False
            self._under_way.clear()
