"""What a finished test run must not leave: child processes, threads, shared memory, temporary files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
# Python's own helper processes live until their parent ends; they are nobody's mistake.
PYTHON_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
# Native threads of fastfeed are named with this prefix (csrc/README.md).
THREAD_PREFIX = "ff-"
# multiprocessing's sockets, kept until the process ends; a cache that torch makes when an optimizer is imported.
NOT_OURS = ("pymp-", "torchinductor_")


def shared_memory_names() -> set[str]:
    """Names that fastfeed, torch's loader or Python's shared memory could have made in this process."""
    prefixes = ("fastfeed", "ff-", "psm_", f"torch_{os.getpid()}")
    return {path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(prefixes)}


def child_processes() -> list[str]:
    """Command lines of our living children; of ours only, whatever else the machine runs."""
    children = []
    for task in Path("/proc/self/task").iterdir():
        try:
            pids = (task / "children").read_text().split()
        except FileNotFoundError:  # a thread that has ended since; its children are the process's now
            continue
        for pid in pids:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            # A zombie has no command line: someone did not wait for it.
            if not any(helper in command for helper in PYTHON_HELPERS):
                children.append(f"process {pid} ({command.strip() or 'not waited for'})")
    return children


def threads() -> list[str]:
    """Python threads that are neither the main one nor daemons, and native threads of ours."""
    python = [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return python + [f"native thread {name}" for name in names if name.startswith(THREAD_PREFIX)]


def find(temporary: Path, shared_memory_before: set[str]) -> list[str]:
    """Everything that is left, in words."""
    files = [f"file {path.name}" for path in temporary.iterdir() if not path.name.startswith(NOT_OURS)]
    names = [f"shared memory {name}" for name in sorted(shared_memory_names() - shared_memory_before)]
    return child_processes() + threads() + sorted(files) + names
