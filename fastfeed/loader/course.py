"""Which steps come next: those on their way, oldest first, and the one to be submitted after them.

Pure bookkeeping: no reader, no clock; not thread-safe. A run begins at a position of an epoch and goes to its end.
Steps are taken to be submitted, and leave in the same order when their batches are handed out.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from fastfeed.loader.assemble import EpochPlan


class Stop(NamedTuple):
    """One step of a course: where it begins and ends, and how many are left in its epoch behind it."""

    plan: EpochPlan
    start: int
    end: int
    left: int


class Course:
    """The steps from `start` in the epoch of `plan`."""

    def __init__(self, plan: EpochPlan, start: int) -> None:
        self._plan, self._at, self._left = plan, start, plan.steps.count(start)
        self._under_way: deque[Stop] = deque()

    @property
    def under_way(self) -> int:
        """Steps that were taken and have not left."""
        return len(self._under_way)

    @property
    def oldest(self) -> Stop | None:
        """The step that leaves next, if any is under way."""
        return self._under_way[0] if self._under_way else None

    @property
    def is_done(self) -> bool:
        """Whether every step has left."""
        return self._left == 0 and not self._under_way

    def take(self) -> Stop | None:
        """The next step to submit; None where all were."""
        if self._left == 0:
            return None
        start = self._at
        self._left -= 1
        self._at = self._plan.steps.next_position(start)
        stop = Stop(self._plan, start, self._at, self._left)
        self._under_way.append(stop)
        return stop

    def leave(self) -> Stop:
        """The oldest step was handed out, or is lost."""
        return self._under_way.popleft()

    def rewind(self) -> None:
        """What is under way was lost with its reader: it is to be submitted again."""
        if self._under_way:
            oldest = self._under_way[0]
            self._plan, self._at, self._left = oldest.plan, oldest.start, oldest.left + 1
            self._under_way.clear()
