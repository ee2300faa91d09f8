"""What waits for its turn, in lanes: each lane first come first served, the lanes in turn.

One lane a client: who asks for ten thousand things waits for them among its own, and the next client's only one waits
for one of each other lane at most. Pure.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Not thread-safe."""

    def __init__(self) -> None:
        # The first lane is the next one.
        self._lanes: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def push(self, lane: Hashable, item: T) -> None:
        """Put an item at the end of its lane."""
        self._lanes.setdefault(lane, deque()).append(item)

    def push_first(self, lane: Hashable, item: T) -> None:
        """Put an item back: it is the next one of all."""
        self._lanes.setdefault(lane, deque()).appendleft(item)
        self._lanes.move_to_end(lane, last=False)

    def pop(self) -> tuple[Hashable, T]:
        """Take the next item, and its lane. IndexError where there is none."""
        if not self._lanes:
            raise IndexError("nothing waits")
        lane, items = next(iter(self._lanes.items()))
        item = items.popleft()
        if items:
            self._lanes.move_to_end(lane)
        else:
            del self._lanes[lane]
        return lane, item

    def drop(self, lane: Hashable) -> list[T]:
        """Take out a whole lane."""
        return list(self._lanes.pop(lane, ()))
