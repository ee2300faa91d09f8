"""What the loader costs beside the native reader: whole epochs, and the consumer's own time a step.

    python -m pytest benchmarks/bench_loader.py --benchmark-only -s

The CPU time of the consuming thread is an upper bound of how long it holds the GIL: it waits for batches without it.
`FASTFEED_BENCH_ROWS` sets the number of records (default 20,000 as a test; 1,000,000 for figures worth quoting).
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

import fastfeed as ff

ROWS = int(os.environ.get("FASTFEED_BENCH_ROWS", "20000"))
BATCH = 512
# Holding the GIL for longer than this a step would be felt by whoever else needs it. Measured: about 0.1 ms.
CONSUMER_S_MAX = 0.005


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    place = tmp_path_factory.mktemp("records") / "data"
    rng = np.random.default_rng(0)
    noise = rng.bytes(1 << 20)
    with ff.DatasetWriter(place, ff.Schema({"id": ff.Scalar("int64"), "data": ff.Bytes()})) as writer:
        for row in range(ROWS):
            start, size = int(rng.integers(1 << 19)), int(rng.integers(200, 1001))
            writer.write({"id": row, "data": noise[start : start + size]})
    return ff.open(place)


def drain(loader: ff.Loader) -> int:
    return sum(len(batch) for batch in loader)


def noop(batch: Any) -> Any:
    return batch


@pytest.mark.parametrize("shuffle", [False, "full", "window"])
def test_an_epoch_of_small_records(benchmark, dataset, shuffle: str | bool) -> None:
    with ff.Loader(dataset, batch_size=BATCH, shuffle=shuffle, last="short", threads=2) as loader:
        assert benchmark(drain, loader) == ROWS


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_an_epoch_through_a_python_stage(benchmark, dataset, mode: str) -> None:
    with ff.Loader(dataset, batch_size=BATCH, last="short", threads=2, map_batch=noop, python_mode=mode) as loader:
        assert benchmark(drain, loader) == ROWS


def test_the_consumer_spends_little_time_a_step(dataset, capsys) -> None:
    with ff.Loader(dataset, batch_size=BATCH, last="short", threads=2) as loader:
        drain(loader)
        began_cpu, began = time.thread_time(), time.perf_counter()
        rows = drain(loader)
        cpu_s, wall_s = time.thread_time() - began_cpu, time.perf_counter() - began
        steps = len(loader)
    with capsys.disabled():
        print(f"\n  consumer: {cpu_s / steps * 1e6:.0f} us of CPU a step of {BATCH}, which takes "
              f"{wall_s / steps * 1e6:.0f} us; {rows / wall_s:,.0f} records/s")
    assert cpu_s / steps < CONSUMER_S_MAX
