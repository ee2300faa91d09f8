"""Where a loader is: what `state_dict` returns and `load_state_dict` accepts.

A state is the dataset's fingerprint, the order's options, seed, epoch and position: a few hundred bytes of JSON, the
same on every rank, and good for any batch size, world, thread count and prefetch. It counts batches that were handed
to the user, never those that were read ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.options import LoaderOptions
from fastfeed.order import ORDER_VERSION, Order, ShuffleMode

STATE_VERSION = 1
# The version of the functions that draw random numbers for transforms and Python callables. A state of another version
# would go on with other crops.
TRANSFORM_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderState:
    """A place in a run. `position` n means that the epoch is complete."""

    dataset: str
    row_count: int
    order_version: int
    shuffle: str
    shuffle_window: int
    block_rows: int
    seed: int
    epoch: int
    position: int
    transform_version: int = TRANSFORM_VERSION

    def at(self, epoch: int, position: int) -> LoaderState:
        """The same run elsewhere."""
        return replace(self, epoch=epoch, position=position)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; below 1 KB."""
        return {
            "state_version": STATE_VERSION,
            "dataset": self.dataset,
            "rows": self.row_count,
            "order": {"version": self.order_version, "shuffle": self.shuffle, "shuffle_window": self.shuffle_window,
                      "block_rows": self.block_rows},
            "transform_version": self.transform_version,
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
        }

    def restored(self, state: Mapping[str, Any], *, strict: bool) -> LoaderState:
        """Return this loader's state moved to the seed, epoch and position of `state`.

        Raises ConfigError where `state` is no state of a loader and, unless `strict` is False, where it belongs to
        another dataset, order or version of either: the rest of the epoch would be other rows.
        """
        try:
            if state["state_version"] != STATE_VERSION:
                raise ConfigError(f"the state has version {state['state_version']!r}, this fastfeed reads "
                                  f"{STATE_VERSION}. Load it with the version of fastfeed that made it.")
            order = state["order"]
            loaded = LoaderState(
                dataset=str(state["dataset"]), row_count=int(state["rows"]), order_version=int(order["version"]),
                shuffle=str(order["shuffle"]), shuffle_window=int(order["shuffle_window"]),
                block_rows=int(order["block_rows"]), transform_version=int(state["transform_version"]),
                seed=int(state["seed"]), epoch=int(state["epoch"]), position=int(state["position"]))
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no state of a fastfeed loader: {error!r}. "
                              "Give what loader.state_dict() returned.") from error
        if strict:
            self._refuse_another_run(loaded)
        if loaded.position < 0 or loaded.epoch < 0 or (strict and loaded.position > self.row_count):
            raise ConfigError(f"the state's epoch {loaded.epoch} and position {loaded.position} do not exist in a "
                              f"dataset of {self.row_count} rows.")
        return replace(self, seed=loaded.seed, epoch=loaded.epoch, position=min(loaded.position, self.row_count))

    def _refuse_another_run(self, loaded: LoaderState) -> None:
        for name, what in _COMPARED.items():
            ours, theirs = getattr(self, name), getattr(loaded, name)
            if ours != theirs:
                raise ConfigError(f"the state belongs to another run: its {what} is {theirs!r}, this loader's is "
                                  f"{ours!r}. Make the loader as it was, or load with strict=False to take only seed, "
                                  "epoch and position.")


def order_of(dataset: Dataset, options: LoaderOptions, seed: int, epoch: int) -> Order:
    """The order of one epoch: options name the kind, a state the seed and the epoch."""
    return Order(len(dataset), seed=seed, epoch=epoch, shuffle=options.shuffle.argument,
                 shuffle_window=options.shuffle_window, block_rows=options.block_rows or dataset.block_rows)


def first_state(dataset: Dataset, options: LoaderOptions) -> LoaderState:
    """The beginning of a run. Window and block size are part of it only where the order depends on them."""
    window = options.shuffle is ShuffleMode.WINDOW
    return LoaderState(
        dataset=dataset.fingerprint, row_count=len(dataset), order_version=ORDER_VERSION,
        shuffle=options.shuffle.name.lower(), shuffle_window=options.shuffle_window if window else 0,
        block_rows=(options.block_rows or dataset.block_rows) if window else 0, seed=options.seed, epoch=options.epoch,
        position=0)


_COMPARED = {
    "dataset": "dataset fingerprint",
    "row_count": "number of rows",
    "order_version": "order version",
    "shuffle": "shuffle",
    "shuffle_window": "shuffle_window",
    "block_rows": "block_rows",
    "transform_version": "transform version",
}
