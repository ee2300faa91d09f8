"""`fastfeed cache unpin`: lets a pinned dataset or file go when its room is needed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastfeed.cli.cache_asking import Daemon, add_dataset_options, add_socket_options, dataset_arguments
from fastfeed.cli.cache_ls import coverage_text, name_text
from fastfeed.cli.common import add_command, print_json
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "unpin",
        description="Let a pinned dataset or file go when its room is needed. Nothing is removed by this.",
        example="fastfeed cache unpin s3://bucket/imagenet",
    )
    add_dataset_options(parser, "a dataset, or one file")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    with Daemon(args) as daemon:
        told = daemon.ask(Command.UNPIN, dataset_arguments(args))
    if args.json:
        print_json(told)
    elif not args.quiet:
        print(f"{name_text(told)}: not pinned any more; {coverage_text(told)} here")
    return 0
