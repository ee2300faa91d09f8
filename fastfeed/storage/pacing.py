"""How fast and how many: a rate, and a gate for so many at a time. For one event loop; both can change as they run.

Pure bookkeeping: the clock comes in with each call, and nobody sleeps here but who waits at the gate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Pace:
    """Spaces units (bytes, requests) at a rate. What comes first goes at once, what follows waits for it."""

    def __init__(self, per_s: float | None) -> None:
        self.per_s = per_s  # None: no limit
        self._free_at_s = 0.0

    def reserve(self, units: float, now_s: float) -> float:
        """Take `units`; return for how many seconds the caller must wait before it uses them."""
        if self.per_s is None:
            return 0.0
        begin_s = max(now_s, self._free_at_s)
        self._free_at_s = begin_s + units / self.per_s
        return begin_s - now_s

    def give_back(self, units: float) -> None:
        """Units that were reserved and not used."""
        if self.per_s is not None:
            self._free_at_s -= units / self.per_s


class Gate:
    """At most `limit` are inside; who comes then waits, in the order of coming. A lower limit holds for who comes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return sum(not each.done() for each in self._waiting)

    def set_limit(self, limit: int) -> None:
        self._limit = limit
        self._let_in()

    async def __aenter__(self) -> None:
        if self.inside < self._limit and not self._waiting:
            self.inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled in the same moment
                self._leave()
            else:
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self.inside -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.inside < self._limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)
