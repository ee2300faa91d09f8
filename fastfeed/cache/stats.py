"""What a pool counts and says of itself: plain values, made from memory, without I/O.

Counters grow from the opening of the pool; everything else is as it is now. daemon/metrics.py shows them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class DiskState(StrEnum):
    """Whether a disk's slots are used."""

    OK = "ok"
    SUSPECT = "suspect"  # an operation failed: no new slots, what is there is read, a probe decides
    OUT = "out"  # an operation hangs, or probes fail: its slots are not used


class EvictReason(StrEnum):
    """Why a slot's chunk went."""

    ROOM = "room"  # for another one
    LIMIT = "limit"  # the pool's limit was lowered
    OPERATOR = "operator"  # evict()
    BAD_BYTES = "bad_bytes"  # its bytes did not have their checksum
    DISK = "disk"  # its disk is out, or could not read it


class Refusal(StrEnum):
    """Why reserve() gave no slot."""

    NO_VICTIM = "no_victim"  # the evictor keeps everything that is there
    NOT_ADMITTED = "not_admitted"  # the evictor does not want the chunk
    BUDGET = "budget"  # the bytes that may be written a day are used up
    DISK_OUT = "disk_out"  # no disk takes writes
    DISK_BUSY = "disk_busy"  # the disks do not keep up
    KNOWN = "known"  # the chunk has a slot, or is about to have one
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskStats:
    """One disk of a pool."""

    name: str
    path: str
    state: DiskState
    reason: str  # of a state that is not ok, else ""
    slots: int  # that the limit gives this disk
    used_slots: int  # published, being filled, or waiting for their check
    published_slots: int
    reserved_slots: int  # being filled
    fenced_slots: int  # out of use after a failed write or bad bytes
    unproven_slots: int  # found after a power loss, not checked yet
    hidden_slots: int  # with chunks that are not used while the disk is out
    allocated_bytes: int  # of the slab
    used_bytes: int
    capacity_bytes: int
    written_bytes: int
    errors: int  # operations that failed or took too long
    full_errors: int  # of these: the disk had no room for a slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What opening found."""

    seconds: float
    warm_slots: int  # usable at once
    unproven_slots: int  # to be checked before use
    dropped_slots: int  # named by the table, and not usable
    after_power_loss: bool
    words_were_kept: bool  # readers of an earlier daemon go on


@dataclass(slots=True)
class PoolCounters:
    """Changed where the thing happens."""

    fills: int = 0
    filled_bytes: int = 0
    failed_fills: int = 0
    abandoned: int = 0
    evictions: Counter[EvictReason] = field(default_factory=Counter)
    refusals: Counter[Refusal] = field(default_factory=Counter)
    quarantined: int = 0
    proven: int = 0  # slots whose bytes were checked after a power loss and are in use again
    disproven: int = 0  # and those whose were not what the table says


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """One pool."""

    name: str
    limit_bytes: int
    used_bytes: int  # of slots in use, with their part of the tables; never above limit_bytes
    slots: int  # that the limit gives
    published_slots: int
    reserved_slots: int  # being filled
    written_bytes_today: int
    write_bytes_per_day_max: int | None
    counters: PoolCounters
    recovery: Recovery
    disks: tuple[DiskStats, ...]
