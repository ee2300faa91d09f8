"""`fastfeed bench`: how fast this machine can feed a dataset, and what bounds it.

Three questions, one a run: the dataset's own (`fastfeed/bench/ladder.py`); with --workload, how many accelerators of an
MLPerf Storage workload it feeds (`bench_workload.py`); with --shuffle-quality, how well an order mixes, which reads
nothing (`shuffle_report.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfeed.bench import plot
from fastfeed.bench.ladder import LadderOptions, climb
from fastfeed.cli import bench_workload, shuffle_report
from fastfeed.cli.common import (
    add_command,
    add_snapshot_option,
    positive_float,
    positive_int,
    print_json,
    table_text,
)
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.errors import ConfigError
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

BATCH_SIZE_DEFAULT = 64
SECONDS_DEFAULT = 10.0


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "bench",
        description="Measure how fast this machine can feed a dataset, stage by stage, and say what bounds it and\n"
        "what would help. Images are decoded, cropped at random to --image-size and flipped, as in training;\n"
        "nothing is trained. With --workload: how many accelerators of an MLPerf Storage workload it feeds.",
        example="fastfeed bench out/photos --plot photos.png\n"
        "fastfeed bench out/photos --seconds 2 --threads 1,2,4 --batch-size 16 --json\n"
        "fastfeed bench --workload resnet50 --data-size 4GB\n"
        "fastfeed bench --workload unet3d --accelerator a100 --accelerators 2\n"
        "fastfeed bench out/photos --shuffle-quality\n"
        "fastfeed bench --shuffle-quality --rows 1000000 --row-bytes 10000",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="the dataset's folder, or its URL")
    parser.add_argument(
        "--seconds",
        type=positive_float,
        default=SECONDS_DEFAULT,
        metavar="S",
        help=f"how long to measure, of a workload each run (default: {SECONDS_DEFAULT:g})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help=f"samples a batch (default: {BATCH_SIZE_DEFAULT}; with --shuffle-quality "
        f"{shuffle_report.BATCH_SIZE_DEFAULT})",
    )
    parser.add_argument(
        "--threads",
        type=counts,
        metavar="N[,N…]",
        help="decoding threads; of several each is measured, the last is the result (default: 1, then the loader's "
        "choice)",
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
    parser.add_argument(
        "--cold", action="store_true", help="begin with nothing of the data in memory, and count from the first read on"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="PNG", help="also draw the result into this file; needs matplotlib"
    )
    add_snapshot_option(parser)
    bench_workload.add_options(parser)
    shuffle_report.add_options(parser)


def counts(text: str) -> tuple[int, ...]:
    """An argparse type: whole numbers of at least 1, with commas between them."""
    return tuple(positive_int(part) for part in text.split(","))


def run(args: argparse.Namespace) -> int:
    shuffle_report.check_options(args)
    bench_workload.check_options(args)
    if args.plot is not None:
        if args.shuffle_quality:
            raise ConfigError("--plot draws what was measured; --shuffle-quality measures nothing.")
        plot.require_matplotlib()
    if args.shuffle_quality:
        report = shuffle_report.measure(None if args.url is None else opened(args), args)
        text = shuffle_report.report_text
    elif args.workload is not None:
        report, text, draw = bench_workload.measure(args), bench_workload.report_text, plot.plot_workload
    elif args.url is None:
        raise ConfigError("give the folder of the dataset to feed; --workload and --shuffle-quality work without one.")
    else:
        report, text, draw = measure(args), report_text, plot.plot_ladder
    if args.plot is not None:
        draw(report, args.plot)
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


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Feed the dataset for a while; the report."""
    return climb(opened(args), LadderOptions(
        seconds=args.seconds,
        batch_size=args.batch_size or BATCH_SIZE_DEFAULT,
        threads=args.threads,
        image_size=args.image_size,
        cold=args.cold,
    ))


def report_text(report: dict[str, Any]) -> str:
    in_memory = report["in_memory"]
    data = format_size(report["data_bytes"])
    if report["cold"]:
        data += ", none of it in memory at the start"
    elif in_memory is not None:
        data += f", {in_memory:.0%} of it in memory"
    facts = [
        ("data", data),
        (
            "samples/s",
            f"{report['samples_per_s']:,.0f} in batches of {report['batch_size']}"
            + (f", cropped to {report['image_size']}" if report["image_size"] else ""),
        ),
        ("feeds", f"every training step that takes longer than {report['step_ms']:,.3g} ms"),
        ("stored data", f"{report['stored_mb_per_s']:,.1f} MB/s"),
        (
            "cores busy",
            f"{report['cores_busy']:.2f} of {report['usable_cores']}, "
            f"{count_text(report['threads'], 'thread')} idle {report['threads_idle']:.0%} of the time, "
            f"read with {report['io']['name']}",
        ),
    ]
    stages = [f"{'stage':<8}  {'time':>5}  {'a sample':>11}  {'it alone':>18}"] + [
        f"{each['stage']:<8}  {each['share']:>5.0%}  {each['us_per_sample']:>8,.1f} µs  "
        f"{each['alone_samples_per_s']:>8,.0f} samples/s"
        for each in report["stages"]
    ]
    rungs = [f"{'rung':<13}  {'threads':>7}  {'samples/s':>11}  {'MB/s':>9}  {'cores':>5}"] + [
        f"{each['rung']:<13}  {each['threads']:>7}  {each['samples_per_s']:>11,.0f}  {each['stored_mb_per_s']:>9,.1f}  "
        f"{each['cores_busy']:>5.2f}"
        for each in report["ladder"]
    ]
    helps = [("bound by", report["bound_by"])]
    helps += [("what helps" if number == 0 else "", change) for number, change in enumerate(report["changes"])]
    return "\n".join([table_text(facts), "", *stages, "", *rungs, "", table_text(helps)])
