"""fastfeed beside every peer and beside the machine's limits: what docs/benchmarks.md says, by one command.

    python benchmarks/scenario_peers.py [--rounds 5] [--works images,tokens] [--peers hf,litdata] [--data FOLDER]
    python benchmarks/scenario_peers.py --prepare          environments and data only
    python benchmarks/scenario_peers.py --report           the page again, from the results that are there

`make bench-peers` runs it. It makes what is not there: environments (--setup), the data, each contender's dataset. Then

1. every contender delivers an epoch of each workload; its bytes are compared, and its order is looked at;
2. its variants and worker counts are tried, a short while each, and the best one is chosen;
3. in every round all contenders and limits take turns, the first one being another one each round.

Every step is one line of JSON in FOLDER/results.jsonl as soon as it is done. A run that was interrupted goes on with
the same command, and does again what failed; --fresh begins anew. Workloads are those of workloads.py, and

    start      from the start of the process to the first batch of small records
    resume     from loading a state of mid-epoch to the next batch of small records
    points     small records one by one and 256 at once, at random
    images-cold, small-cold      as images and small, nothing of it in the page cache, and one epoch only
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import data, environments, limits, report, sessions
from peers.contenders import CONTENDERS, Contender
from peers.results import Results
from peers.workloads import WORKLOADS, Raw

HERE = Path(__file__).resolve().parent
COLD = "-cold"
WORKS = (*WORKLOADS, "start", "resume", "points", "images-cold", "small-cold")
# Longer than any run that makes sense: a check takes 100 s at most, saving a state 40.
RUN_S_MAX, WRITE_S_MAX = 180.0, 1200.0
CORES = 2
TUNE_SHARE = 0.4  # of the seconds of a measurement
READ_BYTES = 8 << 20


class Bench:
    """All steps of one run. What a step needs of another step it finds in the results."""

    def __init__(self, options: argparse.Namespace, results: Results) -> None:
        self.options, self.results = options, results
        self.contenders = [each for each in CONTENDERS if each.adapter in options.peers]

    def measure(self, contender: Contender, action: str, work: str, workers: int = 2, variant: str = "",
                **more: Any) -> dict[str, Any]:
        """Run one measurement; a failure is a result too, and is told."""
        said = [f"--{name.replace('_', '-')}={value}" for name, value in more.items()]
        command = [environments.interpreter(contender.adapter), "-m", "peers.measure", contender.adapter, action, work,
                   f"--data={self.options.data}", f"--workers={workers}", f"--variant={variant}", *said]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
                       "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        try:
            found = sessions.run(command, environment, WRITE_S_MAX if action == "write" else RUN_S_MAX)
        except sessions.RunFailedError as error:
            found = {"failed": str(error)}
        tell(f"{action:7} {work:14} {contender.name:34} {variant:16} {workers}  {short(found)}")
        return found

    def prepare(self) -> None:
        kinds = self.kinds()
        data.make(self.options.data, data.QUICK if self.options.quick else data.Counts(), kinds)
        for name in dict.fromkeys(contender.adapter for contender in self.contenders):
            self.results.once({"step": "versions", "adapter": name}, lambda name=name: environments.versions(name))
        for contender in self.contenders:
            for kind in kinds:
                self.write(contender, kind)
        raw = Raw(self.options.data)
        for kind in kinds:
            self.results.once({"step": "bytes", "data": kind}, lambda kind=kind: {"bytes": raw.size_bytes(kind),
                                                                                  "count": raw.count(kind)})

    def kinds(self) -> tuple[str, ...]:
        """What the workloads read, in the order in which it is made."""
        read = {WORKLOADS[warm].data if (warm := work.removesuffix(COLD)) in WORKLOADS else "small"
                for work in self.options.works}
        return tuple(kind for kind in data.KINDS if kind in read or (kind == "images" and "mixed" in read))

    def write(self, contender: Contender, kind: str) -> None:
        reads = {WORKLOADS[work].data for work in contender.variants}
        place = self.folder(contender, kind)
        if kind not in reads or contender.adapter in ("files", "memmap", "spdl"):
            return
        if not (done := place.with_name(f"{kind}.done")).exists():
            shutil.rmtree(place, ignore_errors=True)
            found = self.measure(contender, "write", kind)
            if "failed" in found:
                raise SystemExit(f"{contender.name} could not store {kind}: {found['failed']}")
            files = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
            done.write_text(json.dumps({**found, "bytes": sum(files), "files": len(files)}))
        self.results.once({"step": "write", "adapter": contender.adapter, "work": kind},
                          lambda: json.loads(done.read_text()))

    def folder(self, contender: Contender, kind: str) -> Path:
        return Path(self.options.data) / contender.adapter / kind

    def check(self) -> None:
        for contender, work in self.pairs():
            for variant in contender.variants[work] if contender.checked else ():
                key = {"step": "check", "contender": contender.name, "work": work, "variant": variant}
                self.results.once(key, lambda c=contender, w=work, v=variant: self.measure(
                    c, "check", w, self.workers(c)[0], v))

    def tune(self) -> None:
        """Choose variant and worker count by one short run each; where there is nothing to choose, none."""
        for contender, work in self.pairs():
            choices = list(itertools.product(self.right(contender, work), self.workers(contender)))
            for variant, workers in choices if len(choices) > 1 else []:
                key = {"step": "tune", "contender": contender.name, "work": work, "variant": variant,
                       "workers": workers}
                self.results.once(key, lambda c=contender, w=work, v=variant, n=workers: self.measure(
                    c, "rate", w, n, v, seconds=self.options.seconds * TUNE_SHARE))

    def right(self, contender: Contender, work: str) -> list[str]:
        """The variants whose epoch was right."""
        if not contender.checked:
            return [*contender.variants[work]]
        return [variant for variant in contender.variants[work]
                if "failed" not in self.results.one(step="check", contender=contender.name, work=work,
                                                    variant=variant)]

    def chosen(self, contender: Contender, work: str) -> tuple[str, int] | None:
        variants = self.right(contender, work)
        tried = [each for each in self.results.all(step="tune", contender=contender.name, work=work)
                 if each["variant"] in variants and "failed" not in each]
        if tried:
            best = max(tried, key=lambda each: each["per_s"])
            return best["variant"], best["workers"]
        workers = self.workers(contender)
        return (variants[0], workers[0]) if len(variants) == len(workers) == 1 else None

    def workers(self, contender: Contender) -> tuple[int, ...]:
        """The counts to try, that of the reference machine's cores first; a quick run tries no other."""
        counts = sorted(contender.workers, key=lambda count: abs(count - CORES))
        return tuple(counts[:1] if self.options.quick else counts)

    def rounds(self) -> None:
        for number in range(self.options.rounds):
            for work in self.options.works:
                runs = [*self.runs(work), *limits.runs(work, self.options.data, self.options.seconds)]
                first = number % max(1, len(runs))
                for name, run in runs[first:] + runs[:first]:
                    self.results.once({"step": "round", "round": number, "contender": name, "work": work}, run)

    def runs(self, work: str) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
        """What one round of a workload consists of: the contenders' names and measurements."""
        special = {"start": self.start, "resume": self.resume, "points": self.points}
        found = []
        for contender in self.contenders:
            one = special[work](contender) if work in special else self.rate(contender, work)
            if one is not None:
                found.append((contender.name, one))
        return found

    def rate(self, contender: Contender, work: str) -> Callable[[], dict[str, Any]] | None:
        warm = work.removesuffix(COLD)
        if warm not in contender.variants or (choice := self.chosen(contender, warm)) is None:
            return None
        variant, workers = choice

        def run() -> dict[str, Any]:
            files = self.files(contender, WORKLOADS[warm].data)
            evict(files) if work != warm else warm_up(files)
            found = self.measure(contender, "rate", warm, workers, variant, seconds=self.options.seconds,
                                 epochs_max=1 if work != warm else 1000)
            return {**found, "variant": variant, "workers": workers}

        return run

    def start(self, contender: Contender) -> Callable[[], dict[str, Any]] | None:
        variant = contender.start
        return None if variant is None else lambda: self.measure(contender, "first", "small", variant=variant)

    def resume(self, contender: Contender) -> Callable[[], dict[str, Any]] | None:
        if contender.resume is None:
            return None
        variant = contender.resume
        saved = self.results.once({"step": "save", "contender": contender.name},
                                  lambda: self.measure(contender, "save", "small", variant=variant))
        return None if "failed" in saved else lambda: self.measure(contender, "resume", "small", variant=variant)

    def points(self, contender: Contender) -> Callable[[], dict[str, Any]] | None:
        return (lambda: self.measure(contender, "points", "small")) if contender.points else None

    def files(self, contender: Contender, kind: str) -> list[Path]:
        """What a workload reads, in the page cache or not: the contender's own dataset, or the raw data."""
        own = self.folder(contender, kind)
        raw = Path(self.options.data) / "raw"
        places = [own] if own.exists() else [raw / kind, *([raw / "images"] if kind == "mixed" else [])]
        return [path for place in places for path in place.rglob("*") if path.is_file()]

    def pairs(self) -> Iterator[tuple[Contender, str]]:
        works = dict.fromkeys(work.removesuffix(COLD) for work in self.options.works)
        return ((contender, work) for work in works for contender in self.contenders if work in contender.variants)


def warm_up(files: list[Path]) -> None:
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while file.read(READ_BYTES):
                pass


def evict(files: list[Path]) -> None:
    """Written back first, since dirty pages stay."""
    for path in files:
        with open(path, "rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def short(found: dict[str, Any]) -> str:
    if "failed" in found:
        return "FAILED: " + found["failed"].splitlines()[-1][:150]
    return "  ".join(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in found.items() if name in ("per_s", "s", "once", "mean_step", "again",
                                                                  "single_per_s", "many_per_s"))


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    adapters = list(dict.fromkeys(contender.adapter for contender in CONTENDERS))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=data.FOLDER, help="where everything is kept (about 25 GB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a measurement, at most")
    parser.add_argument("--works", type=lambda text: text.split(","), default=list(WORKS), metavar="A,B")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=adapters, metavar="A,B",
                        help=f"of {', '.join(adapters)}; fastfeed is always one")
    parser.add_argument("--setup", action="store_true", help="make the environments that are missing first")
    parser.add_argument("--fresh", action="store_true", help="begin anew; else what is already in the results stays")
    parser.add_argument("--prepare", action="store_true", help="make what is missing, and end")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--page", type=Path, help="the page whose generated part is written; else it is printed")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    options = parser.parse_args(argv)
    for name, given, known in (("--works", options.works, WORKS), ("--peers", options.peers, adapters)):
        if unknown := set(given) - set(known):
            parser.error(f"{name}: there is no {', '.join(sorted(unknown))}, but {', '.join(known)}")
    options.peers = list(dict.fromkeys(["fastfeed", *options.peers]))
    if options.quick:
        options.rounds, options.seconds = 1, 0.2
    return options


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    # As an interrupt: the program that is being measured ends too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options.data.mkdir(parents=True, exist_ok=True)
    results = Results(options.data / "results.jsonl", fresh=options.fresh, again=not options.report)
    if not options.report:
        if options.setup:
            environments.set_up(options.peers)
        if not environments.is_installed("ffcv"):
            options.peers = [name for name in options.peers if name != "ffcv"]
        bench = Bench(options, results)
        bench.prepare()
        if options.prepare:
            return 0
        bench.check()
        bench.tune()
        bench.rounds()
        results.once({"step": "machine"}, report.machine_now)
    text = report.page(results)
    if options.page:
        report.put(options.page, text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
