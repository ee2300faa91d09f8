"""The cache is never over its limit and never stuck: many readers, several datasets, disks that others fill, frames
larger than all of it, limits that change.

Used bytes are what the files take on the disk, not what the daemon says. `FASTFEED_PROOF_STRESS_S=600 python -m pytest
--timeout=0 -s tests/fault/test_cache_limits.py` runs the stress for ten minutes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastfeed as ff
from fastfeed._native.cache import SLOT_BYTES
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.cache_readers import Readers, write_dataset, write_sums
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.loop_disk import loop_disk, needs_root

STRESS_S = float(os.environ.get("FASTFEED_PROOF_STRESS_S", "6"))
WAIT_S = 90.0
SIXTEEN_SLOTS = f"{16 * (SLOT_BYTES + 64) + (128 << 10)}"
FRAME_BYTES = 150 << 20
# Of a slab on a disk that others fill. A step that failed may have left them room for one more.
GROWTH_BYTES = 4 << 20


def used_bytes(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def datasets_at(folder: Path, count: int, rows: int, row_bytes: int) -> tuple[list[str], list[str]]:
    """Paths below `folder`, and the files of their sums."""
    names, sums = [], []
    for number in range(count):
        dataset = write_dataset(folder / f"d{number}", rows, row_bytes, seed=number)
        names.append(f"d{number}")
        sums.append(str(write_sums(dataset, folder / f"d{number}.npy")))
    return names, sums


def test_files_never_take_more_than_the_limit_with_16_readers_of_4_datasets(tmp_path: Path) -> None:
    """Nor after the limit was lowered and raised again while they read."""
    names, sums = datasets_at(tmp_path / "origin", 4, 600, 20_000)
    limits = {"high": 24 << 20, "low": 10 << 20}
    with (FaultyHttp(tmp_path / "origin") as origin,
          CacheDaemon(tmp_path / "cache", limit=str(limits["high"]), growth="2MiB") as daemon):
        urls = [f"{origin.url}/{name}" for name in names]
        with Readers(16, tmp_path / "readers.log", url=urls, sums=sums, how=["take"] * 3 + ["loader"],
                     socket=str(daemon.socket)) as readers:
            readers.wait_for(16, WAIT_S)
            most = samples = 0
            ends = time.monotonic() + STRESS_S
            while time.monotonic() < ends:
                readers.assert_alive()
                now = used_bytes(daemon.disks[0])
                most, samples = max(most, now), samples + 1
                assert now <= limits["high"]
            daemon.reload(str(limits["low"]))
            lowered = time.monotonic()
            until(lambda: used_bytes(daemon.disks[0]) <= limits["low"],
                  lambda: f"{used_bytes(daemon.disks[0])} bytes used of {limits['low']}; {daemon.said()}")
            honoured_s = time.monotonic() - lowered
            readers.wait_for(readers.checks + 500, WAIT_S)
            assert used_bytes(daemon.disks[0]) <= limits["low"]
            daemon.reload(str(limits["high"]))
            until(lambda: used_bytes(daemon.disks[0]) > limits["low"], daemon.said)
            assert used_bytes(daemon.disks[0]) <= limits["high"]
            readers.finish()
    print(f"at most {most} of {limits['high']} bytes in {samples} looks; a lower limit honoured in {honoured_s:.1f} s; "
          f"{readers.checks} samples")
    assert most > limits["high"] // 2, "the cache was never filled: this proves nothing"
    assert honoured_s < 10
    assert (readers.wrong, readers.errors) == ([], {}), readers.last_error()


def test_64_readers_that_dawdle_get_on_with_16_slots(tmp_path: Path) -> None:
    """No deadlock, and no livelock: each request is done in at most two fetches."""
    names, sums = datasets_at(tmp_path / "origin", 1, 2000, 20_000)
    with (FaultyHttp(tmp_path / "origin") as origin,
          CacheDaemon(tmp_path / "cache", limit=SIXTEEN_SLOTS) as daemon,
          Readers(64, tmp_path / "readers.log", url=f"{origin.url}/{names[0]}", sums=sums[0], dawdle_ms=50, batch=4,
                  socket=str(daemon.socket)) as readers):
        readers.wait_for(64, 3 * WAIT_S)
        for _ in range(3):
            before = readers.each_checks
            until(lambda before=before: all(now > then for now, then in zip(readers.each_checks, before, strict=True)),
                  lambda: f"some of 64 readers stand still: {readers.each_checks}")
        pool = daemon.pool()
        readers.finish()
    fetch = pool["fetch"]
    print(f"{readers.checks} samples, {fetch['requests']} requests, {fetch['refetches']} chunks fetched again, "
          f"at most {fetch['request_fetches_max']} fetches for a request")
    assert pool["slots"] == 16
    assert fetch["refetches"] > 0, "no chunk was lost: this proves nothing"
    assert 1 <= fetch["request_fetches_max"] <= 2
    assert (readers.wrong, readers.errors) == ([], {}), readers.last_error()


def test_a_frame_of_150_mb_passes_a_cache_of_64_mb(tmp_path: Path) -> None:
    values = [np.random.default_rng(row).bytes(FRAME_BYTES) for row in range(2)]
    with ff.DatasetWriter(tmp_path / "origin" / "data", ff.Schema({"data": ff.Bytes()})) as writer:
        for value in values:
            writer.write({"data": value})
    with FaultyHttp(tmp_path / "origin") as origin, CacheDaemon(tmp_path / "cache", limit="64MB") as daemon:
        dataset = ff.open(f"{origin.url}/data", cache=str(daemon.socket))
        for row in (1, 0, 1):
            assert dataset[row]["data"] == values[row]
        assert used_bytes(daemon.disks[0]) <= 64_000_000


def test_a_disk_that_is_too_small_is_an_error_at_the_start_that_says_what_to_do(tmp_path: Path) -> None:
    daemon = CacheDaemon(tmp_path / "cache", limit="1000TiB")
    try:
        with pytest.raises(AssertionError, match=r"ended with code 6(.|\n)*Lower the limit, or add a disk"):
            daemon.start()
    finally:
        daemon.close()


@needs_root
def test_a_disk_that_others_fill_does_not_matter(tmp_path: Path) -> None:
    """On a real file system of 64 MB: the slab grows until others took the rest; what has no room passes through; when
    they have gone, it grows on."""
    names, sums = datasets_at(tmp_path / "origin", 1, 2400, 20_000)
    with loop_disk(tmp_path, 64 << 20) as place, FaultyHttp(tmp_path / "origin") as origin:
        origin.set(bytes_per_s=8 << 20)  # the others are faster than the slab grows
        daemon = CacheDaemon(tmp_path / "cache", limit="48MiB", growth=str(GROWTH_BYTES), disks=[place / "cache"])
        with daemon, Readers(4, tmp_path / "readers.log", url=f"{origin.url}/{names[0]}", sums=sums[0],
                             socket=str(daemon.socket)) as readers:
            until(lambda: used_bytes(place / "cache") > 8 << 20, daemon.said)
            with contextlib.suppress(OSError), open(place / "others", "wb", buffering=0) as others:
                while others.write(bytes(64 << 10)):
                    pass
            usage = os.statvfs(place)
            assert usage.f_bavail * usage.f_frsize < SLOT_BYTES
            # Each reads on, and what is kept does not grow.
            origin.set()
            full, before = used_bytes(place / "cache"), readers.each_checks
            until(lambda: min(now - then for now, then in zip(readers.each_checks, before, strict=True)) >= 1000,
                  lambda: f"a reader stands still on a full disk: {readers.each_checks}; {daemon.said()}")
            assert used_bytes(place / "cache") <= full + GROWTH_BYTES
            assert full < 36 << 20, f"{full} bytes were kept before the disk was full: this proves nothing"
            (place / "others").unlink()
            until(lambda: used_bytes(place / "cache") > full + 2 * GROWTH_BYTES,
                  lambda: f"{used_bytes(place / 'cache')} bytes, {full} on the full disk: it grows no more")
            readers.finish()
        assert os.statvfs(place).f_bavail > 0
    assert (readers.wrong, readers.errors) == ([], {}), readers.last_error()
