"""What the configuration is where nobody says anything: folders and limits that depend on the machine and the user.

Reads the machine (file systems, free space), changes nothing. Everything it needs comes in through `Machine`, so
that a test can be a machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastfeed.format.machine import existing_parent, file_system_of
from fastfeed.format.sizes import format_size
from fastfeed.wire.places import SOCKET_NAME, runtime_directory

# What a cache may take of a machine that nobody set up for it.
LIMIT_BYTES = 64 << 30
# At most one part in so many of what is free.
FREE_PARTS = 2
# Kinds of local disk file systems. A cache on anything else is only made where a configuration asks for it.
DISK_FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay")
RAM_FILE_SYSTEMS = ("tmpfs", "ramfs")
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the defaults depend on."""

    environment: Mapping[str, str]
    euid: int
    file_system: Callable[[Path], str]
    free_bytes: Callable[[Path], int]
    writable: Callable[[Path], bool]

    @classmethod
    def here(cls, environment: Mapping[str, str] | None = None) -> Machine:
        """This machine, and the user whom this process runs for."""
        return cls(
            environment=os.environ if environment is None else environment,
            euid=os.geteuid(),
            file_system=lambda folder: file_system_of(existing_parent(folder)),
            free_bytes=free_bytes,
            writable=lambda folder: os.access(existing_parent(folder), os.W_OK),
        )


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write to the file system of `folder`."""
    usage = os.statvfs(existing_parent(folder))
    return usage.f_bavail * usage.f_frsize


def held_bytes(folder: Path) -> int:
    """Bytes on disk of the files below `folder`: what a cache holds that is there already."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(root, name))
            total += 512 * status.st_blocks if stat.S_ISREG(status.st_mode) else 0
    return total


def runtime(machine: Machine) -> tuple[Path, str]:
    """Runtime folder, and why that one."""
    folder = runtime_directory(machine.environment, machine.euid)
    return folder, f"default for user {machine.euid}"


def socket(runtime: Path) -> tuple[Path, str]:
    """Where the daemon listens."""
    return runtime / SOCKET_NAME, "default: in runtime"


def words(machine: Machine, runtime: Path) -> tuple[Path, str]:
    """Folder of the slot words, which readers map: in RAM, where a failing disk cannot break them."""
    if machine.file_system(runtime) in RAM_FILE_SYSTEMS:
        return runtime, "default: in runtime, which is in RAM"
    # Two daemons of one user have two runtime folders: neither may take the other's words.
    name = sha256(os.fsencode(runtime)).hexdigest()[:16]
    return SHARED_MEMORY / f"fastfeed-{machine.euid}" / name, "default: in RAM, which runtime is not"


def disk(machine: Machine) -> tuple[Path, str]:
    """The folder of the slabs, and why that one."""
    given = machine.environment.get("XDG_CACHE_HOME")
    home = machine.environment.get("HOME")
    folder = Path(given) if given else Path(home) / ".cache" if home else None
    fallback = Path(f"/var/tmp/fastfeed-{machine.euid}")
    if folder is None or not folder.is_absolute():
        return fallback, "default: there is no home"
    kind = machine.file_system(folder)
    if kind not in DISK_FILE_SYSTEMS:
        return fallback, f"default: {folder} is on {kind}, not on a local disk"
    if not machine.writable(folder):
        return fallback, f"default: {folder} is not writable"
    return folder / "fastfeed", "default"


def limit(machine: Machine, folder: Path) -> tuple[int, str]:
    """Bytes of a pool on `folder`, and why so many. What the pool holds already counts as free."""
    free = machine.free_bytes(folder) + held_bytes(folder)
    if free // FREE_PARTS < LIMIT_BYTES:
        return free // FREE_PARTS >> 20 << 20, f"default: half of the {format_size(free)} free at {folder}"
    return LIMIT_BYTES, "default"
