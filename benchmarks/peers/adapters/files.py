"""A file a picture and torch's DataLoader, decoding in its workers; what else a sample has is in mapped arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from peers.items import SCALED, Collate, Finish
from peers.workloads import Raw, Workload

torch.set_num_threads(1)


class Files(torch.utils.data.Dataset[Any]):
    def __init__(self, work: Workload, raw: Raw, scaled: bool) -> None:
        self.work, self.raw, self.finish = work, raw, Finish(work, scaled)
        self.count = raw.count(work.data)
        if work.data == "mixed":
            (self.pieces, offsets), self.embeddings = raw.captions(), raw.embeddings()
            self.offsets = offsets.tolist()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        sample: dict[str, Any] = {"number": number, "image": self.raw.image(self.work.data, number)}
        if self.work.data == "mixed":
            caption = self.pieces[self.offsets[number] : self.offsets[number + 1]].tobytes().decode("ascii")
            sample |= {"caption": caption, "embedding": self.embeddings[number], "label": number % 100}
        return self.finish(sample)


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    files = Files(work, Raw(folder.parent.parent), variant == SCALED)
    return torch.utils.data.DataLoader(files, work.batch, shuffle=True, num_workers=workers, collate_fn=Collate(work),
                                       persistent_workers=True)
