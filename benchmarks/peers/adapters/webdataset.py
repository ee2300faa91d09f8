"""WebDataset: tars, shards shuffled and a buffer of 1,000 samples: less than a permutation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset

from peers.items import SCALED, Collate, Finish
from peers.workloads import Raw, Workload

torch.set_num_threads(1)

SHARDS = 24
BUFFER = 1000
MEMBERS = {"image": "jpg", "caption": "txt", "embedding": "npy", "label": "cls", "tokens": "bin", "record": "bin"}


def write(raw: Raw, data: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    a_shard = -(-raw.count(data) // SHARDS)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=a_shard, maxsize=1 << 40, verbose=0) as tars:
        for number, sample in enumerate(raw.samples(data)):
            tars.write({"__key__": f"{number:08d}", **{MEMBERS[name]: stored(name, value)
                                                       for name, value in sample.items() if name in MEMBERS}})


def stored(name: str, value: Any) -> Any:
    return value.tobytes() if name == "tokens" else value


class FinishMembers:
    def __init__(self, work: Workload, scaled: bool) -> None:
        self.work, self.finish = work, Finish(work, scaled)

    def __call__(self, members: dict[str, Any]) -> Any:
        if self.work.data == "tokens":
            return np.frombuffer(members["bin"], np.uint16)
        if self.work.data == "small":
            return members["bin"]
        sample = {"number": int(members["__key__"]), "image": members["jpg"]}
        if self.work.data == "mixed":
            sample |= {"caption": members["txt"].decode(), "label": int(members["cls"]),
                       "embedding": webdataset.autodecode.npy_loads(members["npy"])}
        return self.finish(sample)


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    tars = sorted(map(str, folder.glob("*.tar")))
    samples = webdataset.WebDataset(tars, shardshuffle=len(tars), empty_check=False).shuffle(BUFFER)
    batches = samples.map(FinishMembers(work, variant == SCALED)).batched(work.batch, collation_fn=Collate(work))
    return webdataset.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=True)
