"""Data larger than the memory: fastfeed beside peers and beside what the disk gives, where the page cache cannot help.

    python benchmarks/scenario_cold_disk.py [--works images,small] [--peers hf,memmap] [--limit 1GiB] [--times 3]

The raw data of the comparison with peers (peers/data.py; made where it is missing) is copied --times over, into a
folder of its own, and every contender stores it there. Then this process goes into a memory cgroup of --limit, with all
that it starts; the page cache counts. Worker counts are tried once each, and the best one is used; in every round all
contenders and the limit take turns, each beginning with nothing in the page cache.

The limit is a C++ program that reads directly at random places at the sizes of the samples (limits/random_reads.cpp).
Who reads in the order of the files can be faster than that; the table says who shuffles less. What a run finds is a
line of JSON in FOLDER/cold/results.jsonl, and the same command goes on where it was interrupted; --fresh begins anew.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from cold_memory import memory_limit
from peers import data, limits
from peers.contenders import CONTENDERS, Contender
from peers.results import Results
from peers.workloads import Raw
from scenario_peers import Bench, evict

from fastfeed.format.sizes import parse_size

WORKS = ("images", "small")
# A disk wants many reads at once: more workers than cores.
WORKERS = (2, 4, 8)
# They read neighbours in the file one after the other, and mix a little of what they have read.
IN_FILE_ORDER = ("WebDataset", "LitData", "HF datasets, iterable")
OURS = "fastfeed"
WANTED_PEER, WANTED_LIMIT = 1.5, 0.9
COPY_BYTES = 8 << 20


def enlarge(source: Path, folder: Path, kind: str, times: int) -> None:
    """`folder`/raw/`kind`: what `source` has, `times` over. The copies are files of their own: a page cache would see
    through links."""
    raw, into = Raw(source), folder / "raw" / kind
    wanted = {"count": raw.count(kind) * times, "bytes": raw.size_bytes(kind) * times}
    made = into / "made.json"
    if made.exists() and json.loads(made.read_text()) == wanted:
        return
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    if kind == "images":
        larger = Raw(folder)
        for number in range(wanted["count"]):
            place = larger.image_file(kind, number)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(raw.image_file(kind, number % raw.count(kind)), place)
    else:
        pieces, offsets = raw.records()
        with open(into / "records.bin", "wb") as file:
            for _ in range(times):
                for start in range(0, len(pieces), COPY_BYTES):
                    file.write(pieces[start : start + COPY_BYTES].data)
        ends = [offsets[1:] + copy * int(offsets[-1]) for copy in range(times)]
        np.save(into / "offsets.npy", np.concatenate([offsets[:1], *ends]))
    made.write_text(json.dumps(wanted))


class Cold:
    """All contenders over data that does not fit."""

    def __init__(self, options: argparse.Namespace, folder: Path, results: Results) -> None:
        self.options, self.folder, self.results = options, folder, results
        self.bench = Bench(argparse.Namespace(data=folder, peers=options.peers), results)

    def contenders(self, work: str) -> list[Contender]:
        return [each for each in self.bench.contenders if work in each.variants and (each.peer or each.name == OURS)]

    def write(self) -> None:
        for work in self.options.works:
            for contender in self.contenders(work):
                self.bench.write(contender, work)

    def epoch(self, contender: Contender, work: str, workers: int) -> dict[str, Any]:
        evict(self.bench.files(contender, work))
        return self.bench.measure(contender, "rate", work, workers, contender.variants[work][0],
                                  seconds=self.options.seconds, epochs_max=1)

    def workers_of(self, contender: Contender, work: str) -> int:
        if contender.name == OURS:
            return contender.workers[0]
        tried: dict[int, float] = {}
        for workers in self.options.workers:
            key = {"step": "tune", "contender": contender.name, "work": work, "workers": workers}
            found = self.results.once(key, functools.partial(self.epoch, contender, work, workers))
            tried[workers] = found.get("per_s", 0.0)
        return max(tried, key=lambda workers: tried[workers])

    def turn(self, contender: Contender, work: str) -> dict[str, Any]:
        workers = self.workers_of(contender, work)
        return {**self.epoch(contender, work, workers), "workers": workers}

    def round_of(self, work: str, number: int) -> None:
        turns: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            (each.name, functools.partial(self.turn, each, work)) for each in self.contenders(work)]
        turns += limits.runs(f"{work}-cold", self.folder, self.options.seconds)
        first = number % len(turns)
        for name, turn in turns[first:] + turns[:first]:
            self.results.once({"step": "round", "round": number, "contender": name, "work": work}, turn)

    def table(self, work: str) -> list[str]:
        # Who brought nothing while the clock ran failed: a table says nothing of it.
        rounds = [each for each in self.results.all(step="round", work=work) if each.get("per_s", 0.0) > 0]
        names = list(dict.fromkeys(each["contender"] for each in rounds))
        rates = {name: [each["per_s"] for each in rounds if each["contender"] == name] for name in names}
        medians = {name: statistics.median(values) for name, values in rates.items()}
        ours = medians[OURS]
        lines = [f"| {work} | a second | least to most | workers | µs of CPU each | fastfeed beside it |",
                 "|---|" + "---:|" * 5]
        for name in sorted(medians, key=lambda each: -medians[each]):
            own = [each for each in rounds if each["contender"] == name]
            cpu = statistics.median([each["cpu_s"] / each["samples"] for each in own]) if "cpu_s" in own[0] else None
            mark = ", in the order of its files" if name in IN_FILE_ORDER else ""
            cells = [name + mark, f"{medians[name]:,.0f}", f"{min(rates[name]):,.0f} to {max(rates[name]):,.0f}",
                     str(own[0].get("workers", "")), "" if cpu is None else f"{cpu * 1e6:,.1f}",
                     f"{ours / medians[name]:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
        limit = [value for name, value in medians.items() if name.startswith("limit")]
        peers = {name: value for name, value in medians.items() if name != OURS and not name.startswith("limit")}
        shuffled = {name: value for name, value in peers.items() if name not in IN_FILE_ORDER}
        for what, among in (("the best peer that shuffles all", shuffled), ("the best peer", peers)):
            if among:
                best = max(among, key=lambda name: among[name])
                lines.append(f"{what}, {best}: {ours / among[best]:.2f} times (wanted {WANTED_PEER})")
        if limit:
            lines.append(f"of what the device gives: {ours / limit[0]:.2f} (wanted {WANTED_LIMIT})")
        return lines


def parse(argv: list[str] | None) -> argparse.Namespace:
    adapters = list(dict.fromkeys(contender.adapter for contender in CONTENDERS))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.FOLDER, help="of the comparison with peers")
    parser.add_argument("--works", type=lambda text: text.split(","), default=list(WORKS), metavar="A,B")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=adapters, metavar="A,B")
    parser.add_argument("--limit", type=parse_size, default=1 << 30, help="memory of all processes; 0: none is set")
    parser.add_argument("--times", type=int, default=3, help="how often the raw data is stored: 0.6 GB of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement, at most")
    parser.add_argument("--workers", type=lambda text: [int(each) for each in text.split(",")], default=list(WORKERS))
    parser.add_argument("--fresh", action="store_true", help="measure anew")
    parser.add_argument("--quick", action="store_true", help="a small run, without a limit, that shows that it works")
    options = parser.parse_args(argv)
    options.peers = list(dict.fromkeys([OURS, *options.peers]))
    if options.quick:
        options.rounds, options.seconds, options.limit, options.times, options.workers = 1, 0.2, 0, 8, [2]
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    folder = options.data / "cold"
    kinds = tuple(dict.fromkeys([*options.works, "small"]))  # the limit reads small's file
    data.make(options.data, data.QUICK if options.quick else data.Counts(), kinds)
    for work in kinds:
        enlarge(options.data, folder, work, options.times)
    results = Results(folder / "results.jsonl", fresh=options.fresh)
    cold = Cold(options, folder, results)
    cold.write()
    for limit in limits.LIMITS:  # outside of the limit: a compiler needs memory
        if any(f"{work}-cold" in limit.works for work in options.works):
            limits.built(limit.program, folder)
    with memory_limit(options.limit) if options.limit else open(os.devnull):
        for number in range(options.rounds):
            for work in options.works:
                cold.round_of(work, number)
    print(machine.describe("torch", "numpy"))
    for work in options.works:
        print("\n".join(["", *cold.table(work)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
