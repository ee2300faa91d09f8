"""`fastfeed cache ls`: what is in the cache, by dataset or file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastfeed.cli.cache_asking import Daemon, add_socket_options
from fastfeed.cli.common import add_command, print_json
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "ls",
        description="List what is in the cache: each dataset or file, how much of it is here, if it is pinned or open.",
        example="fastfeed cache ls\nfastfeed cache ls s3://bucket/imagenet --json",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="only what is at or below this URL")
    parser.add_argument("--pool", metavar="NAME", help="only this pool (default: all that this user may see)")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    with Daemon(args) as daemon:
        told = daemon.ask(Command.LS, {"url": args.url, "pool": args.pool})
    if args.json:
        print_json(told)
    elif not args.quiet:
        print(listing_text(told["sets"]))
    return 0


def listing_text(sets: list[dict[str, Any]]) -> str:
    """A line a dataset or file, those with the most bytes first. Pure."""
    if not sets:
        return "nothing is here"
    ordered = sorted(sets, key=lambda each: (-each["cached_bytes"], each["url"]))
    rows = [(coverage_text(each), notes_text(each), name_text(each)) for each in ordered]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = [f"{coverage:>{widths[0]}}  {notes:<{widths[1]}}  {name}" for coverage, notes, name in rows]
    total = sum(each["cached_bytes"] for each in ordered)
    return "\n".join(
        [*lines, f"{count_text(len(ordered), 'entry')}, {format_size(total)}".replace("entrys", "entries")]
    )


def name_text(each: dict[str, Any]) -> str:
    return each["url"] if each["snapshot"] is None else f"{each['url']} (snapshot {each['snapshot']})"


def coverage_text(each: dict[str, Any]) -> str:
    """ "1.0 GiB of 4.0 GiB (25.0 %)": of the bytes that the chunks hold."""
    share = 100 * each["cached_bytes"] / each["bytes"] if each["bytes"] else 100.0
    # Never 100 % unless all of it is here.
    shown = share if each["cached_bytes"] == each["bytes"] else min(share, 99.9)
    return f"{format_size(each['cached_bytes'])} of {format_size(each['bytes'])} ({shown:.1f} %)"


def notes_text(each: dict[str, Any]) -> str:
    return ", ".join(word for word in ("pinned", "open") if each[word])
