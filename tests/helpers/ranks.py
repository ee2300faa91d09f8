"""Several ranks in one process, each a thread, with an all-gather among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

# A rank that never comes would let the others wait for ever.
GATHER_TIMEOUT_S = 30.0


class Ranks:
    """`world_size` ranks. What `gather(rank)` returns is an `all_gather=` for that rank."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.gather_count = 0
        self._given: list[str] = [""] * world_size
        self._barrier = threading.Barrier(world_size)

    def gather(self, rank: int) -> Callable[[str], Sequence[str]]:
        def gather(text: str) -> Sequence[str]:
            self._given[rank] = text
            self._barrier.wait(GATHER_TIMEOUT_S)
            everything = list(self._given)
            if self._barrier.wait(GATHER_TIMEOUT_S) == 0:
                self.gather_count += 1
            return everything

        return gather

    def run(self, work: Callable[[int], Any]) -> list[Any]:
        """What `work(rank)` returned on each rank, or the exception that it raised."""
        outcomes: list[Any] = [None] * self.world_size

        def run(rank: int) -> None:
            try:
                outcomes[rank] = work(rank)
            except Exception as error:
                outcomes[rank] = error

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(self.world_size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes
