"""The program of one emulated accelerator that is fed by fastfeed: `python -m fastfeed.bench.rank JSON`."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from fastfeed.bench.accelerator import Barrier, work
from fastfeed.bench.feeding import forever
from fastfeed.dataset.batch import Batch, Ragged
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.loader.loader import Loader


def size_of(batch: Batch) -> tuple[int, int]:
    """Samples and bytes of a batch, after a look at the first and the last byte of each column."""
    size = 0
    for column in batch.values():
        values = column.values if isinstance(column, Ragged) else column
        if values.size:
            values.flat[0], values.flat[-1]
        size += values.nbytes
    return len(batch), size


def run(told: dict[str, Any]) -> None:
    """Feed the accelerator that `told` describes (`emulate.py`) until its team says stop."""
    barrier = Barrier(told["descriptor"])
    dataset = open_dataset(told["url"])
    if told["repeats"] > 1:
        dataset = dataset.select(np.tile(np.arange(len(dataset)), told["repeats"]))
    with Loader(dataset, batch_size=told["batch_size"], columns=told["columns"], rank=told["rank"],
                world_size=told["world_size"], deal="fixed", seed=told["seed"], last="drop") as loader:
        result = work(forever(loader), size_of, told["step_s"], barrier)
        stats = loader.stats()
    barrier.report({**result, "stages": stats["stages"], "threads": stats["threads"], "io": stats["io"]})


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
