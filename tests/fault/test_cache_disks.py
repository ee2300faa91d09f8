"""One of two disks of the cache fails, or hangs for 30 s, under readers: no wrong byte, no error, no SIGBUS, no stall,
and the other disk goes on; when it is well again, it is taken back.

The disk is broken for daemon and readers alike, by a preloaded library (disk_shim.c). `FASTFEED_PROOF_HANG_S=30 python
-m pytest -s tests/fault/test_cache_disks.py` is the long run; here it hangs for 6 s, which is longer than any deadline
of a read or a write. Each disk has half of the data, so with one of them gone at least half of the throughput is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastfeed.daemon.keeper import SLOW_DISK_S
from tests.helpers.bad_disk import BadDisk, Mode
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.cache_readers import Readers, write_dataset, write_sums
from tests.helpers.faulty_http import FaultyHttp

HANG_S = float(os.environ.get("FASTFEED_PROOF_HANG_S", "6"))
READERS = 4
WAIT_S = 90.0
# A reader gives up a read of a slab after 1 s (CacheOptions::slab_read_s); then the daemon waits for the disk so long.
DEADLINE_S = 1.0 + SLOW_DISK_S
# Nobody stands still for longer: the deadline, and what a busy machine needs for the rest.
STALL_S_MAX = DEADLINE_S + 2.0
# What a disk costs at most: what it has of the data.
DISK_SHARE = 0.5
SETTINGS = '[limits]\ndisk_timeout = "2s"'


@dataclass
class Node:
    """A daemon with two disks, all data warm on both, and readers."""

    disk: BadDisk
    daemon: CacheDaemon
    readers: Readers

    def states(self) -> dict[str, str]:
        return {disk["name"]: disk["state"] for disk in self.daemon.pool()["disks"]}

    def wait_for_state(self, *states: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while (now := self.states()["d1"]) not in states:
            assert time.monotonic() < deadline, f"disk d1 is {now}, not {states}; {self.daemon.said()}"
        return self.states()

    def watch(self, seconds: float) -> tuple[float, float]:
        """Samples a second of all readers, and the longest time in which one of them got nothing."""
        began = time.monotonic()
        first, last = self.readers.checks, self.readers.each_checks
        moved, worst = [began] * READERS, 0.0
        while (now := time.monotonic()) < began + seconds:
            self.readers.assert_alive()
            for number, checks in enumerate(self.readers.each_checks):
                if checks > last[number]:
                    moved[number] = now
                worst = max(worst, now - moved[number])
            last = self.readers.each_checks
            time.sleep(0.02)
        return (self.readers.checks - first) / (time.monotonic() - began), worst

    def assert_clean(self) -> None:
        assert self.readers.wrong == []
        assert self.readers.errors == {}, self.readers.last_error()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    dataset = write_dataset(tmp_path / "origin" / "data", 1500, 20_000)
    sums = write_sums(dataset, tmp_path / "sums.npy")
    disk = BadDisk(tmp_path, match="/disk1/")
    daemon = CacheDaemon(tmp_path / "cache", limit="64MiB", disks=[tmp_path / "disk0", tmp_path / "disk1"],
                         growth="4MiB", environment=disk.environment, settings=SETTINGS)
    try:
        with (FaultyHttp(tmp_path / "origin") as origin, daemon,
              Readers(READERS, tmp_path / "readers.log", environment=disk.environment, url=f"{origin.url}/data",
                      sums=str(sums), dawdle_ms=4, socket=str(daemon.socket)) as readers):
            found = Node(disk, daemon, readers)
            readers.wait_for(8000, WAIT_S)
            used = [each["used_bytes"] for each in daemon.pool()["disks"]]
            assert min(used) > 1 << 20, f"both disks hold something: {used}"
            yield found
    finally:
        disk.set(Mode.NOTHING)
        disk.close()


def test_a_disk_with_io_errors_costs_at_most_its_share_and_nobody_a_sample_and_comes_back(node: Node) -> None:
    before, _ = node.watch(2)
    node.disk.set(Mode.EIO_BOTH)
    rate, worst = node.watch(2)
    reads, _ = node.disk.hits()
    out = node.wait_for_state("out")
    steady, _ = node.watch(2)
    node.disk.set(Mode.NOTHING)
    back = node.wait_for_state("ok")
    node.readers.wait_for(node.readers.checks + 1000, WAIT_S)
    after, _ = node.watch(2)
    node.readers.finish()
    print(f"EIO: {before:.0f} samples/s before, {rate:.0f} while {reads} reads failed "
          f"(longest gap {worst:.2f} s), {steady:.0f} when the disk was out, {after:.0f} after; {out} -> {back}")
    well = min(before, after)  # of two seconds on a busy machine one may be slow by itself
    assert reads > 0
    assert rate >= (1 - DISK_SHARE) * well
    assert steady >= (1 - DISK_SHARE) * well
    assert worst < STALL_S_MAX
    node.assert_clean()


def test_a_disk_that_hangs_stalls_nobody_beyond_a_deadline_and_comes_back(node: Node) -> None:
    """But for that one deadline, throughput falls by at most the disk's share."""
    before, _ = node.watch(2)
    node.disk.set(Mode.HANG)
    rate, worst = node.watch(HANG_S)
    node.disk.set(Mode.NOTHING)
    node.wait_for_state("ok")
    node.readers.wait_for(node.readers.checks + 1000, WAIT_S)
    after, _ = node.watch(2)
    node.readers.finish()
    print(f"hung for {HANG_S:.0f} s: {before:.0f} samples/s before, {rate:.0f} meanwhile (longest gap {worst:.2f} s), "
          f"{after:.0f} after; {node.disk.hits()}")
    assert sum(node.disk.hits()) > 0
    assert worst < STALL_S_MAX
    assert rate * HANG_S >= (1 - DISK_SHARE) * min(before, after) * (HANG_S - DEADLINE_S)
    node.assert_clean()
