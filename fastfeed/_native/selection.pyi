"""Selections of csrc/order: a subset of rows as a bitmap with rank and select; the hash of splits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = Any

class Selection:
    """A subset of the rows 0 .. universe-1. Immutable and thread-safe; pickles as its bits.

    `len()` rows are selected; equal where universe and rows are. Memory: universe / 8 bytes and at most 15 % more.
    Every method releases the GIL while it works. IndexError where a value is outside, ConfigError where an argument is
    no selection.
    """

    @staticmethod
    def from_bits(bits: Buffer, universe: int) -> Selection:
        """Bit r % 8 of byte r / 8 is row r: ceil(universe / 8) bytes, unused bits zero. Copies."""
    @staticmethod
    def from_rows(rows: npt.ArrayLike, universe: int) -> Selection:
        """Of rows that ascend strictly."""
    def __len__(self) -> int: ...
    @property
    def universe(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    def rows_at(self, numbers: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Select: the row that is number i of those selected, for each i of `numbers`, all in [0, len)."""
    def ranks_of(self, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Rank: how many selected rows are below each of `rows`, all in [0, universe]."""
    def contains(self, rows: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether each of `rows`, all in [0, universe), is selected."""
    def bits(self) -> bytes:
        """What from_bits() takes."""
    def digest(self) -> bytes:
        """16 bytes that differ where universe or rows do: xxh3-128 of the universe as u64 and the bits."""
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]: ...

def split_mask(
    seed: int, uid: bytes, first_row: int, row_count: int, low: int, high: int
) -> npt.NDArray[np.bool_]:
    """Whether rows first_row .. first_row + row_count - 1 of the shard `uid` (16 bytes) have a hash in [low, high); the
    hash is below 2^63 (docs/views.md). Releases the GIL."""
