"""SPDL: a pipeline of threads over files, decoding by simplejpeg, which is faster than its own decoder (FFmpeg's)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spdl.pipeline import PipelineBuilder

from peers.items import SCALED, Collate, Finish
from peers.workloads import Raw, Workload

torch.set_num_threads(1)

# Batches that may wait for the trainer.
SINK = 2


class Threads:
    def __init__(self, work: Workload, raw: Raw, workers: int, scaled: bool) -> None:
        self.work, self.raw, self.workers, self.finish = work, raw, workers, Finish(work, scaled)

    def decode(self, number: int) -> Any:
        return self.finish({"number": number, "image": self.raw.image(self.work.data, number)})

    def __iter__(self) -> Iterator[Any]:
        order = np.random.permutation(self.raw.count(self.work.data)).tolist()
        pipeline = (PipelineBuilder().add_source(order).pipe(self.decode, concurrency=self.workers)
                    .aggregate(self.work.batch).pipe(Collate(self.work)).add_sink(SINK).build(num_threads=self.workers))
        with pipeline.auto_stop():
            yield from pipeline


def loader(work: Workload, folder: Path, workers: int, variant: str) -> Any:
    return Threads(work, Raw(folder.parent.parent), workers, variant == SCALED)
