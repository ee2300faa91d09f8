"""Rank and world size from torch.distributed: two processes, gloo over loopback."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.loader_data import write_rows

PROGRAM = """
import os, sys
import torch.distributed as distributed
import fastfeed.torch as fft
rank, place, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
loader = fft.Loader(place, batch_size=7, last="short", columns=["id"])
rows = [int(row) for batch in loader for row in batch["id"][batch.valid]]
samples = fft.IterableDataset(place, columns=["id"])
print(loader.rank, loader.world_size, len(samples), *rows)
distributed.destroy_process_group()
"""


def test_torch_distributed_tells_rank_and_world(tmp_path: Path):
    write_rows(tmp_path / "data", 45)
    environ = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", PROGRAM]
    processes = [subprocess.Popen([*command, str(rank), tmp_path / "data", tmp_path / "store"], text=True,
                                  stdout=subprocess.PIPE, env=environ) for rank in range(2)]
    outputs = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [output[:3] for output in outputs] == [["0", "2", "23"], ["1", "2", "22"]]
    assert sorted(int(row) for output in outputs for row in output[3:]) == list(range(45))
