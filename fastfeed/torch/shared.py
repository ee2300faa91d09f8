"""What the datasets of this package share: an epoch that persistent workers see, and a reader of each process's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastfeed._native.feed import Reader
from fastfeed.dataset.batch import Batch
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.callables import Callables, RunKey, make_callables
from fastfeed.loader.columns import ColumnPlan, plan_columns
from fastfeed.loader.options import LoaderOptions
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


class SampleReader:
    """Samples of a dataset as dicts of tensors and Python values, read in the calling thread.

    Pickles; after a pickle or a fork it opens a reader of its own. Thread-safe once it has read.
    """

    def __init__(self, dataset: Dataset, options: LoaderOptions) -> None:
        self._dataset = dataset
        self._plan: ColumnPlan = plan_columns(dataset.schema, options.columns, options.transforms)
        self._callables: Callables = make_callables(self._plan.callables, options.map_sample)
        self._seed = options.seed
        self._reader: Reader | None = None
        self._pid = -1

    def read(self, rows: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], epoch: int) -> list[dict[str, Any]]:
        """The samples at `rows`; randomness keyed by (seed, epoch, position, row)."""
        native = self._reader_here().take(rows, positions, self._seed, epoch)
        batch = Batch.from_native(native, self._plan.names, self._plan.kinds)
        key = RunKey(self._seed, epoch)
        return [_as_tensors(self._callables.sample_values(batch, number, key)) for number in range(len(rows))]

    def _reader_here(self) -> Reader:
        if self._reader is None or self._pid != os.getpid():
            if self._reader is not None:
                self._reader.close()  # the parent's: this only forgets
            self._reader, self._pid = Reader(self._dataset.native_snapshot(), self._plan.outputs), os.getpid()
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_pid": -1}


def _as_tensors(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_value(value) for name, value in sample.items()}


def checked_rows(indices: Sequence[int], row_count: int) -> npt.NDArray[np.int64]:
    """Row numbers from indices, which may be negative. IndexError where there is no such row."""
    rows = np.asarray(indices, dtype=np.int64)
    outside = (rows < -row_count) | (rows >= row_count)
    if outside.any():
        raise IndexError(f"row {int(rows[outside][0])} does not exist: the dataset has {row_count} rows")
    return np.where(rows < 0, rows + row_count, rows)
