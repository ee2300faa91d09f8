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
from fastfeed.loader.cache_limit import require_cache_limit
from fastfeed.loader.callables import Callables, RunKey, make_callables
from fastfeed.loader.columns import ColumnPlan
from fastfeed.loader.mixture import Mixture, datasets_of, native_snapshots
from fastfeed.loader.mixture_columns import plan_sources
from fastfeed.loader.options import LoaderOptions
from fastfeed.loader.sampler import Picks, physical_rows


class SampleReader:
    """Samples of a dataset or a mixture, as dicts of values, after native transforms and Python callables.

    Pickles; after a pickle or a fork it opens a reader of its own. Thread-safe once it has read.
    """

    def __init__(self, source: Dataset | Mixture, options: LoaderOptions) -> None:
        self._datasets = datasets_of(source)
        require_cache_limit(self._datasets, options.cache_limit_bytes)
        self._plans: tuple[ColumnPlan, ...] = plan_sources(self._datasets, options.columns, options.transforms)
        self._callables: Callables = make_callables(self._plans[0].callables, options.map_sample)
        self._seed = options.seed
        self._reader: Reader | None = None
        self._pid = -1

    def read(self, picks: Picks, positions: npt.NDArray[np.int64], epoch: int) -> list[dict[str, Any]]:
        """The samples of `picks`; randomness keyed by (seed, epoch, position, row)."""
        physical = physical_rows(self._datasets, picks)
        native = self._reader_here().take(picks.rows if physical is None else physical, positions, self._seed, epoch,
                                          sources=picks.sources)
        batch = Batch.from_native(native, self._plans[0].names, self._plans[0].kinds)
        batch.rows = picks.rows
        key = RunKey(self._seed, epoch)
        return [self._callables.sample_values(batch, number, key) for number in range(len(picks.rows))]

    def _reader_here(self) -> Reader:
        if self._reader is None or self._pid != os.getpid():
            if self._reader is not None:
                self._reader.close()  # the parent's: this only forgets
            self._reader = Reader(native_snapshots(self._datasets), [plan.outputs for plan in self._plans])
            self._pid = os.getpid()
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_pid": -1}
