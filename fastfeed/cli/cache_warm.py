"""`fastfeed cache warm`: fetches a dataset or a file into the cache, and says how much of it is here.

The daemon does the work, at the pace that training leaves it; this command watches. What it reports at the end was
counted in the cache after the last fetch, so chunks that were dropped on the way are missing from it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastfeed.cli.cache_asking import Daemon, add_dataset_options, add_socket_options, daemon_or_new, dataset_arguments
from fastfeed.cli.cache_ls import coverage_text, name_text
from fastfeed.cli.common import add_command, print_json
from fastfeed.errors import ExitCode
from fastfeed.format.sizes import format_size
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

POLL_S = 0.3


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "warm",
        description="Fetch a dataset, or one file, into the cache, and say how much of it is here. Training goes on,\n"
        "and what it needs goes first. Ctrl-C stops the fetching. Exit code 6 when it does not fit.",
        example="fastfeed cache warm s3://bucket/imagenet\nfastfeed cache warm https://host/model.bin --pin",
    )
    add_dataset_options(parser, "a dataset, or one file")
    parser.add_argument("--pin", action="store_true", help="and keep it, whatever else is needed")
    parser.add_argument("--detach", action="store_true", help="return at once; the daemon goes on")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    wanted = dataset_arguments(args)
    with daemon_or_new(args) as daemon:
        if args.pin:
            daemon.ask(Command.PIN, wanted)
        told = daemon.ask(Command.WARM, wanted)
        if not args.detach:
            with stopping(daemon, wanted):
                told = watch(daemon, wanted, told, quiet=args.quiet or args.json)
    if args.json:
        print_json(told)
    elif not args.quiet:
        print(result_text(told))
    return int(exit_code(told))


@contextmanager
def stopping(daemon: Daemon, wanted: dict[str, Any]) -> Iterator[None]:
    """Ctrl-C ends the fetching, too."""
    try:
        yield
    except KeyboardInterrupt:
        daemon.ask(Command.WARM, {**wanted, "stop": True})
        raise


def watch(daemon: Daemon, wanted: dict[str, Any], told: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Ask until the work is done; on a terminal, show how far it is."""
    showing = not quiet and sys.stderr.isatty()
    while told["running"]:
        if showing:
            print(f"\r{coverage_text(told)}   ", end="", file=sys.stderr, flush=True)
        time.sleep(POLL_S)
        told = daemon.ask(Command.WARM, {**wanted, "watch": True})
    if showing:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return told


def exit_code(told: dict[str, Any]) -> ExitCode:
    """OK where all is here or still coming; else why not."""
    if told["running"] or told["cached_chunks"] == told["chunks"]:
        return ExitCode.OK
    return ExitCode.ORIGIN if told["error"] else ExitCode.CACHE_FULL


def result_text(told: dict[str, Any]) -> str:
    """What is here now. Pure."""
    lines = [f"{name_text(told)}: {coverage_text(told)}, {format_size(told['fetched_bytes'])} fetched"]
    missing = told["bytes"] - told["cached_bytes"]
    if told["running"]:
        lines.append("the daemon goes on; the same command watches it")
    elif told["error"]:
        lines.append(f"stopped: {told['error']}")
    elif missing:
        lines.append(
            f"{format_size(missing)} are not here: the pool has no room that nobody needs sooner. Raise its limit, or "
            "evict something: `fastfeed cache ls`"
        )
    return "\n".join(lines)
