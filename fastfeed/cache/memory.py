"""Sealed memory: memfds that the daemon makes, that clients map, and that no client can change, grow or shrink."""

from __future__ import annotations

import fcntl
import os

# Of Linux 5.1; Python's fcntl has it from 3.13.
F_SEAL_FUTURE_WRITE = 0x0010
# Existing writable mappings (the maker's) go on; nobody gets a new one, nor by reopening /proc/self/fd.
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL


def make_memory(name: str, size_bytes: int) -> int:
    """A new memfd of zeros, not sealed yet: map it writable, then seal() it. The descriptor is the caller's."""
    fd = os.memfd_create(f"ff-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
    except OSError:
        os.close(fd)
        raise
    return fd


def seal(fd: int) -> None:
    """From now on the memory changes only through mappings that are there already."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)


def reopened_read_only(fd: int) -> int:
    """A new read-only description of the same memory: what is passed to a client has a position and flags of its
    own."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
