"""Folders for what is not yet committed: `_feed/staging/<name>/` inside the destination.

They lie on the destination's file system, so that committing links files and copies none (for an object store they lie
on this machine); no reader looks at them.
Whoever makes one holds it by flock(2) on a file in it, `lock`: the kernel gives the lock back in the moment in which
its holder ends, however that happens, so a folder whose lock is free belongs to nobody (`is_live`).

A writer's folder has a name of its own, `<pid>-<random>`. It goes when the writer ends, when the interpreter exits,
and never in a forked child. A process that is killed leaves it behind; `fastfeed gc` takes it away.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from fastfeed.storage.local import suppress_no_locks
from fastfeed.storage.protocol import Storage

LOCK_NAME = "lock"
# A lock file that is replaced while we wait for it was removed by an owner who ended: this many in a row are none.
LOCK_ATTEMPTS_MAX = 16
# Whoever looks at a folder (`is_live`) has its lock for a moment, or longer where the machine is busy: a lock that is
# held for a second is a holder's.
LOOK_TIMEOUT_S = 1.0
LOOK_POLL_S = 0.005


class FolderLock:
    """A hold on a staging folder. Ends with release(), or with the process; a forked child shares it."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path, pause: Callable[[float], None] = time.sleep) -> Self | None:
        """Hold `folder`, which is made where it does not exist; None where another process holds it."""
        for _ in range(LOCK_ATTEMPTS_MAX):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # its owner has ended and removes the folder
            try:
                taken = _lock(descriptor, pause)
            except OSError:
                os.close(descriptor)
                raise
            if not taken:
                os.close(descriptor)
                return None
            if _still_there(folder, descriptor):
                return cls(folder, descriptor)
            os.close(descriptor)  # we hold a file that its owner has removed meanwhile
        return None

    def release(self) -> None:
        """Give the folder back. Idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def is_live(folder: Path) -> bool:
    """Whether a running process holds the staging folder. Changes nothing; False where there is no lock."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: NFS wants a writer for an exclusive one
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int, pause: Callable[[float], None]) -> bool:
    """Whether we have the lock, within LOOK_TIMEOUT_S."""
    deadline_s = time.monotonic() + LOOK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
        else:
            return True
        pause(LOOK_POLL_S)


def _still_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder / LOCK_NAME), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class Staging:
    """A writer's folder, held while the writer lives. Not thread-safe. remove() is idempotent."""

    def __init__(self, storage: Storage) -> None:
        existed = storage.exists()
        base = storage.staging()
        self.folder = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        # Makes parents too: another writer that ends right now may take the empty base folder away.
        lock: FolderLock | None = FolderLock(self.folder, -1)
        with suppress_no_locks():  # nobody else knows this name, and nothing is collected on such a file system
            lock = FolderLock.take(self.folder)
        assert lock is not None
        self._pid = os.getpid()
        above = storage.above_staging(existed=existed)
        self._finalizer = weakref.finalize(self, _remove, lock, above, self._pid)

    @property
    def ours(self) -> bool:
        """False in a forked child: the folder is its parent's."""
        return os.getpid() == self._pid

    def remove(self) -> None:
        """Remove the folder with all in it, and the folders above it that are empty then."""
        self._finalizer()


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Failures of the system say where: those of a write to an open file, like a full disk, do not by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def remove_staging(lock: FolderLock, above: Sequence[Path]) -> None:
    """Remove a folder that we hold with all in it, and those of the folders above it that are empty then."""
    shutil.rmtree(lock.folder, ignore_errors=True)
    lock.release()
    with suppress(OSError):  # not empty: there is a dataset, or another writer
        for each in above:
            each.rmdir()


def _remove(lock: FolderLock, above: Sequence[Path], pid: int) -> None:
    if os.getpid() == pid:
        remove_staging(lock, above)
