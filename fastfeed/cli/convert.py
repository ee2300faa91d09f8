"""`fastfeed convert`: from images, tars, Parquet or JSON lines to a dataset.

Parses, shows progress and prints the summary; everything else is `fastfeed.convert`.
"""

from __future__ import annotations

import argparse
import dataclasses
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from fastfeed.cli.common import add_command, positive_int, print_json
from fastfeed.convert.detect import SOURCES
from fastfeed.convert.encoding import ON_ERROR
from fastfeed.convert.job import ConvertOptions, ConvertSummary, convert
from fastfeed.convert.source import Plan
from fastfeed.convert.wanted import parse_names, parse_renames
from fastfeed.format.image_file import CHECKS
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


DESCRIPTION = """\
Turn what you have into a dataset. SRC is one of:

  imagefolder  one folder a class (SRC/cat/1.jpg), or images and a label file: labels.csv, labels.jsonl,
               metadata.csv or metadata.jsonl in SRC, or --labels FILE
  webdataset   tars of samples: a file, a folder, or a pattern like 'shards-{000..015}.tar'; .gz and .zst too
  parquet      a file, a folder or a pattern
  jsonl        one JSON object a line: a file, a folder or a pattern; .gz and .zst too

JPEG, PNG and WebP files are kept as they are. Types of columns come from all of the data, or from --schema.
The result is the same for any number of workers, and appears when all is done. The same command again
goes on where it was interrupted, and does nothing when all is done."""
EXAMPLE = """\
fastfeed convert photos out/photos
fastfeed convert photos out/photos --workers 8 --shard-size 512MiB
fastfeed convert 'shards/{000..015}.tar' out/pairs --columns jpg,txt --rename jpg=image,txt=caption
fastfeed convert table.parquet out/table --schema types.json
fastfeed convert scans out/scans --labels diagnosis.csv --check decode"""


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "convert", description=DESCRIPTION, example=EXAMPLE)
    parser.add_argument("source", metavar="SRC", help="the file, folder or pattern to convert")
    parser.add_argument(
        "destination", metavar="DST",
        help="the dataset: a folder, made where it does not exist, or a URL (s3, gs, az)",
    )  # fmt: skip
    parser.add_argument(
        "--from",
        dest="kind",
        default="auto",
        choices=["auto", *SOURCES],
        metavar="KIND",
        help=f"what SRC is: auto or {', '.join(SOURCES)} (default: auto)",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="a .csv or .jsonl with the columns file_name, label and any others"
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="threads, or processes for large inputs (default: the usable cores)",
    )
    parser.add_argument(
        "--shard-size",
        default="256MiB",
        metavar="SIZE",
        help="about how large a shard may be (default: 256MiB)",
    )
    parser.add_argument(
        "--columns", action="append", metavar="A,B", help="only these columns of the source, in this order"
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="call a column of the source something else; several with commas, or several times",
    )
    parser.add_argument(
        "--schema", metavar="FILE", help="a JSON file with the types of columns, where they should not be inferred"
    )
    parser.add_argument(
        "--image-size",
        type=positive_int,
        metavar="N",
        help="make larger images smaller: their shorter side becomes N pixels (default: keep all as they are)",
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only the first N rows")
    parser.add_argument(
        "--check",
        default="structure",
        choices=list(CHECKS),
        help="how each image is checked: its structure, or by decoding it (default: structure)",
    )
    parser.add_argument(
        "--on-error",
        default="stop",
        choices=list(ON_ERROR),
        help="what a damaged file, line or sample does: stop, or be skipped and listed in the dataset (default: stop)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with what an interrupted run has finished; happens without it too, and is no error where "
        "there is nothing to go on with",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make the dataset anew where DST holds another: a new snapshot with the new shards only",
    )


def run(args: argparse.Namespace) -> int:
    options = ConvertOptions(
        source=args.source,
        destination=args.destination,
        kind=args.kind,
        labels=args.labels,
        check=args.check,
        shard_size=args.shard_size,
        workers=args.workers,
        limit_rows=args.limit,
        columns=None if args.columns is None else parse_names(args.columns),
        rename=parse_renames(args.rename),
        schema=args.schema,
        image_size=args.image_size,
        on_error=args.on_error,
        resume=args.resume,
        overwrite=args.overwrite,
    )
    with ProgressBar(enabled=not (args.quiet or args.json)) as progress:
        summary = convert(options, progress)
    if args.json:
        print_json(summary_json(summary))
    elif not args.quiet:
        print(summary_text(summary))
    return 0


class ProgressBar:
    """Says what the source is; then rows, bytes, rate and remaining time, on a terminal. All on stderr."""

    def __init__(self, *, enabled: bool) -> None:
        self._console = Console(stderr=True, quiet=not enabled)
        self._bar = Progress(
            TextColumn("{task.fields[rows]:,} rows"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (enabled and self._console.is_terminal),
        )
        self._task: TaskID | None = None
        self._rows = self._bytes = self._total_bytes = 0

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    def planned(self, plan: Plan, task_count: int) -> None:
        self._total_bytes = sum(item.size_bytes for item in plan.items)
        self._say(f"{plan.seen}, {format_size(self._total_bytes)}, in {count_text(task_count, 'part')}")
        for note in plan.notes:
            self._say(f"note: {note}")
        self._task = self._bar.add_task("convert", total=self._total_bytes, rows=0)

    def resumed(self, tasks: int, size_bytes: int) -> None:
        self._bytes += size_bytes
        self._say(f"going on: {count_text(tasks, 'part')} finished before, {format_size(size_bytes)} of the input")

    def kept(self, tasks: int) -> None:
        self._say(f"note: {count_text(tasks, 'finished part')} kept; the same command goes on from there")

    def advanced(self, rows: int, size_bytes: int) -> None:
        self._rows += rows
        self._bytes += size_bytes
        if self._task is not None:
            # Rows weigh a little more than the files they come from.
            self._bar.update(self._task, completed=min(self._bytes, self._total_bytes), rows=self._rows)


def summary_json(summary: ConvertSummary) -> dict[str, Any]:
    return {
        **dataclasses.asdict(summary),
        "rows_per_s": round(summary.rows / summary.seconds, 1) if summary.converted else 0.0,
        "mb_per_s": round(summary.size_bytes / 1e6 / summary.seconds, 1) if summary.converted else 0.0,
    }


def summary_text(summary: ConvertSummary) -> str:
    seconds, workers = summary.seconds, count_text(summary.workers, "worker")
    what = (
        f"{count_text(summary.rows, 'row')}, {format_size(summary.size_bytes)} in "
        f"{count_text(summary.shards, 'shard')}, snapshot {summary.snapshot}"
    )
    if summary.rejects:
        what += f", {count_text(summary.rejects, 'sample')} rejected (`fastfeed info` says where they are listed)"
    if not summary.converted:
        return f"{summary.destination}: nothing to do, the same command has made it: {what}"
    return (
        f"{summary.destination}: {what}\n"
        f"{seconds:.1f} s with {workers}: {summary.rows / seconds:,.0f} rows/s, "
        f"{summary.size_bytes / 1e6 / seconds:,.0f} MB/s"
    )
