"""fastfeed through the node's cache: the daemon that the loader starts by itself.

The scenario says where (FASTFEED_RUNTIME_DIR), and ends it when this process has ended: a process that still has a
dataset open starts the daemon again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import BATCH, WORKERS, run_epochs, run_program, samples

import fastfeed as ff
import fastfeed.torch as fft

SHARD_SIZE = "64MiB"


def write(folder: Path, count: int) -> None:
    with ff.DatasetWriter(folder, ff.Schema({"data": ff.Bytes()}), shard_size=SHARD_SIZE) as writer:
        for _, data in samples(count):
            writer.write({"data": data})


def read(url: str, cache: Path, count: int, check: bool) -> None:
    os.environ["FASTFEED_CACHE_DIR"] = str(cache / "disk")
    with fft.Loader(ff.open(url), batch_size=BATCH, last="short", threads=WORKERS) as loader:

        def epoch(_: int) -> Iterator[list[Any]]:
            for batch in loader:
                values, offsets = batch["data"].values.numpy(), batch["data"].offsets.tolist()
                yield [values[start:stop] for start, stop in itertools.pairwise(offsets)]

        run_epochs(epoch, count, check)


if __name__ == "__main__":
    run_program(write, read)
