"""`fastfeed cache status`: what the daemon does and holds, on one screen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastfeed.cli.cache_asking import Daemon, add_socket_options
from fastfeed.cli.common import add_command, print_json, table_text
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "status",
        description="Say what the daemon does: hits, bytes by tier, room, each job with progress and wait, disks,\n"
        "origins, and the last errors. The same numbers, live: the page at the address in the first lines.",
        example="fastfeed cache status\nfastfeed cache status --json",
    )
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    with Daemon(args) as daemon:
        report = daemon.ask(Command.STATUS)
    if args.json:
        print_json(report)
    elif not args.quiet:
        print(report_text(report))
    return 0


def report_text(report: dict[str, Any]) -> str:
    """The report for people: the daemon, then each pool. Pure."""
    state = "draining" if report["draining"] else "serving"
    age = span(report["now_s"] - report["started_s"])
    buffers = f"{format_size(report['buffer_bytes'])} of {format_size(report['buffer_bytes_max'])} in buffers"
    rows = [
        ("daemon", f"{state}, version {report['version']}, pid {report['pid']}, up {age}"),
        ("socket", report["socket"]),
        ("page", report["http"] or "off"),
        ("uses", f"{report['cpu_s']:.1f} s of CPU, {format_size(report['memory_bytes'])} of memory, {buffers}"),
    ]
    parts = [table_text(rows), *(pool_text(pool) for pool in report["pools"])]
    if report["troubles"]:
        lines = [
            f"  {span(report['now_s'] - each['time_s'])} ago, {each['where']}: {each['text']}"
            + (f" ({each['count']} times)" if each["count"] > 1 else "")
            for each in report["troubles"]
        ]
        parts.append("\n".join(["errors", *lines]))
    return "\n\n".join(parts)


def pool_text(pool: dict[str, Any]) -> str:
    """One pool, its jobs, disks and origins."""
    fetch, readers = pool["fetch"], pool["readers"]
    hits, requests = readers["slab_reads"], fetch["requests"]
    fetched_bytes = fetch["demand_bytes"] + fetch["prefetch_bytes"]
    room = f"{format_size(pool['used_bytes'])} of {format_size(pool['limit_bytes'])} used"
    tiers = (
        f"{format_size(readers['slab_bytes'])} from disk, {format_size(fetch['ring_bytes'])} by the ring, "
        f"{format_size(fetched_bytes)} from the origin"
    )
    rows = [
        ("room", f"{room}, policy {pool['policy']}, {format_size(pool['pinned_bytes'])} pinned"),
        ("reads", f"{percent(hits, hits + requests)} hits: {hits:,} from disk, {count_text(requests, 'request')}"),
        ("bytes", tiers),
        ("misses", counts_text(fetch["misses"])),
        ("evicted", counts_text(pool["evictions"])),
        ("not kept", counts_text(fetch["drops"])),
        *((f"job {job['name'] or job['pid']}", job_text(job)) for job in pool["jobs"]),
        *((f"disk {disk['name']}", disk_text(disk)) for disk in pool["disks"]),
        *((f"origin {origin['name']}", origin_text(origin["counters"])) for origin in pool["origins"]),
    ]
    return f"pool {pool['name']}, {count_text(pool['clients'], 'client')}\n" + table_text(rows, indent="  ")


def job_text(job: dict[str, Any]) -> str:
    place = f"rank {job['rank']} of {job['world_size']}, epoch {job['epoch']}, {percent(job['position'], job['rows'])}"
    waited = f"waited {span(job['exposed_wait_s'])} in {count_text(job['steps'], 'step')}"
    forecast = job["forecast"].get("text")
    return f"{job['url']}, {place}; {waited}" + (f"; {forecast}" if forecast else "")


def disk_text(disk: dict[str, Any]) -> str:
    state = f"{disk['state']} ({disk['reason']})" if disk["reason"] else disk["state"]
    writes = f"{count_text(disk['queue'], 'chunk')} to write, {count_text(disk['errors'], 'error')}"
    return f"{state}, {disk['path']}: {format_size(disk['used_bytes'])} used, {writes}"


def origin_text(counters: dict[str, Any]) -> str:
    return f"{count_text(counters['requests'], 'request')}, {counters['retries']:,} retried"


def counts_text(counts: dict[str, int]) -> str:
    """{"absent": 3, "arriving": 0} -> "3 absent"."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "none"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def span(seconds: float) -> str:
    """Seconds for people: 90 -> "90 s", 7200 -> "2 h"."""
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
