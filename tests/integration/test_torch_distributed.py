"""Rank, world and nodes from torch.distributed and from a DeviceMesh: real processes, gloo over loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as distributed
from torch.distributed.device_mesh import init_device_mesh

import fastfeed.torch as fft
from fastfeed.errors import ConfigError
from fastfeed.torch.mesh import mesh_gather
from tests.helpers.loader_data import write_rows
from tests.helpers.programs import unmeasured_environment

START = """
import json, sys
import torch.distributed as distributed
from torch.distributed.device_mesh import init_device_mesh
import fastfeed.torch as fft
from fastfeed.errors import ConfigError
rank, size, place, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size)

def rows_of(loader):
    return [int(row) for batch in loader for row in batch.rows[batch.valid]]
"""
END = """
print(json.dumps(told))
distributed.destroy_process_group()
"""


def run_ranks(program: str, world_size: int, tmp_path: Path, rows: int = 45) -> list[Any]:
    """What `program` left in `told` on each rank."""
    place, store = tmp_path / "data", tmp_path / "store"
    if not place.exists():
        write_rows(place, rows)
    # Coverage would trace the import of torch in each of them; what they show is measured elsewhere.
    environ = {**unmeasured_environment(), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", START + program + END]
    processes = [subprocess.Popen([*command, str(rank), str(world_size), place, store], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)
                 for rank in range(world_size)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * world_size, outputs
    return [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]


def test_torch_distributed_tells_rank_and_world_and_compares_the_lists_of_nodes(tmp_path: Path):
    """Explicit numbers win: the last loader is one of three ranks, whatever the group says."""
    told = run_ranks("""
loader = fft.Loader(place, batch_size=7, last="short", columns=["id"])
samples = fft.IterableDataset(place, columns=["id"])
told = {"world": [loader.rank, loader.world_size, len(samples)], "rows": rows_of(loader)}

home = fft.Loader(place, batch_size=7, last="short", deal="home", nodes=["a", "b"], columns=["id"])
told["home"], told["deal"], told["state"] = rows_of(home), home.stats()["deal"]["name"], home.state_dict()
told["own"] = fft.Loader(place, batch_size=7, deal="home").rank

differs = fft.Loader(place, batch_size=7, deal="home", nodes=["a", "b"] if rank else ["b", "a"])
try:
    next(iter(differs))
except ConfigError as error:
    told["error"] = str(error)
told["steps"] = differs.stats()["steps"]
explicit = fft.Loader(place, batch_size=7, rank=2, world_size=3)
told["explicit"] = [explicit.rank, explicit.world_size]
""", 2, tmp_path)
    assert [each["world"] for each in told] == [[0, 2, 23], [1, 2, 22]]
    assert sorted(told[0]["rows"] + told[1]["rows"]) == list(range(45))
    assert sorted(told[0]["home"] + told[1]["home"]) == list(range(45))
    assert [each["deal"] for each in told] == ["home", "home"]
    assert told[0]["state"] == told[1]["state"]
    assert "differ in their list of nodes" in told[0]["error"]
    assert told[0]["error"] == told[1]["error"]
    assert [each["steps"] for each in told] == [0, 0]
    assert [each["explicit"] for each in told] == [[2, 3], [2, 3]]


def test_in_a_mesh_only_the_data_parallel_dimensions_divide_samples(tmp_path: Path):
    """Four processes, 2 x 2: peers in "tp" get the same samples, with the deal of any kind."""
    told = run_ranks("""
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
def loader(**options):
    return fft.Loader(place, batch_size=7, last="short", columns=["id"], device_mesh=mesh, **options)

told = {"world": [loader().rank, loader().world_size], "rows": rows_of(loader())}
told["home"] = rows_of(loader(deal="home", nodes=["a", "b"]))
told["both"] = [loader(dp_dims=("dp", "tp")).rank, loader(dp_dims=("tp", "dp")).rank]
differs = loader(deal="home", nodes=["a", "b"] if rank != 3 else ["b", "b"])
told["errors"] = []
for make in (lambda: next(iter(differs)), lambda: loader(dp_dims=("pp",)), lambda: loader(rank=0, world_size=2),
             lambda: fft.Loader(place, batch_size=7, device_mesh="mesh")):
    try:
        make()
    except ConfigError as error:
        told["errors"].append(str(error))
""", 4, tmp_path)
    assert [each["world"] for each in told] == [[0, 2], [0, 2], [1, 2], [1, 2]]
    assert [each["both"] for each in told] == [[0, 0], [1, 2], [2, 1], [3, 3]]
    for key in ("rows", "home"):
        shares = [each[key] for each in told]
        assert shares[0] == shares[1]
        assert shares[2] == shares[3]
        assert sorted(shares[0] + shares[2]) == list(range(45))
    for each in told:
        lists, dimension, twice, no_mesh = each["errors"]
        assert "differ in their list of nodes" in lists
        assert "whose dimensions are 'dp', 'tp'" in dimension
        assert "give it, or rank=" in twice
        assert "DeviceMesh is needed" in no_mesh


def test_a_mesh_of_one_process_is_rank_0_of_1_and_names_its_dimensions(tmp_path: Path):
    dataset = write_rows(tmp_path / "data", 9)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("dp", "tp"))
        loader = fft.Loader(dataset, batch_size=4, device_mesh=mesh, last="short")
        assert (loader.rank, loader.world_size) == (0, 1)
        assert list(mesh_gather(mesh)("ours")) == ["ours"]
        for options, message in (({"dp_dims": ("pp",)}, "dimensions are 'dp', 'tp'"), ({"dp_dims": "dp"}, "name the"),
                                 ({"rank": 0, "world_size": 1}, "give it, or rank=")):
            with pytest.raises(ConfigError, match=message):
                fft.Loader(dataset, batch_size=4, device_mesh=mesh, **options)
        with pytest.raises(ConfigError, match="DeviceMesh is needed"):
            fft.Loader(dataset, batch_size=4, device_mesh="mesh")  # type: ignore[arg-type]
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("variables", [
    {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1"},  # torchrun, DeepSpeed, Accelerate
    {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3"},
    {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "3"},
    {"SLURM_PROCID": "1", "SLURM_NTASKS": "3", "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"},
])
def test_a_launchers_environment_tells_a_process_its_place(tmp_path: Path, variables: dict[str, str]):
    write_rows(tmp_path / "data", 9)
    program = "import sys, fastfeed as ff\nloader = ff.Loader(sys.argv[1], batch_size=1)\n" \
              "print(loader.rank, loader.world_size, *[int(batch.rows[0]) for batch in loader])"
    finished = subprocess.run([sys.executable, "-c", program, tmp_path / "data"], capture_output=True, text=True,
                              env={**os.environ, **variables}, check=True)
    rank, size, *rows = map(int, finished.stdout.split())
    assert (rank, size, len(rows)) == (1, 3, 3)
