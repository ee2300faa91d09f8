"""Which rank of how many: explicit, torch.distributed, the environment, else 0 of 1."""

from types import SimpleNamespace

import pytest

from fastfeed.errors import ConfigError
from fastfeed.loader.world import World, default_threads, find_world, local_world_size


def distributed(rank: int, size: int, *, initialized: bool = True) -> dict[str, object]:
    module = SimpleNamespace(is_available=lambda: True, is_initialized=lambda: initialized, get_rank=lambda: rank,
                             get_world_size=lambda: size)
    return {"torch.distributed": module}


def test_nothing_known_means_rank_0_of_1():
    assert find_world(None, None, {}, {}) == World(0, 1, "default")


@pytest.mark.parametrize(("rank_name", "size_name"), [
    ("RANK", "WORLD_SIZE"), ("HOROVOD_RANK", "HOROVOD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
])
def test_launchers_tell_by_the_environment(rank_name, size_name):
    assert find_world(None, None, {rank_name: "2", size_name: "4"}, {}) == World(2, 4, rank_name)


def test_torchrun_inside_a_slurm_job_counts():
    environ = {"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
    assert find_world(None, None, environ, {})[:2] == (5, 8)


def test_a_batch_script_outside_of_a_slurm_step_is_one_process():
    environ = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}
    assert find_world(None, None, environ, {})[:2] == (0, 1)
    assert find_world(None, None, {**environ, "SLURM_STEP_ID": "0"}, {})[:2] == (0, 4)


def test_half_an_environment_does_not_count():
    assert find_world(None, None, {"RANK": "3"}, {})[:2] == (0, 1)


def test_initialised_torch_distributed_wins_over_the_environment():
    environ = {"RANK": "0", "WORLD_SIZE": "2"}
    assert find_world(None, None, environ, distributed(1, 3))[:2] == (1, 3)
    assert find_world(None, None, environ, distributed(1, 3, initialized=False))[:2] == (0, 2)


def test_explicit_numbers_win_over_everything():
    assert find_world(1, 2, {"RANK": "0", "WORLD_SIZE": "8"}, distributed(2, 3)) == World(1, 2, "arguments")


@pytest.mark.parametrize(("rank", "size"), [(2, 2), (5, 1)])
def test_a_rank_outside_of_the_world_is_an_error(rank, size):
    with pytest.raises(ConfigError, match=f"rank {rank} of {size}"):
        find_world(rank, size, {}, {})


def test_an_environment_that_is_no_number_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match="RANK='first'"):
        find_world(None, None, {"RANK": "first", "WORLD_SIZE": "2"}, {})


def test_the_ranks_of_a_machine_share_its_cores():
    assert local_world_size({"LOCAL_WORLD_SIZE": "8"}) == 8
    assert local_world_size({"SLURM_NTASKS_PER_NODE": "4(x2)"}) == 1
    assert default_threads({"LOCAL_WORLD_SIZE": "3"}, 8, 8) == 2
    assert default_threads({"LOCAL_WORLD_SIZE": "100000"}, 8, 8) == 1
    assert default_threads({}, 8, 8) == 8


def test_cores_that_a_launcher_gave_to_one_rank_are_not_divided_again():
    ranks = {"LOCAL_WORLD_SIZE": "8"}
    assert default_threads(ranks, usable_cores=8, machine_cores=64) == 8  # eight cores each
    assert default_threads(ranks, usable_cores=32, machine_cores=64) == 8  # four ranks share a NUMA node
    assert default_threads(ranks, usable_cores=2, machine_cores=64) == 2  # the job has a quarter of the machine
    assert default_threads({}, usable_cores=2, machine_cores=64) == 2
