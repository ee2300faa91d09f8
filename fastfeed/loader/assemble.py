"""From a loader's dataset and options to the three functions it runs on: sampler, steps and deal.

The only place that knows which kinds of them there are. Everything that is computed from a `Recipe` is a pure function
of (content, seed, epoch, options, position).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.budget import BudgetDeal, BudgetSteps, Lengths
from fastfeed.loader.mixture import Mixture, MixtureSampler
from fastfeed.loader.options import LoaderOptions
from fastfeed.loader.sampler import EpochSampler, OrderSampler, Sampler
from fastfeed.loader.share import Deal, FixedDeal, Share, share_of, shares_of_run
from fastfeed.loader.steps import FixedSteps, Steps
from fastfeed.loader.weights import WeightedSampler
from fastfeed.loader.world import World

# Steps are computed together up to so many samples of this rank: a call costs what a hundred samples cost, and more at
# once would hold up the consumer for more than a tenth of a millisecond.
RUN_SAMPLES_MAX = 1024

StepsOf: TypeAlias = Callable[[EpochSampler], Steps]


class EpochPlan(NamedTuple):
    """One epoch: its samples and its steps."""

    seed: int
    epoch: int
    sampler: EpochSampler
    steps: Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one rank's batches are made of."""

    sampler: Sampler
    steps: StepsOf  # of an epoch
    deal: Deal

    def plan(self, seed: int, epoch: int) -> EpochPlan:
        """The epoch `epoch`."""
        samples = self.sampler.at_epoch(seed, epoch)
        return EpochPlan(seed, epoch, samples, self.steps(samples))

    def share(self, plan: EpochPlan, start: int) -> Share:
        """What this rank takes in the step of `plan` that begins at `start`."""
        return share_of(plan.steps.step(start), plan.sampler, self.deal)

    def shares(self, plan: EpochPlan, start: int) -> list[Share]:
        """What this rank takes in the step of `plan` that begins at `start`, and, where one computation gives them all,
        in the steps after it."""
        steps, deal = plan.steps, self.deal
        if isinstance(steps, FixedSteps) and isinstance(deal, FixedDeal):
            part = deal.part_of(steps.global_batch)
            count = min(steps.whole_steps(start), RUN_SAMPLES_MAX // max(1, part.stop - part.start))
            if count > 1 and part.stop > part.start:
                return shares_of_run(start, steps.global_batch, count, plan.sampler, deal)
        return [self.share(plan, start)]

    def with_deal(self, deal: Deal) -> Recipe:
        """The same steps, dealt otherwise."""
        return replace(self, deal=deal)


def assemble(source: Dataset | Mixture, options: LoaderOptions, world: World) -> Recipe:
    """The recipe that `options` mean for rank `world.rank`, with the deal that needs no agreement with other ranks."""
    sampler = sampler_of(source, options)
    if options.global_max_tokens is not None:
        lengths = Lengths(sampler.datasets, options.length_column, options.global_max_tokens)
        return Recipe(sampler=sampler, steps=_budget_steps(lengths, options), deal=BudgetDeal(world.rank, world.size))
    return Recipe(sampler=sampler, steps=_fixed_steps(options, world), deal=FixedDeal(world.rank, world.size))


def sampler_of(source: Dataset | Mixture, options: LoaderOptions) -> Sampler:
    """Every row of a dataset once an epoch, or drawn by weights, or what a mixture takes of its own."""
    if not isinstance(source, Mixture):
        return OrderSampler(source, options) if options.weights is None else WeightedSampler(source, options)
    if options.weights is not None:
        raise ConfigError(f"weights={options.weights!r} draws the rows of one dataset by their weights, and this is a "
                          "mixture, whose sources come in its own proportions. Leave weights= out.")
    return MixtureSampler(source, options)


def _budget_steps(lengths: Lengths, options: LoaderOptions) -> StepsOf:
    return lambda sampler: BudgetSteps(sampler, lengths, options.last)


def _fixed_steps(options: LoaderOptions, world: World) -> StepsOf:
    global_batch = options.global_batch(world.size)
    return lambda sampler: FixedSteps(length=sampler.length, global_batch=global_batch, last=options.last)
