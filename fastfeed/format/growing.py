"""A one-dimensional array that grows at its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Small shards never grow theirs.
_CAPACITY_MIN = 1024


class GrowingArray:
    """Amortised O(1) a value, at most twice the memory of the values. Not thread-safe."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._data: npt.NDArray[Any] = np.empty(_CAPACITY_MIN, dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def array(self) -> npt.NDArray[Any]:
        """A view of the values, valid until the next extend()."""
        return self._data[: self._size]

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append `values`, converted to the array's type."""
        needed = self._size + len(values)
        if needed > len(self._data):
            # Half more, not twice: the peak is old and new together.
            grown = np.empty(max(needed, len(self._data) * 3 // 2), self._data.dtype)
            grown[: self._size] = self.array
            self._data = grown
        self._data[self._size : needed] = values
        self._size = needed
