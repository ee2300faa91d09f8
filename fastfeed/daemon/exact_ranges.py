"""The exact ranges that are waited for, by object and place, so that neighbours are fetched together. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastfeed.daemon.fetch import Demand


class ExactRanges:
    """Ranges that are queued or running. No two of an object are equal; they may overlap."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[bytes, int, int], Demand] = {}
        # Per object the (start, stop) of queued ones, sorted.
        self._queued: dict[bytes, list[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._ranges)

    def find(self, key: bytes, start: int, stop: int) -> Demand | None:
        """The fetch of exactly this range."""
        return self._ranges.get((key, start, stop))

    def add(self, demand: Demand) -> None:
        """A range that is queued."""
        self._ranges[demand.object.key, demand.start, demand.stop] = demand
        insort(self._queued.setdefault(demand.object.key, []), (demand.start, demand.stop))

    def put_back(self, demands: Iterable[Demand]) -> None:
        """What `gather` gave is queued again."""
        for demand in demands:
            self.add(demand)

    def discard(self, demand: Demand) -> None:
        """A range that has come, or is not waited for any more."""
        self._ranges.pop((demand.object.key, demand.start, demand.stop), None)
        self._unqueue(demand)

    def gather(self, demand: Demand, gap_bytes: int, bytes_max: int) -> list[Demand]:
        """This range and the queued ones next to it, in order: with at most so many bytes between two of them, and from
        the first one's start to the last one's stop. None of them is queued afterwards. The last one has the greatest
        stop."""
        queued = self._queued[demand.object.key]
        first = last = bisect_left(queued, (demand.start, demand.stop))
        start, stop = demand.start, demand.stop
        while last + 1 < len(queued) and queued[last + 1][0] - stop <= gap_bytes:
            if queued[last + 1][1] - start > bytes_max or queued[last + 1][1] < stop:
                break
            last += 1
            stop = queued[last][1]
        while first > 0 and start - queued[first - 1][1] <= gap_bytes and queued[first - 1][1] <= stop:
            if stop - queued[first - 1][0] > bytes_max:
                break
            first -= 1
            start = queued[first][0]
        run = [self._ranges[demand.object.key, *each] for each in queued[first : last + 1]]
        for each in run:
            self._unqueue(each)
        return run

    def _unqueue(self, demand: Demand) -> None:
        queued = self._queued.get(demand.object.key, [])
        place = bisect_left(queued, (demand.start, demand.stop))
        if place < len(queued) and queued[place] == (demand.start, demand.stop):
            del queued[place]
            if not queued:
                self._queued.pop(demand.object.key, None)
