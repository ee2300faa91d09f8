"""What the daemon counts while it works: plain numbers, changed where the thing happens, read by report.py.

Only the event loop's thread changes them. They only grow, from the daemon's start. Every one is shown by metrics.py
under a name of its own; the enums' values are its labels. What origins cost is counted by storage/steady.py.
"""

from __future__ import annotations

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


@dataclass(slots=True)
class FetchCounters:
    """One pool's requests and fetches. Reads of slabs are not here: clients count those in their pages."""

    requests: int = 0  # GET messages
    in_slot_answers: int = 0
    ring_answers: int = 0
    ring_bytes: int = 0
    error_answers: int = 0
    request_fetches_max: int = 0  # the most fetches that one GET took; not more than 2 (requests.py)
    misses: Counter[MissReason] = field(default_factory=Counter)
    joins: int = 0  # requests that a fetch under way answered as well
    demand_bytes: int = 0  # from the origin, because somebody waited
    exact_bytes: int = 0  # of these, bytes of a row rather than whole chunks
    prefetch_bytes: int = 0  # from the origin, ahead of time
    refetches: int = 0  # chunks that were fetched, kept, lost and fetched again
    checksum_failures: int = 0  # bytes of an origin that did not have the index's checksum
    drops: Counter[DropReason] = field(default_factory=Counter)  # chunks
