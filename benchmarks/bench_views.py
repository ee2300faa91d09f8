"""Views, weights and token budgets: rows a second of making them, and of finding rows through them, on one core.

    python -m pytest benchmarks/bench_views.py --benchmark-enable -s

A dataset of two numbers a row: 4 million rows in shards of 16 MiB; untimed (as a test) 20,000.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastfeed as ff
from fastfeed.loader.budget import BudgetDeal, BudgetSteps, Lengths
from fastfeed.loader.options import Last, read_options
from fastfeed.loader.sampler import OrderSampler
from fastfeed.loader.share import share_of
from fastfeed.loader.weights import WeightedSampler

ROWS = {True: 4_000_000, False: 20_000}
SCHEMA = ff.Schema({"label": ff.Scalar("int32"), "tokens": ff.Scalar("int32")})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("views")


def dataset(place: Path, benchmark: Any) -> ff.Dataset:
    """Labels 0 .. 999 at random; lengths as text has them: log-normal around 400 tokens, at most 8,192."""
    count = ROWS[benchmark.enabled]
    url = place / str(count)
    if not url.exists():
        rng = np.random.default_rng(0)
        lengths = np.clip(rng.lognormal(6, 1, count), 1, 8192).astype(np.int32)
        with ff.DatasetWriter(url, SCHEMA, shard_size="16MiB") as writer:
            writer.write_batch(pa.record_batch({"label": rng.integers(0, 1000, count, np.int32), "tokens": lengths}))
    return ff.open(url)


def report(benchmark: Any, count: int, unit: str) -> None:
    """Print millions a second. Nothing where timing is off."""
    if benchmark.enabled:
        rate = round(count / benchmark.stats.stats.median / 1e6, 2)
        benchmark.extra_info["million_per_s"] = rate
        print(f"{benchmark.name}: {rate} million {unit}/s")


MAKERS: dict[str, Callable[[ff.Dataset], Any]] = {
    "filter": lambda ds: ds.filter("label < 100 and tokens <= 2048"),
    "split": lambda ds: ds.split({"train": 0.9, "val": 0.1})["train"],
    "mask": lambda ds: ds.select(np.arange(len(ds)) % 3 == 0),
    "lane": lambda ds: ds.lane("tokens"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_making(benchmark: Any, place: Path, kind: str) -> None:
    ds = dataset(place, benchmark)
    assert len(benchmark(MAKERS[kind], ds)) > 0
    report(benchmark, len(ds), "rows")


@pytest.mark.parametrize("kind", ["order", "weights"])
def test_positions_to_rows_of_a_filtered_view(benchmark: Any, place: Path, kind: str) -> None:
    view = dataset(place, benchmark).filter("label < 500")
    options = read_options({"batch_size": 1, **({"weights": "tokens"} if kind == "weights" else {})})
    sampler = (WeightedSampler if kind == "weights" else OrderSampler)(view, options).at_epoch(0, 0)
    positions = np.arange(min(1 << 18, sampler.length))

    def rows() -> Any:
        return view.physical_rows(sampler.picks(positions).rows)

    assert len(benchmark(rows)) == len(positions)
    report(benchmark, len(positions), "positions")


@pytest.mark.parametrize(("ranks", "tokens_a_rank"), [(8, 16_384), (64, 32_768), (512, 32_768)])
def test_packing_by_tokens(benchmark: Any, place: Path, ranks: int, tokens_a_rank: int) -> None:
    """How full steps are, how unequal ranks, and what a step costs a rank to compute."""
    ds = dataset(place, benchmark)
    budget = ranks * tokens_a_rank
    lengths = Lengths([ds], "tokens", budget)
    epoch = OrderSampler(ds, read_options({"batch_size": 1})).at_epoch(0, 0)

    def walk() -> list[int]:
        steps, start, sizes = BudgetSteps(epoch, lengths, Last.SHORT), 0, []
        while not steps.is_over(start):
            sizes.append(int(steps.step(start).weights.sum()))  # type: ignore[union-attr]
            start = steps.next_position(start)
        return sizes

    sizes = benchmark(walk)
    assert max(sizes) <= budget
    if benchmark.enabled:
        report(benchmark, len(ds), "samples")
        step = BudgetSteps(epoch, lengths, Last.SHORT).step(0)
        costs = ds.lane("tokens")
        loads = [int(costs[share_of(step, epoch, BudgetDeal(rank, ranks)).rows].sum()) for rank in range(ranks)]
        print(f"  {ranks} ranks of {tokens_a_rank} tokens: {len(sizes)} steps, {sum(sizes) / len(sizes) / budget:.2%} "
              f"full on average; the fullest rank of a step has {max(loads) / tokens_a_rank:.3f} of its tokens; "
              f"{benchmark.stats.stats.median / len(sizes) * 1e3:.2f} ms a step")
