"""What this process may use of the machine: cores and memory, after affinity and cgroup limits (v1 and v2); and what
kind of file system holds a folder.

Reads /proc and /sys only; the roots are arguments, so that tests can give their own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
# cgroup v1 writes "no limit" as a number near 2^63.
NO_LIMIT_BYTES = 1 << 60
# Their files may hang or vanish with the network, and another machine may write them.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "gpfs", "beegfs", "9p", "afs")


def usable_cores() -> int:
    """Cores that this process can keep busy: the lesser of its affinity and its cgroup's quota."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def machine_cores(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Cores that all processes of this container, or of this machine, have together, whatever the affinity of this one.
    """
    allowed = _cpuset_cores(proc, cgroup) or os.cpu_count() or 1
    quota = cpu_quota(proc, cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _cpuset_cores(proc: Path, cgroup: Path) -> int | None:
    """Cores of the nearest cgroup that says them, written as 0-3,8."""
    for folder in cgroup_folders("cpuset", proc, cgroup):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            for words in read_words(folder / name):
                ends = [part.split("-") for part in words.split(",")]
                return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
    return None


def cpu_quota(proc: Path = PROC, cgroup: Path = CGROUP) -> float | None:
    """The smallest CPU quota, in cores, of this process's cgroups and their parents, or None."""
    quotas = []
    for folder in cgroup_folders("cpu", proc, cgroup):
        v2 = read_words(folder / "cpu.max")
        if len(v2) == 2 and v2[0] != "max":
            quotas.append(int(v2[0]) / int(v2[1]))
        quota, period = read_words(folder / "cpu.cfs_quota_us"), read_words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            quotas.append(int(quota[0]) / int(period[0]))
    return min(quotas, default=None)


def memory_limit_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """The smallest memory limit of this process's cgroups and their parents, or None."""
    limits = []
    for folder in cgroup_folders("memory", proc, cgroup):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = read_words(folder / name)
            if words and words[0] != "max" and int(words[0]) < NO_LIMIT_BYTES:
                limits.append(int(words[0]))
    return min(limits, default=None)


def page_cache_limit_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """The most that the page cache could hold for this process: the machine's memory, or what its cgroups allow, which
    counts pages of files, too."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total, memory_limit_bytes(proc, cgroup) or total)


def cgroup_folders(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The folders in which a limit of `controller` on this process may stand, from its own up to the root.

    A container often sees the host's path in /proc/self/cgroup, but only its own part of the tree: folders
    that are not there are left out, the root is always tried.
    """
    for line in read_lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            roots = [cgroup, cgroup / "unified"]
        elif controller in controllers.split(","):
            roots = [cgroup / controller, cgroup / controllers]
        else:
            continue
        for root in roots:
            folder = root / path.strip("/")
            for candidate in [folder, *folder.parents]:
                if candidate.is_dir():
                    yield candidate
                if candidate == root:
                    break


def read_words(path: Path) -> list[str]:
    """The words of the first line; none where the file cannot be read."""
    lines = read_lines(path)
    return lines[0].split() if lines else []


def read_lines(path: Path) -> list[str]:
    """The lines of a small file of the kernel; none where it is missing or not readable."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def file_system_of(folder: Path, proc: Path = PROC) -> str:
    """Type of the file system that holds `folder`: that of the longest mount point above it."""
    best, kind = -1, "unknown"
    target = folder.resolve()
    for line in read_lines(proc / "self" / "mountinfo"):
        before, _, after = line.partition(" - ")
        # The kernel writes spaces in paths as \040.
        mount = Path(before.split()[4].replace("\\040", " "))
        # The last of several mounts on one point is the one that is seen.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split()[0]
    return kind


def existing_parent(folder: Path) -> Path:
    """`folder`, or its nearest parent that exists."""
    return next(path for path in [folder, *folder.parents] if path.is_dir())
