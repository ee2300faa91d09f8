"""`fastfeed verify`: reads all of a dataset and lists every finding."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from fastfeed.cli.common import add_command, positive_int, print_json
from fastfeed.dataset.verify import DatasetFinding, Severity, Survey, read_shards, survey
from fastfeed.errors import ExitCode
from fastfeed.format.machine import usable_cores
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text
from fastfeed.storage.location import storage_to_read

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers
    from fastfeed.storage.local import LocalStorage
    from fastfeed.storage.remote_storage import RemoteStorage


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "verify",
        description="Read everything and check every checksum: manifests, index files, and all bytes of all shards.\n"
        "Prints each finding with file, shard and row. Exit code 3 if there is an error. Files that no\n"
        "snapshot names are warnings. A remote dataset is read from its origin, not from the cache: each shard\n"
        "once, into a file without a name (in FASTFEED_STAGING_DIR, else /var/tmp).",
        example="fastfeed verify out/photos\nfastfeed verify out/photos --strict --json",
    )
    parser.add_argument("url", metavar="URL", help="the dataset: a folder, or a URL of a store or a web server")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="threads (default: the usable cores)")
    parser.add_argument("--snapshot", type=int, metavar="N", help="only this snapshot (default: all)")


def run(args: argparse.Namespace) -> int:
    with closing(storage_to_read(args.url)) as storage:
        return verify(storage, args)


def verify(storage: LocalStorage | RemoteStorage, args: argparse.Namespace) -> int:
    """Print findings as they come, then the summary; the exit code."""
    started_s = time.monotonic()
    plan = survey(storage, args.snapshot)
    # With --quiet findings still go to stdout: they are the answer, not a summary.
    print_now = not args.json
    findings = []
    for finding in plan.findings:
        findings.append(finding)
        if print_now:
            print(finding_text(finding))
    for finding in shard_findings(plan, args.workers or usable_cores(), show_progress=not (args.quiet or args.json)):
        findings.append(finding)
        if print_now:
            print(finding_text(finding))
    report = report_json(plan, findings, time.monotonic() - started_s)
    if args.json:
        print_json(report)
    elif not args.quiet:
        print(summary_text(report))
    bad = report["errors"] + (report["warnings"] if args.strict else 0)
    return int(ExitCode.CORRUPT if bad else ExitCode.OK)


def shard_findings(plan: Survey, workers: int, *, show_progress: bool) -> Iterator[DatasetFinding]:
    """Read the shards, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (show_progress and console.is_terminal)) as progress:
        task = progress.add_task("verify", total=plan.bytes)
        for shard, findings in read_shards(plan, workers):
            yield from findings
            progress.update(task, advance=shard.bytes)


def report_json(plan: Survey, findings: list[DatasetFinding], seconds: float) -> dict[str, Any]:
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    return {
        "snapshots": plan.snapshots,
        "index_files": plan.index_files,
        "shards": len(plan.shards),
        "rows": sum(shard.rows for shard in plan.shards),
        "bytes": plan.bytes,
        "seconds": round(seconds, 3),
        "errors": errors,
        "warnings": len(findings) - errors,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def finding_text(finding: DatasetFinding) -> str:
    """One finding on one line."""
    where = "" if finding.row is None else f" row {finding.row}:"
    return f"{finding.severity}: {finding.file}:{where} {finding.what}"


def summary_text(report: dict[str, Any]) -> str:
    read = (
        f"{count_text(len(report['snapshots']), 'snapshot')}, {count_text(report['shards'], 'shard')}, "
        f"{count_text(report['rows'], 'row')}, {format_size(report['bytes'])} read in {report['seconds']:.1f} s"
    )
    if not report["findings"]:
        return f"{read}: all checksums fit"
    return f"{read}: {count_text(report['errors'], 'error')}, {count_text(report['warnings'], 'warning')}"
