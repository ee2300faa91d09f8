"""A writer's own folder for what is not yet committed: `_feed/staging/<pid>-<random>/` inside the destination.

It lies on the destination's file system, so that committing links files and copies none; no reader looks at it. It
goes when the writer ends, when the interpreter exits, and never in a forked child. A process that is killed leaves it
behind: `fastfeed verify` names it, and it may be removed by hand.
"""

from __future__ import annotations

import os
import secrets
import shutil
import weakref
from contextlib import suppress
from pathlib import Path

from fastfeed.storage.local import LocalStorage


class Staging:
    """Not thread-safe. remove() is idempotent."""

    def __init__(self, storage: LocalStorage) -> None:
        root_existed = storage.root.exists()
        base = storage.staging()
        self.folder = base / f"{os.getpid()}-{secrets.token_hex(4)}"
        # With parents: another writer that ends right now may take the empty base folder away.
        self.folder.mkdir(parents=True)
        above = [base, base.parent] if root_existed else [base, base.parent, storage.root]
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _remove, self.folder, above, self._pid)

    @property
    def ours(self) -> bool:
        """False in a forked child: the folder is its parent's."""
        return os.getpid() == self._pid

    def remove(self) -> None:
        """Remove the folder with all in it, and the folders above it that are empty then."""
        self._finalizer()


def _remove(folder: Path, above: list[Path], pid: int) -> None:
    if os.getpid() != pid:
        return
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty: there is a dataset, or another writer
        for each in above:
            each.rmdir()
