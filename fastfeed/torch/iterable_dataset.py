"""An iterable dataset for a DataLoader of one's own: shares rows among ranks and workers, and knows its place.

Under Accelerate it has to be told its rank: a DataLoader that `accelerator.prepare` gets divides what its dataset
yields among the processes once more, so that only 1/R of the samples would come, without a word.

With R ranks of W workers there are S = RW shares; share wR + r takes the positions p of the epoch's order with
p mod S = wR + r. So every row comes once, and ranks differ by at most one row.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np
import torch.utils.data

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.assemble import sampler_of
from fastfeed.loader.mixture import Mixture, as_source
from fastfeed.loader.options import Last
from fastfeed.loader.samples import SampleReader
from fastfeed.loader.state import LoaderState, first_state
from fastfeed.loader.world import find_world
from fastfeed.torch.shared import OrderedSampleArguments, SharedEpoch, as_tensors, sample_options

# Rows read at once: enough that the cost a call disappears, few enough that a sample of megabytes is no burden.
READ_ROWS = 64
_NAMES = frozenset(OrderedSampleArguments.__annotations__)


class IterableDataset(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Yields samples of a dataset or a Mixture, in the epoch's order: dicts of tensors and Python values, as
    `MapDataset` gives them.

    shuffle, shuffle_window, block_rows, seed, epoch, columns, transforms, map_sample, rank, world_size: as
    `fastfeed.Loader`. last: "short" (the default) gives every row once over all ranks; "drop" leaves out up to
    world_size - 1 rows, so that ranks get equally many. The epoch changes with `set_epoch` only. `state_dict` counts
    what was yielded in this process: a stateful DataLoader saves and restores the state of each worker, for the same
    number of ranks and workers.
    """

    def __init__(
        self,
        dataset: Dataset | Mixture | str | os.PathLike[str] | None = None,
        *,
        remote: str | None = None,
        **arguments: Unpack[OrderedSampleArguments],
    ) -> None:
        self._options = sample_options(self, arguments, _NAMES)
        if self._options.last is Last.PAD:
            raise ConfigError("last='pad' needs batches that know their padding: use fastfeed.torch.Loader, or 'short' "
                              "or 'drop' here.")
        self.dataset = as_source(dataset, remote)
        self._sampler = sampler_of(self.dataset, self._options)
        self._samples = SampleReader(self.dataset, self._options)
        self._epoch = SharedEpoch(self._options.epoch)
        self._world = (self._options.rank, self._options.world_size)
        self._yielded = 0
        self._loaded: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """Samples of this rank, of all its workers together."""
        rank, world_size = self._rank_and_size()
        return len(range(rank, self._row_limit(world_size), world_size))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        share, share_count = self._share()
        epoch, first = self._start(share, share_count)
        samples = self._sampler.at_epoch(self._options.seed, epoch)
        positions = range(share, self._row_limit(self._rank_and_size()[1]), share_count)
        self._yielded = first
        for begin in range(first, len(positions), READ_ROWS):
            part = np.array(positions[begin : begin + READ_ROWS], np.int64)
            for sample in self._samples.read(samples.picks(part), part, epoch):
                self._yielded += 1
                yield as_tensors(sample)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration, in every worker, be that of `epoch`."""
        self._epoch.set(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the current iteration of this process (a worker, or the main one) is."""
        share, share_count = self._share()
        state = self._first_state().at(self._epoch.get(), 0).to_dict()
        return {**state, "share": share, "share_count": share_count, "yielded": self._yielded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there at the next iter(). ConfigError for another dataset, order, or number of ranks and workers."""
        epoch = self._first_state().restored(state, strict=True).epoch
        if not {"share", "share_count", "yielded"} <= state.keys():
            raise ConfigError("this is a state of a Loader; load it into one.")
        if state["seed"] != self._options.seed:
            raise ConfigError(f"the state has seed {state['seed']}, this dataset {self._options.seed}: pass seed=.")
        self._epoch.set(epoch)
        self._loaded = dict(state)
        self._yielded = int(state["yielded"])

    def _first_state(self) -> LoaderState:
        return first_state(self._sampler, self._options.seed, self._options.epoch)

    def _start(self, share: int, share_count: int) -> tuple[int, int]:
        """(epoch, samples that were yielded before), from the loaded state if there is one."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return self._epoch.get(), 0
        if (loaded["share"], loaded["share_count"]) != (share, share_count):
            raise ConfigError(f"the state is of share {loaded['share']} of {loaded['share_count']} (ranks times "
                              f"workers), this is share {share} of {share_count}. Resume with as many ranks and "
                              "workers, or use fastfeed.torch.Loader, whose state fits any number.")
        return self._epoch.get(), int(loaded["yielded"])

    def _share(self) -> tuple[int, int]:
        rank, world_size = self._rank_and_size()
        worker = torch.utils.data.get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return number * world_size + rank, world_size * count

    def _rank_and_size(self) -> tuple[int, int]:
        if self._world == (None, None):
            _refuse_to_share_twice(sys.modules)
        world = find_world(*self._world, os.environ, sys.modules)
        return world.rank, world.size

    def _row_limit(self, world_size: int) -> int:
        n = len(self.dataset)
        return n - n % world_size if self._options.last is Last.DROP else n

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker does not know torch.distributed: it is told what this process knows.
        return {**self.__dict__, "_world": self._rank_and_size()}


def _refuse_to_share_twice(modules: Mapping[str, Any]) -> None:
    """ConfigError in a job of several processes that Accelerate runs: nobody can see from here who divides samples."""
    accelerate = modules.get("accelerate.state")
    if accelerate is None or not accelerate.is_initialized() or accelerate.PartialState().num_processes == 1:
        return
    raise ConfigError(
        "under Accelerate an IterableDataset has to be told who divides the samples. For a DataLoader that "
        "accelerator.prepare() gets, which divides them itself: IterableDataset(…, rank=0, world_size=1). Else: rank="
        "accelerator.process_index, world_size=accelerator.num_processes. fastfeed.torch.Loader needs neither.")
