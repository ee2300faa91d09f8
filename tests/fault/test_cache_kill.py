"""kill -9 of the daemon in the middle of a fill under 8 readers, and of readers in the middle of a read.

The origin is slow, so that the fill lasts; the disk tears writes in two with a pause between (disk_shim.c), so that
kills hit writes. After each kill the files say what was published: the daemon is dead, nothing moves. 20 kills;
`FASTFEED_PROOF_KILLS=200 python -m pytest --timeout=0 -s tests/fault/test_cache_kill.py` does more.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.cache import CHUNK_BYTES, SLOT_BYTES, Slab
from fastfeed.dataset.folder import read_manifest
from fastfeed.storage.local import LocalStorage
from tests.helpers.bad_disk import BadDisk, Mode
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.cache_readers import Readers, write_dataset, write_sums
from tests.helpers.faulty_http import FaultyHttp

KILLS = int(os.environ.get("FASTFEED_PROOF_KILLS", "20"))
READERS = 8
ROW_BYTES = 20_000
# What the origin gives a second, and for how long there is something to fetch: longer than the kills take.
ORIGIN_BYTES_PER_S = 20 << 20
FILL_S = 0.4 * KILLS
TORN_WRITE_MS = 20
FILL_S_MAX = 0.2  # from the first write of a life to the kill
# After every kill. What others on the machine took away is measured, and is not the daemon's.
SERVICE_S_MAX = 2.0
WARM_SHARE_MIN = 0.99
WAIT_S = 60.0


@dataclass
class Files:
    """What a dead daemon has left: the words, and which slots are published, with their generations."""

    words: np.ndarray
    published: dict[int, int]

    @classmethod
    def of(cls, daemon: CacheDaemon) -> Files:
        words = np.fromfile(daemon.runtime / "default.words", np.uint64)
        published = {}
        path = daemon.disks[0] / "default" / "slab.0"
        slots = path.stat().st_size // SLOT_BYTES
        with open(path, "rb") as file:
            slab = Slab(file.fileno(), 0, slots)
            for slot in range(slots):
                info = slab.verify(slot)
                if info is not None and info.generation == words[slot] and words[slot] % 2 == 0:
                    published[slot] = info.generation
            slab.close()
        return cls(words, published)

    def in_write(self, before: Files) -> int:
        """Words that are odd now, and were not so at the kill before."""
        return int(((self.words % 2 == 1) & (self.words != before.words)).sum())

    def kept(self, before: Files) -> int:
        """Slots that were published then and are now, by the same fill."""
        return sum(self.published.get(slot) == generation for slot, generation in before.published.items())


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@pytest.mark.timeout(300 + 10 * KILLS)
def test_readers_do_not_notice_that_the_daemon_is_killed_in_the_middle_of_a_fill(tmp_path: Path) -> None:
    draw = random.Random(KILLS)
    dataset = write_dataset(tmp_path / "origin" / "data", int(ORIGIN_BYTES_PER_S * FILL_S / ROW_BYTES), ROW_BYTES,
                            shard_size="16MiB")
    sums = write_sums(dataset, tmp_path / "sums.npy")
    payloads = read_manifest(LocalStorage(tmp_path / "origin" / "data"), dataset.snapshot).shards.payload_ends.tolist()
    chunks = sum(-(-payload // CHUNK_BYTES) for payload in payloads)  # footers are not read by who knows the index
    disk = BadDisk(tmp_path, match="/slab.0")
    disk.set(Mode.TEAR, TORN_WRITE_MS)
    # As many slots as chunks, and two more: a leaked slot would keep a chunk out.
    daemon = CacheDaemon(tmp_path / "cache", limit=f"{(chunks + 2) * (SLOT_BYTES + 64) + (128 << 10)}",
                         environment=disk.environment)
    with FaultyHttp(tmp_path / "origin") as origin, daemon:
        origin.set(bytes_per_s=ORIGIN_BYTES_PER_S)
        with Readers(READERS, tmp_path / "readers.log", url=f"{origin.url}/data", sums=str(sums), dawdle_ms=20, batch=4,
                     socket=str(daemon.socket)) as readers:
            readers.wait_for(READERS, WAIT_S)
            services_s: list[float] = []
            own_s: list[float] = []
            in_write = published = kept = 0
            before = None
            for _ in range(KILLS):
                begun = disk.hits()[1]
                until(lambda begun=begun: disk.hits()[1] > begun, readers.last_error)
                time.sleep(draw.uniform(0, FILL_S_MAX))  # the instant of the kill is what is drawn
                daemon.kill()
                files = Files.of(daemon)
                if before is not None:
                    in_write += files.in_write(before)
                    published += len(before.published)
                    kept += files.kept(before)
                before = files
                services_s.append(daemon.start())
                own_s.append(services_s[-1] - daemon.starved_s)
                readers.assert_alive()
            mid_fill = len(files.published) < chunks
            origin.set()
            disk.set(Mode.NOTHING)
            served = readers.checks
            readers.wait_for(served + READERS, WAIT_S)
            # Everything comes to be warm: no slot was lost on the way.
            until(lambda: slots_used(daemon) >= chunks, lambda: f"{slots_used(daemon)} of {chunks} chunks are kept")
            readers.finish()
            fetched = origin.counts()["bytes"]
    disk.close()
    print(f"{KILLS} kills, {in_write} inside a write; service after {np.median(services_s):.2f} s (worst "
          f"{max(services_s):.2f}; less its waits for a processor {max(own_s):.2f}); {kept} of {published} published "
          f"chunks still warm; {readers.checks} samples; {fetched / sum(payloads):.3f} x the bytes fetched")
    assert readers.wrong == []
    assert readers.errors == {}, readers.last_error()
    assert in_write > 0, "no kill hit a write: this proves nothing"
    assert mid_fill, "the fill was over before the kills were: this proves little"
    assert max(own_s) < SERVICE_S_MAX, f"{services_s}, of these its own {own_s}"
    assert kept >= WARM_SHARE_MIN * published


def slots_used(daemon: CacheDaemon) -> int:
    used: int = daemon.pool()["disks"][0]["used_bytes"] // (SLOT_BYTES + 64)
    return used


def clients_descriptors(pid: int) -> int:
    """Unix sockets, and the memfds that are made for clients; connections to origins are kept for whoever comes."""
    with open("/proc/net/unix") as lines:
        unix = {f"socket:[{line.split()[6]}]" for line in list(lines)[1:]}
    found = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            place = os.readlink(f"/proc/{pid}/fd/{number}")
            found += place in unix or place.startswith(("/memfd:ff-ring", "/memfd:ff-page", "/memfd:ff-map"))
    return found


def test_readers_that_are_killed_leave_nothing_behind(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "origin" / "data", 400, 50_000)
    sums = write_sums(dataset, tmp_path / "sums.npy")

    def descriptors() -> int:
        return clients_descriptors(daemon.pid)

    with FaultyHttp(tmp_path / "origin") as origin, CacheDaemon(tmp_path / "cache", limit="8MiB") as daemon:
        origin.set(bytes_per_s=20 << 20)
        options = {"url": f"{origin.url}/data", "sums": str(sums), "socket": str(daemon.socket)}
        with Readers(1, tmp_path / "first.log", **options) as first:
            first.wait_for(1, WAIT_S)
            first.finish()
        until(lambda: daemon.pool()["clients"] <= 1, daemon.pool)
        alone = descriptors()
        for how in ("take", "loader"):
            with Readers(4, tmp_path / f"{how}.log", how=how, **options) as readers:
                readers.wait_for(200, WAIT_S)  # the cache is too small: all of them wait for bytes most of the time
                assert descriptors() > alone
        until(lambda: descriptors() <= alone, lambda: f"{descriptors()} descriptors, {alone} before; {daemon.pool()}")
        status = daemon.command("status")
        pool = status["pools"][0]
        assert (pool["clients"], pool["fetches"], pool["jobs"], status["buffer_bytes"]) == (1, 0, [], 0), status
