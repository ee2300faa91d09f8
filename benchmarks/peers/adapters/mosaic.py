"""MosaicML Streaming: MDS shards in a local folder, its default shuffle (py1e), its own loader."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.adapters.torch_state import StatefulResumable
from peers.items import SCALED, Collate, Finish
from peers.remote.torchvision_stand_in import stand_in_for_torchvision
from peers.workloads import WINDOW, Raw, Workload

stand_in_for_torchvision()

import torch  # noqa: E402  (Streaming's imports need the line above)
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402

torch.set_num_threads(1)

SHARD_BYTES = 64 << 20
COLUMNS = {
    "images": {"number": "int", "image": "bytes"},
    "photos2048": {"number": "int", "image": "bytes"},
    "tokens": {"tokens": f"ndarray:uint16:{WINDOW}"},
    "small": {"record": "bytes"},
    "mixed": {"number": "int", "image": "bytes", "caption": "str", "embedding": "ndarray:float16:768", "label": "int"},
}


def write(raw: Raw, data: str, folder: Path) -> None:
    with MDSWriter(out=str(folder), columns=COLUMNS[data], size_limit=SHARD_BYTES) as writer:
        for sample in raw.samples(data):
            writer.write(sample)


class Shards(StreamingDataset):  # type: ignore[misc]
    def __init__(self, work: Workload, folder: Path, finish: Finish, seed: int) -> None:
        clean_stale_shared_memory()
        super().__init__(local=str(folder), shuffle=True, batch_size=work.batch, shuffle_seed=seed,
                         num_canonical_nodes=1)
        self.finish = finish

    def __getitem__(self, number: Any) -> Any:
        return self.finish(super().__getitem__(number))


def loader(work: Workload, folder: Path, workers: int, variant: str, seed: int | None = None) -> Any:
    seed = random.randrange(1 << 30) if seed is None else seed
    shards = Shards(work, folder, Finish(work, variant == SCALED), seed)
    return StreamingDataLoader(shards, batch_size=work.batch, num_workers=workers, collate_fn=Collate(work),
                               persistent_workers=True)


def getter(folder: Path) -> Callable[[int], bytes]:
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=False, batch_size=1)
    return lambda number: dataset[number]["record"]  # type: ignore[no-any-return]


def taker(folder: Path) -> Callable[[list[int]], list[bytes]]:
    one = getter(folder)
    return lambda numbers: [one(number) for number in numbers]


class Resumable(StatefulResumable):
    """It counts `len(batch[0])` samples a batch: right for arrays and dicts, so records go as an array of objects."""

    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        shards = Shards(work, folder, Finish(work), seed=7)
        super().__init__(StreamingDataLoader(shards, batch_size=work.batch, num_workers=workers,
                                             collate_fn=in_a_tuple))

    def __iter__(self) -> Any:
        return (batch[0] for batch in self.loader)

    def resumed(self, state: Any) -> Any:
        self.loader.load_state_dict(state)
        return (batch[0] for batch in self.loader)


def in_a_tuple(items: list[bytes]) -> tuple[list[bytes]]:
    return (items,)
