"""How many accelerators of an MLPerf Storage workload each loader feeds: fastfeed, a plain DataLoader, the best peers.

The harness is that of `fastfeed bench --workload` (docs/bench.md): processes that take a batch, sleep as long as the
accelerator computes, and wait for each other, each step. Each contender has the same records in its own format, on the
local disk, in the page cache, and is checked to give the bytes that were written. First all feed one accelerator that
does not compute, with each number of workers; the plain DataLoader (a file a record) and the fastest --best others go
on with their best number, and the largest number of accelerators is searched at the utilisation that the rules ask for.
The others' batches are one buffer of bytes; so are ours, but of records that have columns (dlrm, flux) those columns
that training reads.

    python benchmarks/scenario_mlperf.py [--workloads resnet50,cosmoflow] [--data-size 1GB] [--seconds 10] [--best 2]
    python benchmarks/scenario_mlperf.py --setup       an environment for each peer, once (minutes, 1 GB each)
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import machine
from peers.environments import interpreter, set_up

from fastfeed.bench.emulate import (
    Emulation,
    Run,
    Settings,
    accelerators_max,
    environment_of,
    free_memory_bytes,
    run_of,
)
from fastfeed.bench.search import largest
from fastfeed.bench.team import Command, Team
from fastfeed.bench.workload_data import prepare
from fastfeed.bench.workloads import WORKLOADS, Workload
from fastfeed.cli.bench_workload import data_folder
from fastfeed.dataset.dataset import Dataset
from fastfeed.format.sizes import parse_size

PROGRAM = Path(__file__).resolve().parent / "peers" / "accelerators.py"
PLAIN = "files"
PEERS = ("hf", "litdata", "webdataset", "mosaic")
NAMES = {"fastfeed": "fastfeed", PLAIN: "plain DataLoader, a file a record", "hf": "HF datasets", "litdata": "LitData",
         "webdataset": "WebDataset", "mosaic": "MosaicML Streaming"}
WORKERS = (1, 2)
QUICK_PEERS = ("webdataset",)
# Workers of a DataLoader hold two batches each by default, and the trainer one.
BATCHES_A_WORKER = 2
# A run that misses is repeated once, as the command does.
TRIALS_MAX = 2


@dataclass(frozen=True, slots=True)
class Bench:
    """One workload's data, in every contender's format."""

    settings: Settings
    dataset: Dataset
    folder: Path  # of the others' formats: folder/<contender>
    scratch: Path

    def others(self, name: str, workers: int, step_s: float) -> Command:
        """The command of an accelerator that another loader feeds."""
        def command(rank: int, world_size: int, descriptor: int) -> Sequence[str]:
            told = self.told(name, workers) | {"rank": rank, "world_size": world_size, "step_s": step_s,
                                               "descriptor": descriptor}
            return [python_of(name), str(PROGRAM), "feed", json.dumps(told)]

        return command

    def check(self, name: str) -> None:
        """Ends this run where a loader gives other bytes than were written."""
        told = self.told(name, workers=1) | {"rank": 0, "world_size": 1}
        subprocess.run([python_of(name), str(PROGRAM), "check", str(self.folder / PLAIN), json.dumps(told)],
                       check=True, env=environment_of(1))

    def told(self, name: str, workers: int) -> dict[str, Any]:
        workload = self.settings.workload
        return {"contender": name, "folder": str(self.folder / name), "scratch": str(self.scratch), "workers": workers,
                "batch_size": workload.batch_size, "record_bytes": workload.record_bytes}

    def run(self, name: str, workers: int, count: int, step_s: float) -> Run:
        """One run of `count` accelerators."""
        if name == "fastfeed":
            return Emulation(self.settings, self.dataset, print).run(count, step_s)
        with Team(self.others(name, workers, step_s), count, environment_of(count)) as team:
            return run_of(team.run(self.settings.seconds), step_s)


def python_of(name: str) -> str:
    return sys.executable if name == PLAIN else interpreter(name)


def write_all(dataset: Dataset, folder: Path, names: Sequence[str]) -> None:
    """The records as files, and from these each contender's own format. What is there is kept."""
    files = folder / PLAIN
    if not files.exists():
        unfinished = folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for number in range(len(dataset)):
            values = dataset[number].values()  # of records that have columns: one after the other
            (unfinished / f"{number:08}.bin").write_bytes(b"".join(bytes(memoryview(value)) for value in values))
        unfinished.rename(files)
    for name in names:
        if not (folder / name).exists():
            unfinished = folder / f"unfinished-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            subprocess.run([interpreter(name), str(PROGRAM), "write", name, str(files), str(unfinished)], check=True,
                           env=environment_of(1), stdout=subprocess.DEVNULL)
            unfinished.rename(folder / name)


def measure(workload: Workload, options: argparse.Namespace) -> dict[str, Any]:
    """What each contender feeds."""
    settings = Settings(workload=workload, accelerator=workload.accelerator(options.accelerator),
                        seconds=options.seconds)
    dataset = prepare(workload, options.data, options.data_bytes)
    folder = Path(dataset.url).parent / f"{Path(dataset.url).name}-others"
    write_all(dataset, folder, options.peers)
    with tempfile.TemporaryDirectory(prefix="fastfeed-mlperf-") as scratch:
        bench = Bench(settings, dataset, folder, Path(scratch))
        for name in (PLAIN, *options.peers):
            bench.check(name)
        peaks: dict[str, tuple[float, int]] = {}
        for name in ("fastfeed", PLAIN, *options.peers):
            for workers in (0,) if name == "fastfeed" else options.workers:
                run = bench.run(name, workers, 1, 0.0)
                told(f"{workload.name}: {name}, {workers} workers, no compute: {run.samples_per_s:,.0f} samples/s")
                peaks[name] = max(peaks.get(name, (0.0, 0)), (run.samples_per_s, workers))
        best = sorted(options.peers, key=lambda name: -peaks[name][0])[: options.best]
        return {
            "workload": workload.name,
            "accelerator": settings.accelerator,
            "needed_samples_per_s": settings.needed_per_s,
            "records": len(dataset),
            "peaks": {name: {"samples_per_s": rate, "workers": workers} for name, (rate, workers) in peaks.items()},
            "fed": {name: search(bench, name, *peaks[name]) for name in ("fastfeed", PLAIN, *best)},
        }


def search(bench: Bench, name: str, peak_per_s: float, workers: int) -> dict[str, Any]:
    """The largest number that `name` feeds, and the runs that show it."""
    settings, runs = bench.settings, []

    def feeds(count: int) -> bool:
        for _ in range(TRIALS_MAX):
            run = bench.run(name, workers, count, settings.step_s)
            runs.append(run)
            told(f"{settings.workload.name}: {name}, {count} accelerators: AU {run.au:.1%}")
            if run.au >= settings.workload.au_min:
                return True
        return False

    limit = max(1, accelerators_max(settings.workload, free_memory_bytes()) // max(1, workers))
    count = largest(feeds, int(peak_per_s / (settings.needed_per_s * settings.workload.au_min)), limit)
    return {"accelerators": count, "limit": limit, "workers": workers, "runs": [asdict(run) for run in runs]}


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(results: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    print(machine.describe("torch", "fastfeed"))
    print("not an MLPerf result: data in the page cache, runs of some seconds (docs/bench.md)")
    for result in results:
        workload = WORKLOADS[result["workload"]]
        print(f"\n{workload.title}, {result['accelerator'].upper()}, AU of at least {workload.au_min:.0%}; "
              f"{result['records']:,} records; one accelerator takes {result['needed_samples_per_s']:,.0f} samples/s")
        print("| loader | without compute, samples/s | accelerators' worth | fed | AU there | AU with one more |")
        print("|---|---|---|---|---|---|")
        for name, peak in sorted(result["peaks"].items(), key=lambda pair: -pair[1]["samples_per_s"]):
            found = result["fed"].get(name)
            cells = ["–", "–", "–"] if found is None else [
                str(found["accelerators"]), *(utilisation(found, found["accelerators"] + more) for more in (0, 1))]
            print(f"| {NAMES[name]} | {peak['samples_per_s']:,.0f} | "
                  f"{peak['samples_per_s'] / result['needed_samples_per_s']:.2f} | {' | '.join(cells)} |")


def utilisation(found: dict[str, Any], count: int) -> str:
    """The best AU of the runs of `count`."""
    values = [run["au"] for run in found["runs"] if run["accelerators"] == count]
    return f"{max(values):.1%}" if values else "–"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workloads", default="resnet50,cosmoflow")
    parser.add_argument("--accelerator", help="a100, h100 or b200 (default: the workload's)")
    parser.add_argument("--peers", help=f"default: {','.join(PEERS)}")
    parser.add_argument("--best", type=int, default=2, help="how many of the peers go on")
    parser.add_argument("--data-size", default="1GB")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments, and end")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(argv)
    peers = (QUICK_PEERS if options.quick else PEERS) if options.peers is None else options.peers.split(",")
    options.peers = [name for name in peers if name]
    options.workers = WORKERS[:1] if options.quick else WORKERS
    options.workloads = options.workloads.split(",")
    options.data_bytes = parse_size(options.data_size)
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if options.setup:
        set_up(options.peers)
        return 0
    with tempfile.TemporaryDirectory(prefix="fastfeed-mlperf-data-") as scratch:
        if options.quick:
            options.workloads, options.seconds, options.data_bytes = ["cosmoflow"], 0.2, 20_000_000
            options.data = Path(scratch)
        results = [measure(WORKLOADS[name], options) for name in options.workloads]
    if options.json:
        print(json.dumps(results))
    else:
        report(results, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
