"""How long the consumer waited. Pure bookkeeping: no clock, not thread-safe."""

from __future__ import annotations

from collections import deque

import numpy as np

# Percentiles are over this many latest steps: enough for a p99, and a constant 64 KiB.
WAITS_KEPT = 8192


class Waits:
    """The exposed wait of each step: time between asking for a batch and having it."""

    def __init__(self) -> None:
        self._latest_s: deque[float] = deque(maxlen=WAITS_KEPT)
        self._total_s = self._first_s = self._longest_s = 0.0
        self._steps = 0

    def add(self, wait_s: float) -> None:
        """One step has waited `wait_s`."""
        if self._steps == 0:
            self._first_s = wait_s
        self._steps += 1
        self._total_s += wait_s
        self._longest_s = max(self._longest_s, wait_s)
        self._latest_s.append(wait_s)

    def as_dict(self) -> dict[str, float]:
        """Totals since the loader was made; percentiles of the latest WAITS_KEPT steps."""
        p50, p95, p99 = np.percentile(self._latest_s, (50, 95, 99)).tolist() if self._latest_s else (0.0, 0.0, 0.0)
        return {"total_s": self._total_s, "first_s": self._first_s, "max_s": self._longest_s,
                "p50_s": p50, "p95_s": p95, "p99_s": p99}
