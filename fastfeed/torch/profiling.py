"""What profilers see of a loader.

While torch.profiler (or emit_nvtx) records, the consumer's thread has a range for submitting, waiting and moving, and
the native threads keep a list of their stages, which `export_chrome_trace` puts into the profiler's trace. Under
NVIDIA's tools, which set NVTX_INJECTION64_PATH, every stage is an NVTX range in its own thread. Else nothing is
recorded.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from fastfeed.torch.loader import Loader

log = logging.getLogger("fastfeed")

# Set by Nsight Systems and Nsight Compute in the programs that they watch.
NVTX_VARIABLE = "NVTX_INJECTION64_PATH"
NVTX_LIBRARY = "libnvToolsExt.so.1"
# Threads of a loader get numbers of their own in a trace: above those of any thread of Linux (at most 2^22).
_FIRST_TID = 1 << 24
_TIDS_A_LOADER = 1 << 12


def is_profiling() -> bool:
    """Whether a profiler of torch records at the moment."""
    return bool(torch.autograd._profiler_enabled())  # type: ignore[attr-defined]


def profiler_range(name: str) -> AbstractContextManager[Any]:
    """A range in the profile, while a profiler records."""
    return torch.profiler.record_function(name)


def nvtx_marks(environ: Mapping[str, str], load: Callable[[str], Any] = ctypes.CDLL) -> tuple[int, int] | None:
    """Addresses of nvtxRangePushA and nvtxRangePop where one of NVIDIA's tools watches this process, else None."""
    if NVTX_VARIABLE not in environ:
        return None
    try:
        library = load(NVTX_LIBRARY)
    except OSError as error:
        log.warning("%s says that this process is watched, but %s, which would show the stages, cannot be loaded (%s). "
                    "Install nvidia-nvtx-cu12.", NVTX_VARIABLE, NVTX_LIBRARY, error)
        return None
    return _address(library.nvtxRangePushA), _address(library.nvtxRangePop)


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None  # a library's functions are somewhere
    return address


def export_chrome_trace(profiler: Any, path: str | os.PathLike[str], *loaders: Loader) -> None:
    """`profiler.export_chrome_trace(path)`, and in it a line for each native thread of `loaders` with the stages that
    it was in. What was recorded is taken: a second call has none of it."""
    profiler.export_chrome_trace(os.fspath(path))
    file = Path(path)
    is_packed = file.suffix == ".gz"
    raw = file.read_bytes()
    trace = json.loads(gzip.decompress(raw) if is_packed else raw)
    # Spans have the monotonic clock, traces the time of day in microseconds after a base.
    to_trace_ns = time.time_ns() - time.monotonic_ns() - int(trace.get("baseTimeNanoseconds", 0))
    for number, loader in enumerate(loaders):
        trace["traceEvents"] += _events(loader.take_spans(), _FIRST_TID + number * _TIDS_A_LOADER, to_trace_ns)
    text = json.dumps(trace).encode()
    file.write_bytes(gzip.compress(text) if is_packed else text)


def _events(spans: list[tuple[str, int, int, int]], first_tid: int, to_trace_ns: int) -> list[dict[str, Any]]:
    pid = os.getpid()
    threads = sorted({thread for _, thread, _, _ in spans})
    names = [{"ph": "M", "name": "thread_name", "pid": pid, "tid": first_tid + thread,
              "args": {"name": f"fastfeed thread {thread}"}} for thread in threads]
    stages = [{"ph": "X", "cat": "fastfeed", "name": f"fastfeed {stage}", "pid": pid, "tid": first_tid + thread,
               "ts": (begin_ns + to_trace_ns) / 1000, "dur": (end_ns - begin_ns) / 1000}
              for stage, thread, begin_ns, end_ns in spans]
    return names + stages
