"""Shares of steps, for any number of rows, ranks and samples a step: nothing twice, nothing lost, nobody waits."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed.loader.options import Last
from fastfeed.loader.sampler import OrderEpoch
from fastfeed.loader.share import FixedDeal, share_of
from fastfeed.loader.steps import FixedSteps
from fastfeed.order import Order


class Rank(NamedTuple):
    """One rank's part of an epoch of n rows, whose order is the identity."""

    steps: FixedSteps
    deal: FixedDeal

    @property
    def row_count(self) -> int:
        return self.steps.length


def rank_of(n: int, global_batch: int, rank: int, world: int, last: Last) -> Rank:
    return Rank(FixedSteps(length=n, global_batch=global_batch, last=last), FixedDeal(rank, world))


def ranks(n: int, global_batch: int, world: int, last: Last) -> list[Rank]:
    return [rank_of(n, global_batch, rank, world, last) for rank in range(world)]


def walk(rank: Rank, start: int) -> list[tuple[list[int], list[bool]]]:
    """(positions, valid) of each step from `start` to the end."""
    epoch = OrderEpoch(Order(rank.row_count, shuffle=False))
    taken = []
    for _ in range(rank.steps.count(start)):
        share = share_of(rank.steps.step(start), epoch, rank.deal)
        assert share.rows.tolist() == (share.positions % rank.row_count).tolist()
        valid = np.ones(len(share.positions), bool) if share.valid is None else share.valid
        taken.append((share.positions.tolist(), valid.tolist()))
        start = rank.steps.next_position(start)
    assert start == rank.row_count or not taken
    return taken


shapes = st.tuples(st.integers(0, 120), st.integers(1, 40), st.integers(1, 9))


@given(shapes, st.sampled_from(Last), st.integers(0, 120))
def test_all_ranks_take_the_same_number_of_steps_with_at_least_one_row_each(shape, last, start):
    n, global_batch, world = shape
    walks = [walk(rank, min(start, n)) for rank in ranks(n, global_batch, world, last)]
    assert len({len(steps) for steps in walks}) == 1
    assert all(len(positions) >= 1 for steps in walks for positions, _ in steps)


@given(shapes, st.sampled_from(Last), st.integers(0, 120))
def test_valid_positions_come_once_and_in_order(shape, last, start):
    n, global_batch, world = shape
    start = min(start, n)
    walks = [walk(rank, start) for rank in ranks(n, global_batch, world, last)]
    seen = [position for step in zip(*walks, strict=True) for positions, valid in step
            for position, is_valid in zip(positions, valid, strict=True) if is_valid]
    end = n - (n - start) % global_batch if last is Last.DROP else n
    assert seen == list(range(start, end))


@given(shapes, st.integers(1, 9))
def test_which_positions_a_step_has_does_not_depend_on_the_world(shape, other_world):
    n, global_batch, world = shape

    def steps(world: int) -> list[set[int]]:
        walks = [walk(rank, 0) for rank in ranks(n, global_batch, world, Last.PAD)]
        return [{position for positions, valid in step for position, ok in zip(positions, valid, strict=True) if ok}
                for step in zip(*walks, strict=True)]

    assert steps(world) == steps(other_world)


@given(shapes)
def test_shares_of_a_step_differ_by_at_most_one(shape):
    n, global_batch, world = shape
    walks = [walk(rank, 0) for rank in ranks(n, global_batch, world, Last.SHORT)]
    for step in zip(*walks, strict=True):
        sizes = [sum(valid) for _, valid in step]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_short_gives_a_rank_without_rows_one_masked_row(rank):
    """Nine rows, two whole steps of four, one row left for four ranks: the last rank has it."""
    assert walk(rank_of(9, 4, rank, 4, Last.SHORT), 0)[-1] == ([8], [rank == 3])


def test_pad_fills_up_with_positions_beyond_the_end():
    partition = rank_of(5, 4, 0, 1, Last.PAD)
    assert walk(partition, 0) == [([0, 1, 2, 3], [True] * 4), ([4, 5, 6, 7], [True, False, False, False])]


def test_drop_ends_at_n_like_the_others():
    partition = rank_of(10, 4, 0, 1, Last.DROP)
    assert [partition.steps.next_position(start) for start in (0, 4)] == [4, 10]


def test_steps_begin_where_a_state_was_taken():
    partition = rank_of(10, 4, 0, 1, Last.SHORT)
    assert [positions for positions, _ in walk(partition, 3)] == [[3, 4, 5, 6], [7, 8, 9]]
