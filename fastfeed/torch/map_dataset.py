"""A map-style dataset for a DataLoader of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.utils.data

from fastfeed.dataset.dataset import Dataset, open
from fastfeed.loader.options import read_options
from fastfeed.loader.samples import SampleReader
from fastfeed.torch.shared import SharedEpoch, as_tensors, checked_rows


class MapDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """`dataset[i]` is a dict of tensors (arrays, numbers, decoded images) and Python values (str, bytes, JSON).

    columns, transforms, map_sample: as `fastfeed.Loader`. Random transforms depend on (seed, epoch, row) alone, so
    results are the same for any number of workers; `set_epoch` reaches persistent workers too. Workers may be forked
    or spawned.
    """

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str],
        *,
        transforms: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        map_sample: Callable[..., Any] | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        options = read_options({"batch_size": 1, "transforms": transforms, "columns": columns,
                                "map_sample": map_sample, "seed": seed, "epoch": epoch})
        self.dataset = dataset if isinstance(dataset, Dataset) else open(dataset)
        self._samples = SampleReader(self.dataset, options)
        self._epoch = SharedEpoch(options.epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Many samples at once: what a DataLoader asks for, and much cheaper than one by one."""
        rows = checked_rows(indices, len(self.dataset))
        return [as_tensors(sample) for sample in self._samples.read(rows, rows, self._epoch.get())]

    def set_epoch(self, epoch: int) -> None:
        """Let random transforms draw anew, in every worker from its next batch on."""
        self._epoch.set(epoch)
