"""Which part of a dataset's files the kernel holds in memory, and asking it to let go. Files of this machine only."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.payload import LocalPayload

# With so many pages looked at, a share is off by more than 0.1 once in a thousand times.
PROBE_COUNT = 256
# What a file system says that cannot tell whether a read would wait.
CANNOT_TELL = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def local_files(dataset: Dataset) -> list[Path] | None:
    """The files of the dataset's shards; None where they are read through the cache."""
    return [shard.path for shard in dataset.shards()] if isinstance(dataset.opened.payload, LocalPayload) else None


def cached_share(files: Sequence[Path], probe_count: int = PROBE_COUNT) -> float | None:
    """About which share of the bytes of `files` a read would find in memory; None where the system cannot tell.

    A page that is looked at and not there is read by the kernel afterwards, so each call looks at others.
    """
    sizes = [file.stat().st_size for file in files]
    if sum(sizes) == 0:
        return None
    draw = random.Random()
    chosen = draw.choices(range(len(files)), weights=sizes, k=probe_count)
    found = 0
    for number in sorted(chosen):
        try:
            found += _is_cached(files[number], draw.randrange(sizes[number]))
        except OSError as error:
            if error.errno in CANNOT_TELL:
                return None
            raise
    return found / probe_count


def drop(files: Sequence[Path]) -> None:
    """Ask the kernel to forget the pages of `files`. It keeps those that are not written back yet, or mapped."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _is_cached(file: Path, offset: int) -> bool:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        # Else the kernel reads the neighbours of a page that is looked at, too.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
