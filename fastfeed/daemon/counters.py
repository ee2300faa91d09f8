"""What the daemon counts while it works: plain numbers, changed where the thing happens, read by report.py.

Only the event loop's thread changes them. They only grow, from the daemon's start. Every one is shown by metrics.py
under a name of its own; the enums' values are its labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class MissReason(StrEnum):
    """Why a client had to ask."""

    ABSENT = "absent"  # in no slot, nor on its way
    ARRIVING = "arriving"  # being fetched already, for somebody else or ahead of time
    LOST_RACE = "lost_race"  # the slot was reused while the client read it
    BAD_BYTES = "bad_bytes"  # the slot's bytes did not have their checksum
    STALE_MAP = "stale_map"  # it is in a slot, and the client's map did not say so yet
    NO_SLOTS = "no_slots"  # read around the cache: exact bytes, or a disk that is out


class Tier(StrEnum):
    """Where bytes came from."""

    SLAB = "slab"  # read by clients from the disk, without a message
    RING = "ring"  # given to clients in shared memory
    ORIGIN = "origin"  # fetched from where the data is


class DropReason(StrEnum):
    """Why a chunk that was fetched is not in a slot."""

    DISK_BUSY = "disk_busy"  # the disk's queue was full
    DISK_OUT = "disk_out"  # no disk of the pool takes writes
    NO_VICTIM = "no_victim"  # all that is there is needed sooner
    NOT_ADMITTED = "not_admitted"  # nobody will read it again before it would have to go
    BUDGET = "budget"  # the bytes that may be written a day are used up


class OriginFailure(StrEnum):
    """What an origin answered instead of bytes."""

    THROTTLED = "throttled"  # 429, 503, SlowDown
    UNREACHABLE = "unreachable"  # no connection, or it broke
    TIMEOUT = "timeout"  # no byte for too long
    REFUSED = "refused"  # credentials, permissions
    MISSING = "missing"  # no such object
    CHANGED = "changed"  # another version than the one that was opened
    SHORT = "short"  # fewer bytes than were asked for


# Upper ends of the buckets of a latency: an SSD in the same rack answers in 1 ms, a retried request in a minute.
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Latency:
    """How long things took, as counts a bucket. The last bucket is everything above the last bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile_s(self, share: float) -> float | None:
        """The bound below which `share` of all lie; None where there is none, or it lies above the last bound."""
        left = share * self.count
        for bound, count in zip(LATENCY_BOUNDS_S, self.counts, strict=False):
            left -= count
            if count and left <= 0:
                return bound
        return None


@dataclass(slots=True)
class FetchCounters:
    """One pool's requests and fetches. Reads of slabs are not here: clients count those in their pages."""

    requests: int = 0  # GET messages
    in_slot_answers: int = 0
    ring_answers: int = 0
    ring_bytes: int = 0
    error_answers: int = 0
    misses: Counter[MissReason] = field(default_factory=Counter)
    joins: int = 0  # requests that a fetch under way answered as well
    demand_bytes: int = 0  # from the origin, because somebody waited
    exact_bytes: int = 0  # of these, bytes of a row rather than whole chunks
    prefetch_bytes: int = 0  # from the origin, ahead of time
    refetches: int = 0  # chunks that were fetched, kept, lost and fetched again
    checksum_failures: int = 0  # bytes of an origin that did not have the index's checksum
    drops: Counter[DropReason] = field(default_factory=Counter)  # chunks


@dataclass(slots=True)
class OriginCounters:
    """One origin's requests, retried ones included."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    in_flight: int = 0  # now
    failures: Counter[OriginFailure] = field(default_factory=Counter)
    latency: Latency = field(default_factory=Latency)  # of answered requests, until the last byte
