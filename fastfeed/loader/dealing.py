"""Which deal a loader uses: decided and agreed once when it begins, and again only after a state was loaded or other
nodes were named. Between, the list of nodes is frozen.

deal="auto" takes homes where each node has blocks enough to mix and the ranks have a means to agree, else the fixed
deal, and says which and why (`stats()["deal"]`). What may be agreed on is decided by options and dataset alone, which
are the same on every rank, so that either all ranks gather or none.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastfeed.errors import ConfigError
from fastfeed.loader.agreement import Gather, agreed_nodes, proposed
from fastfeed.loader.home_deal import ACTIVE_BLOCKS_MIN, HomeDeal, active_blocks, deals_home
from fastfeed.loader.options import DealMode, LoaderOptions
from fastfeed.loader.sampler import Sampler
from fastfeed.loader.share import Deal, FixedDeal
from fastfeed.loader.world import World

log = logging.getLogger("fastfeed")


class Dealt(NamedTuple):
    """A deal and its reason."""

    deal: Deal
    name: str
    why: str


class Dealer:
    """Chooses the deal of rank `world.rank`. `default` is the one that needs no agreement."""

    def __init__(self, options: LoaderOptions, world: World, sampler: Sampler, default: Deal,
                 gather: Gather | None) -> None:
        self._options, self._world, self._sampler, self._default = options, world, sampler, default
        self._gather = gather
        self._nodes = options.nodes
        self._check_nodes()
        if options.deal is not DealMode.HOME or world.size == 1:
            return
        if not isinstance(default, FixedDeal):
            raise ConfigError("deal='home' does not go with steps that are dealt by their samples' lengths; use "
                              "deal='auto'.")
        if gather is None:
            raise ConfigError(f"deal='home': the {world.size} ranks have no means to agree on the list of nodes. "
                              "Initialise torch.distributed with all of them before the loader is made, or give "
                              "all_gather=, a function that returns what every rank gave it (mpi4py: comm.allgather).")

    def name_nodes(self, nodes: tuple[str, ...]) -> None:
        """Propose another list in the next agreement."""
        before, self._nodes = self._nodes, nodes
        try:
            self._check_nodes()
        except ConfigError:
            self._nodes = before
            raise

    def agree(self, run: Mapping[str, Any], environ: Mapping[str, str]) -> Dealt:
        """The deal from here on. Where homes are possible this waits for all ranks, and raises ConfigError on all of
        them if their lists of nodes or their places in the run differ. `run`: what must be the same, by name."""
        dealt = self._chosen(run, environ)
        log.info("loader: deal %s (%s)", dealt.name, dealt.why)
        return dealt

    def _chosen(self, run: Mapping[str, Any], environ: Mapping[str, str]) -> Dealt:
        mode = self._options.deal
        if mode is DealMode.FIXED:
            return self._fixed("deal='fixed' was asked for")
        if self._world.size == 1:
            return self._fixed("there is one rank")
        if not isinstance(self._default, FixedDeal):
            return Dealt(self._default, "by length", "steps are packed by their samples' lengths")
        blocks = active_blocks(self._sampler.datasets, self._options.shuffle, self._options.shuffle_window,
                               self._options.block_rows)
        if mode is DealMode.AUTO and blocks < 2 * ACTIVE_BLOCKS_MIN:
            return self._fixed(f"{blocks} active blocks are too few to mix on two nodes")
        if self._gather is None:
            return self._fixed("the ranks have no means to agree on the list of nodes")
        nodes = agreed_nodes(proposed(self._world, environ, self._nodes, run), self._nodes, self._gather)
        count = len(set(nodes))
        if deals_home(mode, blocks, nodes):
            return Dealt(HomeDeal(self._world.rank, nodes, self._sampler.datasets), "home",
                         f"{blocks} active blocks on {count} nodes")
        return self._fixed("all ranks are on one node" if count == 1 else
                           f"{blocks} active blocks are too few to mix on {count} nodes")

    def _fixed(self, why: str) -> Dealt:
        return Dealt(self._default, "fixed", why)

    def _check_nodes(self) -> None:
        if self._nodes is not None and len(self._nodes) != self._world.size:
            raise ConfigError(f"nodes= names the nodes of {len(self._nodes)} ranks, and there are {self._world.size}: "
                              "it needs one name for each rank.")
