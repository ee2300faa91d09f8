"""Pools on real small disks that are too small, or that somebody else fills: ext4 in a file, and a tmpfs. Root only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastfeed.cache.options import DiskOptions
from fastfeed.errors import CacheFullError
from tests.helpers.cache_pools import SLOT_AND_TABLE, Place, keep_house, limit_of, place, put, whole
from tests.helpers.loop_disk import loop_disk, needs_root

DISK_BYTES = 64 << 20
SLOTS = 40


@contextlib.contextmanager
def small_tmpfs(folder: Path) -> Iterator[Path]:
    at = folder / "tmpfs"
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    made = loop_disk(tmp_path, DISK_BYTES) if request.param == "ext4" else small_tmpfs(tmp_path)
    with made as at:
        yield at


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


def on(disk: Path) -> tuple[DiskOptions, ...]:
    return (DiskOptions(name="small", path=disk / "cache"),)


def fill_up(disk: Path) -> Path:
    """Somebody else's file, as large as it can be."""
    path = disk / "somebody's"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return path


def usage(folder: Path) -> int:
    return sum(512 * path.lstat().st_blocks for path in folder.rglob("*"))


@needs_root
class TestAFullDisk:
    def test_a_limit_that_the_disk_cannot_hold_is_a_clear_error(self, here: Place, disk: Path) -> None:
        with pytest.raises(CacheFullError, match="Lower the limit"):
            here.open(slots=100, disks=on(disk))
        fill_up(disk)
        with pytest.raises(CacheFullError, match="too few for 16 chunks"):
            here.open(slots=SLOTS, disks=on(disk))

    def test_a_slab_that_is_allocated_whole_needs_its_room_at_the_start(self, here: Place, disk: Path) -> None:
        other = disk / "half"
        other.write_bytes(bytes(DISK_BYTES // 2))
        with pytest.raises(CacheFullError, match="has no room for a slab"):
            here.open(slots=SLOTS, disks=on(disk), growth_bytes=None)
        other.unlink()
        with here.open(slots=SLOTS, disks=on(disk), growth_bytes=None) as pool:
            fill_up(disk)
            assert all(put(pool, chunk) for chunk in range(SLOTS)), "its room is its own"
            assert all(whole(pool, chunk) for chunk in range(SLOTS))

    def test_a_disk_that_others_fill_costs_growth_and_nothing_else(self, here: Place, disk: Path) -> None:
        with here.open(slots=SLOTS, disks=on(disk), growth_bytes=4 * SLOT_AND_TABLE) as pool:
            assert all(put(pool, chunk) for chunk in range(18))
            others = fill_up(disk)
            kept = [put(pool, chunk) for chunk in range(18, 60)]
            assert kept.count(False) <= 2, "the slots that are there are used again"
            assert sum(whole(pool, chunk) for chunk in range(60)) >= 18
            assert pool.used_bytes <= limit_of(SLOTS)
            others.unlink()
            here.clock.now_s += 61
            keep_house(pool)
            for chunk in range(60, 110):
                assert put(pool, chunk)
                assert usage(disk / "cache") <= limit_of(SLOTS)
            assert pool.stats().published_slots == SLOTS

    def test_a_slot_that_gets_no_block_is_fenced_and_comes_back(self, here: Place, disk: Path) -> None:
        """A sparse slab stands for a file system that needs a new block for each write."""
        with here.open(slots=20, disks=on(disk)) as pool:
            put(pool, 0)
        slab = disk / "cache" / "default" / "slab.0"
        os.truncate(slab, 20 * (SLOT_AND_TABLE - 64))
        with here.open(slots=20, disks=on(disk)) as pool:
            others = fill_up(disk)
            assert whole(pool, 0)
            assert sum(put(pool, chunk) for chunk in range(1, 20)) <= 4
            assert pool.stats().disks[0].fenced_slots > 10
            assert pool.stats().disks[0].state == "ok"
            assert any(whole(pool, chunk) for chunk in range(20)), "reads never fail because the disk is full"
            others.unlink()
            for _ in range(3):
                here.clock.now_s += 601
                keep_house(pool)
            assert pool.stats().disks[0].fenced_slots == 0
            assert all(put(pool, chunk) for chunk in range(20, 39))


@needs_root
def test_a_file_system_that_vanished_is_an_error_of_its_disk(here: Place, tmp_path: Path) -> None:
    with loop_disk(tmp_path, DISK_BYTES) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError) as caught:
            here.open(slots=SLOTS, disks=on(disk))
        assert caught.value.errno == errno.EROFS
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    shutil.rmtree(tmp_path / "mounted", ignore_errors=True)
