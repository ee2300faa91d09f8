"""Samples one by one, for datasets inside another framework's loader: read in the calling thread, without threads.

Parallelism is that framework's business: each of its processes has a reader of its own.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed._native.feed import Reader
from fastfeed.dataset.batch import Batch
from fastfeed.dataset.dataset import Dataset
from fastfeed.loader.callables import Callables, RunKey, make_callables
from fastfeed.loader.columns import ColumnPlan, plan_columns
from fastfeed.loader.options import LoaderOptions


class SampleReader:
    """Samples of a dataset as dicts of values, after native transforms and Python callables.

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
        native = self._reader_here().take(self._dataset.physical_rows(rows), positions, self._seed, epoch)
        batch = Batch.from_native(native, self._plan.names, self._plan.kinds)
        batch.rows = rows
        key = RunKey(self._seed, epoch)
        return [self._callables.sample_values(batch, number, key) for number in range(len(rows))]

    def _reader_here(self) -> Reader:
        if self._reader is None or self._pid != os.getpid():
            if self._reader is not None:
                self._reader.close()  # the parent's: this only forgets
            self._reader, self._pid = Reader(self._dataset.native_snapshot(), self._plan.outputs), os.getpid()
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_pid": -1}
