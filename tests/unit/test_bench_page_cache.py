"""What is said of the page cache, on file systems that tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastfeed.bench.page_cache import cached_share, drop


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files of 16 MiB, on the disk and just written."""
    made = [tmp_path / "a", tmp_path / "b"]
    for file in made:
        with open(file, "wb") as out:
            out.write(bytes(16 << 20))
            os.fsync(out.fileno())
    return made


def test_what_was_just_written_is_in_memory_and_what_was_dropped_is_not(files: list[Path]) -> None:
    before = cached_share(files)
    drop(files)
    after = cached_share(files)
    if before is not None and after != before:  # a file system in memory keeps all
        # A page that is being written back counts as missing; what one look brings in, another may find.
        assert (before, after) == pytest.approx((1.0, 0.0), abs=0.1)


def test_a_share_is_that_of_the_bytes(files: list[Path]) -> None:
    drop(files[:1])
    share = cached_share(files)
    if share is not None and share < 0.9:  # not a file system in memory
        assert share == pytest.approx(0.5, abs=0.2)


def test_of_no_bytes_and_of_files_that_cannot_tell_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert cached_share([tmp_path / "empty"]) is None
    assert cached_share([]) is None
