"""A map-style dataset for a DataLoader of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

import torch.utils.data

from fastfeed.dataset.dataset import Dataset, as_dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.mixture import Mixture
from fastfeed.loader.sampler import Picks
from fastfeed.loader.samples import SampleReader
from fastfeed.torch.shared import SampleArguments, SharedEpoch, as_tensors, checked_rows, sample_options

_NAMES = frozenset(SampleArguments.__annotations__)


class MapDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """`dataset[i]` is a dict of tensors (arrays, numbers, decoded images) and Python values (str, bytes, JSON).

    columns, transforms, map_sample, seed, epoch: as `fastfeed.Loader`. Random transforms depend on (seed, epoch, row)
    alone, so results are the same for any number of workers; `set_epoch` reaches persistent workers too. Workers may be
    forked or spawned.
    """

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str] | None = None,
        *,
        remote: str | None = None,
        **arguments: Unpack[SampleArguments],
    ) -> None:
        if isinstance(dataset, Mixture):
            raise ConfigError("a mixture has positions, which an epoch gives a meaning, and no rows to be asked for: "
                              "use fastfeed.torch.Loader or IterableDataset.")
        options = sample_options(self, arguments, _NAMES)
        self.dataset = as_dataset(dataset, remote)
        self._samples = SampleReader(self.dataset, options)
        self._epoch = SharedEpoch(options.epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Many samples at once: what a DataLoader asks for, and much cheaper than one by one."""
        rows = checked_rows(indices, len(self.dataset))
        return [as_tensors(sample) for sample in self._samples.read(Picks(rows), rows, self._epoch.get())]

    def set_epoch(self, epoch: int) -> None:
        """Let random transforms draw anew, in every worker from its next batch on."""
        self._epoch.set(epoch)
