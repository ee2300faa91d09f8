"""How many bytes a day may be written to a pool's disks: flash wears by what is written. Pure; the clock is an
argument.

A day is one of UTC. Not thread-safe; what is counted survives restarts as far as the slot tables' headers do.
"""

from __future__ import annotations

from collections.abc import Callable

DAY_S = 86_400


class WriteBudget:
    """Bytes of today against the limit of a day; None: no limit, they are counted all the same."""

    def __init__(self, bytes_per_day_max: int | None, clock: Callable[[], float]) -> None:
        self.bytes_per_day_max = bytes_per_day_max
        self._clock = clock
        self._day, self._written = self.today(), 0

    def today(self) -> int:
        return int(self._clock() // DAY_S)

    @property
    def written_today(self) -> int:
        self._turn()
        return self._written

    def remember(self, day: int, written_bytes: int) -> None:
        """What an earlier run wrote on `day` counts, if that is today. Each disk's header has the whole pool's
        number."""
        self._turn()
        if day == self._day:
            self._written = max(self._written, written_bytes)

    def take(self, count: int) -> bool:
        """Count bytes that will be written; False, and nothing is counted, where they are too many for today."""
        self._turn()
        if self.bytes_per_day_max is not None and self._written + count > self.bytes_per_day_max:
            return False
        self._written += count
        return True

    def give_back(self, count: int) -> None:
        """Bytes of take() that were not written after all."""
        self._written = max(0, self._written - count)

    def _turn(self) -> None:
        if (today := self.today()) != self._day:
            self._day, self._written = today, 0
