"""A workload of MLPerf Storage on this machine: accelerators in step, their utilisation, and how many can be fed.

Accelerator utilisation (AU) by Rules.md, 3.3.2: compute time, which is steps x the workload's time a step, over the
time that the steps took; the first step's reading is left out; the mean over accelerators. All of them read one
dataset, each its share of every global batch, and wait for each other after each step.

What differs from the rules stands in the report as `scaled`: figures of this module are no MLPerf results.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastfeed.bench.diagnosis import busy_stages
from fastfeed.bench.page_cache import drop, local_files
from fastfeed.bench.search import largest
from fastfeed.bench.team import Command, Team
from fastfeed.bench.workload_data import columns_read
from fastfeed.bench.workloads import RULES_MEMORY_MULTIPLE, RULES_STEPS, Workload
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.format.machine import memory_limit_bytes, usable_cores
from fastfeed.format.wording import count_text

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
# More processes than this on one machine measure its scheduler.
ACCELERATORS_MAX = 256
# An epoch has at least so many steps of all accelerators; where the data is smaller, records come again in it.
EPOCH_STEPS_MIN = 8
# One that is used and two that are made (the loader's least), each with its parts while it is made: 5.9 GB of U-Net's
# batches of 1.03 GB. Of smaller batches the loader's default budget; and a Python process.
BATCHES_HELD = 6
PREFETCH_BYTES = 256 << 20
PROCESS_BYTES = 128 << 20
# Of the memory that is free, for accelerators: the rest keeps the data in the page cache.
MEMORY_SHARE = 0.7
# Of the time of one run: how long it is looked at what one loader gives without compute.
PEAK_SHARE = 0.5
# A run that misses is repeated: something else may have used the machine for a moment.
TRIALS_MAX = 2
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is emulated. `seconds`: of each run, after its first step."""

    workload: Workload
    accelerator: str
    seconds: float
    cold: bool = False

    @property
    def step_s(self) -> float:
        return self.workload.step_s[self.accelerator]

    @property
    def needed_per_s(self) -> float:
        """Samples a second that one accelerator takes when it never waits."""
        return self.workload.batch_size / self.step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a team gave."""

    accelerators: int
    au: float  # 0 .. 1
    steps: int
    seconds: float
    samples_per_s: float  # of all, the first step included
    mb_per_s: float
    # Share of the time in which accelerators waited for batches. What else AU lacks is waiting for the others or for a
    # core: the slowest decides, and sleeping takes a little longer than asked for.
    waited: float
    wait_ms: Mapping[str, float]  # quantiles of a step's wait for its batch, of all accelerators
    cores_busy: float  # by the accelerators' own processes
    stages_s: Mapping[str, float]  # thread seconds of their loaders; empty where a loader does not tell


def run_of(reports: Sequence[Mapping[str, Any]], step_s: float) -> Run:
    """What the reports of a team's members say together. Pure."""
    utilisations = [each["steps"] * step_s / each["seconds"] for each in reports]
    waits_s = np.array(list(itertools.chain.from_iterable(each["waits_s"] for each in reports)))
    stages_s: Counter[str] = Counter()
    for each in reports:
        stages_s.update(each.get("stages", {}))
    return Run(
        accelerators=len(reports),
        au=statistics.fmean(utilisations),
        steps=min(each["steps"] for each in reports),
        seconds=max(each["seconds"] for each in reports),
        samples_per_s=sum(each["samples"] / each["all_s"] for each in reports),
        mb_per_s=sum(each["bytes"] / each["all_s"] for each in reports) / 1e6,
        waited=statistics.fmean(sum(each["waits_s"]) / each["seconds"] for each in reports),
        wait_ms={name: round(1e3 * float(np.quantile(waits_s, share)), 3) for name, share in QUANTILES.items()},
        cores_busy=sum(each["cpu_s"] / each["seconds"] for each in reports),
        stages_s=busy_stages(stages_s),
    )


class Emulation:
    """Runs teams over one dataset of this machine, and keeps what they gave. note: is told of each run."""

    def __init__(self, settings: Settings, dataset: Dataset, note: Callable[[str], None]) -> None:
        self._settings, self._dataset, self._note = settings, dataset, note
        self.runs: list[Run] = []

    def run(self, count: int, step_s: float | None = None, seconds: float | None = None) -> Run:
        """One run of `count` accelerators. step_s: instead of the workload's."""
        settings = self._settings
        if settings.cold:
            drop(local_files(self._dataset) or ())
        step_s = settings.step_s if step_s is None else step_s
        seconds = settings.seconds if seconds is None else seconds
        with Team(self._command(step_s), count, environment_of(count)) as team:
            return run_of(team.run(seconds), step_s)

    def peak_per_s(self) -> float:
        """Samples a second that one process takes with all cores when nobody computes."""
        run = self.run(1, step_s=0.0, seconds=self._settings.seconds * PEAK_SHARE)
        self._note(f"one loader, no compute: {run.samples_per_s:,.0f} samples/s, {run.mb_per_s:,.0f} MB/s")
        return run.samples_per_s

    def try_with(self, count: int) -> bool:
        """Whether `count` accelerators are used as much as the rules ask for; keeps the runs."""
        for _ in range(TRIALS_MAX):
            run = self.run(count)
            self.runs.append(run)
            self._note(f"{count} x {self._settings.accelerator}: AU {run.au:.1%}, {run.samples_per_s:,.0f} samples/s, "
                       f"{run.mb_per_s:,.0f} MB/s")
            if run.au >= self._settings.workload.au_min:
                return True
        return False

    def _command(self, step_s: float) -> Command:
        workload, dataset = self._settings.workload, self._dataset

        def command(rank: int, world_size: int, descriptor: int) -> list[str]:
            wanted = workload.batch_size * world_size * EPOCH_STEPS_MIN
            told = {
                "url": dataset.url,
                "repeats": math.ceil(wanted / len(dataset)),
                "columns": columns_read(workload),
                "batch_size": workload.batch_size,
                "rank": rank,
                "world_size": world_size,
                "seed": 0,
                "step_s": step_s,
                "descriptor": descriptor,
            }
            return [sys.executable, "-m", "fastfeed.bench.rank", json.dumps(told)]

        return command


def environment_of(count: int) -> dict[str, str]:
    """Ours; this package in front, and each accelerator told how many share the cores."""
    path = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "LOCAL_WORLD_SIZE": str(count)}


def accelerators_max(workload: Workload, free_bytes: int) -> int:
    """How many fit into memory, at least 1: each holds batches of its own. Pure."""
    each = PROCESS_BYTES + max(BATCHES_HELD * workload.batch_bytes, PREFETCH_BYTES + workload.batch_bytes)
    return min(ACCELERATORS_MAX, max(1, int(MEMORY_SHARE * free_bytes) // each))


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What can be used without swapping."""
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free_bytes = int(lines["MemAvailable"].split()[0]) * 1024
    limit_bytes = memory_limit_bytes()
    return free_bytes if limit_bytes is None else min(free_bytes, limit_bytes)


def emulate(settings: Settings, dataset: Dataset, count: int | None, note: Callable[[str], None]) -> dict[str, Any]:
    """The report. count: how many accelerators; None: search the largest number that is fed."""
    workload = settings.workload
    limit = accelerators_max(workload, free_memory_bytes())
    emulation = Emulation(settings, dataset, note)
    if count is None:
        peak_per_s = emulation.peak_per_s()
        guess = int(peak_per_s / (settings.needed_per_s * workload.au_min))
        fed = largest(emulation.try_with, guess, limit)
    elif count > limit:
        raise ConfigError(f"--accelerators {count}: {limit} fit into the free memory of this machine, with batches of "
                          f"{workload.batch_bytes / 1e6:,.0f} MB each.")
    else:
        peak_per_s = None
        fed = count if emulation.try_with(count) else 0
    runs = sorted(emulation.runs, key=lambda run: (run.accelerators, run.au))
    data_bytes = sum(shard.bytes for shard in dataset.shards())
    return {
        "workload": workload.name,
        "title": workload.title,
        "accelerator": settings.accelerator,
        "source": workload.source,
        "url": dataset.url,
        "batch_size": workload.batch_size,
        "record_bytes": workload.record_bytes,
        "step_s": settings.step_s,
        "au_min": workload.au_min,
        "needed_samples_per_s": round(settings.needed_per_s, 1),
        "usable_cores": usable_cores(),
        "searched": count is None,
        "accelerators_fed": fed,
        "accelerators_max": limit,
        "peak_samples_per_s": peak_per_s,
        "peak_accelerators": None if peak_per_s is None else round(peak_per_s / settings.needed_per_s, 4),
        "runs": [asdict(run) for run in runs],
        "bound_by": bound_of(fed, limit, count, runs, usable_cores()),
        "scaled": scaled(settings, len(dataset), data_bytes, total_memory_bytes(), runs),
    }


def total_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def bound_of(fed: int, limit: int, count: int | None, runs: Sequence[Run], cores: int) -> str:
    """Why it is not one more. Pure."""
    if fed == count:
        return "the number that was asked for"
    if fed == limit:
        return f"memory: the batches of {limit + 1} accelerators do not fit"
    missed = max((run for run in runs if run.accelerators == (count or fed + 1)), key=lambda run: run.au)
    beside = max(0.0, 1 - missed.au - missed.waited)
    said = (f"{count_text(missed.accelerators, 'accelerator')} waited {missed.waited:.0%} of the time for batches and "
            f"{beside:.0%} for each other and for a core, at {missed.mb_per_s:,.0f} MB/s with "
            f"{missed.cores_busy:.1f} of {cores} cores busy")
    total_s = sum(missed.stages_s.values())
    if total_s > 0:
        longest = max(missed.stages_s, key=lambda name: missed.stages_s[name])
        said += f", {missed.stages_s[longest] / total_s:.0%} of the threads' time in {longest}"
    return said


def scaled(settings: Settings, records: int, data_bytes: int, memory_bytes: int, runs: Sequence[Run]) -> list[str]:
    """What differs from the rules. Pure."""
    workload = settings.workload
    most = max(run.accelerators for run in runs)
    steps = records // (workload.batch_size * most)
    told = [f"kept as fastfeed's shards, not as {workload.stored_as}: by the rules an entry of the OPEN division"]
    if data_bytes < RULES_MEMORY_MULTIPLE * memory_bytes:
        told.append(f"{data_bytes / 1e9:.1f} GB of data are {data_bytes / memory_bytes:.2g} x the memory; the rules "
                    f"ask for {RULES_MEMORY_MULTIPLE} x, so that it comes from storage: here it comes from memory" +
                    (" once it was read" if settings.cold else ""))
    if steps < RULES_STEPS:
        told.append(f"an epoch of {most} accelerators has {max(steps, EPOCH_STEPS_MIN)} steps; the rules ask for "
                    f"{RULES_STEPS}" +
                    ("" if steps >= EPOCH_STEPS_MIN else "; records come more than once in it, for they are too few"))
    told.append(f"a run lasts {settings.seconds:g} s, not whole epochs")
    return told
