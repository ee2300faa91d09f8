"""Where a loader is: what `state_dict` returns and `load_state_dict` accepts.

A state is the dataset's fingerprint, the order's options, seed, epoch and position: a few hundred bytes of JSON, the
same on every rank, and good for any batch size, world, thread count and prefetch. It counts batches that were handed
to the user, never those that were read ahead.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastfeed.errors import ConfigError
from fastfeed.loader.options import EPOCH_LIMIT, SEED_LIMIT
from fastfeed.loader.sampler import Sampler

STATE_VERSION = 1
# The version of the functions that draw random numbers for transforms and Python callables. A state of another version
# would go on with other crops.
TRANSFORM_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """A place in a run. A `position` of the epoch's length means that the epoch is complete.

    order: what `Sampler.describe` gave. deal: what `Deal.describe` gave; it is there for those who compare runs, and
    any other is accepted.
    """

    dataset: str
    row_count: int
    order: Mapping[str, Any]
    seed: int
    epoch: int
    position: int
    deal: Mapping[str, Any] | None = None
    transform_version: int = TRANSFORM_VERSION

    def at(self, epoch: int, position: int) -> LoaderState:
        """The same run elsewhere."""
        return replace(self, epoch=epoch, position=position)

    def dealt(self, deal: Mapping[str, Any] | None) -> LoaderState:
        """The same place, dealt as `deal` says from here on."""
        return replace(self, deal=deal)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; below 1 KB."""
        state = {
            "state_version": STATE_VERSION,
            "dataset": self.dataset,
            "rows": self.row_count,
            "order": dict(self.order),
            "transform_version": self.transform_version,
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
        }
        return {**state, "deal": dict(self.deal)} if self.deal else state

    def restored(self, state: Mapping[str, Any], *, strict: bool) -> LoaderState:
        """Return this loader's state moved to the seed, epoch and position of `state`.

        Raises ConfigError where `state` is no state of a loader and, unless `strict` is False, where it belongs to
        another dataset, order or version of either: the rest of the epoch would be other rows.
        """
        try:
            if state["state_version"] != STATE_VERSION:
                raise ConfigError(f"the state has version {state['state_version']!r}, this fastfeed reads "
                                  f"{STATE_VERSION}. Load it with the version of fastfeed that made it.")
            loaded = LoaderState(
                dataset=str(state["dataset"]), row_count=operator.index(state["rows"]), order=dict(state["order"]),
                transform_version=operator.index(state["transform_version"]), seed=operator.index(state["seed"]),
                epoch=operator.index(state["epoch"]), position=operator.index(state["position"]))
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no state of a fastfeed loader: {error!r}. "
                              "Give what loader.state_dict() returned.") from error
        if strict:
            self._refuse_another_run(loaded)
        if not (loaded.position >= 0 and 0 <= loaded.epoch < EPOCH_LIMIT and 0 <= loaded.seed < SEED_LIMIT):
            raise ConfigError(f"there is no such place: seed {loaded.seed}, epoch {loaded.epoch}, position "
                              f"{loaded.position}. Give what loader.state_dict() returned.")
        return replace(self, seed=loaded.seed, epoch=loaded.epoch, position=loaded.position)

    def within(self, length: int, *, strict: bool) -> LoaderState:
        """This state, of an epoch that has `length` positions. One behind its end is refused, or its end if not
        `strict`."""
        if self.position <= length:
            return self
        if strict:
            raise ConfigError(f"the state's position {self.position} does not exist: an epoch has {length} positions.")
        return replace(self, position=length)

    def _refuse_another_run(self, loaded: LoaderState) -> None:
        ours, theirs = self._compared(), loaded._compared()
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name):
                raise ConfigError(f"the state belongs to another run: its {name} is {theirs.get(name)!r}, this "
                                  f"loader's is {ours.get(name)!r}. Make the loader as it was, or load with "
                                  "strict=False to take only seed, epoch and position.")

    def _compared(self) -> dict[str, Any]:
        order = {_ORDER_NAMES.get(name, name): value for name, value in self.order.items()}
        return {"dataset fingerprint": self.dataset, "number of rows": self.row_count, **order,
                "transform version": self.transform_version}


_ORDER_NAMES = {"version": "order version"}


def first_state(sampler: Sampler, seed: int, epoch: int) -> LoaderState:
    """The beginning of a run."""
    return LoaderState(dataset=sampler.fingerprint, row_count=sum(map(len, sampler.datasets)),
                       order=sampler.describe(), seed=seed, epoch=epoch, position=0)

