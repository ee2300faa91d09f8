"""fastfeed through the node's cache: the daemon that the loader starts by itself, in a folder of its own."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import BATCH, WORKERS, run_epochs, samples

import fastfeed as ff
import fastfeed.torch as fft

SHARD_SIZE = "64MiB"
END_S_MAX = 40.0


def write(folder: Path, count: int) -> None:
    with ff.DatasetWriter(folder, ff.Schema({"data": ff.Bytes()}), shard_size=SHARD_SIZE) as writer:
        for _, data in samples(count):
            writer.write({"data": data})


def read(url: str, cache: Path, count: int, check: bool) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="fastfeed-bench-", dir="/dev/shm"))
    os.environ["FASTFEED_CACHE_DIR"] = str(cache / "disk")
    os.environ["FASTFEED_RUNTIME_DIR"] = str(runtime)
    with fft.Loader(ff.open(url), batch_size=BATCH, last="short", threads=WORKERS) as loader:

        def epoch(_: int) -> Iterator[list[Any]]:
            for batch in loader:
                values, offsets = batch["data"].values.numpy(), batch["data"].offsets.tolist()
                yield [values[start:stop] for start, stop in itertools.pairwise(offsets)]

        try:
            run_epochs(epoch, count, check)
        finally:
            end_daemon(runtime)


def end_daemon(runtime: Path) -> None:
    """It would leave by itself when it has been idle for a minute."""
    asked = [sys.executable, "-m", "fastfeed", "cache", "status", "--json"]
    pid = json.loads(subprocess.run(asked, stdout=subprocess.PIPE, check=True).stdout)["pid"]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S_MAX
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    shutil.rmtree(runtime)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        read(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "check")
