"""A file a picture and torch's DataLoader, decoding in its workers; what else a sample has is in mapped arrays.

The variant "decoder alone" is no loader: simplejpeg decodes whole pictures out of memory, in threads, and they are
dropped. Limits are held against it, so that figures of two machines can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import simplejpeg
import torch

from peers.items import SCALED, Collate, Finish
from peers.workloads import Raw, Workload

torch.set_num_threads(1)

DECODER_ALONE = "decoder alone"


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


class DecoderAlone:
    def __init__(self, work: Workload, raw: Raw, threads: int) -> None:
        self.work, self.threads = work, threads
        self.jpegs = [raw.image(work.data, number) for number in range(raw.count(work.data))]

    def __iter__(self) -> Iterator[Any]:
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(self.jpegs), self.work.batch):
                numbers = range(start, min(start + self.work.batch, len(self.jpegs)))
                for _ in pool.map(simplejpeg.decode_jpeg, self.jpegs[numbers.start : numbers.stop]):
                    pass
                yield None, numbers


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    if variant == DECODER_ALONE:
        return DecoderAlone(work, Raw(folder.parent.parent), workers)
    files = Files(work, Raw(folder.parent.parent), variant == SCALED)
    return torch.utils.data.DataLoader(files, work.batch, shuffle=True, num_workers=workers, collate_fn=Collate(work),
                                       persistent_workers=True)
