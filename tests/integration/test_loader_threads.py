"""Where a loader's threads run, how many there are, and that a batch's memory comes back by every way out of numpy."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfeed as ff
import fastfeed.torch as fft
from tests.helpers.programs import unmeasured_environment

ROWS = 2000

# Bound to one core before its loader is made, as a launcher does: says where the native threads may run.
BOUND_PROGRAM = """
import os, sys
from pathlib import Path
import fastfeed as ff

core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
with ff.Loader(sys.argv[1], batch_size=100) as loader:
    next(iter(loader))
    threads = [Path(f"/proc/self/task/{task}") for task in os.listdir("/proc/self/task")]
    ours = [thread for thread in threads if (thread / "comm").read_text().startswith("ff-")]
    assert ours
    for thread in ours:
        status = (thread / "status").read_text().splitlines()
        allowed = next(line.split()[1] for line in status if line.startswith("Cpus_allowed_list:"))
        assert allowed == str(core), (thread, allowed)
    print(loader.stats()["threads"])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("threads") / "data"
    with ff.DatasetWriter(place, ff.Schema({"x": ff.Tensor("float32", (256,)), "text": ff.Text()})) as writer:
        for row in range(ROWS):
            writer.write({"x": np.full(256, row, np.float32), "text": "t" * (row % 100)})
    return place


def test_threads_stay_on_the_cores_that_the_process_was_given(place):
    done = subprocess.run([sys.executable, "-c", BOUND_PROGRAM, str(place)], check=True, capture_output=True, text=True,
                          timeout=60, env=unmeasured_environment())
    assert done.stdout.strip() == "1"


def test_ranks_of_a_machine_share_its_cores(place):
    environment = {**unmeasured_environment(), "RANK": "0", "WORLD_SIZE": "1000", "LOCAL_WORLD_SIZE": "1000"}
    program = f"import fastfeed as ff; print(ff.Loader({str(place)!r}, batch_size=1, last='short').stats()['threads'])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60,
                          env=environment)
    assert done.stdout.strip() == "1"


def test_nobody_reads_ahead_of_the_decoders_from_the_page_cache(place):
    """What was just written is in memory: once that is known, who reads a group also decodes it."""
    with ff.Loader(place, batch_size=25, threads=2) as loader:
        for _ in range(4):
            list(loader)
        stats = loader.stats()
    assert stats["stages"]["read_wait_s"] < stats["stages"]["read_s"]
    assert stats["readers"] <= 2
    assert stats["bottleneck"] in {"training", "locate", "read", "verify", "place", "decode", "python"}
    assert loader.progress().startswith("data wait ")


@pytest.mark.parametrize("share", [torch.from_dlpack, np.from_dlpack, torch.from_numpy, memoryview])
def test_a_batch_lives_as_long_as_anything_that_shares_its_memory(place, share):
    with ff.Loader(place, batch_size=50, shuffle=False, prefetch_factor=2) as loader:
        iterator = iter(loader)
        batch = next(iterator)
        shared = share(batch["x"])
        del batch
        assert len([batch.rows[0] + 0 for batch in iterator]) == ROWS / 50 - 1
        gc.collect()
        assert loader.stats()["slots"]["held"] == 1
        assert np.asarray(shared)[:, 0].tolist() == list(range(50))
        del shared
        gc.collect()
        assert loader.stats()["slots"]["held"] == 0


def test_batches_do_not_depend_on_threads_depth_or_waits(place):
    """What is tuned while it runs changes when things are read, never what comes out."""
    def epoch(**options: object) -> list[tuple[list[int], float]]:
        with fft.Loader(place, batch_size=64, seed=3, **options) as loader:  # type: ignore[arg-type]
            return [(batch.rows.tolist(), float(batch["x"].sum())) for batch in loader]

    expected = epoch(threads=1, prefetch_factor=1)
    assert epoch(threads=2) == epoch(threads=5, prefetch="1KiB") == epoch(threads=3, prefetch="1GiB") == expected


def test_memory_of_batches_is_in_huge_pages_where_the_kernel_gives_them(tmp_path):
    allowed = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not allowed.exists() or "[never]" in allowed.read_text():
        return  # nothing to ask for: small pages, and all else is the same
    with ff.DatasetWriter(tmp_path / "data", ff.Schema({"x": ff.Tensor("uint8", (1 << 20,))})) as writer:
        for row in range(8):
            writer.write({"x": np.full(1 << 20, row, np.uint8)})
    with ff.Loader(tmp_path / "data", batch_size=8, shuffle=False) as loader:
        batch = next(iter(loader))
        address = batch["x"].ctypes.data
        assert batch["x"][:, 0].tolist() == list(range(8))
        assert "hg" in flags_at(address)


def flags_at(address: int) -> list[str]:
    """Of the mapping that holds `address`: "hg" is a wish for huge pages."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if "-" in word and not word.endswith(":"):
            first, last = word.split("-")
            inside = int(first, 16) <= address < int(last, 16)
        elif inside and word == "VmFlags:":
            return line.split()[1:]
    raise AssertionError(f"nothing is mapped at {address:#x}")
