"""The deal against its oracle, and what every deal must be: exact shares, each sample once, as many at home as fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.deal import DEAL_VERSION, Homes, deal_to_homes, node_key
from fastfeed.errors import ConfigError
from fastfeed.loader.home_deal import HomeDeal, active_blocks, deals_home, nodes_digest
from fastfeed.loader.options import DealMode
from fastfeed.loader.sampler import Picks
from fastfeed.loader.share import FixedDeal
from fastfeed.loader.steps import Step
from fastfeed.order import Order, ShuffleMode
from tests.helpers import deal_oracle

NAMES = st.lists(st.text(min_size=0, max_size=20), min_size=1, max_size=9, unique=True)


@st.composite
def deals(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Homes of samples, nodes of ranks, nodes. Every node has a rank."""
    node_count = draw(st.integers(1, 6))
    extra = draw(st.lists(st.integers(0, node_count - 1), max_size=9))
    node_of_rank = draw(st.permutations([*range(node_count), *extra]))
    homes = draw(st.lists(st.integers(0, node_count - 1), max_size=80))
    return homes, list(node_of_rank), node_count


def shares(homes: list[int], node_of_rank: list[int], node_count: int) -> list[list[int]]:
    """The samples of each rank, by the core."""
    dealt = deal_to_homes(np.array(homes, np.int32), np.array(node_of_rank, np.int32), node_count).tolist()
    m, ranks = len(homes), len(node_of_rank)
    return [dealt[rank * m // ranks:(rank + 1) * m // ranks] for rank in range(ranks)]


@settings(max_examples=300, deadline=None)
@given(deals())
def test_a_deal_is_what_the_oracle_says(case: tuple[list[int], list[int], int]) -> None:
    homes, node_of_rank, _ = case
    assert shares(*case) == deal_oracle.deal(homes, node_of_rank)


@settings(max_examples=300, deadline=None)
@given(deals())
def test_every_sample_is_dealt_once_and_as_many_come_home_as_shares_allow(
    case: tuple[list[int], list[int], int]
) -> None:
    homes, node_of_rank, node_count = case
    m, ranks = len(homes), len(node_of_rank)
    dealt = shares(*case)
    assert sorted(sample for share in dealt for sample in share) == list(range(m))
    assert [len(share) for share in dealt] == [(r + 1) * m // ranks - r * m // ranks for r in range(ranks)]
    assert all(share == sorted(share) for share in dealt)
    local = sum(homes[sample] == node_of_rank[rank] for rank, share in enumerate(dealt) for sample in share)
    quota = [sum(len(share) for rank, share in enumerate(dealt) if node_of_rank[rank] == n) for n in range(node_count)]
    assert local == sum(min(quota[n], homes.count(n)) for n in range(node_count))


@settings(max_examples=100, deadline=None)
@given(NAMES, st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**48), max_size=60), st.integers(1, 5000))
def test_homes_are_what_the_oracle_says_however_often_they_are_asked_for(
    names: list[str], dataset_key: int, rows: list[int], block_rows: int
) -> None:
    homes = Homes(names, [(dataset_key, block_rows)])
    expected = [deal_oracle.home(names, dataset_key, row // block_rows) for row in rows]
    for _ in range(2):  # computed, then kept
        assert homes.of_rows(np.array(rows, np.int64)).tolist() == expected
    assert [node_key(name) for name in names] == [deal_oracle.node_key(name) for name in names]
    assert DEAL_VERSION == deal_oracle.DEAL_VERSION


def test_homes_of_a_mixture_are_those_of_its_datasets() -> None:
    names = [f"node{i}" for i in range(5)]
    rows = np.arange(0, 6000, 7)
    sources = (rows % 3).astype(np.int32)
    datasets = [(11, 10), (2**64 - 1, 1), (0, 4096)]
    mixed = Homes(names, datasets).of_rows(rows, sources)
    for source, dataset in enumerate(datasets):
        alone = Homes(names, [dataset]).of_rows(rows)
        assert np.array_equal(mixed[sources == source], alone[sources == source])


def names_of(count: int) -> list[str]:
    return [f"gpu-{i:04d}.cluster.example" for i in range(count)]


@pytest.mark.parametrize("count", [2, 8, 100, 512])
def test_every_node_is_home_to_an_equal_part(count: int) -> None:
    block_count = 500 * count
    homes = Homes(names_of(count), [(5, 1)]).of_rows(np.arange(block_count))
    counts = np.bincount(homes, minlength=count)
    deviations = (((counts - 500) ** 2 / 500).sum() - (count - 1)) / np.sqrt(2 * (count - 1))
    assert abs(deviations) < 5


def test_a_node_that_leaves_or_joins_moves_only_its_own_homes() -> None:
    before = names_of(40)
    gone = before[17]
    after = [name for name in before if name != gone]
    blocks = np.arange(20_000)
    old = np.array(before)[Homes(before, [(5, 1)]).of_rows(blocks)]
    new = np.array(after)[Homes(after, [(5, 1)]).of_rows(blocks)]
    moved = old != new
    assert np.array_equal(moved, old == gone)
    assert 300 < moved.sum() < 700  # 500 are expected; read backwards, those that a joining node takes
    takers = np.bincount(np.searchsorted(after, new[moved]), minlength=len(after))
    assert takers.max() < 40  # spread over the others: 13 each are expected


def dataset(rows: int, block_rows: int, home_key: int = 5) -> Any:
    class OfSomeLength(SimpleNamespace):
        def __len__(self) -> int:
            return rows

    return OfSomeLength(block_rows=block_rows, physical_block_rows=block_rows, home_key=home_key, is_view=False)


def step_of(order: Order, start: int, count: int) -> tuple[Step, Any]:
    return Step(range(start, start + count)), lambda: Picks(order.rows(start, start + count))


def test_every_rank_computes_the_same_deal_for_itself() -> None:
    """Eight ranks on three nodes, the list not in the order of names; each rank has an object of its own, and some
    have dealt other steps before."""
    nodes = ["b", "b", "c", "a", "a", "a", "c", "b"]
    source = dataset(10_000, 50)
    order = Order(10_000, block_rows=50, shuffle_window=64)
    step, picks = step_of(order, 2000, 333)
    taken = []
    for rank in range(8):
        deal = HomeDeal(rank, nodes, [source])
        if rank % 2:
            deal.share(*step_of(order, 0, 333))
        share = deal.share(step, picks)
        assert len(share) == len(range(333)[FixedDeal(rank, 8).share(step, picks)])
        taken.append(share)
    assert np.array_equal(np.sort(np.concatenate(taken)), np.arange(333))
    names = ["a", "b", "c"]
    homes = [names[deal_oracle.home(names, 5, int(row) // 50)] for row in picks().rows]
    local = sum(homes[i] == nodes[rank] for rank in range(8) for i in taken[rank])
    quota = {name: sum(len(taken[rank]) for rank in range(8) if nodes[rank] == name) for name in names}
    assert local == sum(min(quota[name], homes.count(name)) for name in names)


def test_fewer_samples_than_ranks_leave_some_shares_empty() -> None:
    deals = [HomeDeal(rank, ["a", "b", "c", "d"], [dataset(100, 10)]) for rank in range(4)]
    step, picks = step_of(Order(100, block_rows=10), 0, 2)
    assert sorted(i for deal in deals for i in deal.share(step, picks)) == [0, 1]
    assert all(len(deal.share(*step_of(Order(100), 0, 0))) == 0 for deal in deals)


def test_the_default_deals_home_where_each_node_has_64_active_blocks() -> None:
    nodes = ["a", "a", "b", "b"]
    large, small = dataset(10**6, 100), dataset(1270, 10)
    assert active_blocks([large], ShuffleMode.WINDOW, 1024, None) == 1024
    assert active_blocks([large], ShuffleMode.WINDOW, 1024, 200) == 2048  # blocks of the order are twice those of homes
    assert active_blocks([large], ShuffleMode.FULL, 1, None) == 10_000
    assert active_blocks([large], ShuffleMode.NONE, 1024, None) == 1
    assert active_blocks([small, small], ShuffleMode.WINDOW, 1024, None) == 254
    assert deals_home(DealMode.AUTO, 128, nodes)
    assert not deals_home(DealMode.AUTO, 127, nodes)
    assert not deals_home(DealMode.AUTO, 10**6, ["a", "a"])  # one node: everything is at home anyway
    assert deals_home(DealMode.HOME, 1, nodes)
    assert not deals_home(DealMode.FIXED, 10**6, nodes)


def test_lists_are_told_apart_by_their_digest() -> None:
    lists = [["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ["a", "", "b"], ["a"], []]
    assert len({nodes_digest(nodes) for nodes in lists}) == len(lists)
    assert nodes_digest(["a", "b"]) == nodes_digest(("a", "b"))
    described = HomeDeal(0, ["a", "b"], [dataset(9, 1)]).describe()
    assert described == {"kind": "home", "version": 1, "nodes": nodes_digest(["a", "b"])}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Homes([], [(1, 1)]), "0 nodes; there must be from 1"),
        (lambda: Homes(["a"], [(1, 0)]), "blocks of 0 rows"),
        (lambda: Homes(["a"], [(1, 1), (2, 1)]).of_rows(np.arange(3)), "sources are needed"),
        (lambda: Homes(["a"], [(1, 1)]).of_rows(np.arange(3), np.zeros(2, np.int32)), "3 rows and 2 sources"),
        (lambda: deal_to_homes(np.zeros(1, np.int32), np.zeros(0, np.int32), 1), "at least one rank"),
        (lambda: deal_to_homes(np.ones(1, np.int32), np.zeros(1, np.int32), 1), "sample 0 is on node 1, of 1"),
        (lambda: deal_to_homes(np.zeros(1, np.int32), -np.ones(1, np.int32), 1), "rank 0 is on node -1, of 1"),
        (lambda: HomeDeal(2, ["a", "b"], []), "nodes of 2 ranks, and this is rank 2"),
    ],
)
def test_arguments_that_make_no_sense_are_named(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_rows_and_sources_outside_are_index_errors() -> None:
    homes = Homes(["a", "b"], [(1, 10)])
    for rows, sources in (([0, -1], [0, 0]), ([0, 1], [0, 1]), ([0, 1], [0, -1])):
        with pytest.raises(IndexError, match=r"row -?1 of source"):
            homes.of_rows(np.array(rows), np.array(sources, np.int32))


@pytest.mark.parametrize(("samples", "expected"), [(8, 0.860), (32, 0.930), (256, 0.975)])
def test_as_many_samples_are_at_home_as_arithmetic_says(samples: int, expected: float) -> None:
    """Of a full shuffle over 16 nodes: 1 - e^-s s^s / s! for s samples a node."""
    nodes = names_of(16)
    of_rank = np.arange(16, dtype=np.int32)
    deal = HomeDeal(0, nodes, [dataset(10**9, 4096)])
    order = Order(10**9, shuffle="full")
    local = []
    for start in range(0, 64 * 10**6, 10**6):
        homes = deal.homes(Picks(order.rows(start, start + 16 * samples)))
        dealt = deal_to_homes(homes, of_rank, 16)
        local.append((homes[dealt] == np.repeat(of_rank, samples)).mean())
    assert np.mean(local) == pytest.approx(expected, abs=0.01)
