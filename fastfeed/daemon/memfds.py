"""Memory that clients are given as descriptors: sealed, so that nobody cuts it, and only its writer changes it.

A seal holds for every descriptor of the file, also for one that was reopened by /proc/self/fd, and for root.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from fastfeed.cache.memory import make_memory


def seal_size(descriptor: int) -> None:
    """Its length stays; whoever has a descriptor may write."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def writable_memory(name: str, size_bytes: int) -> tuple[int, mmap.mmap]:
    """A memfd of so many bytes, at least one, and a mapping to fill it by. Then: `seal_filled`."""
    descriptor = make_memory(name, size_bytes)
    try:
        return descriptor, mmap.mmap(descriptor, size_bytes)
    except BaseException:
        os.close(descriptor)
        raise


def seal_filled(descriptor: int, mapped: mmap.mmap) -> None:
    """Its content stays for ever. The mapping is closed."""
    mapped.close()
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    seal_size(descriptor)


def sealed_bytes(name: str, data: bytes | bytearray | memoryview) -> int:
    """A memfd with this content, for ever."""
    descriptor = make_memory(name, 0)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        seal_size(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
