"""`fastfeed cache evict`: removes a dataset or a file from the cache."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastfeed.cli.cache_asking import Daemon, add_socket_options
from fastfeed.cli.common import UsageError, add_command, print_json
from fastfeed.format.sizes import format_size
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "evict",
        description="Remove a dataset or a file from the cache. Jobs that read it go on, and fetch it again. What is\n"
        "pinned stays, and is said: unpin it first.",
        example="fastfeed cache evict s3://bucket/old-dataset\nfastfeed cache evict --all",
    )
    parser.add_argument("url", metavar="URL", nargs="?", help="a dataset, or one file")
    parser.add_argument("--all", action="store_true", help="everything in the pool")
    parser.add_argument("--snapshot", type=int, metavar="N", help="only what no other snapshot of the dataset has")
    parser.add_argument("--pool", metavar="NAME", help="in which pool (default: the one that this user belongs to)")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    if bool(args.url) == args.all:
        raise UsageError("name what to evict: a URL, or --all for everything in the pool.")
    with Daemon(args) as daemon:
        told = daemon.ask(
            Command.EVICT, {"url": args.url, "snapshot": args.snapshot, "pool": args.pool, "all": args.all or None}
        )
    if args.json:
        print_json(told)
    elif not args.quiet:
        pinned = f"; {format_size(told['pinned_bytes'])} are pinned and stay" if told["pinned_bytes"] else ""
        print(f"{format_size(told['evicted_bytes'])} evicted{pinned}")
    return 0
