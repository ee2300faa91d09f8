"""What the daemon knows of itself at one moment, as plain values: the one source of status, metrics and page.

Pure data: a `Report` is made by whoever holds the parts (`Reporter`), and read by metrics.py, history.py, page.py and
`fastfeed cache status`. Counters grow from the daemon's start, unless a comment says "now".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from fastfeed.daemon.counters import FetchCounters, Tier
from fastfeed.storage.steady import LATENCY_BOUNDS_S, OriginCounters, SteadyOrigin


class DiskState(StrEnum):
    """Whether a disk's slots are used. Values of `cache`'s own states."""

    OK = "ok"
    SUSPECT = "suspect"  # an operation failed or took too long: no new slots, what is there is read
    OUT = "out"  # its slots are not used; probed from time to time


class EvictReason(StrEnum):
    """Why a slot's chunk went."""

    ROOM = "room"  # for another one
    LIMIT = "limit"  # the pool's limit was lowered
    OPERATOR = "operator"  # `fastfeed cache evict`
    BAD_BYTES = "bad_bytes"  # its bytes did not have their checksum
    DISK = "disk"  # its disk is out


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReport:
    """One disk of one pool."""

    name: str
    path: str
    state: str  # a DiskState, now
    used_bytes: int  # now
    capacity_bytes: int  # of its slabs at the pool's limit, now
    queue: int  # chunks that wait to be written, now
    written_bytes: int
    errors: int  # operations that failed or took too long
    fenced_slots: int = 0  # out of use after a failed write, now
    reason: str = ""  # of a state that is not ok


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginReport:
    """One origin of one pool."""

    name: str
    counters: OriginCounters
    in_flight_max: int
    in_flight: int  # requests under way, now
    waiting: int  # requests that wait for their turn, now

    @classmethod
    def of(cls, name: str, origin: SteadyOrigin, in_flight_max: int) -> OriginReport:
        return cls(
            name=name,
            counters=origin.counters,
            in_flight_max=in_flight_max,
            in_flight=origin.in_flight,
            waiting=origin.waiting,
        )

    def latency_s(self, share: float) -> float | None:
        """The bound below which `share` of the answers came; None where there were none, or above the last bound."""
        left = share * sum(self.counters.latency_counts)
        for bound, count in zip(LATENCY_BOUNDS_S, self.counters.latency_counts, strict=False):
            left -= count
            if count and left <= 0:
                return bound
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderCounts:
    """What clients counted in their pages, added up: of those that are here and of those that have gone."""

    slab_reads: int = 0
    slab_bytes: int = 0
    ring_reads: int = 0
    ring_bytes: int = 0
    races_lost: int = 0
    crc_failures: int = 0
    slab_reads_given_up: int = 0
    miss_wait_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    """One registered loader."""

    name: str  # of the job, as its process calls itself
    registration: int
    pool: str
    uid: int
    pid: int
    url: str
    snapshot: int
    kind: str  # "order": its future is known; "opaque": it is not
    rank: int
    world_size: int
    epoch: int
    position: int
    rows: int  # of an epoch
    steps: int
    exposed_wait_s: float
    idle_s: float  # since its last step
    forecast: Mapping[str, object] = field(default_factory=dict)
    slab_bytes: int = 0  # of its process
    ring_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """One pool."""

    name: str
    limit_bytes: int
    used_bytes: int  # now
    slots: int  # now
    policy: str  # what decides who goes, now
    pinned_bytes: int  # now
    prefetched_bytes: int  # fetched ahead and not read yet, now
    fetches: int  # runs on their way from origins, now
    fetch: FetchCounters
    readers: ReaderCounts
    evictions: Mapping[str, int]  # EvictReason -> chunks
    written_bytes_today: int
    write_bytes_per_day_max: int | None
    disks: tuple[DiskReport, ...]
    origins: tuple[OriginReport, ...]
    jobs: tuple[JobReport, ...]
    clients: int  # connected processes, now

    def tier_bytes(self) -> dict[Tier, int]:
        """Bytes by where they came from. What clients read of slab and ring is what their pages say."""
        fetched = self.fetch.demand_bytes + self.fetch.prefetch_bytes
        return {Tier.SLAB: self.readers.slab_bytes, Tier.RING: self.fetch.ring_bytes, Tier.ORIGIN: fetched}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that went wrong and that an operator would want to know."""

    time_s: float  # Unix time of the last occurrence
    where: str  # "disk nvme0", "origin s3://data", "client 4711"
    text: str
    count: int = 1
    pool: str = ""  # "": the daemon's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The daemon at one moment."""

    version: str
    pid: int
    uid: int
    epoch: int  # of this start
    started_s: float  # Unix time
    now_s: float  # Unix time
    socket: str
    http: str  # URL, "" where there is none
    draining: bool
    buffer_bytes: int  # between origins, disks and rings, now
    buffer_bytes_max: int
    loop_lag_s: float  # how late the event loop was lately, at most
    cpu_s: float  # of this process
    memory_bytes: int  # resident, now
    pools: tuple[PoolReport, ...]
    troubles: tuple[Trouble, ...]  # the newest first

    def seen_by(self, pools: Collection[str] | None) -> Report:
        """What somebody may see who belongs to these pools; None: everything."""
        if pools is None:
            return self
        return replace(
            self,
            pools=tuple(pool for pool in self.pools if pool.name in pools),
            troubles=tuple(trouble for trouble in self.troubles if trouble.pool in pools),
        )


class Reporter(Protocol):
    """Who can say how the daemon is."""

    def report(self) -> Report:
        """Made from counters that are at hand: no I/O, less than a millisecond a hundred jobs."""
        ...


def to_json(value: Any) -> Any:
    """A report, or a part of one, as JSON holds it; of an origin also quantiles of its latency."""
    if is_dataclass(value):
        plain = {each.name: to_json(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, OriginReport):
            plain["latency"] = {f"p{share}_s": value.latency_s(share / 100) for share in (50, 90, 99)}
        return plain
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
