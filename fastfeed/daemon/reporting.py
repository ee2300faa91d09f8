"""The report of a daemon: what its parts count, gathered. Pure but for reading them."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from fastfeed import __version__
from fastfeed.cache.stats import DiskStats, Refusal
from fastfeed.daemon.counters import DropReason
from fastfeed.daemon.jobs import Registration, report_of
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.pool_service import PoolService, add_reader
from fastfeed.daemon.report import DiskReport, JobReport, OriginReport, PoolReport, Report
from fastfeed.daemon.session import Session
from fastfeed.wire.hot import CHUNK_BYTES

if TYPE_CHECKING:
    from fastfeed.daemon.daemon import Daemon

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Why the pool did not take a chunk, as the report calls it. Two fetches of one chunk are no drop.
_DROPS = {
    Refusal.NO_VICTIM: DropReason.NO_VICTIM,
    Refusal.NOT_ADMITTED: DropReason.NOT_ADMITTED,
    Refusal.BUDGET: DropReason.BUDGET,
    Refusal.DISK_OUT: DropReason.DISK_OUT,
    Refusal.DISK_BUSY: DropReason.DISK_BUSY,
    Refusal.DRAINING: DropReason.DISK_OUT,
}


def make_report(daemon: Daemon) -> Report:
    """The daemon at this moment."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    sessions = daemon.server.sessions.values() if daemon.server is not None else ()
    with open("/proc/self/statm") as statm:
        resident_bytes = int(statm.read().split()[1]) * _PAGE_BYTES
    return Report(
        version=__version__,
        pid=os.getpid(),
        uid=os.geteuid(),
        epoch=daemon.epoch,
        started_s=daemon.started_s,
        now_s=time.time(),
        socket=str(daemon.config.socket),
        http=daemon.http.url if daemon.http is not None else "",
        draining=daemon.is_draining,
        buffer_bytes=daemon.buffers.used_bytes,
        buffer_bytes_max=daemon.buffers.limit_bytes,
        loop_lag_s=daemon.loop_lag_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        memory_bytes=resident_bytes,
        pools=tuple(
            _pool(service, [each for each in sessions if each.service is service])
            for service in daemon.services.values()
        ),
        troubles=daemon.troubles.newest(),
    )


def _pool(service: PoolService, sessions: list[Session]) -> PoolReport:
    stats = service.pool.stats()
    readers = service.readers_gone
    for session in sessions:
        if (page := session.page()) is not None:
            readers = add_reader(readers, page)
    drops = Counter(service.counters.drops)
    for refusal, count in stats.counters.refusals.items():
        if refusal in _DROPS:
            drops[_DROPS[refusal]] += count
    by_id = {id(session): session for session in sessions}
    return PoolReport(
        name=service.name,
        limit_bytes=stats.limit_bytes,
        used_bytes=stats.used_bytes,
        slots=stats.slots,
        policy=service.jobs.plan.policy.name.lower(),
        pinned_bytes=service.evictor.pinned_chunks * CHUNK_BYTES,
        prefetched_bytes=min(service.jobs.prefetched_bytes, stats.used_bytes),
        fetches=service.fetcher.running,
        fetch=replace(service.counters, drops=drops),
        readers=readers,
        evictions={str(reason): count for reason, count in stats.counters.evictions.items()},
        written_bytes_today=stats.written_bytes_today,
        write_bytes_per_day_max=stats.write_bytes_per_day_max,
        disks=tuple(_disk(service, disk) for disk in stats.disks),
        origins=tuple(OriginReport.of(each.name, each.origin, each.in_flight_max) for each in service.sources),
        jobs=tuple(
            _job(service, each, by_id[each.session])
            for each in service.jobs.registrations.values()
            if each.session in by_id
        ),
        # By process: one may have two sessions. A process id of another namespace is 0.
        clients=len({session.peer.pid or id(session) for session in sessions}),
    )


def _disk(service: PoolService, disk: DiskStats) -> DiskReport:
    return DiskReport(
        name=disk.name,
        path=disk.path,
        state=str(disk.state),
        used_bytes=disk.used_bytes,
        capacity_bytes=disk.capacity_bytes,
        queue=service.keeper.queued(disk.name),
        written_bytes=disk.written_bytes,
        errors=disk.errors,
        fenced_slots=disk.fenced_slots,
        reason=disk.reason,
    )


def _job(service: PoolService, job: Registration[CachedObject], session: Session) -> JobReport:
    page = session.page_or_zeros()
    return JobReport(
        name=session.job or job.recipe.job,
        registration=job.number,
        pool=service.name,
        uid=session.peer.uid,
        pid=session.peer.pid,
        url=job.recipe.url,
        snapshot=job.recipe.snapshot,
        kind="opaque" if job.job is None else "order",
        rank=job.recipe.rank,
        world_size=job.recipe.world_size,
        epoch=job.epoch,
        position=job.position,
        rows=job.recipe.rows,
        steps=job.steps,
        exposed_wait_s=job.exposed_wait_s,
        idle_s=max(0.0, time.monotonic() - job.moved_at_s),
        forecast=report_of(job.forecast),
        slab_bytes=page.reader["slab_bytes"],
        ring_bytes=page.reader["ring_bytes"],
    )
