"""What profilers see of a loader: ranges of the consumer, stages of native threads, NVTX ranges."""

from __future__ import annotations

import ctypes
import gzip
import json
import logging
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fastfeed as ff
import fastfeed.torch as fft
from fastfeed.torch.profiling import NVTX_VARIABLE, nvtx_marks

# NVTX as far as we use it: counts what is pushed, by name, and how deep it is.
FAKE_NVTX = """
#include <string.h>
static int pushes[2], pops;
int nvtxRangePushA(const char* name) {
    return __atomic_add_fetch(&pushes[strcmp(name, "fastfeed decode") != 0 && strcmp(name, "fastfeed place") != 0], 1,
                              __ATOMIC_RELAXED);
}
int nvtxRangePop(void) { return __atomic_add_fetch(&pops, 1, __ATOMIC_RELAXED); }
int places(void) { return pushes[0]; }
int others(void) { return pushes[1]; }
int popped(void) { return pops; }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("profiled") / "data"
    with ff.DatasetWriter(place, ff.Schema({"id": ff.Scalar("int64"), "text": ff.Text(codec="zstd")})) as writer:
        for row in range(3000):
            writer.write({"id": row, "text": f"row {row} " * 50})
    return place


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_trace_of_torch_has_the_stages_of_native_threads_inside_of_its_own_time(place, tmp_path, name):
    with fft.Loader(place, batch_size=300, threads=2, last="short") as loader:
        next(iter(loader))  # not profiled
        first_ns = time.time_ns()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for batch in loader:
                batch["id"] + 1
        fft.export_chrome_trace(profiler, tmp_path / name, loader)
        last_ns = time.time_ns()
        assert loader.take_spans() == []
    raw = (tmp_path / name).read_bytes()
    trace = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)
    events, base_ns = trace["traceEvents"], trace["baseTimeNanoseconds"]
    own = [event for event in events if event.get("cat") == "fastfeed"]
    waits = [event for event in events if event.get("name") == "fastfeed wait"]
    assert {event["name"] for event in own} >= {f"fastfeed {stage}" for stage in ("locate", "read", "verify", "decode")}
    assert len(waits) >= 10
    assert {"fastfeed submit", "fastfeed wait"} <= {event.get("name") for event in events}
    # All clocks tell the same time, to a hundredth of a second: of the profiler's ranges and of those that we add.
    for event in (*own, *waits):
        end_ns = base_ns + 1000 * (event["ts"] + event["dur"])
        assert first_ns - 1e7 <= end_ns <= last_ns + 1e7, (first_ns, end_ns, last_ns, event["name"])
    named = {event["tid"] for event in events if event.get("name") == "thread_name"}
    assert {event["tid"] for event in own} <= named


def test_without_a_profiler_nothing_is_recorded(place):
    with fft.Loader(place, batch_size=300) as loader:
        list(loader)
        assert loader.take_spans() == []


def test_nobody_watches_without_the_variable():
    assert nvtx_marks({}) is None


def test_a_library_that_is_missing_is_a_note(caplog):
    def load(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        assert nvtx_marks({NVTX_VARIABLE: "/opt/tool.so"}, load) is None
    assert "Install nvidia-nvtx-cu12" in caplog.text


def test_every_stage_is_an_nvtx_range_of_its_thread(place, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    (tmp_path / "nvtx.c").write_text(FAKE_NVTX)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "nvtx.so", tmp_path / "nvtx.c"], check=True)
    library = ctypes.CDLL(str(tmp_path / "nvtx.so"))

    class Watched(fft.Loader):
        """In a process that one of NVIDIA's tools watches."""

        def _marks(self) -> tuple[int, int] | None:
            return nvtx_marks({NVTX_VARIABLE: "/opt/tool.so"}, lambda name: library)

    with Watched(place, batch_size=300, threads=2, last="short", prefetch_factor=1) as loader:
        assert sum(len(batch["id"]) for batch in loader) == 3000
    assert library.places() >= 10
    assert library.others() >= 3 * 10  # locate, read, verify
    assert library.popped() == library.places() + library.others()
