"""Disks that fail, hang, fill up and come back: one of them never costs more than its own share."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Iterator

import pytest

from fastfeed.cache.faulty import Fault, SlabFaults
from fastfeed.cache.health import SYNC_PATIENCE, DiskHealth
from fastfeed.cache.options import HealthOptions
from fastfeed.cache.pool import Pool
from fastfeed.cache.stats import DiskState, EvictReason, Refusal
from fastfeed.errors import CacheFullError, ConfigError
from tests.helpers.cache_pools import CHUNK, KEY, Clock, Lru, Place, body, keep_house, limit_of, place, put, whole

HALF_A_MINUTE_S = 30.0


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made
        made.faults.clear()


def wait_until_ok(here: Place, pool: Pool, minutes: int = 5) -> None:
    """Let the clock run, with a round of upkeep a second, until every disk is ok."""
    for _ in range(60 * minutes):
        here.clock.now_s += 1
        keep_house(pool)
        if set(pool.disk_states().values()) == {DiskState.OK}:
            keep_house(pool)
            return
    raise AssertionError(f"still not ok: {pool.stats().disks}")


class TestErrors:
    def test_a_write_that_fails_makes_its_disk_suspect_and_the_other_goes_on(self, here: Place) -> None:
        with here.open(slots=8, disks=2) as pool:
            for chunk in range(4):
                put(pool, chunk)
            here.faults.set("fill", Fault.EIO, here.root / "disk0")
            kept = [put(pool, chunk) for chunk in range(4, 7)]
            assert kept == [False, True, True], "the first failure is the last write to this disk"
            assert pool.disk_states() == {"disk0": DiskState.SUSPECT, "disk1": DiskState.OK}
            assert all(whole(pool, chunk) for chunk in range(4)), "what it has is still read"
            assert "Input/output error" in pool.stats().disks[0].reason

    @pytest.mark.parametrize("fault", [Fault.EIO, Fault.TORN])
    def test_a_disk_whose_probes_fail_is_out_and_comes_back_with_its_chunks(self, here: Place, fault: Fault) -> None:
        evictor = Lru()
        with here.open(slots=12, disks=2, evictor=evictor) as pool:
            for chunk in range(6):
                put(pool, chunk)
            chunks = pool.map_set([KEY], [8])
            before = [chunks.get(0, chunk) for chunk in range(6)]
            here.faults.set("fill", fault, here.root / "disk0")
            put(pool, 6)
            for _ in range(20):
                here.clock.now_s += 1
                keep_house(pool)
            assert pool.disk_states()["disk0"] is DiskState.OUT
            assert sum(whole(pool, chunk) for chunk in range(6)) == 3
            assert sum(chunks.get(0, chunk) != 0 for chunk in range(6)) == 3
            assert len(evictor.slots) == 3
            here.faults.clear()
            wait_until_ok(here, pool)
            assert [chunks.get(0, chunk) for chunk in range(6)] == before
            assert all(whole(pool, chunk) for chunk in range(6))
            assert pool.stats().disks[0].fenced_slots == 0
            assert put(pool, 6)
            assert put(pool, 7)
            assert all(whole(pool, chunk) for chunk in range(8))

    def test_a_chunk_of_a_disk_that_is_out_may_get_another_slot(self, here: Place) -> None:
        with here.open(slots=8, disks=2) as pool:
            lost = 0
            put(pool, lost)
            here.faults.set("fill", Fault.EIO, here.root / "disk0")
            put(pool, 1)
            put(pool, 2)
            for _ in range(20):
                here.clock.now_s += 1
                keep_house(pool)
            assert pool.disk_states()["disk0"] is DiskState.OUT
            assert not whole(pool, lost)
            assert put(pool, lost)
            assert whole(pool, lost)
            here.faults.clear()
            wait_until_ok(here, pool)
            assert whole(pool, lost)
            stats = pool.stats()
            assert sum(disk.used_slots for disk in stats.disks) == stats.published_slots

    def test_with_all_disks_out_chunks_pass_through(self, here: Place) -> None:
        with here.open() as pool:
            here.faults.set("fill", Fault.EIO)
            assert not put(pool, 0)
            assert not put(pool, 1)
            assert pool.counters.refusals == {Refusal.DISK_OUT: 1}
            here.faults.clear()
            wait_until_ok(here, pool)
            assert put(pool, 1)

    def test_a_slot_that_could_not_be_read_is_out_of_use_and_its_chunk_gets_another(self, here: Place) -> None:
        with here.open(slots=8, disks=2) as pool:
            put(pool, 0)
            located = pool.find(KEY, 0)
            assert located is not None
            here.faults.set("read", Fault.EIO, here.root / "disk0")
            with pytest.raises(OSError, match="Input/output"):
                pool.read(located, KEY, 0, 0, CHUNK)
            assert pool.quarantine(located.slot, located.entry, EvictReason.DISK)
            assert pool.find(KEY, 0) is None
            assert put(pool, 0)
            again = pool.find(KEY, 0)
            assert again is not None
            assert again.disk == "disk1"
            assert pool.counters.evictions == {EvictReason.DISK: 1}

    def test_one_bad_sector_is_no_bad_disk(self, here: Place) -> None:
        """The slot stays fenced; the second one that the failure fenced tells that the disk is well."""
        faults = _OneBadSlot(0)
        here.faults = faults
        with here.open(slots=4) as pool:
            assert not put(pool, 0)
            assert pool.disk_states()["disk0"] is DiskState.SUSPECT
            wait_until_ok(here, pool)
            here.clock.now_s += 1
            keep_house(pool)
            assert pool.stats().disks[0].fenced_slots == 1
            assert [put(pool, chunk) for chunk in range(3)] == [True] * 3
            for _ in range(5):  # tried again a few times, and then no more
                here.clock.now_s += 601
                wait_until_ok(here, pool)
            tried = faults.bad_fills
            here.clock.now_s += 10_000
            keep_house(pool)
            assert faults.bad_fills == tried

    def test_a_failing_sync_makes_the_disk_suspect_and_moves_no_watermark(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        here.faults.set("sync", Fault.EIO)
        here.clock.now_s += 60
        keep_house(pool)
        assert pool.disk_states()["disk0"] is DiskState.SUSPECT
        pool.close()
        here.faults.clear()
        here.new_boot()
        with here.open() as pool:
            assert pool.recovery.unproven_slots == 1


class _OneBadSlot(SlabFaults):
    """Slot `bad` cannot be written."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad_slot = bad
        self.bad_fills = 0

    def slab(self, path, first_slot, slots, sync):  # type: ignore[no-untyped-def]
        made = super().slab(path, first_slot, slots, sync)
        return _SlabWithABadSlot(made, self)


class _SlabWithABadSlot:
    def __init__(self, inner, faults: _OneBadSlot) -> None:  # type: ignore[no-untyped-def]
        self._inner = inner
        self._faults = faults

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._inner, name)

    def fill(self, words, slot, key, chunk, data):  # type: ignore[no-untyped-def]
        if slot == self._faults.bad_slot:
            self._faults.bad_fills += 1
            raise OSError(5, "Input/output error")
        return self._inner.fill(words, slot, key, chunk, data)


class TestTrials:
    def test_a_slot_is_nobodys_until_its_trial_is_done(self, here: Place) -> None:
        """Whatever happens to the limit meanwhile: the trial would overwrite what it was given to."""
        with here.open(slots=3) as pool:
            put(pool, 0)
            located = pool.find(KEY, 0)
            assert located is not None
            assert pool.quarantine(located.slot, located.entry)
            pool.set_limit(0)
            pool.set_limit(limit_of(3))
            kept = [chunk for chunk in range(1, 4) if put(pool, chunk)]
            keep_house(pool)
            here.clock.now_s += 1000
            keep_house(pool)
            assert sum(whole(pool, chunk) for chunk in kept) == len(kept) - 1, "three chunks over two slots"
            assert pool.stats().disks[0].fenced_slots == 0
            assert put(pool, 9)
            assert pool.stats().published_slots == 3

    def test_a_trial_beyond_a_lowered_limit_takes_no_room(self, here: Place) -> None:
        with here.open(slots=8) as pool:
            for chunk in range(8):
                put(pool, chunk)
            located = pool.find(KEY, 7)
            assert located is not None
            assert pool.quarantine(located.slot, located.entry)
            pool.set_limit(limit_of(2))
            keep_house(pool)
            keep_house(pool)
            assert pool.stats().disks[0].allocated_bytes == 2 * (CHUNK + 4096)
            pool.set_limit(limit_of(8))
            assert all(put(pool, chunk) for chunk in range(20, 26))


class TestHanging:
    def test_a_disk_that_hangs_is_out_and_stops_nobody(self, here: Place) -> None:
        with here.open(slots=8, disks=2) as pool:
            for chunk in range(4):
                put(pool, chunk)
            here.faults.set("fill", Fault.HANG, here.root / "disk0")
            reservation = pool.reserve(KEY, 4, CHUNK)
            assert reservation is not None
            assert reservation.disk == "disk0"
            thread = threading.Thread(target=pool.fill, args=(reservation, body(KEY, 4)))
            thread.start()
            deadline_s = time.monotonic() + 30
            while here.faults.calls["fill"] < 5:
                assert time.monotonic() < deadline_s
            pool.tick()
            assert pool.disk_states()["disk0"] is DiskState.OK
            here.clock.now_s += HALF_A_MINUTE_S
            pool.tick()
            assert pool.disk_states() == {"disk0": DiskState.OUT, "disk1": DiskState.OK}
            assert "takes 30.0 s already" in pool.stats().disks[0].reason
            assert sum(whole(pool, chunk) for chunk in range(4)) == 2
            assert put(pool, 5)
            pool.upkeep("disk0")  # no probe while it hangs: it would hang as well
            here.faults.clear()
            thread.join()
            wait_until_ok(here, pool)
            assert all(whole(pool, chunk) for chunk in range(6)), "what it did in the end counts"

    def test_a_fill_that_ends_after_its_disk_went_out_is_hidden_until_it_is_back(self, here: Place) -> None:
        with here.open(slots=4) as pool:
            here.faults.set("fill", Fault.HANG)
            reservation = pool.reserve(KEY, 0, CHUNK)
            assert reservation is not None
            thread = threading.Thread(target=pool.fill, args=(reservation, body(KEY, 0)))
            thread.start()
            deadline_s = time.monotonic() + 30
            while here.faults.calls["fill"] == 0:
                assert time.monotonic() < deadline_s
            here.clock.now_s += HALF_A_MINUTE_S
            pool.tick()
            here.faults.clear()
            thread.join()
            assert pool.find(KEY, 0) is None
            assert pool.stats().disks[0].hidden_slots == 1
            wait_until_ok(here, pool)
            assert whole(pool, 0)


class TestFullDisks:
    def test_a_slot_without_room_is_fenced_and_tried_again(self, here: Place) -> None:
        """As on copy-on-write file systems, where an allocated block may need another one."""
        with here.open(slots=8) as pool:
            here.faults.set("fill", Fault.ENOSPC)
            assert not put(pool, 0)
            assert pool.disk_states()["disk0"] is DiskState.OK
            assert pool.stats().disks[0].full_errors == 1
            here.faults.clear()
            assert put(pool, 0)
            assert pool.stats().disks[0].fenced_slots == 2
            here.clock.now_s += 601
            keep_house(pool)
            assert pool.stats().disks[0].fenced_slots == 0

    def test_a_slab_that_cannot_grow_makes_do_with_what_it_has(self, here: Place) -> None:
        with here.open(slots=8) as pool:
            assert [put(pool, chunk) for chunk in range(4)] == [True] * 4
            here.faults.set("allocate", Fault.ENOSPC)
            assert not put(pool, 4)
            assert put(pool, 4), "now over the oldest"
            assert [whole(pool, chunk) for chunk in range(5)] == [False, True, True, True, True]
            here.faults.clear()
            here.clock.now_s += 61
            keep_house(pool)
            assert all(put(pool, chunk) for chunk in range(5, 9))
            assert pool.stats().published_slots == 8

    def test_a_whole_slab_that_does_not_fit_is_a_clear_error(self, here: Place) -> None:
        here.faults.set("allocate", Fault.ENOSPC)
        with pytest.raises(CacheFullError, match="has no room for a slab of"):
            here.open(growth_bytes=None)
        here.faults.clear()
        here.open(growth_bytes=None).close()


class TestDisksAtTheStart:
    def test_one_of_two_that_cannot_be_opened_is_out(self, here: Place) -> None:
        (here.root / "disk1").mkdir(mode=0o700)
        (here.root / "disk1" / "default").write_text("no folder")
        with here.open(slots=4, disks=2) as pool:
            assert pool.disk_states() == {"disk0": DiskState.OK, "disk1": DiskState.OUT}
            assert put(pool, 0)
            keep_house(pool)
            assert pool.stats().disks[1].reason

    def test_none_that_can_be_opened_is_an_error(self, here: Place) -> None:
        for name in ("disk0", "disk1"):
            (here.root / name).mkdir(mode=0o700)
            (here.root / name / "default").write_text("no folder")
        with pytest.raises(OSError, match="no disk of pool default can be used"):
            here.open(disks=2)
        with pytest.raises(FileExistsError):
            here.open(disks=1)


class TestHealth:
    def test_each_relapse_waits_longer_for_its_probe(self) -> None:
        clock = Clock()
        health = DiskHealth(HealthOptions(), clock)
        waits = []
        for _ in range(4):
            with pytest.raises(OSError), health.operation("writing"):
                raise OSError(5, "no")
            waited = 0.0
            while not health.probe_is_due:
                clock.now_s += 0.25
                waited += 0.25
            waits.append(waited)
            health.probe_went(None)
            assert health.state is DiskState.OK
        assert waits == [0.5, 1.0, 2.0, 4.0]

    def test_a_sync_of_much_may_take_longer_than_a_write(self) -> None:
        clock = Clock()
        health = DiskHealth(HealthOptions(), clock)
        with health.operation("syncing", patience=SYNC_PATIENCE):
            clock.now_s += 60
            assert health.state is DiskState.OK
            with health.operation("writing"):
                clock.now_s += 6
                assert health.state is DiskState.OUT
                assert health.reason == "writing takes 6.0 s already"

    def test_so_many_failures_in_a_row_are_a_bad_disk_and_fewer_are_bad_sectors(self) -> None:
        health = DiskHealth(HealthOptions(failed_operations_max=3), Clock())

        def operate(*, fails: bool) -> None:
            with contextlib.suppress(OSError), health.operation("reading"):
                if fails:
                    raise OSError(errno.EIO, "bad")

        for fails in (True, True, False, True, True):
            operate(fails=fails)
        assert health.state is DiskState.SUSPECT
        operate(fails=True)
        assert health.state is DiskState.OUT

    def test_a_fault_that_does_not_exist_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="no operation 'format'"):
            SlabFaults().set("format", Fault.EIO)


class TestSyncing:
    def test_fills_go_on_while_the_slab_is_made_durable(self, here: Place) -> None:
        """Also those that overwrite a slot, which look at the header: or each sync would stop the cold path."""
        with here.open(slots=2) as pool:
            put(pool, 0)
            put(pool, 1)
            here.faults.set("sync", Fault.HANG)
            here.clock.now_s += 60
            pool.tick()
            thread = threading.Thread(target=pool.upkeep, args=("disk0",))
            thread.start()
            deadline_s = time.monotonic() + 30
            while here.faults.calls["sync"] == 0:
                assert time.monotonic() < deadline_s
            assert put(pool, 2)
            assert whole(pool, 2)
            here.faults.clear()
            thread.join()
            assert pool.disk_states() == {"disk0": DiskState.OK}
        here.new_boot()
        with here.open(slots=2) as pool:
            assert whole(pool, 2)
