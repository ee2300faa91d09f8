"""What the home deal costs a rank and step: 8,192 samples, 512 nodes of 8 ranks.

    python -m pytest benchmarks/bench_deal.py --benchmark-enable -s
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastfeed._native.deal import Homes
from fastfeed.loader.home_deal import HomeDeal
from fastfeed.loader.sampler import Picks
from fastfeed.loader.steps import Step
from fastfeed.order import Order

GLOBAL_BATCH = 8192
NODES = [f"gpu-{rank // 8:04d}" for rank in range(512 * 8)]
ORDER = Order(10**9)
STEP = Step(range(GLOBAL_BATCH))


def print_median(benchmark: Any) -> None:
    """Nothing where timing is off."""
    if benchmark.enabled:
        print(f"{benchmark.name}: {benchmark.stats.stats.median * 1e3:.2f} ms")


def test_homes_of_8192_new_blocks_on_512_nodes(benchmark: Any) -> None:
    """Every block is another one, as in a full shuffle of a large dataset."""
    homes = Homes(sorted(set(NODES)), [(5, 1)])
    starts = itertools.count(0, GLOBAL_BATCH)

    def run() -> Any:
        return homes.of_rows(np.arange(start := next(starts), start + GLOBAL_BATCH))

    assert benchmark(run).max() < 512
    print_median(benchmark)


def test_dealing_8192_samples_once_homes_are_known(benchmark: Callable[..., Any]) -> None:
    """Without the order's own time, which any deal that looks at rows needs."""
    deal = HomeDeal(7, NODES, [_dataset()])
    picks = Picks(ORDER.rows(0, GLOBAL_BATCH))
    share = benchmark(deal.share, STEP, lambda: picks)
    assert len(share) == 2
    print_median(benchmark)


def test_a_whole_step_of_one_rank(benchmark: Callable[..., Any]) -> None:
    """Rows of the global batch, homes and deal."""
    deal = HomeDeal(7, NODES, [_dataset()])
    share = benchmark(deal.share, STEP, lambda: Picks(ORDER.rows(0, GLOBAL_BATCH)))
    assert len(share) == 2
    print_median(benchmark)


def _dataset() -> Any:
    return SimpleNamespace(home_key=5, physical_block_rows=4096, is_view=False)
