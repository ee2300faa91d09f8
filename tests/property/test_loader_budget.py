"""Steps and shares by tokens: against a plain loop, for any lengths, ranks, budgets and places to resume."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed.errors import ConfigError
from fastfeed.loader import budget as module
from fastfeed.loader.budget import SPAN_POSITIONS, SPAN_STEPS, BudgetDeal, BudgetSteps, Lengths
from fastfeed.loader.options import Last
from fastfeed.loader.sampler import OrderEpoch, Picks
from fastfeed.loader.share import share_of
from fastfeed.order import Order
from tests.helpers.fake_dataset import FakeDataset

LASTS = st.sampled_from([Last.DROP, Last.SHORT])


def steps_of(lengths: Any, budget: int, last: Last = Last.SHORT, seed: int = 0) -> BudgetSteps:
    dataset: Any = FakeDataset(len(lengths), id=np.asarray(lengths))
    return BudgetSteps(OrderEpoch(Order(len(lengths), seed=seed, block_rows=3)), Lengths([dataset], "id", budget), last)


def oracle(lengths: list[int], span: int, budget: int, last: Last, start: int = 0) -> list[range]:
    """The steps over positions of these lengths, one sample after the other."""
    steps, first, left = [], start, budget
    for position in range(start, len(lengths)):
        cost = max(1, lengths[position])
        if position > first and (cost > left or position % span == 0):
            steps.append(range(first, position))
            first, left = position, budget
        left -= cost
    if first < len(lengths) and (last is Last.SHORT or left == 0):
        steps.append(range(first, len(lengths)))
    return steps


def walk(steps: BudgetSteps, start: int = 0) -> list[range]:
    found = []
    while not steps.is_over(start):
        positions = steps.step(start).positions
        assert isinstance(positions, range)
        assert positions.start == start
        found.append(positions)
        assert positions.stop == steps.next_position(start) or steps.is_over(positions.stop)
        start = steps.next_position(start)
    assert start == steps.length or not found
    return found


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int]:
    """Lengths, and a budget that each of them fits."""
    lengths = draw(st.lists(st.integers(0, 50), max_size=120))
    return lengths, draw(st.integers(max([1, *lengths]), 200))


@settings(max_examples=200, deadline=None)
@given(problems(), LASTS, st.integers(0, 5), st.integers(0, 120))
def test_steps_are_those_of_a_plain_loop_from_any_position(
    problem: tuple[list[int], int], last: Last, seed: int, start: int
) -> None:
    lengths, budget = problem
    steps = steps_of(lengths, budget, last, seed)
    in_order = [lengths[row] for row in Order(len(lengths), seed=seed, block_rows=3).rows(0, len(lengths))]
    start = min(start, len(lengths))
    expected = oracle(in_order, steps._span, budget, last, start)
    assert walk(steps, start) == expected
    assert steps.count(start) == len(expected)
    for positions in expected:
        costs = [max(1, in_order[position]) for position in positions]
        assert steps.step(positions.start).weights.tolist() == costs  # type: ignore[union-attr]
        assert sum(costs) <= budget


@pytest.fixture(scope="module")
def long_lengths() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 60, 3 * SPAN_POSITIONS + 777)


def test_steps_end_with_their_span(long_lengths: np.ndarray) -> None:
    steps = steps_of(long_lengths, 500)
    found = walk(steps)
    order = Order(len(long_lengths), block_rows=3)
    assert found == oracle(long_lengths[order.rows(0, order.n)].tolist(), SPAN_POSITIONS, 500, Last.SHORT)
    assert {SPAN_POSITIONS, 2 * SPAN_POSITIONS, 3 * SPAN_POSITIONS} <= {step.stop for step in found}


def test_another_budget_re_packs_the_rest_of_its_span_and_no_more(long_lengths: np.ndarray) -> None:
    before, after = steps_of(long_lengths, 500), steps_of(long_lengths, 700)
    place = walk(before)[40].stop
    assert 0 < place < SPAN_POSITIONS
    resumed = walk(after, place)
    assert resumed[0].start == place
    behind = [step for step in resumed if step.start >= SPAN_POSITIONS]
    assert behind == [step for step in walk(after) if step.start >= SPAN_POSITIONS]


def test_a_span_grows_until_it_holds_many_steps_of_a_large_budget(long_lengths: np.ndarray) -> None:
    budget = 20_000
    steps = steps_of(long_lengths, budget)
    mean = np.maximum(long_lengths, 1).mean()
    assert SPAN_STEPS * budget <= steps._span * mean < 2 * SPAN_STEPS * budget
    lost = 1 - np.maximum(long_lengths, 1).sum() / (steps.count(0) * budget)
    assert lost < 0.02


def test_runs_are_forgotten_and_computed_again(long_lengths: np.ndarray) -> None:
    steps = steps_of(long_lengths, 500)
    found = walk(steps)
    assert len(steps._runs) <= module.RUNS_KEPT
    assert walk(steps) == found


@settings(max_examples=200, deadline=None)
@given(problems(), st.integers(1, 9))
def test_ranks_share_a_step_by_its_tokens(problem: tuple[list[int], int], world: int) -> None:
    lengths, budget = problem
    steps = steps_of(lengths, budget)
    epoch = OrderEpoch(Order(len(lengths), block_rows=3))
    costs = np.maximum(lengths, 1) if lengths else np.zeros(0)
    for positions in walk(steps):
        step = steps.step(positions.start)
        shares = [share_of(step, epoch, BudgetDeal(rank, world)) for rank in range(world)]
        taken = [share for share in shares if share.valid is None]
        assert [position for share in taken for position in share.positions] == list(positions)
        for share in shares:
            assert len(share.rows) >= 1
            load = costs[share.rows]
            if share.valid is None:
                assert load.sum() <= budget / world + load[-1]
            else:
                assert share.valid.tolist() == [False]


def test_sources_have_lengths_of_their_own() -> None:
    first: Any = FakeDataset(3, id=np.array([1, 2, 3]))
    second: Any = FakeDataset(2, id=np.array([10, 20]))
    lengths = Lengths([first, second], "id", 100)
    picks = Picks(np.array([0, 1, 2, 0]), np.array([1, 0, 0, 0], np.int32))
    assert lengths.of(picks).tolist() == [10, 2, 3, 1]


def test_nulls_and_empty_samples_cost_one_token() -> None:
    dataset: Any = FakeDataset(3, id=np.ma.MaskedArray([7, 0, 3], [True, False, False]))
    assert Lengths([dataset], "id", 5).of(Picks(np.arange(3))).tolist() == [1, 1, 3]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([3, 9]), "row 1 has the length 9, which does not fit global_max_tokens=5. Raise it, or use a view"),
        (np.array([-2, 3]), "row 0 has the length -2"),
    ],
)
def test_a_sample_that_no_step_holds_is_refused(lengths: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Lengths([FakeDataset(2, id=lengths)], "id", 5)  # type: ignore[list-item]


def test_lanes_that_are_no_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs length_column="):
        Lengths([FakeDataset(2)], None, 5)  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="there is no lane 'nothing'"):
        Lengths([FakeDataset(2)], "nothing", 5)  # type: ignore[list-item]
