"""The order against its oracle, and what every order must be: a bijection that mixes."""

from __future__ import annotations

import pickle
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.order import EpochOrder, keyed_permutation
from fastfeed.errors import ConfigError
from fastfeed.order import ORDER_VERSION, Order
from tests.helpers import order_oracle
from tests.helpers.order_oracle import OracleOrder

U64 = st.integers(0, 2**64 - 1)
SHUFFLES = st.sampled_from(["window", "full", False])


@st.composite
def options(draw: st.DrawFn) -> dict[str, object]:
    return {
        "n": draw(st.one_of(st.integers(0, 700), st.integers(0, 2**48))),
        "seed": draw(U64),
        "epoch": draw(st.integers(0, 1000)),
        "shuffle": draw(SHUFFLES),
        "shuffle_window": draw(st.one_of(st.integers(1, 60), st.integers(1, 2**48))),
        "block_rows": draw(st.one_of(st.integers(1, 50), st.integers(1, 5000), st.integers(1, 2**48))),
    }


@settings(max_examples=300, deadline=None)
@given(options(), st.lists(st.integers(0, 2**48), min_size=1, max_size=5))
def test_any_position_of_any_order_is_what_the_oracle_says_and_comes_back(
    chosen: dict[str, object], points: list[int]
) -> None:
    order, oracle = Order(**chosen), OracleOrder(**chosen)  # type: ignore[arg-type]
    if order.n == 0:
        assert order.rows(0, 0).tolist() == []
        return
    for point in points:
        p = point % order.n
        row = oracle.row(p)
        assert order[p] == row
        assert order.position(row) == p == oracle.position(row)
        assert order.rows_at([p]).tolist() == [row]
        assert order.positions_of([row]).tolist() == [p]


def assert_every_row_once(order: Order) -> None:
    n = order.n
    rows = order.rows(0, n)
    assert np.array_equal(np.bincount(rows, minlength=n), np.ones(n, np.int64)), order
    assert np.array_equal(order.positions_of(rows), np.arange(n)), order
    middle = n // 2
    assert order[middle] == rows[middle]
    assert order.position(int(rows[middle])) == middle


@pytest.mark.parametrize("thousand", range(4))
def test_an_epoch_of_any_size_has_every_row_once(thousand: int) -> None:
    """Every n from 1 to 4,000, each with a block and a window of its own, so that blocks, groups (1 to 8 slots) and
    tails of every size come, and windows that hold all."""
    for n in range(1000 * thousand + 1, 1000 * thousand + 1001):
        block_rows, window = 1 + n * 7 % 61, 1 + n % 13
        assert_every_row_once(Order(n, seed=n, shuffle_window=window, block_rows=block_rows))
        assert_every_row_once(Order(n, seed=n, shuffle="full"))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30000), st.integers(1, 400), st.integers(1, 50), U64, SHUFFLES)
def test_a_part_of_an_epoch_is_that_part(n: int, block_rows: int, window: int, seed: int, shuffle: str | bool) -> None:
    order = Order(n, seed=seed, shuffle=shuffle, shuffle_window=window, block_rows=block_rows)  # type: ignore[arg-type]
    assert_every_row_once(order)
    rows = order.rows(0, n)
    third = n // 3
    assert np.array_equal(order[third:], rows[third:])
    assert np.array_equal(order[::-3], rows[::-3])
    assert order[-1] == rows[-1]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2**48), st.integers(1, 2**48), st.integers(1, 5000), U64, st.sampled_from(["window", "full"]))
def test_samples_of_a_large_order_are_distinct_rows_that_come_back(
    n: int, window: int, block_rows: int, seed: int, shuffle: str
) -> None:
    order = Order(n, seed=seed, shuffle=shuffle, shuffle_window=window, block_rows=block_rows)
    near = np.arange(min(n, 300)) + (n - min(n, 300)) // 2
    far = np.linspace(0, n - 1, min(n, 300)).astype(np.int64)
    positions = np.unique(np.concatenate([near, far, [0, n - 1]]))
    rows = order.rows_at(positions)
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < n
    assert np.array_equal(order.positions_of(rows), positions)
    assert np.array_equal(order.rows_at(order.positions_of(positions)), positions)  # both ways round


@pytest.mark.parametrize("m", [1, 2, 3, 37, 255, 256, 257, 512, 513, 1000, 4096])
def test_the_keyed_permutation_is_the_oracles_and_a_bijection(m: int) -> None:
    key = order_oracle.derive(7, m)
    image = keyed_permutation(m, key, np.arange(m))
    assert sorted(image.tolist()) == list(range(m))
    assert image.tolist()[:50] == [order_oracle.permute(m, key, i) for i in range(min(m, 50))]
    assert np.array_equal(keyed_permutation(m, key, image, inverse=True), np.arange(m))


def test_the_keyed_permutation_goes_up_to_two_to_the_48() -> None:
    m = 2**48
    places = np.array([0, 1, m - 1, m // 2], dtype=np.int64)
    image = keyed_permutation(m, 0xDEADBEEFCAFEF00D, places)
    assert image.tolist() == [order_oracle.permute(m, 0xDEADBEEFCAFEF00D, int(p)) for p in places]
    assert np.array_equal(keyed_permutation(m, 0xDEADBEEFCAFEF00D, image, inverse=True), places)


def chi_square(counts: np.ndarray) -> float:
    """Sum of (observed - expected)^2 / expected, in standard deviations from its mean over equal cells."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("m", [12, 300, 1000])
def test_over_keys_every_place_goes_everywhere_equally_often(m: int) -> None:
    """Also the difference of two neighbours' images, which bad mixing betrays first."""
    key_count = 60 * m
    keys = [order_oracle.derive(11, i) for i in range(key_count)]
    images = np.array([keyed_permutation(m, key, np.array([0, 1, m // 2])) for key in keys])
    for place in range(3):
        assert abs(chi_square(np.bincount(images[:, place], minlength=m))) < 5
    for other in (1, 2):
        differences = (images[:, other] - images[:, 0]) % m
        assert abs(chi_square(np.bincount(differences, minlength=m)[1:])) < 5


# (n, K, W): a few blocks with tails of any size, windows of all blocks and of some, the last group short or long.
SMALL = [(5, 2, 2), (7, 3, 1), (13, 5, 1), (20, 4, 2), (26, 5, 3), (40, 7, 4), (63, 2, 8), (100, 9, 8), (104, 3, 1024)]


@pytest.mark.parametrize(("n", "block_rows", "window"), SMALL)
def test_over_epochs_every_row_lands_everywhere_equally_often(n: int, block_rows: int, window: int) -> None:
    """Rows of the tail too; and where the row after row 0 lands, seen from row 0, in a window of all blocks."""
    epoch_count = 200 * n
    orders = [Order(n, seed=3, epoch=epoch, shuffle_window=window, block_rows=block_rows)
              for epoch in range(epoch_count)]
    rows = np.array([0, n // 2, n - 1])
    places = np.array([order.positions_of(rows) for order in orders])
    for place in places.T:
        assert abs(chi_square(np.bincount(place, minlength=n))) < 5
    if window >= n // block_rows:
        apart = (places[:, 1] - places[:, 0]) % n
        assert abs(chi_square(np.bincount(apart, minlength=n)[1:])) < 5


@pytest.mark.parametrize("m", [2, 3, 7, 10, 33])
def test_over_epochs_small_permutations_place_pairs_equally_often(m: int) -> None:
    """Blocks of one row: what a Feistel network of few rounds gets wrong below about 33 rows, and a table does not."""
    pairs = np.array([Order(m, epoch=epoch, shuffle="full").rows(0, 2) for epoch in range(40 * m * m)])
    counts = np.bincount(pairs[:, 0] * m + pairs[:, 1], minlength=m * m)
    assert np.all(counts[::m + 1] == 0)
    if m > 2:
        assert abs(chi_square(counts.reshape(m, m)[~np.eye(m, dtype=bool)])) < 5


def correlation(one: Order, other: Order) -> float:
    """Of the positions at which the same rows come, in standard deviations of that of independent shuffles."""
    rows = np.arange(one.n)
    r = np.corrcoef(one.positions_of(rows), other.positions_of(rows))[0, 1]
    return float(abs(r) * np.sqrt(one.n - 1))


def coincidences(one: Order, other: Order) -> int:
    """Positions with the same row in both; of independent shuffles one on average, Poisson distributed."""
    return int((one.rows(0, one.n) == other.rows(0, one.n)).sum())


@pytest.mark.parametrize(("n", "block_rows", "window"), [(20_000, 20, 64), (20_000, 1, 8), (20_000, 150, 1024)])
def test_epochs_and_seeds_are_uncorrelated(n: int, block_rows: int, window: int) -> None:
    """Neighbouring seeds and epochs, seeds that differ by one bit, and seed and epoch swapped. Rows of a block come
    within a window of each other, so blocks and not rows are what is independent."""
    def order(seed: int, epoch: int) -> Order:
        return Order(n, seed=seed, epoch=epoch, block_rows=block_rows, shuffle_window=window)

    pairs = [((7, epoch), (7, epoch + 1)) for epoch in range(20)]
    pairs += [((seed, 5), (seed + 1, 5)) for seed in range(20)]
    pairs += [((0, 0), (1 << bit, 0)) for bit in range(0, 64, 7)]
    pairs += [((a, b), (b, a)) for a, b in ((0, 1), (3, 4), (2, 1000))]
    independent = n if window >= n // block_rows else n // block_rows
    scale = np.sqrt(independent / n)
    deviations = [correlation(order(*one), order(*other)) * scale for one, other in pairs]
    assert max(deviations) < 4.5
    assert np.mean(deviations) < 1.2  # 0.8 is expected
    met = [coincidences(order(*one), order(*other)) for one, other in pairs]
    assert np.mean(met) < 2.5
    assert max(met) < 12


def test_a_batch_draws_evenly_from_the_whole_epoch_where_the_window_holds_it() -> None:
    n = 1 << 16
    order = Order(n, block_rows=64)
    for start in (0, n // 2, n - 4096):
        rows = order.rows(start, start + 4096)
        assert abs(chi_square(np.bincount(rows // 1024, minlength=64))) < 5


def test_a_window_holds_at_most_its_blocks_and_a_group() -> None:
    order = Order(100_000, shuffle_window=16, block_rows=50)
    for start in range(0, 100_000, 10_000):
        rows = order.rows(start, start + 50)
        assert len(set(rows // 50)) <= 16 + 8 + 1


def test_an_epoch_a_seed_and_a_mode_each_make_another_order() -> None:
    def order(**changes: Any) -> Order:
        return Order(**{"n": 5000, "shuffle_window": 8, "block_rows": 100, **changes})

    orders = [order(), order(seed=1), order(epoch=1), order(shuffle="full"), order(shuffle=False),
              order(block_rows=50), order(shuffle_window=9)]
    assert len({tuple(each.rows(0, 5000)) for each in orders}) == len(orders)
    assert np.array_equal(orders[4].rows(3, 9), np.arange(3, 9))
    assert np.array_equal(order(shuffle=True).rows(0, 5000), orders[0].rows(0, 5000))


def test_a_window_that_holds_all_whole_blocks_is_a_full_shuffle() -> None:
    full = Order(1049, shuffle="full").rows(0, 1049)
    for window in (10, 11, 1024):
        assert np.array_equal(Order(1049, shuffle_window=window, block_rows=100).rows(0, 1049), full)
    assert not np.array_equal(Order(1049, shuffle_window=9, block_rows=100).rows(0, 1049), full)


def test_an_order_pickles_compares_and_prints() -> None:
    order = Order(1000, seed=3, epoch=2, shuffle="full", shuffle_window=7, block_rows=11)
    again = pickle.loads(pickle.dumps(order))
    assert again == order
    assert hash(again) == hash(order)
    assert again != Order(1000)
    assert repr(order) == "Order(1000, seed=3, epoch=2, shuffle='full', shuffle_window=7, block_rows=11)"
    assert len(order) == 1000
    assert ORDER_VERSION == order_oracle.ORDER_VERSION


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n=-1: it must be from 0"),
        ({"n": 2**48 + 1}, "n=281474976710657"),
        ({"n": 10.5}, "n=10.5: it must be an integer"),
        ({"n": 10, "seed": -1}, "seed=-1"),
        ({"n": 10, "epoch": 2**64}, "epoch="),
        ({"n": 10, "shuffle": "random"}, "shuffle='random': use 'window'"),
        ({"n": 10, "shuffle_window": 0}, "shuffle_window=0: it must be from 1"),
        ({"n": 10, "block_rows": 0}, "block_rows=0"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Order(**arguments)  # type: ignore[arg-type]


def test_positions_and_rows_outside_are_index_errors() -> None:
    order = Order(10)
    for call in (lambda: order[10], lambda: order[-11], lambda: order.rows(3, 11), lambda: order.rows(5, 4),
                 lambda: order.position(10), lambda: order.position(-1), lambda: order.rows_at([0, 10]),
                 lambda: order.positions_of([-1])):
        with pytest.raises(IndexError):
            call()
    assert order[7:3].tolist() == []


def test_the_native_order_checks_for_itself() -> None:
    with pytest.raises(ConfigError, match="shuffle 9"):
        EpochOrder(10, 0, 0, 9, 1, 1)
    with pytest.raises(ConfigError, match="block_rows is 0"):
        EpochOrder(10, 0, 0, 2, 1, 0)
    with pytest.raises(ConfigError, match="2\\^48"):
        EpochOrder(2**48 + 1, 0, 0, 1, 1, 1)
    with pytest.raises(ConfigError, match="from 1 to 2\\^48"):
        keyed_permutation(0, 1, np.arange(0))
    with pytest.raises(ConfigError, match="dimensions"):
        keyed_permutation(9, 1, np.zeros((2, 2), dtype=np.int64))


def test_an_order_of_a_million_million_rows_takes_no_time_and_no_memory() -> None:
    """A thousand of them in less than the 1 ms that each may take; benchmarks/bench_order.py has the figure."""
    tracemalloc.start()
    try:
        began = time.perf_counter()
        orders = [Order(10**12, epoch=epoch) for epoch in range(1000)]
        took_s = time.perf_counter() - began
        assert orders[-1].position(orders[-1][10**11]) == 10**11
        assert tracemalloc.get_traced_memory()[1] < 1000 * 1000
    finally:
        tracemalloc.stop()
    assert took_s < 1.0
