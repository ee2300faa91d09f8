"""`fastfeed bench --workload`: how many accelerators of an MLPerf Storage workload this machine feeds.

The data is made once, in a folder of its own; processes stand for accelerators (`fastfeed/bench/emulate.py`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastfeed.bench.emulate import Settings, emulate
from fastfeed.bench.workload_data import place_of, prepare
from fastfeed.bench.workloads import WORKLOADS
from fastfeed.cli.common import positive_int, table_text
from fastfeed.errors import ConfigError
from fastfeed.format.sizes import format_size, parse_size
from fastfeed.format.wording import count_text

DATA_SIZE_DEFAULT = "2GiB"


def data_folder() -> Path:
    """Where data of benchmarks is kept where nothing is said."""
    return Path(os.environ.get("FASTFEED_BENCH_DATA") or Path.home() / ".cache" / "fastfeed-benchmarks")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that only count with --workload."""
    group = parser.add_argument_group("workloads of MLPerf Storage")
    group.add_argument("--workload", choices=tuple(WORKLOADS),
                       help="emulate accelerators of this workload, instead of feeding a dataset")
    group.add_argument("--accelerators", type=positive_int, metavar="N",
                       help="how many (default: search the largest number that is fed)")
    group.add_argument("--accelerator", metavar="NAME", help="which one: a100, h100 or b200 (default: the workload's)")
    group.add_argument("--data", type=Path, metavar="FOLDER",
                       help="where the data is made and kept (default: $FASTFEED_BENCH_DATA, else "
                       "~/.cache/fastfeed-benchmarks)")
    group.add_argument("--data-size", metavar="SIZE",
                       help=f"how much data (default: {DATA_SIZE_DEFAULT}; the rules: 5 x the memory)")


def check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for options that mean nothing together."""
    if args.workload is None:
        given = [name for name in ("accelerators", "accelerator", "data", "data_size")
                 if getattr(args, name) is not None]
        if given:
            raise ConfigError(f"--{given[0].replace('_', '-')} belongs to --workload; give both or neither.")
        return
    for name, value in (("URL", args.url), ("--batch-size", args.batch_size), ("--threads", args.threads),
                        ("--snapshot", args.snapshot), ("--shuffle-quality", args.shuffle_quality or None)):
        if value is not None:
            raise ConfigError(f"--workload brings its own data and batches: leave {name} out.")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make the data where it is missing, run the accelerators; the report."""
    note = noter(args.quiet or args.json)
    workload = WORKLOADS[args.workload]
    settings = Settings(workload=workload, accelerator=workload.accelerator(args.accelerator), seconds=args.seconds,
                        cold=args.cold)
    folder = args.data or data_folder()
    data_bytes = parse_size(args.data_size or DATA_SIZE_DEFAULT, "--data-size")
    place = place_of(workload, folder, data_bytes)
    if not place.exists():
        note(f"making the data of {workload.title} in {place}, once")
    return emulate(settings, prepare(workload, folder, data_bytes), args.accelerators, note)


def noter(is_quiet: bool) -> Callable[[str], None]:
    """What to do with news of the runs."""
    return (lambda line: None) if is_quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def report_text(report: dict[str, Any]) -> str:
    kind = report["accelerator"].upper()
    fed = report["accelerators_fed"]
    facts = [
        ("workload", f"{report['title']}, {kind}: batches of {report['batch_size']:,} records of "
                     f"{format_size(report['record_bytes'])}, {1000 * report['step_s']:g} ms a step"),
        ("fed", f"{count_text(fed, 'accelerator')}: accelerator utilisation of at least {report['au_min']:.0%}"),
    ]
    if report["peak_accelerators"] is not None:
        facts.append(("one loader", f"without compute {report['peak_samples_per_s']:,.0f} samples/s: as much as "
                                    f"{report['peak_accelerators']:,.3g} accelerators take"))
    facts.append(("bound by", report["bound_by"]))
    head = ("accelerators", "AU", "waited", "steps", "samples/s", "MB/s", "wait p50", "p99")
    runs = ["  ".join(f"{name:>{width}}" for name, width in zip(head, (12, 6, 6, 6, 11, 8, 9, 9), strict=True))]
    runs += [
        f"{run['accelerators']:>12}  {run['au']:>6.1%}  {run['waited']:>6.1%}  {run['steps']:>6,}  "
        f"{run['samples_per_s']:>11,.0f}  {run['mb_per_s']:>8,.0f}  "
        f"{run['wait_ms']['p50']:>6,.1f} ms  {run['wait_ms']['p99']:>6,.1f} ms"
        for run in report["runs"]
    ]
    notes = ["not an MLPerf result; other than the rules (Rules.md, 3.3.2) ask:"]
    notes += [f"  - {line}" for line in report["scaled"]]
    return "\n".join([table_text(facts), "", *runs, "", *notes])
