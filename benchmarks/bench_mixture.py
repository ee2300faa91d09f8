"""Mixtures: positions a second both ways, on one core; and an epoch of a mixture beside one of a single dataset.

    python -m pytest benchmarks/bench_mixture.py --benchmark-enable -s

`FASTFEED_BENCH_ROWS` sets the number of records of all sources together (default 20,000 as a test; 1,000,000 for
figures worth quoting).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.loader.mixture_order import MixtureOrder
from tests.helpers.fake_dataset import FakeDataset

ROWS = int(os.environ.get("FASTFEED_BENCH_ROWS", "20000"))
BATCH = 512
SOURCES = 4
RANGE_POSITIONS = 1 << 18
BATCH_POSITIONS = 8192  # a global batch


def _large(count: int) -> list[Any]:
    return [FakeDataset(10**9 + number) for number in range(count)]


# Short periods in a table; a hundred sources; counts whose cycle is cut into periods of 4,096; with rows of 4 KB.
MIXTURES = {
    "7:3": ff.Mixture(zip(_large(2), (7, 3), strict=True)),
    "100 sources": ff.Mixture([(dataset, number + 1) for number, dataset in enumerate(_large(100))]),
    "2 counts": ff.Mixture(_large(2), counts=[700_000_001, 299_999_999]),
    "100 counts": ff.Mixture(_large(100), counts=[10**7 + number for number in range(100)]),
}


def _rate(benchmark: Any, count: int) -> None:
    if benchmark.enabled:
        print(f"{benchmark.name}: {count / benchmark.stats.stats.median / 1e6:.1f} million positions/s")


def _order(case: str, epoch: int = 3) -> MixtureOrder:
    return MIXTURES[case].order(seed=1, epoch=epoch, block_rows=1024)


@pytest.mark.parametrize("count", [RANGE_POSITIONS, BATCH_POSITIONS])
@pytest.mark.parametrize("case", MIXTURES)
def test_positions_to_rows(benchmark: Any, case: str, count: int) -> None:
    order = _order(case)
    start = len(order) // 3
    assert len(benchmark(order.rows, start, start + count).rows) == count
    _rate(benchmark, count)


@pytest.mark.parametrize("case", MIXTURES)
def test_positions_to_sources_and_back_in_the_core(benchmark: Any, case: str) -> None:
    """Without the sources' own orders: the sample's number instead of its row, and back to the position."""
    core = _order(case)._native
    positions = np.arange(len(_order(case)) // 3, len(_order(case)) // 3 + RANGE_POSITIONS)

    def both() -> Any:
        return core.positions_of(*core.picks(positions))

    assert (benchmark(both) == positions).all()
    _rate(benchmark, 2 * RANGE_POSITIONS)


@pytest.mark.parametrize("case", MIXTURES)
def test_rows_to_positions(benchmark: Any, case: str) -> None:
    order = _order(case, epoch=0)  # of every source a part of its first pass
    start = len(order) // 3
    rows, sources = order.rows(start, start + RANGE_POSITIONS)
    found = benchmark(order.positions_of, sources, rows, np.zeros(len(rows), np.int64))
    assert (found == np.arange(start, start + RANGE_POSITIONS)).all()
    _rate(benchmark, RANGE_POSITIONS)


def test_beginning_an_epoch(benchmark: Any) -> None:
    """What resuming costs, at any position."""
    mixture = MIXTURES["100 sources"]
    assert len(benchmark(mixture.order, 1, 10**9)) == len(mixture)
    if benchmark.enabled:
        print(f"{benchmark.name}: {benchmark.stats.stats.median * 1e3:.2f} ms")


# --- reading ----------------------------------------------------------------------------------------------------

SCHEMA = ff.Schema({"id": ff.Scalar("int64"), "data": ff.Bytes()})


def _written(place: Path, rows: int) -> ff.Dataset:
    rng = np.random.default_rng(0)
    noise = rng.bytes(1 << 20)
    with ff.DatasetWriter(place, SCHEMA) as writer:
        for row in range(rows):
            start, size = int(rng.integers(1 << 19)), int(rng.integers(200, 1001))
            writer.write({"id": row, "data": noise[start : start + size]})
    return ff.open(place)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """As many records in one dataset as in all sources of the mixture."""
    root = tmp_path_factory.mktemp("records")
    parts = [_written(root / str(number), ROWS // SOURCES) for number in range(SOURCES)]
    return {"one dataset": _written(root / "one", ROWS // SOURCES * SOURCES),
            "mixture of four": ff.Mixture(parts, repeats=[1] * SOURCES)}


@pytest.mark.parametrize("case", ["one dataset", "mixture of four"])
def test_an_epoch_of_small_records(benchmark: Any, inputs: dict[str, Any], case: str) -> None:
    with ff.Loader(inputs[case], batch_size=BATCH, last="short", threads=2) as loader:
        rows = benchmark(lambda: sum(len(batch) for batch in loader))
    assert rows == ROWS // SOURCES * SOURCES
    if benchmark.enabled:
        print(f"{benchmark.name}: {rows / benchmark.stats.stats.median:,.0f} records/s")
