"""Whatever breaks, no reader of the node's cache gets a wrong byte: the reference's bytes come, or a clear error.

16 processes read two datasets of two origins through one daemon. The second one's shards are forged: they bear the uids
of the first's, and so its names and its seeds of crcs, over other bytes of the same lengths. Meanwhile bits of slabs,
trailers, words and chunk maps flip, slots change places, bodies come short or corrupt, the daemon is killed, and a
reader sleeps over a restart and a turnover of all slots. 10^4 samples are compared; `FASTFEED_PROOF_CHECKS=1000000
python -m pytest --timeout=0 -s tests/fault/test_cache_never_wrong.py` compares a million.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import fastfeed as ff
from fastfeed._native.cache import SLOT_BYTES
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.cache_damage import Damager
from tests.helpers.cache_readers import Readers, write_dataset, write_sums
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.forged import take_uids

CHECKS = int(os.environ.get("FASTFEED_PROOF_CHECKS", "10000"))
READERS = 16
HOW = ["take"] * 6 + ["loader"] * 2
# Each kind of damage comes at least twice.
ROUNDS = max(24, CHECKS // 5000)
# 12 MiB in each of two datasets, and slots for half of that: all of them turn over.
ROWS, ROW_BYTES, LIMIT = 1000, 12_000, "13MiB"
# What may be told to a reader while its daemon, its disk and its origin are broken; each says what happened.
CLEAR_ERRORS = {"CorruptDataError", "OriginError", "DaemonUnavailableError"}
PAYLOAD_FAULTS = ("corrupt", "zeros", "elsewhere", "short", "reset")
START_S, ROUND_S = 60.0, 60.0


class Scene:
    """The daemon, its origins and its readers, and what can be done to them."""

    def __init__(self, origins: list[FaultyHttp], daemon: CacheDaemon, readers: Readers, seed: int) -> None:
        self._origins, self._daemon, self._readers = origins, daemon, readers
        self._draw = random.Random(seed)
        self._slab, self._words = daemon.disks[0] / "default" / "slab.0", daemon.runtime / "default.words"
        self._damager = Damager([self._slab], self._words, seed)
        self.turned_over: list[int] = []  # slots, while a reader slept
        self.done: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # of all lives of the daemon

    def bits_of_payload(self) -> None:
        self._damager.payload_bits(4)

    def bits_of_trailers(self) -> None:
        self._damager.trailer_bits(4)

    def bits_of_words(self) -> None:
        self._damager.word_bits(4)

    def entries_of_maps(self) -> None:
        assert self._damager.map_entries(self._daemon.pid, 8) > 0, "no chunk map was found in the daemon"

    def exchanged_slots(self) -> None:
        self._damager.swap_slots(with_trailers=self._draw.random() < 0.5)

    def a_lying_origin(self) -> None:
        for origin in self._origins:
            origin.set(chances=dict.fromkeys(self._draw.sample(PAYLOAD_FAULTS, 2), 0.2))

    def look(self) -> None:
        """What was noticed since the daemon started."""
        pool = self._daemon.pool()
        self.seen += Counter({"origin": pool["fetch"]["checksum_failures"], "slot": pool["readers"]["crc_failures"],
                              "race": pool["readers"]["races_lost"], "evicted": sum(pool["evictions"].values())})

    def a_killed_daemon(self) -> None:
        self.look()
        self._daemon.kill()
        self._daemon.start()

    def a_reader_that_slept(self) -> None:
        """Over a restart, and until every slot was filled anew: an operator empties the cache, the others go on."""
        sleeper = self._draw.choice(self._readers.pids)
        os.kill(sleeper, signal.SIGSTOP)
        try:
            before = self._generations()
            self.a_killed_daemon()
            self._daemon.command("evict", "--all")
            turned, ends = np.zeros(len(before), np.bool_), time.monotonic() + ROUND_S
            while not turned.all():
                now = self._generations()[: len(before)]
                turned |= (now != before) & (now % 2 == 0)
                assert time.monotonic() < ends, f"slots {np.flatnonzero(~turned)} of {len(turned)} were not filled anew"
                time.sleep(0.02)
            self.turned_over.append(len(turned))
        finally:
            os.kill(sleeper, signal.SIGCONT)

    def _generations(self) -> npt.NDArray[np.uint64]:
        """The words of the slots that the slab has."""
        slots = self._slab.stat().st_size // SLOT_BYTES
        return np.fromfile(self._words, np.uint64)[:slots]

    def whole_again(self) -> None:
        for origin in self._origins:
            origin.set()

    def act(self, number: int) -> None:
        acts: list[Callable[[], None]] = [
            self.bits_of_payload, self.a_lying_origin, self.bits_of_trailers, self.whole_again, self.entries_of_maps,
            self.exchanged_slots, self.a_reader_that_slept, self.bits_of_words]
        act = acts[number % len(acts)]
        act()
        self.done[act.__name__] += 1


@pytest.mark.timeout(600)
def test_every_sample_is_the_reference_or_an_error_comes_whatever_breaks(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b")]
    for seed, root in enumerate(roots):
        write_dataset(root / "data", ROWS, ROW_BYTES, seed=seed, sizes_seed=0)
    take_uids(roots[1] / "data", victim=roots[0] / "data")
    names = [sorted(shard.name for shard in (root / "data" / "shards").iterdir()) for root in roots]
    assert names[0] == names[1]
    sums = [str(write_sums(ff.open(root / "data"), root.with_suffix(".npy"))) for root in roots]
    daemon = CacheDaemon(tmp_path / "cache", limit=LIMIT, origin_settings='timeout = "2s"\ndeadline = "5s"')
    with FaultyHttp(roots[0], seed=1) as first, FaultyHttp(roots[1], seed=2) as second, daemon:
        origins = [first, second]
        urls = [f"{origin.url}/data" for origin in origins]
        with Readers(READERS, tmp_path / "readers.log", url=urls, sums=sums, socket=str(daemon.socket)) as readers:
            readers.wait_for(READERS, START_S)
            scene = Scene(origins, daemon, readers, seed=2)
            for number in range(ROUNDS):
                scene.act(number)
                readers.wait_for(readers.checks + CHECKS // ROUNDS, ROUND_S + CHECKS / 100)
                assert readers.wrong == []
            scene.whole_again()
            # It heals: soon every reader reads again, and nobody is told anything any more.
            for _ in range(2):
                before, errors = readers.each_checks, readers.errors
                while any(now <= then for now, then in zip(readers.each_checks, before, strict=True)):
                    readers.wait_for(readers.checks + 1, ROUND_S)
            assert readers.errors == errors
            readers.finish()
            assert readers.wrong == []
            assert set(readers.errors) <= CLEAR_ERRORS, (readers.errors, readers.last_error())
            assert readers.checks >= CHECKS
        lies = sum(origin.counts()[fault] for origin in origins for fault in PAYLOAD_FAULTS)
        scene.look()
    print(dict(scene.done), dict(scene.seen), dict(readers.errors), readers.checks,
          f"slots turned over under a stopped reader: {scene.turned_over}")
    assert lies > 0
    assert scene.seen["origin"] > 0
    assert scene.seen["slot"] > 0
    assert scene.seen["evicted"] > 0
    assert min(scene.done.values()) >= 2
    assert len(scene.turned_over) >= 2
