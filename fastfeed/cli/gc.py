"""`fastfeed gc`: shows, and removes if told so, what no snapshot of a dataset names."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from fastfeed.cli.common import add_command, positive_int, print_json, table_text
from fastfeed.dataset.gc import GcReport, Leftover, gc
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text, few

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "gc",
        description="Show what no snapshot of a dataset names and what killed writers left; with --delete, remove it.\n"
        "Snapshots go only with --keep-snapshots, and not while a reader has them open. Shards that datasets\n"
        "made by merging refer to stay.",
        example="fastfeed gc out/photos\nfastfeed gc out/photos --keep-snapshots 3 --delete",
    )
    parser.add_argument("url", metavar="URL", help="the dataset: its folder, or a URL (s3, gs, az)")
    parser.add_argument("--delete", action="store_true", help="remove it (default: a dry run, which only says what)")
    parser.add_argument(
        "--older-than", default="24h", metavar="SPAN", help="spare what was written in this time (default: 24h)"
    )
    parser.add_argument(
        "--keep-snapshots", type=positive_int, metavar="N", help="drop all snapshots but the newest N (default: none)"
    )
    parser.add_argument(
        "--forget", action="append", default=[], metavar="URL",
        help="a dataset that referred to this one and is gone for good; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    report = gc(
        args.url,
        delete=args.delete,
        older_than=args.older_than,
        keep_snapshots=args.keep_snapshots,
        forget=args.forget,
    )
    if args.json:
        print_json(report_json(report))
    elif not args.quiet:
        print(report_text(report))
    return 0


def report_json(report: GcReport) -> dict[str, Any]:
    return {**dataclasses.asdict(report), "bytes": report.bytes}


def report_text(report: GcReport) -> str:
    """A line a file, and a summary."""
    verb = "removed" if report.deleted else "would remove"
    lines = [f"{verb} {leftover_text(each)}" for each in report.removed]
    dropped = few([str(number) for number in report.snapshots_dropped])
    rows = [
        ("snapshots", f"{verb} {dropped}" if dropped else f"all {len(report.snapshots_kept)} kept"),
        ("files", f"{verb} {count_text(len(report.removed), 'file')}, {format_size(report.bytes)}"),
    ]
    if report.snapshots_held:
        held = few([*map(str, report.snapshots_held)])
        rows.append(("held", f"snapshots kept, readers have them or may have: {held}"))
    if report.young:
        rows.append(("young", f"{count_text(len(report.young), 'file')} kept, written too lately (--older-than)"))
    if report.referred:
        rows.append(("referred", f"{count_text(report.referred, 'shard')} kept, other datasets name them"))
    if not report.deleted:
        rows.append(("dry run", "nothing was changed; --delete removes"))
    return "\n".join([*lines, table_text(rows)])


def leftover_text(leftover: Leftover) -> str:
    return f"{leftover.name} ({format_size(leftover.bytes)}): {leftover.why}"
