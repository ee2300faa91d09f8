"""A pool on healthy disks: what goes in comes out, within the limit, and is found again after a restart."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastfeed._native.cache import ChunkMap, Ring, SlotWords
from fastfeed._native.checksum import crc32c
from fastfeed.cache.descriptors import bind_read_only, unbind
from fastfeed.cache.faulty import Fault, KilledError
from fastfeed.cache.memory import make_memory, seal
from fastfeed.cache.options import DiskOptions, PoolOptions
from fastfeed.cache.places import check_disk
from fastfeed.cache.pool import Pool
from fastfeed.cache.stats import EvictReason, Refusal
from fastfeed.errors import CacheFullError, ConfigError, CorruptDataError, FormatVersionError
from tests.helpers.cache_pools import (
    CHUNK,
    KEY,
    Lru,
    Place,
    abandon_as_after_a_crash,
    body,
    get,
    keep_house,
    limit_of,
    place,
    put,
    whole,
)

OTHER = b"another key 0123"


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as made:
        yield made


def disk_usage(folder: Path) -> int:
    """Bytes that the files below `folder` take."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file())


class TestChunks:
    def test_what_is_filled_is_found_with_its_bytes(self, here: Place) -> None:
        with here.open() as pool:
            assert put(pool, 3)
            assert put(pool, 3, OTHER, length=70_000)
            assert get(pool, 3) == body(KEY, 3)
            assert get(pool, 3, OTHER) == body(OTHER, 3, 70_000)
            assert get(pool, 4) is None

    def test_a_full_pool_gives_up_what_the_evictor_names(self, here: Place) -> None:
        with here.open(slots=4) as pool:
            assert all(put(pool, chunk) for chunk in range(6))
            assert [whole(pool, chunk) for chunk in range(6)] == [False, False, True, True, True, True]
            assert pool.counters.evictions == {EvictReason.ROOM: 2}

    def test_what_the_evictor_keeps_or_does_not_want_stays_and_is_not_taken(self, here: Place) -> None:
        evictor = Lru()
        with here.open(slots=2, evictor=evictor) as pool:
            assert put(pool, 0)
            assert put(pool, 1)
            evictor.kept = set(evictor.slots)
            assert not put(pool, 2)
            evictor.kept, evictor.wanted = set(), False
            assert not put(pool, 2)
            assert pool.counters.refusals == {Refusal.NO_VICTIM: 1, Refusal.NOT_ADMITTED: 1}
            assert whole(pool, 0)
            assert whole(pool, 1)

    def test_a_chunk_that_is_there_or_on_its_way_gets_no_second_slot(self, here: Place) -> None:
        with here.open() as pool:
            first = pool.reserve(KEY, 0, CHUNK)
            assert first is not None
            assert pool.find(KEY, 0) is None
            assert pool.reserve(KEY, 0, CHUNK) is None
            assert pool.fill(first, body(KEY, 0))
            assert pool.reserve(KEY, 0, CHUNK) is None
            assert pool.counters.refusals == {Refusal.KNOWN: 2}

    def test_a_busy_disk_is_passed_over_and_costs_nobody_a_slot(self, here: Place) -> None:
        with here.open(slots=4, disks=2) as pool:
            for chunk in range(2):
                reservation = pool.reserve(KEY, chunk, CHUNK, busy=["disk0"])
                assert reservation is not None
                assert reservation.disk == "disk1"
                pool.fill(reservation, body(KEY, chunk))
            assert pool.reserve(KEY, 2, CHUNK, busy=["disk0", "disk1"]) is None
            for chunk in (2, 3):
                assert put(pool, chunk)
            pool.evict(KEY, 0)
            pool.evict(KEY, 1)
            put(pool, 4)
            put(pool, 5)
            assert pool.reserve(KEY, 6, CHUNK, busy=["disk0"]) is None, "who would go is on disk0"
            assert pool.counters.refusals == {Refusal.DISK_BUSY: 1, Refusal.NO_VICTIM: 1}
            assert all(whole(pool, chunk) for chunk in range(2, 6))

    def test_bytes_can_go_straight_into_a_ring(self, here: Place) -> None:
        fd = make_memory("ring", 1 << 20)
        ring = Ring(fd, 1 << 20)
        seal(fd)
        with here.open(slots=2) as pool:
            put(pool, 0)
            located = pool.find(KEY, 0)
            assert located is not None
            assert pool.read_into(located, KEY, 0, 5, 100, ring, 4096)
            assert os.pread(fd, 100, 4096) == body(KEY, 0)[5:105]
            pool.evict(KEY, 0)
            assert not pool.read_into(located, KEY, 0, 5, 100, ring, 4096)
        ring.close()
        os.close(fd)

    def test_an_abandoned_slot_is_free_again(self, here: Place) -> None:
        with here.open(slots=1) as pool:
            reservation = pool.reserve(KEY, 0, CHUNK)
            assert reservation is not None
            pool.abandon(reservation)
            assert pool.used_bytes == limit_of(0)
            assert put(pool, 1)
            assert whole(pool, 1)

    def test_an_evicted_chunk_is_gone_for_readers_of_its_map(self, here: Place) -> None:
        with here.open() as pool:
            put(pool, 0)
            chunks, located = pool.map_set([KEY], [4]), pool.find(KEY, 0)
            assert located is not None
            assert chunks.get(0, 0) == located.entry
            assert pool.evict(KEY, 0)
            assert not pool.evict(KEY, 0)
            assert chunks.get(0, 0) == 0
            assert pool.read(located, KEY, 0, 0, 10) is None

    def test_the_bytes_of_a_reservation_are_as_many_as_were_said(self, here: Place) -> None:
        with here.open() as pool:
            reservation = pool.reserve(KEY, 0, 100)
            assert reservation is not None
            with pytest.raises(ConfigError, match="99 bytes for a reservation of 100"):
                pool.fill(reservation, bytes(99))
            pool.abandon(reservation)
            wrong = ((b"short", 0, 1), (KEY, -1, 1), (KEY, 0, 0), (KEY, 0, CHUNK + 1), (KEY, 1 << 24, 1))
            for key, chunk, length in wrong:
                with pytest.raises(ConfigError, match="cannot be in a slot"):
                    pool.reserve(key, chunk, length)

    def test_a_pool_that_drains_takes_nothing_more(self, here: Place) -> None:
        with here.open() as pool:
            reservation = pool.reserve(KEY, 0, CHUNK)
            assert reservation is not None
            pool.drain()
            assert not put(pool, 1)
            assert pool.fill(reservation, body(KEY, 0))
            assert whole(pool, 0)

    def test_a_budget_of_writes_ends_with_the_day(self, here: Place) -> None:
        with here.open(write_bytes_per_day_max=2 * CHUNK) as pool:
            assert put(pool, 0)
            assert put(pool, 1)
            assert not put(pool, 2)
            assert pool.counters.refusals == {Refusal.BUDGET: 1}
            keep_house(pool)
        with here.open(write_bytes_per_day_max=2 * CHUNK) as pool:
            assert not put(pool, 2), "the budget outlives the daemon"
            pool.set_write_budget(3 * CHUNK)
            assert put(pool, 2)
            assert not put(pool, 3)
            here.clock.now_s += 86_400
            assert put(pool, 3)
            assert pool.stats().written_bytes_today == CHUNK


class TestSpace:
    def test_the_disk_never_holds_more_than_the_limit(self, here: Place) -> None:
        options = here.options(slots=12, disks=2)
        with here.open(slots=12, disks=2) as pool:
            for chunk in range(20):
                put(pool, chunk)
                assert pool.used_bytes <= options.limit_bytes
                assert disk_usage(here.root) <= options.limit_bytes

    def test_a_lowered_limit_holds_at_once_and_on_the_disk_after_an_upkeep(self, here: Place) -> None:
        with here.open(slots=12, disks=2) as pool:
            for chunk in range(12):
                put(pool, chunk)
            pool.set_limit(limit_of(5, 2))
            assert pool.used_bytes <= limit_of(5, 2)
            assert sum(whole(pool, chunk) for chunk in range(12)) == 5
            assert pool.counters.evictions == {EvictReason.LIMIT: 7}
            keep_house(pool)
            assert disk_usage(here.root) <= limit_of(5, 2)

    def test_a_limit_may_go_to_zero_and_come_back(self, here: Place) -> None:
        with here.open(slots=4) as pool:
            put(pool, 0)
            pool.set_limit(0)
            keep_house(pool)
            assert not put(pool, 0)
            assert pool.used_bytes == 0
            pool.set_limit(limit_of(6))
            assert all(put(pool, chunk) for chunk in range(6))
            assert all(whole(pool, chunk) for chunk in range(6))

    def test_a_fill_into_a_slot_beyond_a_lowered_limit_is_not_kept(self, here: Place) -> None:
        with here.open(slots=4) as pool:
            reservations = [pool.reserve(KEY, chunk, CHUNK) for chunk in range(4)]
            pool.set_limit(limit_of(2))
            pool.set_limit(limit_of(4))  # the slots of those fills are not given out meanwhile
            assert not put(pool, 9) or whole(pool, 9)
            for reservation in reservations:
                assert reservation is not None
                pool.fill(reservation, body(KEY, reservation.chunk))
            assert [whole(pool, chunk) for chunk in range(4)] == [True, True, False, False]
            assert put(pool, 2)
            assert put(pool, 3)
            assert whole(pool, 2)
            assert whole(pool, 3)
            assert pool.stats().disks[0].used_slots <= 4

    def test_chunks_are_spread_over_disks_by_capacity(self, here: Place) -> None:
        sizes = {"disk0": 100 << 30, "disk1": 300 << 30}
        machine = here.machine()
        machine = type(machine)(
            clock=machine.clock, boot_id=machine.boot_id, slab=machine.slab,
            disk_bytes=lambda folder: (next(size for name, size in sizes.items() if name in folder.parts), 1 << 40),
        )  # fmt: skip
        with Pool.open(here.options(slots=12, disks=2), Lru(), machine) as pool:
            for chunk in range(8):
                put(pool, chunk)
            assert [disk.slots for disk in pool.stats().disks] == [3, 9]
            assert [disk.used_slots for disk in pool.stats().disks] == [2, 6]

    def test_a_limit_that_no_disk_can_hold_is_an_error_with_both_numbers(self, here: Place) -> None:
        with pytest.raises(CacheFullError, match=r"a disk of \d+ bytes, and the limit of \d+ bytes"):
            here.open(limit_bytes=1 << 50)

    def test_a_limit_below_one_slot_is_an_error_that_says_what_to_give(self, here: Place) -> None:
        with pytest.raises(ConfigError, match="give it at least"):
            here.open(limit_bytes=1 << 20)

    def test_a_pool_without_slots_needs_no_disk(self, here: Place) -> None:
        with here.open(limit_bytes=0, disks=0) as pool:
            assert not put(pool, 0)
            assert pool.used_bytes == 0
            with pool.client_files() as files:
                assert files.slots == 0
                assert files.slabs == ()
            with pytest.raises(ConfigError, match="without slots"):
                pool.set_limit(1 << 30)

    def test_a_whole_slab_is_allocated_when_the_pool_is_opened(self, here: Place) -> None:
        with here.open(slots=8, growth_bytes=None) as pool:
            assert pool.stats().disks[0].allocated_bytes == 8 * (CHUNK + 4096)
            assert disk_usage(here.root) >= 8 * CHUNK


class TestRestarts:
    def test_what_was_kept_is_warm_after_a_restart(self, here: Place) -> None:
        with here.open(disks=2) as pool:
            for chunk in range(8):
                put(pool, chunk)
        with here.open(disks=2) as pool:
            assert pool.recovery.warm_slots == 8
            assert pool.recovery.words_were_kept
            assert all(whole(pool, chunk) for chunk in range(8))
            assert pool.used_bytes == limit_of(8, 2)

    def test_a_reader_of_the_daemon_before_goes_on_until_its_slot_is_used_again(self, here: Place) -> None:
        pool = here.open(slots=2)
        put(pool, 0)
        located = pool.find(KEY, 0)
        assert located is not None
        with pool.client_files() as files:
            words = SlotWords(files.words_fd, files.slots)
        pool.close()
        with here.open(slots=2) as pool:
            assert words.load(located.slot) == located.generation
            put(pool, 1)
            put(pool, 2)
            assert words.load(located.slot) != located.generation
        words.close()

    def test_slots_beyond_a_limit_that_was_lowered_meanwhile_are_gone(self, here: Place) -> None:
        with here.open(slots=8) as pool:
            for chunk in range(8):
                put(pool, chunk)
        with here.open(slots=3) as pool:
            assert pool.used_bytes <= limit_of(3)
            keep_house(pool)
            assert disk_usage(here.root) <= limit_of(3)
            assert sum(whole(pool, chunk) for chunk in range(8)) == 3

    def test_lost_words_without_readers_cost_nothing(self, here: Place) -> None:
        """Someone emptied /dev/shm: nobody has a slab open, so the words can be made anew."""
        with here.open() as pool:
            put(pool, 0)
            keep_house(pool)
        (here.words / "default.words").unlink()
        with here.open() as pool:
            assert not pool.recovery.words_were_kept
            assert whole(pool, 0)

    def test_lost_words_leave_the_slab_to_readers_that_have_it_open(self, here: Place) -> None:
        """Their words would not change when a slot is used again: so no slot of theirs is."""
        pool = here.open()
        put(pool, 0)
        located = pool.find(KEY, 0)
        assert located is not None
        with pool.client_files() as files:
            slab = os.dup(files.slabs[0][0])
        pool.close()
        (here.words / "default.words").unlink()
        with here.open(slots=1) as pool:
            assert pool.find(KEY, 0) is None
            put(pool, 5)
            assert os.pread(slab, CHUNK, located.slot * (CHUNK + 4096)) == body(KEY, 0)
        os.close(slab)

    def test_a_disk_that_is_added_or_taken_away_costs_only_its_own_chunks(self, here: Place) -> None:
        with here.open(disks=2) as pool:
            for chunk in range(8):
                put(pool, chunk)
        with here.open(disks=3) as pool:
            assert all(whole(pool, chunk) for chunk in range(8))
            assert [disk.used_slots for disk in pool.stats().disks] == [4, 4, 0]
        with here.open(disks=1) as pool:
            assert sum(whole(pool, chunk) for chunk in range(8)) == 4
        with here.open(disks=2) as pool:
            assert sum(whole(pool, chunk) for chunk in range(8)) == 8

    def test_a_damaged_table_is_an_empty_one(self, here: Place) -> None:
        with here.open() as pool:
            put(pool, 0)
            put(pool, 1)
        table = here.root / "disk0" / "default" / "slots"
        data = bytearray(table.read_bytes())
        data[4096 + 20] ^= 1  # the entry of the first slot
        table.write_bytes(data)
        with here.open() as pool:
            assert [whole(pool, 0), whole(pool, 1)] == [False, True]
        table.write_bytes(b"x" * 5000)
        with here.open() as pool:
            assert not whole(pool, 1)
            assert put(pool, 1)
            assert whole(pool, 1)

    def test_a_table_of_a_later_version_is_refused(self, here: Place) -> None:
        with here.open():
            pass
        table = here.root / "disk0" / "default" / "slots"
        data = bytearray(table.read_bytes())
        data[8] = 2
        data[508:512] = crc32c(bytes(data[:508])).to_bytes(4, "little")
        table.write_bytes(data)
        with pytest.raises(FormatVersionError, match="version 2"):
            here.open()


class TestPowerLoss:
    def test_what_is_newer_than_the_watermark_is_checked_before_use(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        here.clock.now_s += 60
        keep_house(pool)  # the watermark
        put(pool, 1)
        put(pool, 2)
        slot = pool.find(KEY, 1)
        assert slot is not None
        abandon_as_after_a_crash(pool)
        with open(here.root / "disk0" / "default" / "slab.0", "r+b") as slab:
            slab.seek(slot.slot * (CHUNK + 4096) + 5)
            slab.write(b"half")
        here.new_boot()
        with here.open() as pool:
            assert pool.recovery.after_power_loss
            assert (pool.recovery.warm_slots, pool.recovery.unproven_slots) == (1, 2)
            assert whole(pool, 0)
            assert pool.find(KEY, 1) is None
            assert pool.find(KEY, 2) is None
            keep_house(pool)
            assert pool.find(KEY, 1) is None, "its bytes are not what was written"
            assert whole(pool, 2)
            assert (pool.counters.proven, pool.counters.disproven) == (1, 1)
            assert put(pool, 1)
            assert whole(pool, 1)

    def test_a_slot_that_was_used_again_makes_all_old_entries_doubtful(self, here: Place) -> None:
        """The table may say of it what it was before, while its bytes are half of the next chunk."""
        pool = here.open(slots=3)
        for chunk in range(3):
            put(pool, chunk)
        here.clock.now_s += 60
        keep_house(pool)
        table = (here.root / "disk0" / "default" / "slots").read_bytes()
        put(pool, 3)  # over chunk 0
        abandon_as_after_a_crash(pool)
        header = (here.root / "disk0" / "default" / "slots").read_bytes()[:4096]
        (here.root / "disk0" / "default" / "slots").write_bytes(header + table[4096:])
        here.new_boot()
        with here.open(slots=3) as pool:
            assert (pool.recovery.warm_slots, pool.recovery.unproven_slots) == (0, 3)
            keep_house(pool)
            assert [whole(pool, chunk) for chunk in range(4)] == [False, True, True, False]

    def test_who_needs_an_unproven_chunk_has_it_checked_first(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        with here.open() as pool:
            slot = pool.unproven(KEY, 0)
            assert slot is not None
            assert pool.begin_proof(slot) == "disk0"
            assert pool.begin_proof(slot) is None
            assert pool.prove(slot)
            assert whole(pool, 0)
            keep_house(pool)
            assert whole(pool, 0)

    def test_a_check_that_does_not_come_is_taken_back(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        with here.open() as pool:
            slot = pool.unproven(KEY, 0)
            assert slot is not None
            assert pool.begin_proof(slot)
            assert pool.unproven(KEY, 0) is None
            pool.abandon_proof(slot)
            assert pool.unproven(KEY, 0) == slot
            keep_house(pool)
            assert whole(pool, 0)

    def test_a_second_power_loss_before_the_check_is_no_proof(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        pool = here.open()
        put(pool, 1)
        pool.close()  # a clean stop, with the slot unchecked still
        here.new_boot()
        with here.open() as pool:
            assert pool.recovery.unproven_slots == 2

    def test_a_kill_after_the_power_loss_forgets_no_doubt(self, here: Place) -> None:
        pool = here.open()
        put(pool, 0)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        abandon_as_after_a_crash(here.open())
        with here.open() as pool:
            assert (pool.recovery.warm_slots, pool.recovery.unproven_slots) == (0, 1)
            keep_house(pool)
            assert whole(pool, 0)

    def test_writes_that_were_killed_leave_no_old_entry_that_is_believed(self, here: Place) -> None:
        """Their slots were somebody's before the watermark, and are half of somebody else's now."""
        pool = full_and_durable(here)
        here.faults.set("fill", Fault.KILLED)
        for reservation in [pool.reserve(KEY, chunk, CHUNK) for chunk in (3, 4)]:
            assert reservation is not None
            with pytest.raises(KilledError):
                pool.fill(reservation, body(KEY, reservation.chunk))
        here.faults.clear()
        abandon_as_after_a_crash(pool)
        pool = here.open(slots=3)
        put(pool, 5)  # into one of the two
        here.clock.now_s += 60
        keep_house(pool)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        with here.open(slots=3) as pool:
            assert pool.recovery.warm_slots == 2
            assert [whole(pool, chunk) for chunk in range(6)] == [False, False, True, False, False, True]

    def test_a_write_that_failed_leaves_no_old_entry_that_is_believed(self, here: Place) -> None:
        pool = full_and_durable(here)
        here.faults.set("fill", Fault.ENOSPC)
        assert not put(pool, 3)
        here.faults.clear()
        put(pool, 4)
        here.clock.now_s += 60
        keep_house(pool)
        abandon_as_after_a_crash(pool)
        here.new_boot()
        with here.open(slots=3) as pool:
            assert pool.recovery.warm_slots == 2
            assert [whole(pool, chunk) for chunk in range(5)] == [False, False, True, False, True]

    def test_after_a_clean_stop_nothing_is_to_be_checked(self, here: Place) -> None:
        with here.open() as pool:
            put(pool, 0)
        here.new_boot()
        with here.open() as pool:
            assert pool.recovery.warm_slots == 1
            assert whole(pool, 0)


def full_and_durable(here: Place) -> Pool:
    """Three slots, chunks 0 to 2, and a watermark over them."""
    pool = here.open(slots=3)
    for chunk in range(3):
        put(pool, chunk)
    here.clock.now_s += 60
    keep_house(pool)
    return pool


class TestWhoElse:
    def test_two_daemons_cannot_have_one_pool(self, here: Place) -> None:
        with here.open(), pytest.raises(ConfigError, match="in use by another cache daemon"):
            here.open()
        here.open().close()

    def test_bad_bytes_are_quarantined_and_the_slot_is_tried_before_it_is_used(self, here: Place) -> None:
        with here.open(slots=1) as pool:
            put(pool, 0)
            located = pool.find(KEY, 0)
            assert located is not None
            with open(here.root / "disk0" / "default" / "slab.0", "r+b") as slab:
                slab.seek(5)
                slab.write(b"rot")
            with pytest.raises(CorruptDataError):
                pool.read(located, KEY, 0, 0, CHUNK)
            assert not pool.quarantine(located.slot, located.entry + 2)
            assert pool.quarantine(located.slot, located.entry)
            assert not pool.quarantine(located.slot, located.entry)
            assert pool.find(KEY, 0) is None
            assert not put(pool, 0)
            keep_house(pool)
            assert put(pool, 0)
            assert whole(pool, 0)

    def test_a_pool_refuses_names_that_are_no_file_names(self, here: Place) -> None:
        for name in ("", "..", "a/b", ".hidden", "x" * 65):
            with pytest.raises(ConfigError, match="a name has"):
                PoolOptions(name=name, limit_bytes=0, disks=(), words_path=here.words)
        with pytest.raises(ConfigError, match="no disk"):
            PoolOptions(name="p", limit_bytes=1, disks=(), words_path=here.words)

    @pytest.mark.parametrize("kind", ["nfs4", "lustre", "fuse.sshfs", "fuseblk", "9p"])
    def test_slabs_must_be_on_a_file_system_of_this_machine(self, kind: str) -> None:
        with pytest.raises(ConfigError, match=f"is on {kind}: slabs need a file system of this machine's kernel"):
            check_disk(Path("/cache"), lambda folder: kind)
        check_disk(Path("/cache"), lambda folder: "ext4")

    def test_words_must_be_in_ram(self, here: Place) -> None:
        with pytest.raises(ConfigError, match="must lie in RAM"):
            here.open(words_path=here.root / "words")


class TestClients:
    def test_a_map_shows_every_chunk_of_its_objects_and_follows(self, here: Place) -> None:
        with here.open() as pool:
            put(pool, 1)
            put(pool, 7)  # beyond what the set says that the object has
            made = pool.map_set([OTHER, KEY], [2, 4])
            put(pool, 0, OTHER)
            fd = made.client_fd()
            seen = ChunkMap(fd, 6, 2)
            os.close(fd)
            assert [bool(entry) for entry in seen.copy()] == [True, False, False, True, False, False]
            assert (seen.key(0), seen.key(1)) == (OTHER, KEY)
            made.close()
            put(pool, 1, OTHER)
            assert seen.get(1) == 0, "a closed set is kept true no longer"
            seen.close()

    def test_a_client_cannot_write_maps_nor_make_them_longer(self, here: Place) -> None:
        with here.open() as pool:
            fd = pool.map_set([KEY], [4]).client_fd()
            again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
            with pytest.raises(PermissionError):
                os.pwrite(again, b"x", 0)
            with pytest.raises(PermissionError):
                os.ftruncate(again, 0)
            with pytest.raises(PermissionError):
                mmap.mmap(again, 32)
            os.close(again)
            os.close(fd)

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
    def test_descriptors_through_a_read_only_mount_cannot_be_reopened_for_writing(self, here: Place) -> None:
        at, words_at = here.root / "readonly", here.words / "readonly"
        (here.root / "disk0").mkdir(mode=0o700)
        (here.words / "words").mkdir(mode=0o700)
        at.mkdir()
        words_at.mkdir()
        bind_read_only(here.root / "disk0", at)
        bind_read_only(here.words / "words", words_at)
        try:
            disks = (DiskOptions(name="disk0", path=here.root / "disk0", readonly_path=at),)
            with (
                here.open(disks=disks, words_path=here.words / "words", words_readonly_path=words_at) as pool,
                pool.client_files() as files,
            ):
                for fd in (files.words_fd, files.slabs[0][0]):
                    with pytest.raises(OSError, match="Read-only file system"):
                        os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
                assert put(pool, 0)
        finally:
            unbind(at)
            unbind(words_at)

    def test_a_read_only_mount_that_is_none_is_an_error(self, here: Place) -> None:
        elsewhere = here.root / "elsewhere"
        disks = (DiskOptions(name="disk0", path=here.root / "disk0", readonly_path=here.root / "disk0"),)
        with here.open(disks=disks) as pool, pytest.raises(ConfigError, match="can be written"):
            pool.client_files()
        (elsewhere / "default").mkdir(parents=True)
        (elsewhere / "default" / "slab.0").touch()
        disks = (DiskOptions(name="disk0", path=here.root / "disk0", readonly_path=elsewhere),)
        with here.open(disks=disks) as pool, pytest.raises(ConfigError, match=r"is not .*slab\.0"):
            pool.client_files()
