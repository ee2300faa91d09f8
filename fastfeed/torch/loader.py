"""The loader of fastfeed with tensors: what takes a DataLoader's place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Unpack

import torch
from torch.distributed.device_mesh import DeviceMesh

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.agreement import Gather
from fastfeed.loader.loader import Loader as NumpyLoader
from fastfeed.loader.mixture import Mixture
from fastfeed.loader.options import LoaderArguments, LoaderOptions
from fastfeed.loader.reading import ReaderFactory
from fastfeed.loader.world import World
from fastfeed.torch.batch import Batch, moved, to_torch
from fastfeed.torch.mesh import mesh_gather, mesh_rank_and_size
from fastfeed.torch.pinning import CudaDevice, Device, HostPinner
from fastfeed.torch.profiling import is_profiling, nvtx_marks, profiler_range


class Loader(NumpyLoader):
    """`fastfeed.Loader` whose batches are dicts of tensors (`fastfeed.torch.Batch`).

    pin_memory: "auto" (where a GPU is), True or False: the tensors lie in pinned memory, the reader's own, which is
    registered with the GPU (fastfeed.torch.pinning), or a copy of what callables made. device: where the tensors are
    moved to; None leaves them. device_mesh: the mesh that this process is in; samples are divided among the ranks of
    its dimensions `dp_dims`, and peers in other dimensions get the same samples. `map_batch` gets numpy batches,
    `collate_fn` the batch of tensors.
    """

    def __init__(  # type: ignore[misc]  # pin_memory is an argument of its own here
        self,
        dataset: Dataset | Mixture | str | os.PathLike[str] | None = None,
        *,
        remote: str | None = None,
        pin_memory: bool | str = "auto",
        device: torch.device | str | None = None,
        device_mesh: DeviceMesh | None = None,
        dp_dims: Sequence[str] = ("dp",),
        reader_factory: ReaderFactory | None = None,
        **arguments: Unpack[LoaderArguments],
    ) -> None:
        self._pins = _pins(pin_memory, self._has_gpu())
        self._host_pinner: HostPinner | None = None
        self._device = None if device is None else _device(device)
        self._mesh = device_mesh
        self._is_profiled = False
        if device_mesh is not None:
            if {"rank", "world_size"} & arguments.keys():
                raise ConfigError("device_mesh= tells rank and world size; give it, or rank= and world_size=.")
            arguments["rank"], arguments["world_size"] = mesh_rank_and_size(device_mesh, dp_dims)
        super().__init__(dataset, remote=remote, reader_factory=reader_factory, **arguments)

    @property
    def sampler(self) -> _EpochSetter:
        """What Lightning tells the epoch, as it does with the sampler of a DataLoader."""
        return _EpochSetter(self.set_epoch)

    def _gatherer(self, options: LoaderOptions, world: World) -> Gather | None:
        if self._mesh is not None and options.all_gather is None:
            return mesh_gather(self._mesh)
        return super()._gatherer(options, world)

    def _finisher(self, has_callables: bool) -> tuple[Callable[[Any], Any], bool]:
        if not self._pins:
            return to_torch, False  # sharing memory costs nothing anywhere
        if has_callables:
            return _to_pinned, True  # what they made is copied, which belongs into a worker
        self._host_pinner = HostPinner(self._cuda())
        return partial(_pinned_in_place, self._host_pinner), False

    def _pinner(self) -> HostPinner | None:
        return self._host_pinner

    def _cuda(self) -> Device:
        """The device that pages are registered with."""
        return CudaDevice()

    def _has_gpu(self) -> bool:
        return torch.cuda.is_available()

    def _marks(self) -> tuple[int, int] | None:
        return nvtx_marks(os.environ)

    def _range(self, name: str) -> AbstractContextManager[Any]:
        return profiler_range(name) if self._is_profiled else super()._range(name)

    def _follow_profiler(self) -> None:
        if is_profiling() != self._is_profiled:
            self._is_profiled = not self._is_profiled
            self._trace(self._is_profiled)

    def __iter__(self) -> Iterator[Any]:
        self._follow_profiler()
        return super().__iter__()

    def _next(self, iteration: Any) -> Any:
        self._follow_profiler()
        batch = super()._next(iteration)
        if self._device is None:
            return batch
        with self._range("fastfeed move"):
            return moved(batch, self._device, non_blocking=self._pins)


class _EpochSetter(NamedTuple):
    """Not more of a sampler than frameworks ask for."""

    set_epoch: Callable[[int], None]


def _device(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device={device!r} is no device of torch: {error}") from error


def _pins(pin_memory: bool | str, has_gpu: bool) -> bool:
    if pin_memory == "auto":
        return has_gpu
    if not isinstance(pin_memory, bool):
        raise ConfigError(f"pin_memory={pin_memory!r}: choose 'auto', True or False.")
    if pin_memory and not has_gpu:
        raise ConfigError("pin_memory=True needs a GPU, and torch sees none. Use 'auto' to pin only where one is.")
    return pin_memory


def _pinned_in_place(pinner: HostPinner, batch: Any) -> Any:
    batch = to_torch(batch)
    return batch.pin_memory() if pinner.has_refused and isinstance(batch, Batch) else batch


def _to_pinned(batch: Any) -> Any:
    batch = to_torch(batch)
    return batch.pin_memory() if isinstance(batch, Batch) else batch
