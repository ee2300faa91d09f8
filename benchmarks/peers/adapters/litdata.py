"""LitData: chunks of 64 MB in a local folder, its own loader. It shuffles chunk by chunk: a weaker shuffle."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

import litdata
import torch
from litdata.streaming import Cache
from litdata.streaming.item_loader import TokensLoader

from peers.adapters.torch_state import StatefulResumable
from peers.items import SCALED, Collate, Finish
from peers.workloads import WINDOW, Raw, Workload

torch.set_num_threads(1)

CHUNK_BYTES = 64 << 20
CHUNK_TOKENS = WINDOW * 8000


def write(raw: Raw, data: str, folder: Path) -> None:
    if data == "tokens":
        cache = Cache(str(folder), chunk_size=CHUNK_TOKENS, item_loader=TokensLoader(block_size=WINDOW))
        for number, window in enumerate(raw.windows()):
            cache[number] = torch.from_numpy(window.copy())
    else:
        cache = Cache(str(folder), chunk_bytes=CHUNK_BYTES)
        for number, sample in enumerate(raw.samples(data)):
            cache[number] = sample
    cache.done()
    cache.merge()


class Chunks(litdata.StreamingDataset):  # type: ignore[misc]
    def __init__(self, work: Workload, folder: Path, finish: Finish, **options: Any) -> None:
        super().__init__(str(folder), shuffle=True, drop_last=False, **options)
        self.work, self.finish = work, finish

    def __getitem__(self, number: Any) -> Any:
        sample = super().__getitem__(number)
        if self.work.data == "tokens":
            return sample
        if self.work.data == "small":  # a memoryview, which its workers cannot send: the loader would wait for ever
            return bytes(sample["record"])
        return self.finish(sample)


def stacked(windows: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(windows).to(torch.int64)


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    options: dict[str, Any] = {"item_loader": TokensLoader(block_size=WINDOW)} if work.data == "tokens" else {}
    chunks = Chunks(work, folder, Finish(work, variant == SCALED), **options)
    collate = stacked if work.data == "tokens" else Collate(work)
    return litdata.StreamingDataLoader(chunks, batch_size=work.batch, num_workers=workers, collate_fn=collate,
                                       drop_last=False, persistent_workers=workers > 0)


def getter(folder: Path) -> Callable[[int], Any]:
    dataset = litdata.StreamingDataset(str(folder), shuffle=False)
    return lambda number: dataset[number]["record"]


def taker(folder: Path) -> Callable[[list[int]], list[Any]]:
    one = getter(folder)
    return lambda numbers: [one(number) for number in numbers]


class Resumable(StatefulResumable):
    def __init__(self, work: Workload, folder: Path, workers: int, variant: str) -> None:
        super().__init__(loader(work, folder, workers, ""))
