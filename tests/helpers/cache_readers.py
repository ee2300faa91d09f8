"""Processes that read a dataset through the node's cache and compare every sample with the reference. No torch.

    python -m tests.helpers.cache_readers '<a list of options as JSON>'

One forked process for each. Options: `number`, `url`, `socket`, `sums` (.npy: xxh3-64 of each row's bytes, from the
local shards), `how` ("take": random rows; "loader": epochs of one loader; "evaluation": passes, each by a loader of its
own, in the order of the rows), `seed`, `batch`, `dawdle_ms` (a pause of up to so long between a batch and the next),
`loader` (more keywords of the loader), `deadline_s`. Prints lines of JSON: {"number", "pid", "checks": all so far,
"errors": {class: count}, "wrong": [...], "last": the last error's text}, one every 0.2 s, until its input ends.
`Readers` starts them and adds their lines up.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

import fastfeed as ff
import fastfeed.wire.sessions
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import FastfeedError
from tests.helpers.programs import unmeasured_environment

REPORT_S = 0.2
BATCH = 16
# A failing origin fails at once: without a pause, a reader would only count errors.
PAUSE_AFTER_ERROR_S = 0.02
LINE_S_MAX = 60.0


def write_dataset(
    place: Path, rows: int, row_bytes: int, *, shard_size: str = "4MiB", seed: int = 0, sizes_seed: int | None = None
) -> Dataset:
    """Rows of noise of about `row_bytes`, in several shards. Two with one sizes_seed have shards of the same sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng if sizes_seed is None else np.random.default_rng(sizes_seed)
    with ff.DatasetWriter(place, ff.Schema({"data": ff.Bytes()}), shard_size=shard_size) as writer:
        for size in sizes.integers(row_bytes // 2, row_bytes * 3 // 2, rows).tolist():
            writer.write({"data": rng.bytes(size)})
    return ff.open(place)


def write_sums(dataset: Dataset, file: Path) -> Path:
    """The sums of all rows, read from local shards without any cache."""
    sums = np.array([xxhash.xxh3_64_intdigest(dataset[row]["data"]) for row in range(len(dataset))], np.uint64)
    np.save(file, sums)
    return file


def batches(dataset: Dataset, options: dict[str, Any], draw: random.Random) -> Iterator[tuple[list[int], list[bytes]]]:
    size = options.get("batch", BATCH)
    common = {"batch_size": size, "seed": options["seed"], "last": "short", "threads": 1,
              "timeout_s": options.get("deadline_s", 60), **options.get("loader", {})}
    if options["how"] == "loader":
        with ff.Loader(dataset, **common) as loader:
            while True:
                for batch in loader:
                    yield batch.rows.tolist(), list(batch["data"])
    while options["how"] == "evaluation":
        with ff.Loader(dataset, shuffle=False, **common) as loader:
            for batch in loader:
                yield batch.rows.tolist(), list(batch["data"])
    while True:
        rows = [draw.randrange(len(dataset)) for _ in range(size)]
        yield rows, list(dataset.take(rows)["data"])


class Tally:
    """What one reader has found."""

    def __init__(self, sums: npt.NDArray[np.uint64], number: int) -> None:
        self._sums = sums
        self._number = number
        self.checks = 0
        self.errors: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.last = ""

    def check(self, rows: list[int], values: list[bytes]) -> None:
        for row, value in zip(rows, values, strict=True):
            if xxhash.xxh3_64_intdigest(value) != self._sums[row]:
                self.wrong.append(f"row {row}: {len(value)} bytes, {bytes(value[:8]).hex()}...")
            self.checks += 1

    def line(self) -> str:
        return json.dumps({"number": self._number, "pid": os.getpid(), "checks": self.checks, "errors": self.errors,
                           "wrong": self.wrong[:5], "last": self.last[:1000]}) + "\n"  # one write, one line


def read(options: dict[str, Any], tally: Tally, ended: threading.Event) -> None:
    draw, dataset = random.Random(options["seed"]), None
    while not ended.is_set():
        try:
            if dataset is None:
                dataset = ff.open(options["url"], cache=options["socket"])
            for rows, values in batches(dataset, options, draw):
                tally.check(rows, values)
                if ended.is_set():
                    return
                if options.get("dawdle_ms"):
                    time.sleep(draw.random() * options["dawdle_ms"] / 1e3)
        except (FastfeedError, OSError, TimeoutError) as error:
            tally.errors[type(error).__name__] += 1
            tally.last = str(error)
            time.sleep(PAUSE_AFTER_ERROR_S)


def main(all_options: list[dict[str, Any]]) -> None:
    """One process a reader, forked before any of them has a client: importing everything once is most of their cost."""
    children = {}
    for options in all_options:
        pid = os.fork()
        if pid == 0:
            run(options)
        children[pid] = options["number"]
    while children:
        pid, status = os.wait()
        number = children.pop(pid)
        if status and not os.WIFSIGNALED(status):
            sys.exit(f"reader {number} ended with {os.waitstatus_to_exitcode(status)}")


def run(options: dict[str, Any]) -> None:
    tally, ended = Tally(np.load(options["sums"]), options["number"]), threading.Event()
    reading = threading.Thread(target=read, args=(options, tally, ended), daemon=True)
    reading.start()
    while not select.select([sys.stdin], [], [], REPORT_S)[0]:
        os.write(1, tally.line().encode())
        if not reading.is_alive():
            os._exit(1)  # its traceback is on standard error
    ended.set()
    reading.join(LINE_S_MAX)
    os.write(1, tally.line().encode())
    os._exit(0 if not reading.is_alive() else 2)


class Readers:
    """Several reading processes: what they have checked together, and their errors."""

    def __init__(self, count: int, log: Path, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        self._log = log
        self._lines: list[dict[str, Any]] = [{} for _ in range(count)]
        self._environment = {**unmeasured_environment(), "OMP_NUM_THREADS": "1", **(environment or {})}
        self._options = options
        self._count = count

    def __enter__(self) -> Readers:
        each = []
        for number in range(self._count):
            own = {"how": "take", "seed": number, "number": number, **self._options}
            for name in ("url", "sums", "how"):  # where there are several, readers take turns
                if isinstance(own[name], list):
                    own[name] = own[name][number % len(own[name])]
            each.append(own)
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.cache_readers", json.dumps(each)], text=True,
                env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        return self

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._lines[said["number"]] = said

    @property
    def pids(self) -> list[int]:
        """Of the readers that have said something."""
        return [line["pid"] for line in self._lines if line]

    @property
    def checks(self) -> int:
        return sum(line.get("checks", 0) for line in self._lines)

    @property
    def each_checks(self) -> list[int]:
        return [line.get("checks", 0) for line in self._lines]

    @property
    def errors(self) -> Counter[str]:
        return sum((Counter(line.get("errors", {})) for line in self._lines), Counter())

    @property
    def wrong(self) -> list[str]:
        return [text for line in self._lines for text in line.get("wrong", [])]

    def last_error(self) -> str:
        return next((line["last"] for line in self._lines if line.get("last")), "")

    def assert_alive(self) -> None:
        assert self._process.poll() is None, (f"a reader ended with {self._process.returncode}:\n"
                                              f"{self._log.read_text(errors='replace')[-4000:]}")

    def wait_for(self, checks: int, timeout_s: float) -> None:
        """Until so many samples were compared, by all together."""
        deadline = time.monotonic() + timeout_s
        while self.checks < checks:
            self.assert_alive()
            assert time.monotonic() < deadline, (
                f"{self.checks} of {checks} samples in {timeout_s:.0f} s; {dict(self.errors)} {self.last_error()}\n"
                f"{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.01)

    def finish(self) -> None:
        """End them, and wait for their last lines."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(LINE_S_MAX)
        self._listening.join(LINE_S_MAX)

    def kill(self) -> None:
        """kill -9 of all of them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._listening.join(LINE_S_MAX)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
