"""HF datasets: Arrow on the disk. Variants: "map", with torch's DataLoader and a permutation; "iterable", with a buffer
of 1,000."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch

from peers.adapters.torch_state import StatefulResumable
from peers.items import SCALED, Collate, Finish
from peers.workloads import EMBEDDING, WINDOW, Raw, Workload

torch.set_num_threads(1)
datasets.disable_progress_bars()
datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else each epoch of a shuffled stream ends with 5 s of sleep

SHARDS = 16
BUFFER = 1000
IMAGE = {"number": datasets.Value("int64"), "image": datasets.Value("binary")}
FEATURES = {
    "images": IMAGE,
    "photos2048": IMAGE,
    "tokens": {"tokens": datasets.Sequence(datasets.Value("uint16"), length=WINDOW)},
    "small": {"record": datasets.Value("binary")},
    "mixed": {**IMAGE, "caption": datasets.Value("string"), "label": datasets.Value("int64"),
              "embedding": datasets.Sequence(datasets.Value("float16"), length=EMBEDDING)},
}


def write(raw: Raw, data: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = datasets.Dataset.from_generator(raw.samples, gen_kwargs={"data": data}, cache_dir=scratch,
                                               features=datasets.Features(FEATURES[data]))
        made.save_to_disk(str(folder), num_shards=min(SHARDS, len(made)))


class FinishAll:
    def __init__(self, work: Workload, scaled: bool) -> None:
        self.finish, self.collate = Finish(work, scaled), Collate(work)

    def __call__(self, samples: Any) -> Any:
        return self.collate([self.finish(sample) for sample in samples])


def loader(work: Workload, folder: Path, workers: int, variant: str, kind: Any = torch.utils.data.DataLoader) -> Any:
    dataset: Any = datasets.load_from_disk(str(folder))
    kind_of_shuffle, _, decoder = variant.partition(" ")
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": FinishAll(work, decoder == SCALED)}
    if workers:
        options["persistent_workers"] = kind is torch.utils.data.DataLoader
    formatted = "numpy" if work.data in ("tokens", "mixed") else None
    if kind_of_shuffle == "iterable":
        dataset = dataset.to_iterable_dataset(num_shards=min(SHARDS, len(dataset))).shuffle(seed=7, buffer_size=BUFFER)
        return kind(dataset.with_format(formatted), work.batch, **options)
    return kind(dataset.with_format(formatted), work.batch, shuffle=True, **options)


def getter(folder: Path) -> Callable[[int], bytes]:
    dataset: Any = datasets.load_from_disk(str(folder))
    return lambda number: dataset[number]["record"]  # type: ignore[no-any-return]


def taker(folder: Path) -> Callable[[list[int]], list[bytes]]:
    dataset: Any = datasets.load_from_disk(str(folder))
    return lambda numbers: dataset[numbers]["record"]  # type: ignore[no-any-return]


class Resumable(StatefulResumable):
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        from torchdata.stateful_dataloader import StatefulDataLoader

        super().__init__(loader(work, folder, workers, "map", StatefulDataLoader))
