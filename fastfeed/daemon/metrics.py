"""Metrics for Prometheus: a table of names, help texts and where in a `Report` each value stands.

Nothing is counted here. Names end in their unit; a help text says what a low or a high value means. Labels are names
from the configuration and small enums, and the registered jobs of this machine: their number is bounded by the
daemon's limits, and a job's series end with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastfeed.daemon.counters import DropReason, MissReason
from fastfeed.daemon.report import (
    DiskReport,
    DiskState,
    EvictReason,
    JobReport,
    OriginReport,
    PoolReport,
    Report,
)
from fastfeed.storage.steady import LATENCY_BOUNDS_S

PREFIX = "fastfeed_cache_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[tuple[str, ...], float]
Values = Callable[[Report], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: its full name, its labels, and its values in a report."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    labels: tuple[str, ...]
    help: str
    values: Values


def _counter(name: str, labels: tuple[str, ...], help: str, values: Values) -> Described:
    return Described(PREFIX + name + "_total", CounterMetricFamily, labels, help, values)


def _gauge(name: str, labels: tuple[str, ...], help: str, values: Values) -> Described:
    return Described(PREFIX + name, GaugeMetricFamily, labels, help, values)


def _daemon(value: Callable[[Report], float]) -> Values:
    return lambda report: [((), value(report))]


def _pools(value: Callable[[PoolReport], float]) -> Values:
    return lambda report: [((pool.name,), value(pool)) for pool in report.pools]


def _pools_by(values: Callable[[PoolReport], Mapping[str, float]]) -> Values:
    """One sample a pool and key, for instance a reason."""
    return lambda report: [((pool.name, key), value) for pool in report.pools for key, value in values(pool).items()]


def _disks(value: Callable[[DiskReport], float]) -> Values:
    return lambda report: [((pool.name, disk.name), value(disk)) for pool in report.pools for disk in pool.disks]


def _origins(value: Callable[[OriginReport], float]) -> Values:
    return lambda report: [
        ((pool.name, origin.name), value(origin)) for pool in report.pools for origin in pool.origins
    ]


def _jobs(value: Callable[[JobReport], float]) -> Values:
    return lambda report: [(_job_labels(job), value(job)) for pool in report.pools for job in pool.jobs]


def _job_labels(job: JobReport) -> tuple[str, ...]:
    return (job.pool, job.name, job.url, str(job.rank), str(job.registration))


def _every(kind: Iterable[str], counts: Mapping[Any, int]) -> dict[str, float]:
    """A value for each member of an enum, so that a rate exists before the first event."""
    return {str(member): counts.get(member, 0) for member in kind}


def _disk_states(report: Report) -> Iterator[Sample]:
    for pool in report.pools:
        for disk in pool.disks:
            for state in DiskState:
                yield (pool.name, disk.name, str(state)), float(disk.state == state)


def _origin_failures(report: Report) -> Iterator[Sample]:
    for pool in report.pools:
        for origin in pool.origins:
            counters = origin.counters
            failures = {"throttled": counters.throttled, "timeout": counters.timeouts, "given_up": counters.failures}
            for reason, count in failures.items():
                yield (pool.name, origin.name, reason), count


POOL, DISK, ORIGIN = ("pool",), ("pool", "disk"), ("pool", "origin")
JOB = ("pool", "job", "dataset", "rank", "registration")

METRICS: tuple[Described, ...] = (
    # What readers get, and from where.
    _counter(
        "read_bytes",
        ("pool", "tier"),
        "Bytes by where they came from. slab: read by clients from the disk, without a message; ring: handed over in "
        "memory; origin: fetched from storage. origin growing as fast as slab and ring together: the cache does not "
        "help; see misses and forecasts of the jobs.",
        _pools_by(lambda pool: {str(tier): value for tier, value in pool.tier_bytes().items()}),
    ),
    _counter(
        "reads",
        ("pool", "tier"),
        "Reads of clients by tier. slab reads cost the daemon nothing. A high share of ring in a warm epoch: slots "
        "are evicted before they are read, or a disk is out.",
        _pools_by(lambda pool: {"slab": pool.readers.slab_reads, "ring": pool.fetch.ring_answers}),
    ),
    _counter(
        "requests",
        POOL,
        "Requests for bytes that were in no slot the client knew. Near 0 a second: everything hits.",
        _pools(lambda pool: pool.fetch.requests),
    ),
    _counter(
        "misses",
        ("pool", "reason"),
        "Why clients had to ask. absent: first epoch, or evicted; arriving: prefetch is slightly late; lost_race: "
        "slots turn over fast, the pool is small for its jobs; bad_bytes: a disk or memory is failing; stale_map: "
        "harmless; no_slots: read around the cache, the pool is smaller than what is active.",
        _pools_by(lambda pool: _every(MissReason, pool.fetch.misses)),
    ),
    _counter(
        "request_errors",
        POOL,
        "Requests that were answered with an error, which a training process sees. Should be 0.",
        _pools(lambda pool: pool.fetch.error_answers),
    ),
    _gauge(
        "request_fetches_max",
        POOL,
        "The most fetches that one request took. 1 is normal, 2: a client's ring was full; more is a bug: report it.",
        _pools(lambda pool: pool.fetch.request_fetches_max),
    ),
    _counter(
        "miss_wait_seconds",
        POOL,
        "Time that readers of clients waited for misses. High while exposed wait is 0: prefetch hides it.",
        _pools(lambda pool: pool.readers.miss_wait_us / 1e6),
    ),
    _counter(
        "races_lost",
        POOL,
        "Slab reads whose slot was reused meanwhile; each costs one request. Above 1 % of slab reads: the pool is "
        "small.",
        _pools(lambda pool: pool.readers.races_lost),
    ),
    _counter(
        "slab_reads_given_up",
        POOL,
        "Slab reads that took longer than their deadline: a disk is slow or hangs. Should be 0.",
        _pools(lambda pool: pool.readers.slab_reads_given_up),
    ),
    # Fetching.
    _counter(
        "fetched_bytes",
        ("pool", "purpose"),
        "Bytes from origins. demand: somebody waited for the chunk; exact: somebody waited, and only the row was "
        "taken; prefetch: ahead of time. demand high against prefetch after the first minutes: the prefetch limit, "
        "or the origin, is too slow for the jobs.",
        _pools_by(
            lambda pool: {
                "demand": pool.fetch.demand_bytes - pool.fetch.exact_bytes,
                "exact": pool.fetch.exact_bytes,
                "prefetch": pool.fetch.prefetch_bytes,
            }
        ),
    ),
    _counter(
        "single_flight_joins",
        POOL,
        "Requests that shared a fetch with others. High when many processes start together: each byte was fetched "
        "once.",
        _pools(lambda pool: pool.fetch.joins),
    ),
    _counter(
        "refetches",
        POOL,
        "Chunks that were fetched again after they had been kept. Low is good; steady growth within an epoch: the "
        "limit is below what the jobs reuse.",
        _pools(lambda pool: pool.fetch.refetches),
    ),
    _counter(
        "checksum_failures",
        ("pool", "where"),
        "Bytes that did not have their checksum, found before anybody used them. slab: disk or memory of this "
        "machine; origin: the stored object, or the way from it. Above 0: look at errors on the page.",
        _pools_by(lambda pool: {"slab": pool.readers.crc_failures, "origin": pool.fetch.checksum_failures}),
    ),
    _gauge(
        "fetches_in_flight",
        POOL,
        "Fetches on their way from origins. At the origins' in_flight limit all the time: raise it, or storage is "
        "the limit.",
        _pools(lambda pool: pool.fetches),
    ),
    # Room.
    _gauge(
        "used_bytes",
        POOL,
        "Bytes in slots. Below the limit for long: everything that the jobs need is here, or writes are dropped.",
        _pools(lambda pool: pool.used_bytes),
    ),
    _gauge(
        "limit_bytes",
        POOL,
        "Bytes that the pool may hold; used_bytes is never above it.",
        _pools(lambda pool: pool.limit_bytes),
    ),
    _gauge(
        "pinned_bytes",
        POOL,
        "Bytes that the operator pinned. Near limit_bytes: nothing else can be cached.",
        _pools(lambda pool: pool.pinned_bytes),
    ),
    _gauge(
        "prefetched_bytes",
        POOL,
        "Bytes that were fetched ahead and are not read yet. Near 0 while jobs run: the origin is the bottleneck; "
        "near limits.prefetch: the jobs are.",
        _pools(lambda pool: pool.prefetched_bytes),
    ),
    _counter(
        "evictions",
        ("pool", "reason"),
        "Chunks that left their slot. room: for others, as planned; limit: the limit was lowered; operator: on "
        "command; bad_bytes and disk: hardware.",
        _pools_by(lambda pool: _every(EvictReason, pool.evictions)),
    ),
    _counter(
        "write_drops",
        ("pool", "reason"),
        "Fetched chunks that were passed on but not kept. disk_busy: the disk is slower than the origin; disk_out: "
        "no disk works; no_victim and not_admitted: the policy keeps what is worth more; budget: today's writes are "
        "used up.",
        _pools_by(lambda pool: _every(DropReason, pool.fetch.drops)),
    ),
    _gauge(
        "write_budget_left_ratio",
        POOL,
        "Share of today's write budget that is left; 1 where there is none. At 0 nothing new is kept until midnight "
        "UTC.",
        _pools(lambda pool: _budget_left(pool)),
    ),
    # Disks.
    _gauge(
        "disk_state",
        ("pool", "disk", "state"),
        "1 for the state that the disk is in. suspect: read, but not written; out: not used, probed until it recovers.",
        _disk_states,
    ),
    _gauge(
        "disk_used_bytes",
        DISK,
        "Bytes in slots of this disk. Uneven over equal disks: one was out.",
        _disks(lambda disk: disk.used_bytes),
    ),
    _gauge(
        "disk_queue_chunks",
        DISK,
        "Chunks that wait to be written. Near limits.disk_queue: the disk is slower than the origin, and writes are "
        "dropped.",
        _disks(lambda disk: disk.queue),
    ),
    _counter(
        "disk_written_bytes",
        DISK,
        "Bytes written to the disk: what wears it. In a steady state near 0, unless several jobs share the pool.",
        _disks(lambda disk: disk.written_bytes),
    ),
    _counter(
        "disk_errors", DISK, "Operations that failed or took too long. Should be 0.", _disks(lambda disk: disk.errors)
    ),
    _gauge(
        "disk_fenced_slots",
        DISK,
        "Slots that could not be written and are not used: a full thin volume or file system. Should be 0.",
        _disks(lambda disk: disk.fenced_slots),
    ),
    # Origins.
    _counter(
        "origin_requests",
        ORIGIN,
        "Requests to storage; its retries are counted apart. Many for few bytes: rows are read one by one.",
        _origins(lambda origin: origin.counters.requests),
    ),
    _counter("origin_bytes", ORIGIN, "Bytes that storage sent.", _origins(lambda origin: origin.counters.read_bytes)),
    _counter(
        "origin_retries",
        ORIGIN,
        "Attempts after the first. Above 1 % of requests: storage is overloaded, or in_flight and rate are too high.",
        _origins(lambda origin: origin.counters.retries),
    ),
    _counter(
        "origin_failures",
        ("pool", "origin", "reason"),
        "What went wrong. throttled: lower the origin's rate or in_flight; timeout: no answer in time, tried again; "
        "given_up: requests that ended in an error, which somebody sees: should be 0.",
        _origin_failures,
    ),
    _gauge(
        "origin_in_flight_requests",
        ORIGIN,
        "Requests under way. At the limit while jobs wait: raise in_flight.",
        _origins(lambda origin: origin.in_flight),
    ),
    _gauge(
        "origin_waiting_requests",
        ORIGIN,
        "Requests that wait for their turn, by the limits on requests and rate.",
        _origins(lambda origin: origin.waiting),
    ),
    # Jobs.
    _counter(
        "job_exposed_wait_seconds",
        JOB,
        "Time that training stood still for its next batch. A rate near 0: data is not the limit; near 1: it is.",
        _jobs(lambda job: job.exposed_wait_s),
    ),
    _counter(
        "job_steps",
        JOB,
        "Steps that the job took. No growth: it stands still, or evaluates.",
        _jobs(lambda job: job.steps),
    ),
    _gauge("job_epoch", JOB, "Epoch that the job is in.", _jobs(lambda job: job.epoch)),
    _gauge(
        "job_progress_ratio",
        JOB,
        "Position in the epoch, 0 to 1.",
        _jobs(lambda job: job.position / job.rows if job.rows else 0.0),
    ),
    _gauge(
        "job_idle_seconds",
        JOB,
        "Since the job's last step. Above 60, its prefetched bytes are given to others.",
        _jobs(lambda job: job.idle_s),
    ),
    # The daemon itself.
    _gauge("clients", POOL, "Connected processes.", _pools(lambda pool: pool.clients)),
    _gauge(
        "buffer_bytes",
        (),
        "Memory between origins, disks and rings. Near buffer_limit_bytes: slow readers or disks hold fetches back.",
        _daemon(lambda report: report.buffer_bytes),
    ),
    _gauge("buffer_limit_bytes", (), "What buffer_bytes may be.", _daemon(lambda report: report.buffer_bytes_max)),
    _gauge(
        "event_loop_lag_seconds",
        (),
        "How late the daemon's loop was lately. Above 0.1: the machine gives it too little CPU.",
        _daemon(lambda report: report.loop_lag_s),
    ),
    _gauge("draining", (), "1 while the daemon is leaving.", _daemon(lambda report: float(report.draining))),
    _gauge(
        "start_time_seconds",
        (),
        "Unix time of the start. A recent one: the daemon was restarted.",
        _daemon(lambda report: report.started_s),
    ),
    _counter(
        "cpu_seconds",
        (),
        "CPU time of the daemon. Below 0.01 a second while everything hits.",
        _daemon(lambda report: report.cpu_s),
    ),
    _gauge("resident_memory_bytes", (), "Memory of the daemon.", _daemon(lambda report: report.memory_bytes)),
)

LATENCY_NAME = PREFIX + "origin_latency_seconds"
LATENCY_HELP = (
    "From an attempt to its last byte. A high median: storage is far or busy; a high 99th percentile: it is overloaded."
)
INFO_NAME = PREFIX + "info"


def _budget_left(pool: PoolReport) -> float:
    if pool.write_bytes_per_day_max is None:
        return 1.0
    return max(0.0, 1 - pool.written_bytes_today / pool.write_bytes_per_day_max)


def names() -> set[str]:
    """Every name that a query can use."""
    plain = {described.name for described in METRICS}
    return plain | {LATENCY_NAME + suffix for suffix in ("_bucket", "_sum", "_count")} | {INFO_NAME}


class ReportCollector(Collector):
    """One report as families of metrics."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        for described in METRICS:
            family = described.kind(described.name.removesuffix("_total"), described.help, labels=described.labels)
            for labels, value in described.values(self._report):
                family.add_metric(labels, value)
            yield family
        yield _latency(self._report)
        info = GaugeMetricFamily(INFO_NAME, "1, with the daemon's version.", labels=("version",))
        info.add_metric((self._report.version,), 1)
        yield info


def _latency(report: Report) -> Metric:
    family = HistogramMetricFamily(LATENCY_NAME, LATENCY_HELP, labels=ORIGIN)
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    for pool in report.pools:
        for origin in pool.origins:
            counters = origin.counters
            buckets = list(zip(bounds, accumulate(counters.latency_counts), strict=True))
            family.add_metric((pool.name, origin.name), buckets, counters.latency_s)
    return family


def exposition(report: Report) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReportCollector(report))
    return generate_latest(registry)
