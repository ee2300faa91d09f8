"""Opening a pool: folders are checked and locked, files opened or made, and what they hold is judged.

1. The folder of the words is in RAM; each disk's is on a local file system. Both are ours alone, and get mode 0700.
2. An owner lock in each: one daemon a pool.
3. Each disk's table says where its slots are in the pool's numbering. A disk without one is given the first gap.
4. The words are those of this boot, if they are there. If they are not, new ones are made; where somebody has a slab
   open still (a reader, whose words would be the old ones), that slab is left to them, and replaced by a new one.
5. recovery.py says what each slot is worth.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.cache import SLOT_BYTES, SLOTS_MAX
from fastfeed.cache.disk import OVERHEAD_BYTES, SLOT_COST_BYTES, Disk, Layout
from fastfeed.cache.health import FULL_ERRORS, DiskHealth
from fastfeed.cache.options import DiskOptions, PoolOptions
from fastfeed.cache.owner import OwnerLock
from fastfeed.cache.places import boot_id, check_disk, check_ram, disk_bytes, make_private
from fastfeed.cache.recovery import judge, words_for
from fastfeed.cache.slab_file import SLAB_NAME, SlabFile, SlabIo
from fastfeed.cache.slot_index import SlotIndex, SlotState
from fastfeed.cache.slot_table import SlotTable, TableHeader, new_table, table_at
from fastfeed.cache.space import shares
from fastfeed.cache.stats import DiskState, DiskStats, Recovery
from fastfeed.cache.words_file import WordsFile, new_words, open_words
from fastfeed.cache.write_budget import WriteBudget
from fastfeed.errors import CacheFullError, ConfigError

LOCK_NAME = "owner"
WORDS_SUFFIX = ".words"
# Room in the pool's numbering for a disk that is made larger, as a file system can be.
REGION_FACTOR = 2
# With fewer, a pool that is asked for a few chunks at once passes most of them through.
SLOTS_WANTED_MIN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a pool takes from the machine. Tests give their own: clocks, boots, disks that fail."""

    clock: Callable[[], float] = time.monotonic
    unix_time: Callable[[], float] = time.time
    boot_id: Callable[[], bytes] = boot_id
    sync: Callable[[int], None] = os.fdatasync
    slab: Callable[[Path, int, int, Callable[[int], None]], SlabIo] = SlabFile
    disk_bytes: Callable[[Path], tuple[int, int]] = disk_bytes


@dataclass(slots=True, kw_only=True)
class Opened:
    """A pool's files, open and locked, and what is in them."""

    lock: OwnerLock
    words: WordsFile
    disks: list[Disk]
    absent: dict[str, DiskStats]  # disks that could not be opened
    index: SlotIndex
    budget: WriteBudget
    recovery: Recovery

    def close(self) -> None:
        for disk in self.disks:
            disk.close()
        self.words.close()
        self.lock.close()


def slots_for(limit_bytes: int, disks: int, pool: str) -> int:
    """How many slots fit a limit, with all that they need beside them. ConfigError where that is none."""
    if limit_bytes == 0:
        return 0
    slots = (limit_bytes - disks * OVERHEAD_BYTES) // SLOT_COST_BYTES
    if slots < 1:
        raise ConfigError(
            f"pool {pool}: a limit of {limit_bytes} bytes is less than one slot on {disks} disks: give it at least "
            f"{SLOTS_WANTED_MIN * SLOT_COST_BYTES + disks * OVERHEAD_BYTES} bytes, or 0 for no cache."
        )
    return min(slots, SLOTS_MAX)


@dataclass(slots=True)
class _Found:
    """One disk while it is being opened."""

    options: DiskOptions
    folder: Path
    lock: OwnerLock
    capacity_bytes: int
    table: SlotTable | None
    layout: Layout | None = None


def open_pool(options: PoolOptions, machine: Machine) -> Opened:
    """Open, lock and judge. What is raised: see Pool.open."""
    begun_s = time.perf_counter()
    identity = xxhash.xxh3_128_digest(options.name.encode())
    boot = machine.boot_id()
    with ExitStack() as undo:
        make_private(options.words_path)
        check_ram(options.words_path)
        lock = OwnerLock(options.words_path / f"{options.name}.{LOCK_NAME}")
        undo.callback(lock.close)
        found, absent = _find_disks(options, identity, machine, undo)
        _number(found, options.name)
        _check_room(found, options, machine)
        budget = WriteBudget(options.write_bytes_per_day_max, machine.unix_time)
        disks = [_open_disk(each, options, identity, boot, machine, undo) for each in found]
        slots = max((disk.layout.first_slot + disk.layout.region for disk in disks), default=0)
        opened = _recover(options, machine, boot, lock, disks, slots, budget, undo)
        opened.absent = absent
        opened.recovery = replace(opened.recovery, seconds=time.perf_counter() - begun_s)
        if options.growth_bytes is None:
            _allocate_whole(opened, options)
        undo.pop_all()
    return opened


def _find_disks(
    options: PoolOptions, identity: bytes, machine: Machine, undo: ExitStack
) -> tuple[list[_Found], dict[str, DiskStats]]:
    """The disks that can be used, locked; and of several those that cannot. OSError where none can."""
    found: list[_Found] = []
    absent: dict[str, DiskStats] = {}
    for disk in options.disks:
        folder = disk.path / options.name
        try:
            make_private(disk.path)
            check_disk(disk.path)
            make_private(folder)
            lock = OwnerLock(folder / LOCK_NAME)
            undo.callback(lock.close)
            table = table_at(folder, machine.sync)
        except OSError as error:
            if len(options.disks) == 1:
                raise
            absent[disk.name] = _absence(disk, str(error))
            continue
        layout = None
        if table is not None:
            undo.callback(table.close)
            if table.header.identity == identity:
                layout = Layout(first_slot=table.header.first_slot, region=table.header.region)
        found.append(_Found(disk, folder, lock, machine.disk_bytes(folder)[0], table, layout))
    if options.disks and not found:
        raise OSError(
            f"no disk of pool {options.name} can be used: {'; '.join(each.reason for each in absent.values())}"
        )
    return found, absent


def _absence(disk: DiskOptions, reason: str) -> DiskStats:
    return DiskStats(
        name=disk.name, path=str(disk.path), state=DiskState.OUT, reason=reason, slots=0, used_slots=0,
        published_slots=0, reserved_slots=0, fenced_slots=0, unproven_slots=0, hidden_slots=0, allocated_bytes=0,
        used_bytes=0, capacity_bytes=0, written_bytes=0, errors=1, full_errors=0,
    )  # fmt: skip


def _number(found: list[_Found], pool: str) -> None:
    """Give every disk a place in the pool's numbering; those that have one keep it, unless two want the same."""
    taken: list[tuple[int, int]] = []
    for each in found:
        if each.layout is not None:
            first, stop = each.layout.first_slot, each.layout.first_slot + each.layout.region
            if any(first < other_stop and other_first < stop for other_first, other_stop in taken):
                each.layout = None
            else:
                taken.append((first, stop))
    for each in found:
        if each.layout is None:
            region = min(REGION_FACTOR * -(-each.capacity_bytes // SLOT_BYTES), SLOTS_MAX // (2 * len(found)))
            first = 0
            for other_first, other_stop in sorted(taken):
                if other_first - first >= region:
                    break
                first = max(first, other_stop)
            if region > SLOTS_MAX - first:
                raise ConfigError(
                    f"pool {pool}: no room for disk {each.options.name} among {SLOTS_MAX} slots of 1 MiB. Remove "
                    f"{each.folder.parent.name}'s other folders of this pool, or use two pools."
                )
            each.layout = Layout(first_slot=first, region=region)
            taken.append((first, first + region))


def _check_room(found: list[_Found], options: PoolOptions, machine: Machine) -> None:
    """CacheFullError where a disk cannot hold its share of the limit, whatever else is on it; or hardly anything
    now."""
    slots = slots_for(options.limit_bytes, len(found), options.name)
    regions = [each.layout.region for each in found if each.layout is not None]
    given = shares(slots, [each.capacity_bytes for each in found], regions)
    needs: dict[int, int] = {}
    for each, share in zip(found, given, strict=True):
        device = os.stat(each.folder).st_dev
        needs[device] = needs.get(device, 0) + share * SLOT_COST_BYTES
        size, free = machine.disk_bytes(each.folder)
        if needs[device] > size:
            raise CacheFullError(
                f"pool {options.name}: {each.folder} is on a disk of {size} bytes, and the limit of "
                f"{options.limit_bytes} bytes would take {needs[device]} of them. Lower the limit, or add a disk."
            )
        slab = each.folder / SLAB_NAME
        held = os.stat(slab).st_blocks * 512 if slab.exists() else 0
        if free + held < min(share, SLOTS_WANTED_MIN) * SLOT_COST_BYTES:
            raise CacheFullError(
                f"pool {options.name}: {free} bytes are free at {each.folder}, too few for {SLOTS_WANTED_MIN} chunks "
                "of 1 MiB. Make room there, or use another disk."
            )
    if sum(given) < slots:
        raise ConfigError(
            f"pool {options.name}: a limit of {options.limit_bytes} bytes is more than its disks can number: "
            f"{sum(regions)} slots of 1 MiB."
        )


def _open_disk(
    found: _Found, options: PoolOptions, identity: bytes, boot: bytes, machine: Machine, undo: ExitStack
) -> Disk:
    layout, table = found.layout, found.table
    assert layout is not None  # _number gave everyone one
    header = TableHeader(identity, layout.first_slot, layout.region, boot)
    if (
        table is None
        or table.header.identity != identity
        or ((table.header.first_slot, table.header.region) != (layout.first_slot, layout.region))
    ):
        table = new_table(found.folder, header, machine.sync)
        undo.callback(table.close)
    slab = machine.slab(found.folder / SLAB_NAME, layout.first_slot, layout.region, machine.sync)
    undo.callback(slab.close)
    growth = None if options.growth_bytes is None else max(1, options.growth_bytes // SLOT_BYTES)
    health = DiskHealth(options.health, machine.clock)
    return Disk(found.options, found.folder, found.lock, layout, slab, table, health, growth, found.capacity_bytes)


def _recover(
    options: PoolOptions, machine: Machine, boot: bytes, lock: OwnerLock, disks: list[Disk], slots: int,
    budget: WriteBudget, undo: ExitStack,
) -> Opened:  # fmt: skip
    """Words, and what each slot is worth."""
    path = options.words_path / f"{options.name}{WORDS_SUFFIX}"
    ours = [disk for disk in disks if disk.table.header.boot_id == boot]
    words = open_words(path, slots) if ours or not disks else None
    index = SlotIndex(max(slots, words.slots if words else 0))
    generations: dict[int, npt.NDArray[np.uint64]] = {}
    warm = unproven = dropped = 0
    for disk in disks:
        first, header = disk.layout.first_slot, disk.table.header
        if words is None and not disk.slab.is_alone():
            _replace_slab(disk, machine, boot)
        entries = disk.table.load()[: min(disk.layout.region, disk.allocated_slots)]
        kept = None if words is None else words.range(first, len(entries))
        foreign = words is not None and disk not in ours
        states = judge(entries, header, None if foreign else kept)
        if foreign and kept is not None:
            # Used in this boot by another disk: their readers may have these words still.
            states[kept != 0] = SlotState.FREE
        named = int(np.count_nonzero(entries["length"]))
        dropped += index.load(first, entries, states) + named - int(np.count_nonzero(states))
        states = index.state[first : first + len(entries)]
        if words is None:
            generations[first] = words_for(entries, states)
        elif foreign:
            words.adopt(first, words_for(entries, states))
        warm += int(np.count_nonzero(states == SlotState.PUBLISHED))
        unproven += int(np.count_nonzero(states == SlotState.UNPROVEN))
        disk.remember(entries, states != SlotState.FREE)
        budget.remember(header.day, header.written_bytes)
        if header.boot_id != boot:
            disk.table.write_header(replace(header, boot_id=boot))
    lost = any(disk not in ours for disk in disks)
    if words is None:
        words = new_words(path, slots, generations)
    undo.callback(words.close)
    return Opened(
        lock=lock, words=words, disks=disks, absent={}, index=index, budget=budget,
        recovery=Recovery(
            seconds=0.0, warm_slots=warm, unproven_slots=unproven, dropped_slots=dropped, after_power_loss=lost,
            words_were_kept=words.kept,
        ),
    )  # fmt: skip


def _replace_slab(disk: Disk, machine: Machine, boot: bytes) -> None:
    """A new slab and a new table in place of those that are there. Readers of the old slab keep it, unchanged."""
    path, layout = disk.slab_path, disk.layout
    path.unlink()
    header = TableHeader(disk.table.header.identity, layout.first_slot, layout.region, boot)
    table = new_table(disk.folder, header, machine.sync)
    disk.replace(machine.slab(path, layout.first_slot, layout.region, machine.sync), table)


def _allocate_whole(opened: Opened, options: PoolOptions) -> None:
    slots = slots_for(options.limit_bytes, len(opened.disks), options.name)
    given = shares(slots, [disk.capacity_bytes for disk in opened.disks], [d.layout.region for d in opened.disks])
    for disk, share in zip(opened.disks, given, strict=True):
        try:
            disk.allocate_whole(share)
        except OSError as error:
            if error.errno not in FULL_ERRORS:
                raise
            raise CacheFullError(
                f"pool {options.name}: {disk.folder} has no room for a slab of {share * SLOT_BYTES} bytes. Make room, "
                "lower the limit, or let the slab grow as it is needed (growth)."
            ) from error
