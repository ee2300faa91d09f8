"""How long the consumer waited, and for which stage. Pure bookkeeping: no clock, not thread-safe.

A wait is charged to the stages of the batch that it was for, in proportion to the thread-seconds that this batch took
in each: of a batch that was decoded for nine tenths of its time, nine tenths of the wait were for decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# As the native reader's, then what Python callables took.
WAIT_STAGES = ("locate", "read", "verify", "decode", "place", "python")
# Percentiles are over this many latest steps: enough for a p99, and a constant 512 KiB.
WAITS_KEPT = 8192
# A line in a progress bar says how the run is now: over this many latest steps.
PROGRESS_STEPS = 100
# Below this part of the time, waiting for data is not what bounds a run.
BOUND_SHARE = 0.02


# Of a step: its wait, the consumer's work before it, and thread-seconds by stage.
_STEP = struct.Struct(f"{2 + len(WAIT_STAGES)}d")
_NOTHING_SPENT = (0.0,) * len(WAIT_STAGES)


class Waits:
    """The exposed wait of each step: time between asking for a batch and having it."""

    def __init__(self) -> None:
        self._ring = bytearray(WAITS_KEPT * _STEP.size)
        self._at = 0  # the next step's place in the ring
        self._steps = 0
        self._total_s = self._work_s = self._first_s = self._longest_s = 0.0
        self._given_up_s = (0.0, 0.0)  # wait and work before batches that are still on their way
        self._by_stage_s = np.zeros(len(WAIT_STAGES))  # of steps before those in the ring's current round

    def add(self, wait_s: float, work_s: float = 0.0, spent_s: Sequence[float] = _NOTHING_SPENT) -> None:
        """One step has waited `wait_s`, after the consumer worked for `work_s`. spent_s: what its batch took, as
        WAIT_STAGES."""
        wait_s, work_s = wait_s + self._given_up_s[0], work_s + self._given_up_s[1]
        self._given_up_s = (0.0, 0.0)
        if self._steps == 0:
            self._first_s = wait_s
        _STEP.pack_into(self._ring, self._at, wait_s, work_s, *spent_s)
        self._steps += 1
        self._total_s += wait_s
        self._work_s += work_s
        self._longest_s = max(self._longest_s, wait_s)
        self._at += _STEP.size
        if self._at == len(self._ring):
            self._by_stage_s += _charged(self._latest(WAITS_KEPT)).sum(axis=0)
            self._at = 0

    def give_up(self, wait_s: float, work_s: float) -> None:
        """The consumer waited `wait_s`, after `work_s` of work, and no batch came: that counts with the next step."""
        self._given_up_s = self._given_up_s[0] + wait_s, self._given_up_s[1] + work_s

    def as_dict(self) -> dict[str, Any]:
        """Totals since the loader was made; percentiles of the latest WAITS_KEPT steps. share: of the loop's time."""
        latest = self._latest(WAITS_KEPT)
        charged = _charged(latest)
        totals = self._stage_totals()
        by_stage = {f"{stage}_s": {"total_s": float(totals[number]), **_percentiles(charged[:, number])}
                    for number, stage in enumerate(WAIT_STAGES)}
        return {"total_s": self._total_s, "first_s": self._first_s, "max_s": self._longest_s,
                **_percentiles(latest[:, 0]), "share": _share(self._total_s, self._work_s), "by_stage": by_stage}

    def bottleneck(self) -> str:
        """What a faster run needs: "training", where there is hardly a wait, or the stage that is waited for most."""
        return _bottleneck(_share(self._total_s, self._work_s), self._stage_totals())

    def progress(self) -> str:
        """The latest steps in a few words, for a progress bar."""
        latest = self._latest(PROGRESS_STEPS)
        if len(latest) == 0:
            return "data wait: no step yet"
        wait_s, work_s = latest[:, 0].sum(), latest[:, 1].sum()
        slowest = _bottleneck(_share(wait_s, work_s), _charged(latest).sum(axis=0))
        reason = "" if slowest == "training" else f" ({slowest})"
        return (f"data wait {_share(wait_s, work_s):.0%}{reason}, "
                f"p95 {1e3 * np.percentile(latest[:, 0], 95):.3g} ms")

    def _latest(self, count: int) -> npt.NDArray[np.float64]:
        """At most `count` latest steps, the newest last: copies."""
        ring = np.frombuffer(self._ring).reshape(WAITS_KEPT, -1)
        return np.roll(ring, -(self._at // _STEP.size), axis=0)[WAITS_KEPT - min(count, self._steps, WAITS_KEPT):]

    def _stage_totals(self) -> npt.NDArray[np.float64]:
        since = _charged(self._latest(self._steps % WAITS_KEPT)).sum(axis=0)
        return np.asarray(self._by_stage_s + since)


def _bottleneck(share: float, by_stage_s: npt.NDArray[np.float64]) -> str:
    if share < BOUND_SHARE or not by_stage_s.any():
        return "training"
    return WAIT_STAGES[int(by_stage_s.argmax())]


def _charged(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The wait of each step by stage."""
    spent = rows[:, 2:]
    total = spent.sum(axis=1, keepdims=True)
    charged = np.zeros_like(spent)
    np.divide(rows[:, :1] * spent, total, out=charged, where=total > 0)
    return charged


def _percentiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99)).tolist() if len(values) else (0.0, 0.0, 0.0)
    return {"p50_s": p50, "p95_s": p95, "p99_s": p99}


def _share(wait_s: float, work_s: float) -> float:
    return wait_s / (wait_s + work_s) if wait_s else 0.0
