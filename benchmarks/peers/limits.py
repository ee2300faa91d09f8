"""The limits of the machine, measured in the same rounds: programs of benchmarks/limits/, built when they changed."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import sessions

PROGRAMS = Path(__file__).resolve().parent.parent / "limits"
BUILD = ("-std=c++20", "-O3", "-march=native", "-pthread")
LIBRARIES = ("-ljpeg",)
RUN_S_MAX = 120.0
ONE_THREAD = ", one thread"


@dataclass(frozen=True, slots=True)
class Limit:
    """`held` are the workloads that are held against it; the others have it in their tables."""

    name: str
    program: str  # benchmarks/limits/<program>.cpp
    works: tuple[str, ...]
    held: tuple[str, ...] = ()


LIMITS = (
    Limit("limit: libjpeg's calls and a resize", "jpeg", ("images", "images-center", "photos2048"),
          held=("images", "images-center", "photos2048")),
    Limit("limit: memcpy", "memcpy", ("tokens",), held=("tokens",)),
    Limit("limit: pread of the page cache", "pread", ("small", "tokens"), held=("small",)),
    Limit("limit: copies out of a mapping", "mapped", ("small", "tokens")),
    Limit("limit: random reads of the device", "random_reads", ("images-cold", "small-cold"),
          held=("images-cold", "small-cold")),
)


def runs(work: str, folder: Path, seconds: float) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """The names and measurements of the limits of a workload, as Bench.runs gives them of contenders."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for limit in LIMITS:
        if work in limit.works:
            threads = {limit.name: cores, **({limit.name + ONE_THREAD: 1} if work in limit.held else {})}
            found += [(name, functools.partial(run, name, limit, work, folder, seconds, count))
                      for name, count in threads.items()]
    return found


def run(name: str, limit: Limit, work: str, folder: Path, seconds: float, threads: int) -> dict[str, Any]:
    command = [str(built(limit.program, folder)), work, str(folder / "raw"), str(seconds), str(threads)]
    found = sessions.run(command, dict(os.environ), RUN_S_MAX)
    print(f"limit   {work:14} {name:34} per_s {found['per_s']:,.4g}", file=sys.stderr, flush=True)
    return found


def built(program: str, folder: Path) -> Path:
    """In `folder`/limits, named by its sources: other sources are another program."""
    source = PROGRAMS / f"{program}.cpp"
    texts = b"".join(path.read_bytes() for path in (source, *sorted(PROGRAMS.glob("*.hpp"))))
    place = folder / "limits" / f"{program}-{hashlib.sha256(texts).hexdigest()[:12]}"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, *BUILD, str(source), *LIBRARIES, "-o", str(place)], check=True)
    return place
