"""Real frameworks around the torch adapter: StatefulDataLoader, Accelerate and Lightning, each in a program of its own.

Programs, because frameworks warn about each other's and torch's versions, and start process groups. Coverage does not
measure them: tracing the import of these libraries takes longer than the tests.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fastfeed.torch as fft
from fastfeed.errors import ConfigError
from fastfeed.torch.iterable_dataset import _refuse_to_share_twice
from tests.helpers.loader_data import write_rows
from tests.helpers.programs import unmeasured_environment

ROWS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("frameworks") / "data"
    write_rows(place, ROWS)
    return place


def start(program: str, *arguments: Any, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**unmeasured_environment(), "OMP_NUM_THREADS": "1", **environ})


def told_by(*processes: subprocess.Popen[str]) -> list[Any]:
    """What each printed last, as JSON."""
    outputs = [process.communicate(timeout=150) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]


STATEFUL = """
import json, sys
import torch
from torchdata.stateful_dataloader import StatefulDataLoader
import fastfeed.torch as fft

def samples(workers):
    return StatefulDataLoader(fft.IterableDataset(sys.argv[1], columns=["id"], seed=3), batch_size=7,
                              num_workers=workers)

def mapped(workers):
    return StatefulDataLoader(fft.MapDataset(sys.argv[1], columns=["id"]), batch_size=7, num_workers=workers,
                              shuffle=True, generator=torch.Generator().manual_seed(0))

def ids(batches):
    return [batch["id"].tolist() for batch in batches]

told = []
for make, workers in ((samples, 0), (samples, 2), (mapped, 0), (mapped, 2)):
    whole = ids(make(workers))
    left = make(workers)
    iterator = iter(left)
    first = [next(iterator)["id"].tolist() for _ in range(4)]
    resumed = make(workers)
    resumed.load_state_dict(left.state_dict())
    told.append([whole, first + ids(resumed)])
    del iterator
print(json.dumps(told))
"""


def test_a_stateful_dataloader_resumes_both_datasets_with_and_without_workers(place: Path):
    for whole, resumed in told_by(start(STATEFUL, place))[0]:
        assert resumed == whole
        assert sorted(row for batch in whole for row in batch) == list(range(ROWS))


ACCELERATE = """
import json, sys, tempfile
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader
import fastfeed.torch as fft
from fastfeed.errors import ConfigError

place = sys.argv[1]
accelerator = Accelerator(cpu=True)
loader = fft.Loader(place, batch_size=7, last="short", columns=["id"])
prepared = accelerator.prepare(loader)
told = {"is_left_alone": prepared is loader}
told["rows"] = [int(row) for batch in prepared for row in batch.rows[batch.valid]]

def ids(dataset, accelerator):
    return [int(row) for batch in accelerator.prepare(DataLoader(dataset, batch_size=5)) for row in batch["id"]]

told["iterable"] = ids(fft.IterableDataset(place, columns=["id"], rank=0, world_size=1), accelerator)
told["map"] = ids(fft.MapDataset(place, columns=["id"]), accelerator)
shards = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False))
told["sharded"] = ids(fft.IterableDataset(place, columns=["id"], rank=0, world_size=1), shards)
own = fft.IterableDataset(place, columns=["id"], rank=accelerator.process_index, world_size=accelerator.num_processes)
told["own"] = [int(sample["id"]) for sample in own]
try:
    iter(fft.IterableDataset(place, columns=["id"])).__next__()
except ConfigError as error:
    told["error"] = str(error)

accelerator.register_for_checkpointing(loader)
iterator = iter(loader)
first = [int(row) for _ in range(2) for row in next(iterator)["id"]]
if accelerator.is_main_process:
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        told["resumed"] = [first, [int(row) for row in next(iterator)["id"]]]
        accelerator.load_state(folder)
        told["resumed"].append([int(row) for row in next(iter(loader))["id"]])
print(json.dumps(told))
"""


def test_accelerate_leaves_a_loader_alone_and_divides_datasets_once(place: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = told_by(*(start(ACCELERATE, place, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                           MASTER_ADDR="127.0.0.1", MASTER_PORT=port, GLOO_SOCKET_IFNAME="lo") for rank in range(2)))
    assert [each["is_left_alone"] for each in told] == [True, True]
    for key in ("rows", "iterable", "map", "sharded", "own"):
        assert sorted(told[0][key] + told[1][key]) == list(range(ROWS)), key
    assert all("IterableDataset(…, rank=0, world_size=1)" in each["error"] for each in told)
    first, following, resumed = told[0]["resumed"]
    assert resumed == following
    assert not set(first) & set(following)


LIGHTNING = """
import json, sys
import pytorch_lightning as lightning
import torch
import fastfeed.torch as fft

place, folder = sys.argv[1], sys.argv[2]

class Module(lightning.LightningModule):
    def __init__(self, save_at):
        super().__init__()
        self.layer, self.seen, self.save_at = torch.nn.Linear(16, 1), [], save_at

    def training_step(self, batch, number):
        self.seen.append([self.current_epoch, number, batch.rows.tolist()])
        return self.layer(batch["vector"]).sum()

    def on_train_batch_end(self, *unused):
        if len(self.seen) == self.save_at:
            self.trainer.save_checkpoint(folder + "/step.ckpt")

    def on_train_epoch_end(self):
        if len(self.seen) == -self.save_at:
            self.trainer.save_checkpoint(folder + "/step.ckpt")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-4)

def fit(save_at=0, checkpoint=None):
    module = Module(save_at)
    trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
                                enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder)
    loader = fft.Loader(place, batch_size=7, last="short", columns=["vector"])
    trainer.fit(module, loader, ckpt_path=checkpoint)
    loader.close()
    return module.seen

# Nine steps an epoch. Positive: saved after that many steps; negative: at the end of the epoch.
saves = [9, 13, -18]
told = {"whole": fit(), "resumed": [fit(at)[:abs(at)] + fit(0, folder + "/step.ckpt") for at in saves]}
print(json.dumps(told))
"""


def test_lightning_resumes_in_the_middle_of_an_epoch_and_at_its_end(place: Path, tmp_path: Path):
    told = told_by(start(LIGHTNING, place, tmp_path))[0]
    assert len(told["whole"]) == 27
    assert len({json.dumps(step[2]) for step in told["whole"]}) == 27  # each epoch has its own order
    for resumed in told["resumed"]:
        assert resumed == told["whole"]


def test_the_sampler_of_a_loader_sets_its_epoch(place: Path):
    with fft.Loader(place, batch_size=7) as loader:
        loader.sampler.set_epoch(2)
        assert loader.epoch == 2


@pytest.mark.parametrize(("initialized", "processes"), [(False, 2), (True, 1)])
def test_accelerate_that_does_not_run_several_processes_divides_nothing(initialized: bool, processes: int):
    accelerate = SimpleNamespace(is_initialized=lambda: initialized,
                                 PartialState=lambda: SimpleNamespace(num_processes=processes))
    _refuse_to_share_twice({"accelerate.state": accelerate})
    _refuse_to_share_twice({})
    several = SimpleNamespace(is_initialized=lambda: True, PartialState=lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ConfigError, match="who divides"):
        _refuse_to_share_twice({"accelerate.state": several})
