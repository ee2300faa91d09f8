"""`fastfeed bench`: how fast this machine can feed a dataset, and what bounds it.

Runs the loader without a framework and throws the batches away. The data is warm where it fits into memory: the
first seconds are not counted. With --shuffle-quality nothing is fed: see `shuffle_report.py`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastfeed.cli import shuffle_report
from fastfeed.cli.common import (
    add_command,
    add_snapshot_option,
    positive_float,
    positive_int,
    print_json,
    table_text,
)
from fastfeed.dataset.batch import Batch
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.errors import ConfigError
from fastfeed.format.machine import usable_cores
from fastfeed.format.schema import Image
from fastfeed.format.wording import count_text
from fastfeed.loader.image import RandomHorizontalFlip, RandomResizedCrop
from fastfeed.loader.loader import Loader

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

BATCH_SIZE_DEFAULT = 64
# Of the time to measure: what is spent before, so that threads run and pages are in memory.
WARM_UP_SHARE = 0.25
# From this share of the cores on, more threads cannot help.
CORES_BUSY_SHARE = 0.85
# Seconds of the threads over seconds of CPU: from here on they were held up by others.
STARVED_RATIO = 1.5


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "bench",
        description="Measure how fast this machine can feed a dataset, and say what bounds it and what would help.\n"
        "Images are decoded, cropped at random to --image-size and flipped, as in training; nothing is trained.",
        example="fastfeed bench out/photos\nfastfeed bench out/photos --seconds 2 --threads 2 --batch-size 16 --json\n"
        "fastfeed bench out/photos --shuffle-quality\n"
        "fastfeed bench --shuffle-quality --rows 1000000 --row-bytes 10000",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the dataset's folder")
    parser.add_argument(
        "--seconds", type=positive_float, default=10.0, metavar="S", help="how long to measure (default: 10)"
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help=f"samples a batch (default: {BATCH_SIZE_DEFAULT}; with --shuffle-quality "
        f"{shuffle_report.BATCH_SIZE_DEFAULT})",
    )
    parser.add_argument(
        "--threads", type=positive_int, metavar="N", help="decoding threads (default: the loader's choice)"
    )
    parser.add_argument(
        "--image-size", type=positive_int, default=224, metavar="N", help="side of the crops (default: 224)"
    )
    parser.add_argument(
        "--window",
        type=positive_int,
        default=2048,
        metavar="N",
        help="tokens a sample, of a token stream (default: 2048)",
    )
    add_snapshot_option(parser)
    shuffle_report.add_options(parser)


def run(args: argparse.Namespace) -> int:
    shuffle_report.check_options(args)
    view = None if args.url is None else opened(args)
    if args.shuffle_quality:
        report, text = shuffle_report.measure(view, args), shuffle_report.report_text
    elif view is None:
        raise ConfigError("give the folder of the dataset to feed; only --shuffle-quality works without one.")
    else:
        report, text = measure(view, args), report_text
    if args.json:
        print_json(report)
    elif not args.quiet:
        print(text(report))
    return 0


def opened(args: argparse.Namespace) -> Dataset:
    """The dataset, of a stream its windows."""
    dataset = open_dataset(args.url, snapshot=args.snapshot)
    view = dataset.windows(args.window) if dataset.layout == "stream" else dataset
    if len(view) == 0:
        raise ConfigError(f"{args.url}: has no samples to feed.")
    return view


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment."""

    wall_s: float
    cpu_s: float
    samples: int
    frame_bytes: int
    stages_s: Mapping[str, float]

    @classmethod
    def of(cls, loader: Loader, samples: int) -> Reading:
        """Read the counters now; `samples` is what the caller has counted."""
        stats = loader.stats()
        return cls(time.perf_counter(), time.process_time(), samples, stats["bytes"]["frames"], stats["stages"])


def measure(view: Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """Feed `view` for a while and report rates, where time went, and what bounds them."""
    batch_size = min(args.batch_size or BATCH_SIZE_DEFAULT, len(view))
    crop = [RandomResizedCrop(args.image_size), RandomHorizontalFlip()]
    transforms = {name: crop for name, column in view.schema.items() if isinstance(column, Image)}
    with Loader(
        view, batch_size=batch_size, transforms=transforms, threads=args.threads, rank=0, world_size=1
    ) as loader:
        batches = forever(loader)
        samples = feed(batches, args.seconds * WARM_UP_SHARE)
        before = Reading.of(loader, 0)
        samples = feed(batches, args.seconds)
        after = Reading.of(loader, samples)
        stats = loader.stats()
    return {
        "url": view.url,
        "snapshot": view.snapshot,
        "batch_size": batch_size,
        "image_size": args.image_size if transforms else None,
        "threads": stats["threads"],
        "usable_cores": usable_cores(),
        "io": stats["io"],
        "batch_bytes": stats["bytes"]["batch"],
        **rates(before, after, usable_cores(), stats["threads"]),
    }


def forever(loader: Loader) -> Iterator[Batch]:
    """Epoch after epoch."""
    while True:
        yield from loader


def feed(batches: Iterator[Batch], seconds: float) -> int:
    """Take batches for at least `seconds`, at least one; return how many samples they had."""
    samples, end_s = 0, time.perf_counter() + seconds
    while True:
        samples += len(next(batches))
        if time.perf_counter() >= end_s:
            return samples


def rates(before: Reading, after: Reading, cores: int, threads: int) -> dict[str, Any]:
    """What happened between two readings. Pure."""
    wall_s = after.wall_s - before.wall_s
    stages_s = {name: round(after.stages_s[name] - before.stages_s[name], 4) for name in after.stages_s}
    cores_busy = (after.cpu_s - before.cpu_s) / wall_s
    bound, advice = diagnosis(stages_s, wall_s, cores_busy, cores, threads)
    return {
        "seconds": round(wall_s, 3),
        "samples": after.samples,
        "samples_per_s": round(after.samples / wall_s, 1),
        "stored_mb_per_s": round((after.frame_bytes - before.frame_bytes) / wall_s / 1e6, 1),
        "cores_busy": round(cores_busy, 2),
        "stages_s": stages_s,
        "bound_by": bound,
        "advice": advice,
    }


def diagnosis(
    stages_s: Mapping[str, float], wall_s: float, cores_busy: float, cores: int, threads: int
) -> tuple[str, str]:
    """(what bounds the rate, what would change it), from thread seconds by stage and busy cores. Pure."""
    longest = max(stages_s, key=lambda name: stages_s[name])
    share = stages_s[longest] / max(1e-9, sum(stages_s.values()))
    stage = longest.removesuffix("_s")
    if cores_busy >= CORES_BUSY_SHARE * cores:
        what = f"the cores: {cores_busy:.1f} of {cores} are busy, {share:.0%} of the threads' time in {stage}"
        if stage == "decode":
            return what, "more cores, or images that are stored closer to the size they are trained at"
        return what, "more cores; the stage is as fast as this machine's memory and cores allow"
    if stage == "read":
        return (
            f"storage: {share:.0%} of the threads' time is spent in reads, {cores_busy:.1f} of {cores} cores are busy",
            "a faster disk, data that fits into memory, or more --threads to have more reads at once",
        )
    # Stages other than reading never wait by themselves: time that is not CPU time was spent waiting for a core.
    working_s = sum(seconds for name, seconds in stages_s.items() if name != "read_s")
    if working_s > STARVED_RATIO * cores_busy * wall_s:
        return (
            f"other processes: the threads had {cores_busy:.1f} of {cores} cores and waited for more",
            "a quiet machine",
        )
    if threads < cores:
        return (
            f"threads: {threads} of them on {cores} cores, {share:.0%} of their time in {stage}",
            f"--threads {cores}",
        )
    return (f"handing over: {cores_busy:.1f} of {cores} cores are busy", "a larger --batch-size")


def report_text(report: dict[str, Any]) -> str:
    total_s = max(1e-9, sum(report["stages_s"].values()))
    rows = [
        (
            "samples/s",
            f"{report['samples_per_s']:,.0f} in batches of {report['batch_size']}"
            + (f", cropped to {report['image_size']}" if report["image_size"] else ""),
        ),
        ("stored data", f"{report['stored_mb_per_s']:,.1f} MB/s"),
        (
            "cores busy",
            f"{report['cores_busy']:.2f} of {report['usable_cores']}, "
            f"{count_text(report['threads'], 'thread')}, {report['io']}",
        ),
        (
            "time",
            ", ".join(
                f"{name.removesuffix('_s')} {seconds / total_s:.0%}"
                for name, seconds in report["stages_s"].items()
                if seconds / total_s >= 0.005
            ),
        ),
        ("bound by", report["bound_by"]),
        ("what helps", report["advice"]),
    ]
    return table_text(rows)
