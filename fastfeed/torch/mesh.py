"""A loader's place in a DeviceMesh: only the data-parallel dimensions divide samples.

Processes that differ in other dimensions (tensor, pipeline, context) have the same rank of the loader's world, and so
the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.distributed
from torch.distributed.device_mesh import DeviceMesh

from fastfeed.errors import ConfigError


def mesh_rank_and_size(mesh: DeviceMesh, dp_dims: Sequence[str]) -> tuple[int, int]:
    """Rank and size of the world that the dimensions `dp_dims` make, the first of them counting most."""
    if not isinstance(mesh, DeviceMesh):
        raise ConfigError(f"device_mesh={mesh!r}: a torch.distributed.device_mesh.DeviceMesh is needed.")
    names = mesh.mesh_dim_names or ()
    if isinstance(dp_dims, str) or not dp_dims or not set(dp_dims) <= set(names):
        raise ConfigError(f"dp_dims={dp_dims!r}: name the data-parallel dimensions of the mesh, whose dimensions are "
                          f"{', '.join(map(repr, names)) or 'without names'}.")
    rank, size = 0, 1
    for name in dp_dims:
        extent = mesh.size(names.index(name))
        rank, size = rank * extent + mesh.get_local_rank(name), size * extent
    return rank, size


def mesh_gather(mesh: DeviceMesh) -> Callable[[str], Sequence[str]]:
    """An all-gather over every process of the mesh, dimension by dimension. A collective."""

    def gather(text: str) -> Sequence[str]:
        texts = [text]
        for dimension in range(mesh.ndim):
            parts: list[list[str]] = [[] for _ in range(mesh.size(dimension))]
            torch.distributed.all_gather_object(parts, texts, group=mesh.get_group(dimension))
            texts = [each for part in parts for each in part]
        return texts

    return gather
