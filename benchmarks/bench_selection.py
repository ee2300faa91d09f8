"""Rank and select a second over a selection of half of 1e9 rows, on one core, and building it.

    python -m pytest benchmarks/bench_selection.py --benchmark-enable -s

Untimed (as a test) the universe has 1e6 rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fastfeed._native.selection import Selection

NUMBER_COUNT = 1 << 20
UNIVERSES = {True: 10**9, False: 10**6}


@pytest.fixture(scope="module")
def bits() -> dict[int, npt.NDArray[np.uint8]]:
    """Random bitmaps by universe, made when first asked for."""
    return {}


def random_bits(made: dict[int, npt.NDArray[np.uint8]], universe: int) -> npt.NDArray[np.uint8]:
    if universe not in made:
        made[universe] = np.frombuffer(np.random.default_rng(1).bytes(universe // 8), np.uint8)
    return made[universe]


def report(benchmark: Any, count: int, unit: str) -> None:
    """Print millions a second. Nothing where timing is off."""
    if benchmark.enabled:
        rate = round(count / benchmark.stats.stats.median / 1e6, 1)
        benchmark.extra_info["million_per_s"] = rate
        print(f"{benchmark.name}: {rate} million {unit}/s")


@pytest.mark.parametrize("access", ["random", "ascending"])
@pytest.mark.parametrize("work", ["select", "rank"])
def test_rank_and_select(benchmark: Any, bits: dict[int, npt.NDArray[np.uint8]], work: str, access: str) -> None:
    universe = UNIVERSES[benchmark.enabled]
    selection = Selection.from_bits(random_bits(bits, universe), universe)
    limit = len(selection) if work == "select" else universe
    numbers = np.random.default_rng(2).integers(0, limit, NUMBER_COUNT)
    if access == "ascending":
        numbers.sort()
    call: Callable[..., Any] = selection.rows_at if work == "select" else selection.ranks_of
    result = benchmark(call, numbers)
    assert result.shape == (NUMBER_COUNT,)
    report(benchmark, NUMBER_COUNT, f"{work}s")
    assert selection.memory_bytes <= 1.15 * universe / 8


def test_building(benchmark: Any, bits: dict[int, npt.NDArray[np.uint8]]) -> None:
    universe = UNIVERSES[benchmark.enabled]
    selection = benchmark(Selection.from_bits, random_bits(bits, universe), universe)
    assert selection.universe == universe
    report(benchmark, universe, "rows")
