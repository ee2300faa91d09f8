"""The last hour in points: rates between two readings of the counters, for the page's charts.

Pure bookkeeping. Whoever owns it calls `add` every `STEP_S`; a point that is missed is a gap, never a guess.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from fastfeed.daemon.counters import Tier
from fastfeed.daemon.report import PoolReport, Report

STEP_S = 5.0
# One hour, about 100 bytes a point and pool.
POINTS_MAX = 720


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of one pool at one moment."""

    slab_bytes: int
    ring_bytes: int
    origin_bytes: int
    hits: int  # reads that needed no message
    misses: int  # reads that did
    exposed_wait_s: float
    jobs: int

    @classmethod
    def of(cls, pool: PoolReport) -> Reading:
        tiers = pool.tier_bytes()
        return cls(
            slab_bytes=tiers[Tier.SLAB],
            ring_bytes=tiers[Tier.RING],
            origin_bytes=tiers[Tier.ORIGIN],
            hits=pool.readers.slab_reads,
            misses=pool.fetch.requests,
            exposed_wait_s=sum(job.exposed_wait_s for job in pool.jobs),
            jobs=len(pool.jobs),
        )


class History:
    """Points of all pools, the oldest first."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, dict[str, dict[str, float | None]]]] = deque(maxlen=POINTS_MAX)
        self._last: tuple[float, dict[str, Reading]] | None = None

    def add(self, report: Report) -> None:
        """Take one reading; from the second one on, it makes a point."""
        now = {pool.name: Reading.of(pool) for pool in report.pools}
        if self._last is not None and report.now_s > self._last[0]:
            then_s, before = self._last
            point = {name: rates(before[name], now[name], report.now_s - then_s) for name in now if name in before}
            self._points.append((report.now_s, point))
        self._last = report.now_s, now

    def series(self, pools: set[str] | None) -> list[dict[str, Any]]:
        """The points: {"time_s", "pools": {name: rates}}, of these pools; None: of all."""
        return [
            {"time_s": time_s, "pools": {name: each for name, each in point.items() if pools is None or name in pools}}
            for time_s, point in self._points
        ]


def rates(before: Reading, after: Reading, seconds: float) -> dict[str, float | None]:
    """What happened between two readings: bytes and reads a second, and the share of time that the jobs waited.

    None where there is no share. A counter that went back (a client that wrote nonsense) counts as 0.
    """
    hits, misses = max(0, after.hits - before.hits), max(0, after.misses - before.misses)
    return {
        "slab_bytes_per_s": max(0, after.slab_bytes - before.slab_bytes) / seconds,
        "ring_bytes_per_s": max(0, after.ring_bytes - before.ring_bytes) / seconds,
        "origin_bytes_per_s": max(0, after.origin_bytes - before.origin_bytes) / seconds,
        "hits_per_s": hits / seconds,
        "misses_per_s": misses / seconds,
        "waited_ratio": (
            min(1.0, max(0.0, after.exposed_wait_s - before.exposed_wait_s) / seconds / after.jobs)
            if after.jobs and after.jobs == before.jobs
            else None
        ),
    }
