"""What the scenarios of the node cache share: data at an nginx, a daemon of their own, epochs, CPU that was spent."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests' helpers start daemons and end them

import fastfeed as ff  # noqa: E402
from tests.helpers.cache_daemon import CacheDaemon  # noqa: E402

NOISE_BYTES = 32 << 20
BATCH = 64
THREADS = 2


def write(place: Path, samples: int, sample_bytes: int, shard_size: str = "64MiB") -> int:
    """Samples of noise; returns their bytes. What is there already is kept."""
    if not place.exists():
        rng = np.random.default_rng(samples)
        noise, starts = rng.bytes(NOISE_BYTES), rng.integers(0, NOISE_BYTES - sample_bytes, samples).tolist()
        with ff.DatasetWriter(place, ff.Schema({"data": ff.Bytes()}), shard_size=shard_size) as writer:
            for start in starts:
                writer.write({"data": noise[start : start + sample_bytes]})
    return samples * sample_bytes


def daemon(folder: Path, limit_bytes: int) -> CacheDaemon:
    """A daemon that is not started yet; use it with `with`."""
    return CacheDaemon(folder, limit=str(limit_bytes))


def epoch(loader: ff.Loader, samples: int) -> float:
    """Seconds of one epoch, the first batch's wait included. Checks that every sample came."""
    started = time.perf_counter()
    seen = sum(len(batch) for batch in loader)
    elapsed_s = time.perf_counter() - started
    assert seen == samples, f"{seen} samples came, not {samples}"
    return elapsed_s


def loader(dataset: ff.Dataset, **options: object) -> ff.Loader:
    return ff.Loader(dataset, **{"batch_size": BATCH, "threads": THREADS, "last": "short", **options})


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, threads and kernel included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fetched_bytes(pool: dict[str, list[dict[str, dict[str, int]]]]) -> int:
    """What came from origins, shards and the dataset's other files."""
    return sum(origin["counters"]["read_bytes"] for origin in pool["origins"])
