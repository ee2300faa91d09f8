"""How long a loader holds the GIL for a batch: the processor time of the thread that takes batches.

    python benchmarks/gil_held.py [--quick] [--json]

What that thread does without the GIL is to wait, which takes no processor time, so this is an upper bound. Between two
batches it is busy for a millisecond, as a training loop is, so that batches are ready: what is left is what next()
does. Medians of runs of 32 batches, and the lowest: arrays (fastfeed.Loader) and, where torch is, tensors.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np

import fastfeed as ff

RUN_BATCHES = 32
# A step of training; reading a batch takes less.
STEP_S = 0.001
RECORDS, RECORD_BYTES, TOKENS = 50_000, (200, 1001), 10_000_000
WINDOW = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, two runs: for the tests")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    scale, runs = (10, 2) if options.quick else (1, 40)
    with tempfile.TemporaryDirectory() as folder:
        datasets = write(Path(folder), scale)
        told = {f"{name}, {kind}": microseconds(loader, runs)
                for name, dataset in datasets.items() for kind, loader in loaders(name, dataset)}
    if options.json:
        print(json.dumps(told))
        return
    print(machine.describe("numpy"))
    for name, times in told.items():
        print(f"{name:28} {times['median_us']:5.1f} us a batch, at least {times['lowest_us']:.1f}")


def write(folder: Path, scale: int) -> dict[str, Any]:
    """Records, and windows of tokens."""
    rng = np.random.default_rng(0)
    noise = rng.bytes(1 << 20)
    with ff.DatasetWriter(folder / "small", ff.Schema({"record": ff.Bytes()})) as records:
        for size in rng.integers(*RECORD_BYTES, RECORDS // scale).tolist():
            records.write({"record": noise[size : 2 * size]})
    with ff.TokenWriter(folder / "tokens", dtype="uint16") as tokens:
        tokens.write(rng.integers(0, 50_000, TOKENS // scale, dtype=np.uint16))
    return {"small, 512": ff.open(folder / "small"), "tokens, 16": ff.open(folder / "tokens").windows(WINDOW)}


def loaders(name: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    wanted: dict[str, Any] = {"batch_size": int(name.split()[-1]), "threads": 2}
    if name.startswith("tokens"):
        wanted["transforms"] = {"tokens": [ff.Cast("int64")]}
    yield "arrays", ff.Loader(dataset, **wanted)
    if importlib.util.find_spec("torch") is not None:
        import fastfeed.torch as fft

        yield "tensors", fft.Loader(dataset, **wanted)


def microseconds(loader: Any, runs: int) -> dict[str, float]:
    """Of a batch, over `runs` runs after a first one."""
    with loader:
        batches = endless(loader)
        times = [one_run(batches) for _ in range(1 + runs)][1:]
    return {"median_us": round(statistics.median(times), 1), "lowest_us": round(min(times), 1)}


def one_run(batches: Iterator[Any]) -> float:
    spent_s = 0.0
    for _ in range(RUN_BATCHES):
        train()
        began_s = time.thread_time()
        batch = next(batches)
        spent_s += time.thread_time() - began_s
        del batch
    return spent_s / RUN_BATCHES * 1e6


def train() -> None:
    end_s = time.perf_counter() + STEP_S
    while time.perf_counter() < end_s:
        pass


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


if __name__ == "__main__":
    main()
