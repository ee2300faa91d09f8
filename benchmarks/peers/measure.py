"""One measurement of one contender in a process of its own, in the contender's environment; says one line of JSON.

    python -m peers.measure ADAPTER write KIND
    python -m peers.measure ADAPTER rate|check WORKLOAD --workers N --variant V --seconds S --epochs-max E
    python -m peers.measure ADAPTER first WORKLOAD           from BENCH_STARTED_S (time.time()) to the first batch
    python -m peers.measure ADAPTER save|resume WORKLOAD     a state in mid-epoch; from loading it to the next batch
    python -m peers.measure ADAPTER points small             single records and 256 at once, at random

A rate is that of a running epoch: the clock starts when a part of it has come, so that neither the workers' start nor
what they had read ahead counts, and stops with the epoch, or after S seconds. Who is through early reads another epoch.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from peers.checks import Check, count_of, records_of
from peers.workloads import WORKLOADS, Raw, Workload, number_of_record

# The clock starts after so much of an epoch, or so long after the first batch.
WARM_SHARE, WARM_S = 0.15, 1.0
# A check that takes longer says how much it has seen.
CHECK_S_MAX = 100.0
# How far a state is saved in an epoch, unless that takes longer.
MID_EPOCH, SAVE_S_MAX = 0.5, 40.0
POINTS, POINTS_AT_ONCE, POINTS_S_MAX = 20_000, 256, 3.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def session_cpu_s() -> float:
    """CPU seconds of this process, its workers and all that they started."""
    ticks, session = 0, os.getsid(0)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile: its parent has its ticks
                continue
            if int(fields[3]) == session:
                ticks += sum(map(int, fields[11:15]))  # utime, stime, and those of children that ended
    return ticks / CLOCK_TICKS


def rate(loader: Any, work: Workload, total: int, seconds: float, epochs_max: int) -> dict[str, Any]:
    before = samples = batches = 0
    first_at = opened_at = ended_at = cpu_s = 0.0
    made_at = time.perf_counter()
    for _ in range(epochs_max):
        for batch in loader:
            now, count = time.perf_counter(), count_of(work, batch)
            if opened_at:
                samples, batches, ended_at = samples + count, batches + 1, now
                if now - opened_at >= seconds:
                    break
                continue
            first_at = first_at or now
            before += count
            if now - first_at >= WARM_S or before >= WARM_SHARE * total:
                opened_at, cpu_s = now, session_cpu_s()
        if samples and time.perf_counter() - opened_at >= seconds / 2:
            break
    taken_s = ended_at - opened_at
    return {"per_s": samples / taken_s, "samples": samples, "batches": batches, "s": taken_s,
            "first_s": first_at - made_at, "cpu_s": session_cpu_s() - cpu_s}


def check(loader: Any, work: Workload, raw: Raw) -> dict[str, Any]:
    found, deadline = Check(work, raw), time.monotonic() + CHECK_S_MAX
    for batch in loader:
        found.add(batch)
        if time.monotonic() > deadline:
            break
    return found.result()


def numbers_of(batch: Any) -> list[int]:
    return [number_of_record(record) for record in records_of(batch)]


def save(adapter: Any, work: Workload, folder: Path, workers: int, variant: str, total: int) -> dict[str, Any]:
    resumable = adapter.Resumable(work, folder, workers, variant)
    seen: list[int] = []
    deadline = time.monotonic() + SAVE_S_MAX
    running = iter(resumable)  # kept: some contenders hang when an epoch is dropped before its state is asked for
    for batch in running:
        seen += numbers_of(batch)
        if len(seen) >= MID_EPOCH * total or time.monotonic() > deadline:
            break
    started = time.perf_counter()
    state = resumable.state()
    taken_s = time.perf_counter() - started
    folder.parent.mkdir(parents=True, exist_ok=True)  # who reads the raw data has none yet
    folder.with_name(f"state{variant}").write_bytes(pickle.dumps((state, seen)))
    return {"s": taken_s, "bytes": len(pickle.dumps(state)), "seen": len(seen)}


def resume(adapter: Any, work: Workload, folder: Path, workers: int, variant: str) -> dict[str, Any]:
    state, seen = pickle.loads(folder.with_name(f"state{variant}").read_bytes())
    resumable = adapter.Resumable(work, folder, workers, variant)
    started = time.perf_counter()
    batch = next(resumable.resumed(state))
    taken_s = time.perf_counter() - started
    again = len(set(seen) & set(numbers_of(batch)))
    return {"s": taken_s, "again": again, "seen": len(seen)}


def points(adapter: Any, folder: Path, total: int) -> dict[str, Any]:
    draw = random.Random(5)
    rows = [draw.randrange(total) for _ in range(POINTS)]
    one, many = adapter.getter(folder), adapter.taker(folder)
    many_rows = [draw.sample(range(total), POINTS_AT_ONCE) for _ in range(POINTS // POINTS_AT_ONCE)]
    assert [number_of_record(one(row)) for row in rows[:200]] == rows[:200], "a read gave another record"
    assert numbers_of(many(many_rows[0])) == many_rows[0], "a read of many gave other records"
    return {"single_per_s": calls_a_second(one, rows), "many_per_s": calls_a_second(many, many_rows) * POINTS_AT_ONCE}


def calls_a_second(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    done, started = 0, time.perf_counter()
    while True:
        for argument in arguments:
            call(argument)
            done += 1
            if (taken_s := time.perf_counter() - started) > POINTS_S_MAX:
                return done / taken_s


def measured(options: argparse.Namespace) -> dict[str, Any]:
    adapter = importlib.import_module(f"peers.adapters.{options.adapter}")
    raw = Raw(options.data)
    if options.action == "write":
        started = time.perf_counter()
        adapter.write(raw, options.work, options.data / options.adapter / options.work)
        return {"s": time.perf_counter() - started, "samples": raw.count(options.work)}
    work = WORKLOADS[options.work]
    folder, total = options.data / options.adapter / work.data, raw.count(work.data)
    if options.action == "points":
        return points(adapter, folder, total)
    if options.action == "save":
        return save(adapter, work, folder, options.workers, options.variant, total)
    if options.action == "resume":
        return resume(adapter, work, folder, options.workers, options.variant)
    loader = adapter.loader(work, folder, options.workers, options.variant)
    if options.action == "check":
        return check(loader, work, raw)
    if options.action == "first":
        first: Iterator[Any] = iter(loader)
        count = count_of(work, next(first))
        return {"s": time.time() - float(os.environ["BENCH_STARTED_S"]), "samples": count}
    return rate(loader, work, total, options.seconds, options.epochs_max)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("adapter")
    parser.add_argument("action", choices=("write", "rate", "check", "first", "save", "resume", "points"))
    parser.add_argument("work")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--variant", default="")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--epochs-max", type=int, default=1000)
    said = measured(parser.parse_args())
    print(json.dumps(said), flush=True)
    # Some contenders' workers do not end when an epoch is left in its middle; who started this ends the whole session.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
