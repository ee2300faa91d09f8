"""What the loader costs beside the native reader: epochs, the consumer's time a step, waits between epochs, resuming.

    python -m pytest benchmarks/bench_loader.py --benchmark-only -s

The CPU time of the consuming thread is an upper bound of how long it holds the GIL: it waits for batches without it.
`FASTFEED_BENCH_ROWS` sets the number of records (default 20,000 as a test; 1,000,000 for figures worth quoting).
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader

ROWS = int(os.environ.get("FASTFEED_BENCH_ROWS", "20000"))
BATCH = 512
# Holding the GIL for longer than this a step would be felt by whoever else needs it. Measured: about 0.1 ms.
CONSUMER_S_MAX = 0.005
# Stands for a training step. Reading a batch takes less, so that nothing but the boundary could make it wait.
STEP_S = 0.004
EPOCHS = 6
# Going on at any position is to cost less than this. Measured: 0.03 ms at n = 10^9.
RESTORE_S_MAX = 0.005


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


def test_there_is_no_wait_between_two_epochs(dataset, capsys) -> None:
    """How long after a step the next batch is there: inside of an epoch, and behind its last batch."""
    waits, boundaries = [], []
    with ff.Loader(dataset, batch_size=BATCH, threads=2, prefetch_factor=8) as loader:
        asked = time.perf_counter()
        for _ in range(EPOCHS):
            for number, _ in enumerate(loader):
                (waits if number else boundaries).append(time.perf_counter() - asked)
                time.sleep(STEP_S)
                asked = time.perf_counter()
    cold_s, *between = boundaries
    between_s = statistics.median(between)
    with capsys.disabled():
        print(f"\n  a batch is there after {statistics.median(waits) * 1e6:.0f} us inside of an epoch and after "
              f"{between_s * 1e6:.0f} us behind its last one (medians; worst {max(waits) * 1e6:.0f} and "
              f"{max(between) * 1e6:.0f} us of {len(waits)} and {len(between)}); the first of all takes "
              f"{cold_s * 1e3:.1f} ms")


@pytest.mark.parametrize("deal", ["fixed", "home"])
def test_a_run_goes_on_at_any_position_of_a_billion_rows(deal: str, capsys) -> None:
    """load_state_dict() in a new loader and the first batch's rows; the reader is a fake, which reads nothing."""
    rows = 10**9
    nodes = [f"node-{rank // 8}" for rank in range(64)]
    rng = np.random.default_rng(0)
    times = []

    def alike(text: str) -> list[str]:
        """As if the other ranks proposed the same."""
        return [text.replace('"rank": 5', f'"rank": {rank}') for rank in range(64)]

    agreement: dict[str, Any] = {} if deal == "fixed" else {"nodes": nodes, "all_gather": alike}
    for position in rng.integers(0, rows, 50).tolist():
        loader = ff.Loader(FakeDataset(rows), batch_size=128, rank=5, world_size=64, deal=deal, prefetch_factor=1,
                           reader_factory=FakeReader, **agreement)
        state = {**loader.state_dict(), "position": position}
        began = time.perf_counter()
        loader.load_state_dict(state)
        loaded = time.perf_counter()
        batch = next(iter(loader))
        times.append((loaded - began, time.perf_counter() - loaded))
        assert batch.positions[0] >= position
    load_s, first_s = (statistics.median(column) for column in zip(*times, strict=True))
    with capsys.disabled():
        print(f"\n  n = 10^9, 64 ranks, deal {deal}: load_state_dict {load_s * 1e6:.0f} us, worst of {len(times)} "
              f"{max(load for load, _ in times) * 1e6:.0f} us; then iter() and the first batch's rows "
              f"{first_s * 1e6:.0f} us (of a global batch of {128 * 64}); state of {len(str(state))} bytes")
    assert load_s < RESTORE_S_MAX
