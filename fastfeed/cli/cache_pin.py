"""`fastfeed cache pin`: keeps a dataset or a file in the cache."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastfeed.cli.cache_asking import add_dataset_options, add_socket_options, daemon_or_new, dataset_arguments
from fastfeed.cli.cache_ls import coverage_text, name_text
from fastfeed.cli.common import add_command, print_json
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "pin",
        description="Keep a dataset or a file in the cache, whatever else is needed: what is here of it, and what\n"
        "comes. Pins stay over restarts. Fetch it with `fastfeed cache warm`.",
        example="fastfeed cache pin s3://bucket/imagenet\nfastfeed cache warm s3://bucket/imagenet",
    )
    add_dataset_options(parser, "a dataset, or one file")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    with daemon_or_new(args) as daemon:
        told = daemon.ask(Command.PIN, dataset_arguments(args))
    if args.json:
        print_json(told)
    elif not args.quiet:
        print(f"{name_text(told)}: pinned; {coverage_text(told)} here")
    return 0
