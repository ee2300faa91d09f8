"""Which rows an epoch's positions stand for: what a sampler is, and the one of a single dataset.

A sampler is a pure function of its datasets and options; at (seed, epoch) it maps each position of the epoch to a row
of one of its datasets, in any order and as often as asked for. It keeps no place: that is the loader's. Rows are those
that users see (`dataset[row]`); `physical_rows` turns them into what the native reader counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastfeed.dataset.dataset import Dataset
from fastfeed.loader.options import LoaderOptions
from fastfeed.order import ORDER_VERSION, Order, ShuffleMode


class Picks(NamedTuple):
    """The rows of some positions. `sources`: number of each row's dataset in `Sampler.datasets`; None: there is one."""

    rows: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int32] | None = None


class EpochSampler(Protocol):
    """One epoch: `length` positions. Immutable."""

    @property
    def length(self) -> int: ...

    def picks(self, positions: npt.NDArray[np.int64]) -> Picks:
        """The row of each of `positions`, all in [0, length)."""
        ...


class Sampler(Protocol):
    """Epochs of samples out of `datasets`."""

    @property
    def datasets(self) -> Sequence[Dataset]: ...

    @property
    def fingerprint(self) -> str:
        """32 hex digits that are equal where the datasets' content is."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What decides the rows beside content, seed and epoch, as JSON of at most about 300 bytes: numbers and words,
        and hashes of what is longer. It is in the state, and states with other values are refused by name."""
        ...

    def at_epoch(self, seed: int, epoch: int) -> EpochSampler: ...


class OrderOptions(NamedTuple):
    """What decides an order beside its length, seed and epoch."""

    shuffle: ShuffleMode
    shuffle_window: int
    block_rows: int

    def order(self, length: int, seed: int, epoch: int) -> Order:
        return Order(length, seed=seed, epoch=epoch, shuffle=self.shuffle.argument,
                     shuffle_window=self.shuffle_window, block_rows=self.block_rows)

    def describe(self) -> dict[str, Any]:
        """For a state. Window and block size only where the order depends on them."""
        window = self.shuffle is ShuffleMode.WINDOW
        return {"version": ORDER_VERSION, "shuffle": self.shuffle.name.lower(),
                "shuffle_window": self.shuffle_window if window else 0, "block_rows": self.block_rows if window else 0}


class OrderEpoch:
    """One epoch of one dataset in its order."""

    def __init__(self, order: Order) -> None:
        self.order = order

    @property
    def length(self) -> int:
        return self.order.n

    def picks(self, positions: npt.NDArray[np.int64]) -> Picks:
        return Picks(self.order.rows_at(positions))


class OrderSampler:
    """Every row of one dataset once an epoch."""

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        self.datasets = (dataset,)
        self._order = OrderOptions(options.shuffle, options.shuffle_window, options.block_rows or dataset.block_rows)

    @property
    def fingerprint(self) -> str:
        return self.datasets[0].fingerprint

    def describe(self) -> Mapping[str, Any]:
        return self._order.describe()

    def at_epoch(self, seed: int, epoch: int) -> OrderEpoch:
        return OrderEpoch(self._order.order(len(self.datasets[0]), seed, epoch))


def physical_rows(datasets: Sequence[Dataset], picks: Picks) -> npt.NDArray[np.int64] | None:
    """What the native reader calls the rows of `picks`; None: what the user does, since no dataset is a view."""
    if not any(dataset.is_view for dataset in datasets):
        return None
    if picks.sources is None:
        return datasets[0].physical_rows(picks.rows)
    physical = picks.rows.copy()
    for number, dataset in enumerate(datasets):
        own = picks.sources == number
        physical[own] = dataset.physical_rows(picks.rows[own])
    return physical
