"""What a loader tells the cache daemon of itself: its recipe once, its place after every step.

Nothing is told where its datasets are read in place. A daemon that does not listen costs the loader its prefetching,
never a batch, so no failure of telling reaches the user; it is logged once. Of one thread, the loader's; a forked child
tells for itself.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.payload import RemotePayload
from fastfeed.dataset.view_data import view_data
from fastfeed.errors import FastfeedError
from fastfeed.loader.assemble import EpochPlan
from fastfeed.loader.sampler import OrderEpoch
from fastfeed.wire.door import session_at

if TYPE_CHECKING:
    from fastfeed.wire.recipe import Recipe
    from fastfeed.wire.registration import Registration

log = logging.getLogger("fastfeed")


class Run(NamedTuple):
    """What decides the rows of a run beside its plan. global_batch: samples a step; None: as many as tokens allow."""

    global_batch: int | None
    rank: int
    world_size: int
    last: str
    ahead_bytes: int = 0  # of the loader's prefetch


class Announcer:
    """Of one loader."""

    def __init__(self, datasets: Sequence[Dataset], run: Run) -> None:
        self._datasets = [each for each in datasets if isinstance(each.opened.payload, RemotePayload)]
        self._is_alone = len(datasets) == 1
        self._run = run
        self._registrations: list[Registration] = []
        # What the registrations were made for: this process, seed and deal.
        self._told: tuple[Any, ...] | None = None
        self._has_complained = False

    def begin(self, plan: EpochPlan, order: Mapping[str, Any], deal: Mapping[str, Any], nodes: Sequence[str],
              position: int) -> None:  # fmt: skip
        """The loader reads the epoch of `plan` from `position` on. order: what decides it beside seed and epoch; deal
        and nodes: who gets what of a step."""
        if not self._datasets:
            return
        told = (os.getpid(), plan.seed, dict(order), dict(deal), tuple(nodes))
        if told != self._told:
            self.close()
            self._told = told
            self._registrations = [
                registration for dataset in self._datasets
                if (registration := self._register(dataset, plan, order, deal, nodes, position)) is not None
            ]  # fmt: skip
        for registration in self._registrations:
            registration.begin(plan.epoch, position)

    def step(self, position: int, exposed_wait_s: float) -> None:
        """A batch was handed out, after this wait; the next one begins at `position`."""
        if self._registrations:  # asked with every step: of local data there is nothing to tell
            for registration in self._ours():
                registration.step(position, exposed_wait_s)

    def forecasts(self) -> list[Mapping[str, Any]]:
        """What the daemon has said about each dataset when it was told."""
        return [registration.forecast for registration in self._ours()]

    def close(self) -> None:
        """The loader reads no more. Idempotent."""
        for registration in self._ours():
            registration.close()
        self._registrations, self._told = [], None

    def _ours(self) -> list[Registration]:
        """Those of this process. A forked child has its parent's before its own, and with them the parent's page."""
        return self._registrations if self._told is not None and self._told[0] == os.getpid() else []

    def _register(
        self, dataset: Dataset, plan: EpochPlan, order: Mapping[str, Any], deal: Mapping[str, Any],
        nodes: Sequence[str], position: int,
    ) -> Registration | None:  # fmt: skip
        payload = dataset.opened.payload
        assert isinstance(payload, RemotePayload)
        recipe = self._recipe(dataset, plan, order, deal, nodes, position)
        try:
            return session_at(payload.place).register(payload.opened(), recipe)
        except (FastfeedError, OSError) as error:
            if not self._has_complained:
                log.warning("cache: the daemon was not told what this loader will read, and prefetches nothing for it: "
                            "%s", error)  # fmt: skip
            self._has_complained = True
            return None

    def _recipe(
        self, dataset: Dataset, plan: EpochPlan, order: Mapping[str, Any], deal: Mapping[str, Any],
        nodes: Sequence[str], position: int,
    ) -> Recipe:  # fmt: skip
        from fastfeed.wire.recipe import FINGERPRINT_ROWS, Recipe  # there is a daemon to speak to: see wire/door.py

        run, sampler = self._run, plan.sampler
        view = view_data(dataset)
        common: dict[str, Any] = {
            "url": dataset.url, "snapshot": dataset.snapshot, "content": dataset.fingerprint, "rows": sampler.length,
            "seed": plan.seed, "epoch": plan.epoch, "position": position, "rank": run.rank,
            "world_size": run.world_size, "last": run.last, "ahead_bytes": run.ahead_bytes, "job": job_name(os.environ),
        }  # fmt: skip
        if not self._is_alone or view is None or run.global_batch is None or not isinstance(sampler, OrderEpoch):
            return Recipe(kind="opaque", **common)
        positions = np.unique(np.linspace(0, max(0, sampler.length - 1), FINGERPRINT_ROWS).astype(np.int64))
        rows = sampler.picks(positions).rows if sampler.length else positions[:0]
        return Recipe(kind="order", **common, view=view, order=dict(order), global_batch=run.global_batch,
                      deal=dict(deal), nodes=tuple(nodes),
                      fingerprint=tuple(zip(positions.tolist(), rows.tolist(), strict=False)))  # fmt: skip


def job_name(environ: Mapping[str, str]) -> str:
    """What the scheduler calls this job, for people who look at the daemon; "" where it says nothing."""
    for name in ("FASTFEED_JOB", "SLURM_JOB_NAME"):
        if environ.get(name):
            return environ[name][:200]
    return ""
