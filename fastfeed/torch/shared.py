"""What the datasets of this package share: keywords, an epoch that persistent workers see, rows from indices, tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from fastfeed.errors import ConfigError
from fastfeed.loader.options import LoaderArguments, LoaderOptions, read_options, unknown_keyword
from fastfeed.torch.batch import as_value


class SampleArguments(TypedDict, total=False):
    """Keywords of both datasets: as those of a loader, aliases included."""

    columns: Sequence[str] | None
    transforms: Mapping[str, Any] | None
    map_sample: Callable[..., Any] | None
    seed: int
    epoch: int

    shuffle_seed: int
    cache_limit: int | str | None
    num_canonical_nodes: int | None


class OrderedSampleArguments(SampleArguments, total=False):
    """Those of the dataset that orders its samples itself."""

    shuffle: str | bool
    shuffle_window: int
    block_rows: int | None
    last: str
    rank: int | None
    world_size: int | None

    drop_last: bool


# Keywords of a DataLoader that LoaderArguments does not have.
_DATALOADERS = frozenset({"persistent_workers", "multiprocessing_context", "worker_init_fn", "generator", "timeout"})


def sample_options(dataset: object, arguments: Mapping[str, Any], known: frozenset[str]) -> LoaderOptions:
    """The options of a dataset that yields samples; last="short" where nothing is said. ConfigError for what belongs
    to the DataLoader around it."""
    kind = type(dataset).__name__
    for name in arguments.keys() - known:
        if name == "on_error":
            raise ConfigError(f"{kind} has no keyword on_error=: samples in a DataLoader have no mask that would "
                              "tell holes and substitutes, so a bad one raises. Use fastfeed.torch.Loader.")
        if name in LoaderArguments.__annotations__ or name in _DATALOADERS:
            raise ConfigError(f"{kind} has no keyword {name}=: it belongs to the DataLoader around it, or to "
                              "fastfeed.torch.Loader, which needs no DataLoader.")
        raise ConfigError(f"{kind}: {unknown_keyword(name, known)}")
    default = {} if "drop_last" in arguments else {"last": "short"}
    return read_options({"batch_size": 1, **default, **arguments})


class SharedEpoch:
    """A number in shared memory: what the main process sets, DataLoader workers read, forked or spawned."""

    def __init__(self, epoch: int) -> None:
        self._value: torch.Tensor = torch.tensor([epoch], dtype=torch.int64)
        self._value.share_memory_()  # type: ignore[no-untyped-call]

    def get(self) -> int:
        """The epoch, as any process sees it."""
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
