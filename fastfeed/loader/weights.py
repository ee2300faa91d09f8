"""Samples drawn with replacement by the weights of a lane: systematic resampling, then the normal order.

An epoch has N positions (`epoch_samples=`; the dataset's length by default) and N *virtual rows*. Weights become whole
numbers, once; C(r) is their sum over the rows below r, and T the sum of all. With an offset u in [0, T) that is keyed
by (seed, epoch), virtual row v is the row r for which C(r) <= (vT + u) / N < C(r + 1): the points (vT + u) / N are
T / N apart, so row r comes floor(Nw/T) or ceil(Nw/T) times an epoch. The order shuffles virtual rows as it does rows.

Integers decide, so that every machine draws the same. Memory: 8 bytes a row of the dataset. No state but the position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.lanes import checked_lane
from fastfeed.errors import ConfigError
from fastfeed.loader.options import LoaderOptions
from fastfeed.loader.sampler import OrderOptions, Picks
from fastfeed.order import Order

# The function above; a state of another one would go on with other rows.
WEIGHTS_VERSION = 1
# v * T / N is computed as quotient and remainder in 64 bits: N^2 and T stay below 2^62.
EPOCH_SAMPLES_MAX = (1 << 31) - 1
TOTAL_BITS = 62
# Of a lane's name in a state, which has to stay below 1 KB of JSON: letters of any script take up to 12 bytes there.
NAME_CHARS_MAX = 40
# "weights" in ASCII: separates its keys from those of orders and splits.
_WEIGHTS_KEY = int.from_bytes(b"weights", "big")
_U64 = (1 << 64) - 1


class WeightedEpoch:
    """One epoch of draws. `ends[r]` is the sum of the weights of rows 0 .. r."""

    def __init__(self, order: Order, ends: npt.NDArray[np.int64], seed: int, epoch: int) -> None:
        self.order = order
        self._ends = ends
        self._total = int(ends[-1]) if len(ends) else 0
        self._offset = (_derive(_derive(_WEIGHTS_KEY, seed), epoch) * self._total) >> 64

    @property
    def length(self) -> int:
        return self.order.n

    def picks(self, positions: npt.NDArray[np.int64]) -> Picks:
        return Picks(self.rows_of(self.order.rows_at(positions)))

    def rows_of(self, virtual_rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The row of each virtual row."""
        if self.length == 0:
            return virtual_rows
        whole, rest = divmod(self._total, self.length)
        offset_whole, offset_rest = divmod(self._offset, self.length)
        points = virtual_rows * whole + (virtual_rows * rest + offset_rest) // self.length + offset_whole
        # In ascending order the searches share their cache lines: 5 times as fast where there are many.
        by_value = np.argsort(points)
        rows = np.empty(len(points), np.int64)
        rows[by_value] = np.searchsorted(self._ends, points[by_value], side="right")
        return rows


class WeightedSampler:
    """Rows of one dataset, each about as often as its weight in the lane `options.weights` says."""

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        assert options.weights is not None
        self.datasets = (dataset,)
        self._lane = options.weights
        self._ends = np.cumsum(fixed_point(weights_of(dataset, self._lane), f"weights={self._lane!r}"))
        self._length = len(dataset) if options.epoch_samples is None else options.epoch_samples
        if self._length > EPOCH_SAMPLES_MAX:
            raise ConfigError(f"weights={self._lane!r}: an epoch of {self._length} samples; with weights it has at "
                              f"most {EPOCH_SAMPLES_MAX}. Give epoch_samples=.")
        if len(dataset) == 0:
            self._length = 0
        # As many blocks of virtual rows as of rows where the epoch is shorter, so that a block lies in about 4 MiB.
        scaled = dataset.block_rows * self._length // max(1, len(dataset))
        block_rows = options.block_rows or max(1, min(dataset.block_rows, scaled))
        self._order = OrderOptions(options.shuffle, options.shuffle_window, block_rows)

    @property
    def fingerprint(self) -> str:
        return self.datasets[0].fingerprint

    def describe(self) -> Mapping[str, Any]:
        """The order of virtual rows, and how they are drawn."""
        return {"weights": _short(self._lane), "weights_version": WEIGHTS_VERSION, "epoch_samples": self._length,
                **self._order.describe()}

    def at_epoch(self, seed: int, epoch: int) -> WeightedEpoch:
        return WeightedEpoch(self._order.order(self._length, seed, epoch), self._ends, seed, epoch)


def weights_of(dataset: Dataset, lane: str) -> npt.NDArray[np.float64]:
    """The lane as float64. ConfigError where a row has none, or none that is a weight."""
    checked_lane(dataset.schema, lane)
    values = dataset.lane(lane)
    if isinstance(values, np.ma.MaskedArray):
        if (nulls := int(np.count_nonzero(values.mask))) > 0:
            raise ConfigError(f"weights={lane!r}: {nulls} of {len(values)} rows have none (null), the first is row "
                              f"{int(np.argmax(values.mask))}. Use a view without them: "
                              f"ds.filter(\"{lane} is not null\").")
        values = values.data
    weights = values.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ConfigError(f"weights={lane!r}: row {row} has the weight {weights[row]}; it must be a number from 0 on.")
    if len(weights) and not weights.any():
        raise ConfigError(f"weights={lane!r}: all {len(weights)} weights are 0, so no row can be drawn.")
    return weights


def fixed_point(weights: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.int64]:
    """`weights`, at least one above 0, as whole numbers whose sum is below 2^62: each times one power of two, cut off;
    a weight above 0 is at least 1. No sum of floats is taken, so that all machines have the same."""
    if len(weights) == 0:
        return np.zeros(0, np.int64)
    bits = TOTAL_BITS - len(weights).bit_length()
    if bits < 1:
        raise ConfigError(f"{name}: {len(weights)} rows are too many.")
    exponent = int(np.frexp(weights.max())[1])
    scaled = np.floor(np.ldexp(weights, bits - exponent)).astype(np.int64)
    return np.where(weights > 0, np.maximum(scaled, 1), 0)


def _short(name: str) -> str:
    """`name`, or its beginning and a hash of it."""
    if len(name) <= NAME_CHARS_MAX:
        return name
    return f"{name[: NAME_CHARS_MAX // 2]}… {xxhash.xxh3_64_hexdigest(name.encode())}"


def _derive(key: int, index: int) -> int:
    """derive(key, index) of docs/order.md, section 2."""
    z = (key + (index + 1) * 0x9E3779B97F4A7C15) & _U64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
    return z ^ (z >> 31)
