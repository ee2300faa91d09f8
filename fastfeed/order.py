"""The order of an epoch as a value: which row comes when, and when a row comes.

`Order` checks options and speaks Python; the formula is csrc/order, specified in docs/order.md. An order is a pure
function of its options, takes no memory that grows with `n`, is immutable and may be shared by threads. Which rank
reads which position is the loader's to say.
"""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from fastfeed._native.order import ORDER_VERSION, ROW_COUNT_MAX, EpochOrder
from fastfeed.errors import ConfigError

__all__ = ["ORDER_VERSION", "Order", "ShuffleMode"]

# Of a bare order. A dataset has its own: as many rows as make about 4 MiB.
BLOCK_ROWS_DEFAULT = 4096
# Blocks: about 4 GiB of a dataset are being read at any moment, which mixes well and fits a node's cache.
SHUFFLE_WINDOW_DEFAULT = 1024
_SEED_MAX = 2**64 - 1

# "window", "full", True or False; shuffle_mode() checks it.
Shuffle = str | bool


class ShuffleMode(IntEnum):
    """What `shuffle=` means; the numbers are those of csrc/order."""

    NONE = 0
    FULL = 1
    WINDOW = 2

    @property
    def argument(self) -> Shuffle:
        """What `shuffle=` calls it."""
        return False if self is ShuffleMode.NONE else self.name.lower()


def shuffle_mode(shuffle: Shuffle) -> ShuffleMode:
    """Return what `shuffle` means. Raises ConfigError for anything but "window", "full", True and False."""
    if shuffle is True or shuffle == "window":
        return ShuffleMode.WINDOW
    if shuffle is False:
        return ShuffleMode.NONE
    if shuffle == "full":
        return ShuffleMode.FULL
    raise ConfigError(f"shuffle={shuffle!r}: use 'window' (also True), 'full' or False.")


def _integer(name: str, value: object, least: int, most: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"{name}={value!r}: it must be an integer.") from error
    if not least <= number <= most:
        raise ConfigError(f"{name}={number}: it must be from {least} to {most}.")
    return number


class Order:
    """The bijection from positions 0..n-1 of one epoch to rows 0..n-1.

    `order[p]` is the row at position `p` (negative positions count from the end; a slice gives an int64 array),
    `order.rows(start, stop)` the rows of a range, `order.position(row)` the way back. `shuffle_window` is in blocks
    of `block_rows` rows; one that holds all whole blocks is a full shuffle. Equal options give the same order on every
    machine, for as long as ORDER_VERSION is the same.
    """

    __slots__ = ("_native", "block_rows", "epoch", "n", "seed", "shuffle", "shuffle_window")

    def __init__(self, n: int, seed: int = 0, epoch: int = 0, shuffle: Shuffle = "window",
                 shuffle_window: int = SHUFFLE_WINDOW_DEFAULT, block_rows: int | None = None) -> None:
        self.n = _integer("n", n, 0, ROW_COUNT_MAX)
        self.seed = _integer("seed", seed, 0, _SEED_MAX)
        self.epoch = _integer("epoch", epoch, 0, _SEED_MAX)
        self.shuffle = shuffle_mode(shuffle)
        self.shuffle_window = _integer("shuffle_window", shuffle_window, 1, ROW_COUNT_MAX)
        self.block_rows = _integer("block_rows", BLOCK_ROWS_DEFAULT if block_rows is None else block_rows,
                                   1, ROW_COUNT_MAX)
        self._native = EpochOrder(self.n, self.seed, self.epoch, int(self.shuffle), self.shuffle_window,
                                  self.block_rows)

    def __len__(self) -> int:
        return self.n

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> npt.NDArray[np.int64]: ...
    def __getitem__(self, position: int | slice) -> int | npt.NDArray[np.int64]:
        """Return the row at `position`, or the rows of a slice of positions. IndexError outside."""
        if isinstance(position, slice):
            start, stop, step = position.indices(self.n)
            if step == 1:
                return self._native.rows_range(start, max(start, stop))
            return self._native.rows_at(np.arange(start, stop, step, dtype=np.int64))
        at = operator.index(position)
        if not -self.n <= at < self.n:
            raise IndexError(f"position {at} of an order of {self.n} rows")
        return self._native.row(at + self.n if at < 0 else at)

    def rows(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the rows at positions start..stop-1, int64 [stop - start].

        IndexError unless 0 <= start <= stop <= n.
        """
        return self._native.rows_range(start, stop)

    def rows_at(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the row at each of `positions`, int64 of the same length. IndexError outside."""
        return self._native.rows_at(np.asarray(positions))

    def position(self, row: int) -> int:
        """Return the position at which `row` comes. IndexError outside."""
        return self._native.position(operator.index(row))

    def positions_of(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the position of each of `rows`, int64 of the same length. IndexError outside."""
        return self._native.positions_of(np.asarray(rows))

    def _options(self) -> tuple[Any, ...]:
        return (self.n, self.seed, self.epoch, self.shuffle.argument, self.shuffle_window, self.block_rows)

    def __reduce__(self) -> tuple[type[Order], tuple[Any, ...]]:
        return Order, self._options()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order) and self._options() == other._options()

    def __hash__(self) -> int:
        return hash(self._options())

    def __repr__(self) -> str:
        n, seed, epoch, shuffle, window, block_rows = self._options()
        return (f"Order({n}, seed={seed}, epoch={epoch}, shuffle={shuffle!r}, shuffle_window={window}, "
                f"block_rows={block_rows})")
