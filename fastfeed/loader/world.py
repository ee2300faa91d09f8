"""Which rank of how many this process is, and what of the machine is its own.

Pure functions of an environment and of the loaded modules. torch is looked up, never imported: a process that uses
torch.distributed has imported it before. Explicit numbers win over torch.distributed, which wins over the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastfeed.errors import ConfigError

# (rank, world size) as launchers give them: torchrun and DeepSpeed, Horovod, Open MPI, MVAPICH, PMI (MPICH, Intel MPI),
# Slurm. The first whose both variables are there counts; Slurm comes last because the others run inside its jobs.
_ENVIRONMENT = (
    ("RANK", "WORLD_SIZE"),
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
_LOCAL_SIZE = ("LOCAL_WORLD_SIZE", "HOROVOD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE",
               "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE")


class World(NamedTuple):
    """Rank `rank` of `size`; `origin` says who told."""

    rank: int
    size: int
    origin: str


def find_world(rank: int | None, size: int | None, environ: Mapping[str, str], modules: Mapping[str, Any]) -> World:
    """Return the rank and the world size of this process: given, else torch.distributed's, else the environment's."""
    if rank is not None and size is not None:
        return _checked(World(rank, size, "arguments"))
    distributed = modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return _checked(World(distributed.get_rank(), distributed.get_world_size(), "torch.distributed"))
    for rank_name, size_name in _ENVIRONMENT:
        if rank_name in environ and size_name in environ and not _outside_a_slurm_step(rank_name, environ):
            return _checked(World(_number(rank_name, environ), _number(size_name, environ), rank_name))
    return World(0, 1, "default")


def _outside_a_slurm_step(rank_name: str, environ: Mapping[str, str]) -> bool:
    """A batch script has SLURM_PROCID=0 and the job's SLURM_NTASKS, but is one process: srun starts the tasks."""
    return rank_name == "SLURM_PROCID" and "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" not in environ


def local_world_size(environ: Mapping[str, str]) -> int:
    """How many ranks share this machine, as far as the launcher says; else 1."""
    for name in _LOCAL_SIZE:
        if environ.get(name, "").isdecimal():
            return max(1, int(environ[name]))
    return 1


def default_threads(environ: Mapping[str, str], usable_cores: int, machine_cores: int) -> int:
    """This rank's part of the machine's cores, and not more than it may use; at least 1. A launcher that binds each
    rank to cores of its own has divided them already; one that binds to the cores of a NUMA node has not."""
    return max(1, min(usable_cores, machine_cores // local_world_size(environ)))


def _number(name: str, environ: Mapping[str, str]) -> int:
    try:
        return int(environ[name])
    except ValueError as error:
        raise ConfigError(f"the environment's {name}={environ[name]!r} is no number. "
                          "Unset it, or give rank= and world_size=.") from error


def _checked(world: World) -> World:
    if not 0 <= world.rank < world.size:
        raise ConfigError(f"rank {world.rank} of {world.size} (from {world.origin}): a rank is 0 to world_size - 1.")
    return world
