"""Where slabs and words may lie: local disks for the one, RAM for the other. Looks at the machine, changes only
modes."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from fastfeed.errors import ConfigError
from fastfeed.format.machine import NETWORK_FILE_SYSTEMS, existing_parent, file_system_of

RAM_FILE_SYSTEMS = ("tmpfs", "ramfs")


def check_disk(folder: Path, file_system: Callable[[Path], str] = file_system_of) -> None:
    """ConfigError where `folder` is on a file system that another machine, or a process of this one, may change or
    stop."""
    kind = file_system(existing_parent(folder))
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse"):
        raise ConfigError(
            f"{folder} is on {kind}: slabs need a file system of this machine's kernel on a local disk (ext4, "
            "xfs, ...). Set the cache's folder to one (FASTFEED_CACHE_DIR, or disks.NAME.path)."
        )


def check_ram(folder: Path) -> None:
    """ConfigError where `folder` is not in RAM: readers map the words, and a failing disk would kill them with
    SIGBUS."""
    kind = file_system_of(existing_parent(folder))
    if kind not in RAM_FILE_SYSTEMS:
        raise ConfigError(
            f"{folder} is on {kind}: the slot words must lie in RAM (tmpfs). Use a folder in /dev/shm or /run (words = "
            "...)."
        )


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700, or check that it is ours alone. ConfigError, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(
            f"{folder} belongs to user {status.st_uid}, or is no folder; the cache runs as user {os.geteuid()}. Remove "
            "it, or use another folder."
        )
    if status.st_mode & 0o077:
        os.chmod(folder, 0o700)


def disk_bytes(folder: Path) -> tuple[int, int]:
    """Size of the disk that holds `folder`, and what this user may still write to it."""
    usage = os.statvfs(existing_parent(folder))
    return usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize


def is_alone(fd: int) -> bool:
    """Whether `fd` is the only open description of its file on this machine, in whatever container.

    The kernel grants a write lease only then (fcntl(2), F_SETLEASE). False where it cannot be asked.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def boot_id(proc: Path = Path("/proc")) -> bytes:
    """16 bytes that change whenever the machine starts."""
    return bytes.fromhex((proc / "sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
