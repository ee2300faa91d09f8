"""Reports of a made-up daemon: two pools, three jobs, a disk that is suspect. `python -m tests.helpers.daemon_reports`
serves the page of a lively one, to look at."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fastfeed.daemon.config import Config, load
from fastfeed.daemon.counters import DropReason, FetchCounters, MissReason
from fastfeed.daemon.defaults import Machine
from fastfeed.daemon.history import STEP_S
from fastfeed.daemon.http import HttpPort
from fastfeed.daemon.report import (
    DiskReport,
    JobReport,
    OriginReport,
    PoolReport,
    ReaderCounts,
    Report,
    Trouble,
)
from fastfeed.storage.steady import OriginCounters

GIB = 1 << 30
NOW_S = 1_800_000_000.0


def origin_counters() -> OriginCounters:
    """12,000 requests: nine in ten took 40 ms, one in a thousand 3 s."""
    counters = OriginCounters(requests=12_000, attempts=12_031, retries=31, throttled=25, timeouts=6,
                              read_bytes=90 * GIB)  # fmt: skip
    for seconds in [0.04] * 900 + [0.2] * 99 + [3.0]:
        counters.answered(seconds)
    return counters


def job(name: str, registration: int, **changes: object) -> JobReport:
    values: dict[str, object] = {
        "name": name, "registration": registration, "pool": "ml", "uid": 1000, "pid": 4000 + registration,
        "url": "s3://data/imagenet", "snapshot": 3, "kind": "order", "rank": 0, "world_size": 8, "epoch": 2,
        "position": 512_000, "rows": 1_281_167, "steps": 2000, "exposed_wait_s": 3.5, "idle_s": 0.2,
        "forecast": {"text": "71 % hits, 3.1 GB/s from the origin"}, "slab_bytes": 40 * GIB, "ring_bytes": GIB,
    }  # fmt: skip
    return JobReport(**{**values, **changes})  # type: ignore[arg-type]


def pool(name: str = "ml", **changes: object) -> PoolReport:
    values: dict[str, object] = {
        "name": name, "limit_bytes": 1024 * GIB, "used_bytes": 700 * GIB, "slots": 1 << 20, "policy": "resident",
        "pinned_bytes": 0, "prefetched_bytes": 300 << 20, "fetches": 12,
        "fetch": FetchCounters(
            requests=1000, in_slot_answers=600, ring_answers=390, ring_bytes=4 * GIB, error_answers=10,
            request_fetches_max=1,
            misses=Counter({MissReason.ABSENT: 700, MissReason.ARRIVING: 300}), joins=250, demand_bytes=30 * GIB,
            exact_bytes=2 * GIB, prefetch_bytes=60 * GIB, refetches=3, checksum_failures=1,
            drops=Counter({DropReason.NOT_ADMITTED: 40}),
        ),
        "readers": ReaderCounts(slab_reads=99_000, slab_bytes=400 * GIB, ring_reads=390, ring_bytes=4 * GIB,
                                races_lost=5, crc_failures=2, slab_reads_given_up=1, miss_wait_us=12_500_000),
        "evictions": {"room": 900, "limit": 0}, "written_bytes_today": 90 * GIB,
        "write_bytes_per_day_max": 900 * GIB,
        "disks": (
            DiskReport(name="nvme0", path="/mnt/nvme0/fastfeed", state="ok", used_bytes=400 * GIB,
                       capacity_bytes=512 * GIB, queue=3, written_bytes=500 * GIB, errors=0),
            DiskReport(name="nvme1", path="/mnt/nvme1/fastfeed", state="suspect", used_bytes=300 * GIB,
                       capacity_bytes=512 * GIB, queue=0, written_bytes=350 * GIB, errors=2, fenced_slots=1,
                       reason="a write took 7.2 s"),
        ),
        "origins": (
            OriginReport(name="s3://data", in_flight_max=32, in_flight=12, waiting=4, counters=origin_counters()),
        ),
        "jobs": (
            job("resnet50", 1),
            job("resnet50", 2, rank=1, position=511_000, exposed_wait_s=4.0),
            job("captions", 3, url="s3://data/laion/aesthetic-6plus/2026-10", kind="opaque", epoch=0, forecast={},
                position=90_000, rows=2_000_000, idle_s=75.0, world_size=1),
        ),
        "clients": 11,
    }  # fmt: skip
    return PoolReport(**{**values, **changes})  # type: ignore[arg-type]


def report(*pools: PoolReport, **changes: object) -> Report:
    values: dict[str, object] = {
        "version": "0.1.0", "pid": 4321, "uid": 990, "epoch": 77, "started_s": NOW_S - 7000, "now_s": NOW_S,
        "socket": "/run/fastfeed/cache.sock", "http": "http://127.0.0.1:7463/", "draining": False,
        "buffer_bytes": 90 << 20, "buffer_bytes_max": 256 << 20, "loop_lag_s": 0.002, "cpu_s": 40.0,
        "memory_bytes": 180 << 20, "pools": pools or (pool(),),
        "troubles": (
            Trouble(NOW_S - 600, "disk nvme1", "a write took 7.2 s; limits.disk_timeout is 5 s", 2, "ml"),
            Trouble(NOW_S - 4000, "origin s3://data", "503 SlowDown; retried", 25, "ml"),
        ),
    }  # fmt: skip
    return Report(**{**values, **changes})  # type: ignore[arg-type]


class FixedReporter:
    """Always says the same; `report_now` may be replaced by a test."""

    def __init__(self, said: Report | None = None) -> None:
        self.said = said or report()

    def report(self) -> Report:
        return self.said


class LivelyReporter:
    """A daemon at work: a cold epoch whose hit rate rises, then a warm one. `clock` gives Unix time."""

    def __init__(self, clock: Callable[[], float], started_s: float) -> None:
        self._clock = clock
        self._started_s = started_s

    def report(self) -> Report:
        now_s = self._clock()
        age_s = now_s - self._started_s
        warm = 1 / (1 + math.exp(-(age_s - 1500) / 300))
        # What a rate of 2 GiB/s adds up to, split by tier; wobbles so that a chart has something to show.
        read = 2 * GIB * (age_s + 4 * math.sin(age_s / 40))
        area = 300 * math.log1p(math.exp((age_s - 1500) / 300))  # the integral of `warm`
        slab = 2 * GIB * (0.35 * (age_s - area) + area) + 6 * GIB * math.sin(age_s / 40)
        base = pool()
        fetch = dataclasses.replace(
            base.fetch, requests=int((read - slab) / (1 << 20)), ring_bytes=int(0.2 * (read - slab)),
            demand_bytes=int(0.15 * (read - slab)), prefetch_bytes=int(0.7 * (read - slab)), exact_bytes=0,
        )  # fmt: skip
        readers = dataclasses.replace(base.readers, slab_bytes=int(slab), slab_reads=int(slab / (1 << 20)))
        jobs = tuple(
            dataclasses.replace(each, position=int(each.position + age_s * 100) % each.rows,
                                steps=int(age_s * 12), exposed_wait_s=age_s * 0.02 * (1 - warm) * each.registration)
            for each in base.jobs
        )  # fmt: skip
        used = int(base.limit_bytes * (0.3 + 0.6 * warm))
        changed = dataclasses.replace(base, fetch=fetch, readers=readers, jobs=jobs, used_bytes=used)
        return report(
            changed, now_s=now_s, started_s=self._started_s,
            troubles=tuple(dataclasses.replace(each, time_s=each.time_s - NOW_S + now_s) for each in report().troubles),
        )  # fmt: skip


def port_of(reporter: FixedReporter | LivelyReporter, config: Config | None = None) -> HttpPort:
    """The HTTP port of a made-up daemon that runs for our user."""
    known = config or load(machine=Machine.here({"HOME": "/tmp"})).config
    return HttpPort(reporter, lambda: known, os.geteuid())


def with_history(started_s: float, now_s: float) -> HttpPort:
    """A port whose history is full: readings from `started_s` until now, as if it had run all the time."""
    moment = [started_s]
    reporter = LivelyReporter(lambda: moment[0], started_s)
    port = port_of(reporter)
    while moment[0] < now_s:
        port.history.add(reporter.report())
        moment[0] += STEP_S
    moment[0] = now_s
    return port


async def serve() -> None:
    """The page of a daemon that has run for 50 minutes, until interrupted."""
    started_s = time.time() - 3000
    reporter = LivelyReporter(time.time, started_s)
    port = port_of(reporter)
    port.history = with_history(started_s, time.time()).history
    config = load(machine=Machine.here({"HOME": str(Path.home())})).config
    assert config.http is not None
    await port.start(config.http)
    print(port.url, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await port.close()


if __name__ == "__main__":
    asyncio.run(serve())
