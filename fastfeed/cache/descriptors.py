"""Descriptors of words and slabs for one client: opened anew, for reading only, and through a read-only mount where
there is one.

A descriptor can be opened again through /proc/self/fd, for writing too, by whoever may write the file: root, and the
daemon's own user. Not so where it was opened through a read-only mount. So the system service has one; the embedded
daemon, whose clients are its own user, does without.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from fastfeed.errors import ConfigError

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """What a client's data connection is given. Closes on leaving the block: after they were sent."""

    words_fd: int
    slots: int  # words in the file
    slabs: tuple[tuple[int, int, int], ...]  # descriptor, first slot, slots

    def close(self) -> None:
        for fd in (self.words_fd, *(slab[0] for slab in self.slabs)):
            os.close(fd)

    def __enter__(self) -> ClientFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_for_client(path: Path, readonly_folder: Path | None) -> int:
    """A read-only descriptor of `path`, opened in `readonly_folder` where that is given. OSError; ConfigError where the
    folder is not the same one, mounted read-only."""
    if readonly_folder is None:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    other = readonly_folder / path.name
    fd = os.open(other, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        ours, theirs = os.stat(path, follow_symlinks=False), os.fstat(fd)
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            raise ConfigError(f"{other} is not {path}: mount {path.parent} there, read-only (docs/operating.md).")
        if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            raise ConfigError(f"{readonly_folder} can be written: mount {path.parent} there read-only.")
    except BaseException:
        os.close(fd)
        raise
    return fd


def close_all(fds: Iterable[int]) -> None:
    """Close what was opened so far, when something failed."""
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def bind_read_only(folder: Path, at: Path) -> None:
    """Mount `folder` once more at `at`, read-only. Needs CAP_SYS_ADMIN; OSError names `at`."""
    _mount(folder, at, MS_BIND)
    # The flags of a bind are the mount's it came from; only a remount changes them.
    try:
        _mount(folder, at, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError:
        unbind(at)
        raise


def unbind(at: Path) -> None:
    """Take a mount of bind_read_only away; descriptors that were opened there stay good."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(at), MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(at))


def _mount(source: Path, target: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
