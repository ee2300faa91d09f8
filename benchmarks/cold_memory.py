"""A limit on the memory of this process and its children, page cache included: data that is larger must come from the
disk again and again. By a memory cgroup (v1 or v2), which only root may make."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
LIMIT_FILES = ("memory.limit_in_bytes", "memory.max")


@contextlib.contextmanager
def memory_limit(size_bytes: int) -> Iterator[None]:
    """Inside, this process and what it starts have `size_bytes` together. SystemExit where that cannot be had."""
    root = V1 if (V1 / LIMIT_FILES[0]).exists() else V2
    group = root / f"fastfeed-cold-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise SystemExit(f"cannot limit the memory: {error}. Run this as root, or give it a limit from outside "
                         "(systemd-run --scope -p MemoryMax=1G ...) and say --limit 0.") from error
    try:
        limit = next((group / name for name in LIMIT_FILES if (group / name).exists()), None)
        if limit is None:
            raise SystemExit(f"{root} has no controller of memory. Limit it from outside and say --limit 0.")
        limit.write_text(str(size_bytes))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (root / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()
