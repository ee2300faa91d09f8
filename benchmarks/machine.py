"""What a figure was measured on: printed by every benchmark, since a figure without its machine says nothing."""

from __future__ import annotations

import importlib.metadata
import mmap
import os
import platform
from pathlib import Path


def processor() -> str:
    """The processor's name as the kernel gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def touch_memory(size: int) -> None:
    """Use `size` bytes of memory for a moment, so that the machine has them.

    A virtual machine gives free memory back to its host. Getting it anew costs the kernel five times what a page costs
    otherwise (on the machine of docs/benchmarks.md 1.4 s a GB, then 0.3 s), and that is charged to whoever comes first.
    """
    with mmap.mmap(-1, size) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def describe(*packages: str) -> str:
    """Two lines: the machine, and the versions of Python and of `packages`."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"machine: {processor()}, {cores} cores, {memory_gib:.0f} GiB, Linux {platform.release()}, load {load:.1f}\n"
        f"versions: Python {platform.python_version()}, {versions}"
    )
