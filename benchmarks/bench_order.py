"""Positions a second of the order, on one core: forward and back, a long range and one batch; and making one.

    python -m pytest benchmarks/bench_order.py --benchmark-enable
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastfeed.order import Order

# The first is the text case (4,096 rows a block) through all levels, the last ImageNet (38 photographs make 4 MiB).
CASES = {
    "window of 1e9 rows": Order(10**9),
    "full shuffle of 1e9 rows": Order(10**9, shuffle="full"),
    "window of 1.28e6 photographs": Order(1_281_167, block_rows=38),
}
RANGE_POSITIONS = 1 << 19
BATCH_POSITIONS = 256


def rate(benchmark: Any, count: int) -> None:
    """Add positions a second to what the benchmark prints. Nothing where timing is off."""
    if benchmark.enabled:
        benchmark.extra_info["million_positions_per_s"] = round(count / benchmark.stats.stats.median / 1e6, 1)
        print(f"{benchmark.name}: {benchmark.extra_info['million_positions_per_s']} million positions/s")


@pytest.mark.parametrize("count", [RANGE_POSITIONS, BATCH_POSITIONS])
@pytest.mark.parametrize("case", CASES)
def test_positions_to_rows(benchmark: Callable[..., Any], case: str, count: int) -> None:
    order = CASES[case]
    rows = benchmark(order.rows, order.n // 3, order.n // 3 + count)
    assert rows.shape == (count,)
    rate(benchmark, count)


@pytest.mark.parametrize("count", [RANGE_POSITIONS, BATCH_POSITIONS])
@pytest.mark.parametrize("case", CASES)
def test_rows_to_positions(benchmark: Callable[..., Any], case: str, count: int) -> None:
    order = CASES[case]
    start = order.n // 3
    rows = order.rows(start, start + count)
    positions = benchmark(order.positions_of, rows)
    assert np.array_equal(positions, np.arange(start, start + count))
    rate(benchmark, count)


def test_making_an_order_of_1e12_rows(benchmark: Callable[..., Any]) -> None:
    order = benchmark(Order, 10**12)
    assert len(order) == 10**12
    if benchmark.enabled:
        print(f"{benchmark.name}: {benchmark.stats.stats.median * 1e6:.1f} us")
