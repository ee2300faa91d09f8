"""What the datasets of this package share: an epoch that persistent workers see, rows from indices, tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastfeed.errors import ConfigError
from fastfeed.torch.batch import as_value


class SharedEpoch:
    """A number in shared memory: what the main process sets, DataLoader workers read, forked or spawned."""

    def __init__(self, epoch: int) -> None:
        self._value: torch.Tensor = torch.tensor([epoch], dtype=torch.int64)
        self._value.share_memory_()  # type: ignore[no-untyped-call]

    def get(self) -> int:
        return int(self._value.item())

    def set(self, epoch: int) -> None:
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or not 0 <= epoch < 1 << 63:
            raise ConfigError(f"set_epoch({epoch!r}): a whole number from 0 on is needed.")
        self._value[0] = int(epoch)


def as_tensors(sample: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with tensors for its arrays and numpy numbers."""
    return {name: as_value(value) for name, value in sample.items()}


def checked_rows(indices: Sequence[int], row_count: int) -> npt.NDArray[np.int64]:
    """Row numbers from indices, which may be negative. IndexError where there is no such row."""
    rows = np.asarray(indices, dtype=np.int64)
    outside = (rows < -row_count) | (rows >= row_count)
    if outside.any():
        raise IndexError(f"row {int(rows[outside][0])} does not exist: the dataset has {row_count} rows")
    return np.where(rows < 0, rows + row_count, rows)
