"""What a rank asks for step by step is what the deal gives it in each step, also where many are computed at once."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed.loader.assemble import EpochPlan, Recipe
from fastfeed.loader.course import Course
from fastfeed.loader.options import Last, read_options
from fastfeed.loader.sampler import OrderSampler
from fastfeed.loader.share import FixedDeal
from fastfeed.loader.steps import FixedSteps
from fastfeed.loader.wishes import Wishes
from tests.helpers.fake_dataset import FakeDataset


@st.composite
def recipes(draw: st.DrawFn) -> tuple[Recipe, int]:
    """A recipe of one rank, and a position to begin at."""
    length = draw(st.integers(1, 400))
    world_size = draw(st.integers(1, 5))
    global_batch = draw(st.integers(1, 60))
    last = draw(st.sampled_from(list(Last)))
    options = read_options({"shuffle": draw(st.sampled_from([False, "full", "window"])), "batch_size": 1})
    recipe = Recipe(
        sampler=OrderSampler(FakeDataset(length), options),  # type: ignore[arg-type]
        steps=lambda sampler: FixedSteps(length=sampler.length, global_batch=global_batch, last=last),
        deal=FixedDeal(draw(st.integers(0, world_size - 1)), world_size),
    )
    return recipe, draw(st.integers(0, length))


def course_of(recipe: Recipe, start: int) -> Course:
    def plan_of(seed: int, epoch: int) -> EpochPlan:
        return recipe.plan(seed, epoch)

    return Course(plan_of(3, 0), start, plan_of)


@settings(deadline=None)
@given(recipes())
def test_wishes_of_a_run_of_steps_are_the_shares_of_each(given_recipe: tuple[Recipe, int]) -> None:
    """Over the end of the epoch, into the next one."""
    recipe, start = given_recipe
    course, wishes = course_of(recipe, start), Wishes(recipe)
    for stop in iter(course.take, None):
        wish, share = wishes.take(stop), recipe.share(stop.plan, stop.start)
        assert wish.rows.tolist() == share.rows.tolist()
        assert wish.positions.tolist() == share.positions.tolist()
        assert (wish.valid is None) == (share.valid is None)
        assert wish.valid is None or np.array_equal(wish.valid, share.valid)
        assert wish.key == (stop.plan.seed, stop.plan.epoch)


@settings(deadline=None)
@given(recipes(), st.integers(0, 20), st.integers(0, 400))
def test_a_step_that_does_not_follow_is_computed_anew(
    given_recipe: tuple[Recipe, int], count: int, other_start: int
) -> None:
    recipe, start = given_recipe
    wishes = Wishes(recipe)
    for stop in itertools.islice(iter(course_of(recipe, start).take, None), count):
        wishes.take(stop)
    stop = course_of(recipe, min(other_start, len(recipe.sampler.datasets[0]))).take()
    if stop is not None:
        assert wishes.take(stop).rows.tolist() == recipe.share(stop.plan, stop.start).rows.tolist()
