"""From a loader's dataset and options to the three functions it runs on: sampler, steps and deal.

The only place that knows which kinds of them there are. Everything that is computed from a `Recipe` is a pure function
of (content, seed, epoch, options, position).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.budget import BudgetDeal, BudgetSteps, Lengths
from fastfeed.loader.mixture import Mixture, sampler_of
from fastfeed.loader.options import LoaderOptions
from fastfeed.loader.sampler import EpochSampler, Sampler
from fastfeed.loader.share import Deal, FixedDeal, Share, share_of
from fastfeed.loader.steps import FixedSteps, Steps, StepsOf
from fastfeed.loader.weights import WeightedSampler
from fastfeed.loader.world import World


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
    steps: StepsOf
    deal: Deal

    def plan(self, seed: int, epoch: int, resumed: Mapping[str, Any] | None = None) -> EpochPlan:
        """The epoch `epoch`; `resumed` is what a state kept of its steps."""
        samples = self.sampler.at_epoch(seed, epoch)
        return EpochPlan(seed, epoch, samples, self.steps(samples, resumed))

    def share(self, plan: EpochPlan, start: int) -> Share:
        """What this rank takes in the step of `plan` that begins at `start`."""
        return share_of(plan.steps.step(start), plan.sampler, self.deal)

    def with_deal(self, deal: Deal) -> Recipe:
        """The same steps, dealt otherwise."""
        return replace(self, deal=deal)


def assemble(source: Dataset | Mixture, options: LoaderOptions, world: World) -> Recipe:
    """The recipe that `options` mean for rank `world.rank`, with the deal that needs no agreement with other ranks."""
    sampler = _sampler(source, options)
    if options.global_max_tokens is not None:
        lengths = Lengths(sampler.datasets, options.length_column, options.global_max_tokens)
        return Recipe(sampler=sampler, steps=_budget_steps(lengths, options), deal=BudgetDeal(world.rank, world.size))
    return Recipe(sampler=sampler, steps=_fixed_steps(options, world), deal=FixedDeal(world.rank, world.size))


def _sampler(source: Dataset | Mixture, options: LoaderOptions) -> Sampler:
    if options.weights is None:
        return sampler_of(source, options)
    if isinstance(source, Mixture):
        raise ConfigError(f"weights={options.weights!r} draws the rows of one dataset by their weights, and this is a "
                          "mixture, whose sources come in its own proportions. Leave weights= out.")
    return WeightedSampler(source, options)


def _budget_steps(lengths: Lengths, options: LoaderOptions) -> StepsOf:
    def packed(sampler: EpochSampler, resumed: Mapping[str, Any] | None) -> Steps:
        _refuse_resumed(resumed)
        return BudgetSteps(sampler, lengths, options.last)

    return packed


def _fixed_steps(options: LoaderOptions, world: World) -> StepsOf:
    global_batch = options.global_batch(world.size)

    def fixed(sampler: EpochSampler, resumed: Mapping[str, Any] | None) -> Steps:
        _refuse_resumed(resumed)
        return FixedSteps(length=sampler.length, global_batch=global_batch, last=options.last)

    return fixed


def _refuse_resumed(resumed: Mapping[str, Any] | None) -> None:
    if resumed:
        raise ConfigError(f"the state was taken among steps that were packed as {dict(resumed)}: a position alone does "
                          "not tell which samples are left. Load it with the version of fastfeed that made it.")
