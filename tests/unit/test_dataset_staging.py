"""Folders of what is not yet committed: who holds one, and who only looks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from fastfeed.dataset.staging import LOCK_NAME, FolderLock, is_live, naming
from fastfeed.storage.local import unheld


class TestHolding:
    def test_who_only_looks_is_waited_for(self, tmp_path: Path) -> None:
        """Looking takes the lock for a moment, and the writer comes just then."""
        folder = tmp_path / "staging"
        folder.mkdir()
        looker = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
        fcntl.flock(looker, fcntl.LOCK_EX)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            os.close(looker)

        lock = FolderLock.take(folder, pause)
        assert lock is not None
        assert len(pauses) == 1
        assert is_live(folder)
        lock.release()
        assert not is_live(folder)

    def test_a_holder_is_not_waited_for_without_end(self, tmp_path: Path) -> None:
        held = FolderLock.take(tmp_path)
        assert held is not None
        assert FolderLock.take(tmp_path, lambda seconds: None) is None
        held.release()


def test_a_look_at_a_file_needs_no_permission_to_write(tmp_path: Path) -> None:
    """A dry run of gc on a file system that is mounted read-only."""
    path = tmp_path / "manifest"
    path.write_bytes(b"x")
    with open(path, "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with unheld(path, os.O_RDONLY) as free:
            assert not free
    with unheld(path, os.O_RDONLY) as free:
        assert free


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    """What a write to an open file says has no name of its own."""
    folder = tmp_path / "staging"
    with pytest.raises(OSError, match="No space left on device") as caught, naming(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(folder)
