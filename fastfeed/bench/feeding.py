"""How fast a loader gives batches when nobody trains: its counters at two moments, and what happened between them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastfeed.bench.diagnosis import busy_stages
from fastfeed.dataset.batch import Batch
from fastfeed.loader.loader import Loader

# Of the time to measure: what is spent before, so that threads run and pages are in memory.
WARM_UP_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment."""

    wall_s: float
    cpu_s: float
    samples: int
    frame_bytes: int
    stages_s: Mapping[str, float]

    @classmethod
    def of(cls, loader: Loader, samples: int) -> Reading:
        """Read the counters now; `samples` is what the caller has counted."""
        stats = loader.stats()
        return cls(time.perf_counter(), time.process_time(), samples, stats["bytes"]["frames"], stats["stages"])


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two readings. stages_s: thread seconds, as `Loader.stats` counts them."""

    seconds: float
    samples: int
    frame_bytes: int
    cores_busy: float
    stages_s: Mapping[str, float]
    threads: int

    @classmethod
    def between(cls, before: Reading, after: Reading, threads: int) -> Rates:
        wall_s = after.wall_s - before.wall_s
        stages_s = {name: after.stages_s[name] - before.stages_s[name] for name in after.stages_s}
        return cls(wall_s, after.samples, after.frame_bytes - before.frame_bytes,
                   (after.cpu_s - before.cpu_s) / wall_s, stages_s, threads)

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.seconds

    @property
    def stored_mb_per_s(self) -> float:
        return self.frame_bytes / self.seconds / 1e6

    def stages(self) -> list[dict[str, Any]]:
        """Each stage that took time: its share of the threads' busy time, its cost, and the rate that all threads would
        reach if it were the only one."""
        stages_s = busy_stages(self.stages_s)
        total_s = sum(stages_s.values())
        return [
            {
                "stage": name,
                "share": round(seconds / total_s, 4),
                "us_per_sample": round(seconds / self.samples * 1e6, 2),
                "alone_samples_per_s": round(self.threads * self.samples / seconds, 1),
            }
            for name, seconds in stages_s.items()
            if seconds > 0
        ]

    @property
    def idle_share(self) -> float:
        """Of the decoding threads' time, how much had no work."""
        return self.stages_s.get("idle_s", 0.0) / (self.threads * self.seconds)

    def as_dict(self) -> dict[str, Any]:
        return {
            "threads": self.threads,
            "seconds": round(self.seconds, 3),
            "samples": self.samples,
            "samples_per_s": round(self.samples_per_s, 1),
            "stored_mb_per_s": round(self.stored_mb_per_s, 1),
            "cores_busy": round(self.cores_busy, 2),
            "threads_idle": round(self.idle_share, 3),
        }


def forever(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from loader


def measure(loader: Loader, seconds: float, warm_up_s: float) -> Rates:
    """Take batches for `seconds`, at least one. warm_up_s: before that, uncounted; 0: count from the first batch on."""
    batches = forever(loader)
    if warm_up_s > 0:
        feed(batches, warm_up_s)
    before = Reading.of(loader, 0)
    samples = feed(batches, seconds)
    after = Reading.of(loader, samples)
    return Rates.between(before, after, loader.stats()["threads"])


def feed(batches: Iterator[Batch], seconds: float) -> int:
    """Take batches for at least `seconds`, at least one; return how many samples they had."""
    samples, end_s = 0, time.perf_counter() + seconds
    while True:
        samples += len(next(batches))
        if time.perf_counter() >= end_s:
            return samples
