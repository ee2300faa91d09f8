"""The lock that says: this folder has an owner. A file of its own, so that nobody who is given a slab or the words
gets the lock with it; flock(2), so that it is free the moment its process ends, however that ends.

The file is made once and never removed: two processes that lock two files of one name would both be owners.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fastfeed.errors import ConfigError


class OwnerLock:
    """Held from construction to close(). ConfigError where another process holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise ConfigError(
                f"{path.parent} is in use by another cache daemon (process {holder or 'unknown'}). Use its socket, "
                "stop it, or give this one folders of its own."
            ) from error
        # For the message above only; the lock is the truth.
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
