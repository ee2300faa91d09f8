"""`fastfeed cache explain`: why the bytes of a row, or of a place in a file, are in the cache or not."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastfeed.cli.cache_asking import Daemon, add_dataset_options, add_socket_options, dataset_arguments
from fastfeed.cli.common import UsageError, add_command, print_json
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "explain",
        description="Say why the bytes of a row are in the cache or not: where they lie, which jobs need them when,\n"
        "and what decides whether they stay.",
        example="fastfeed cache explain s3://bucket/imagenet --row 170000\n"
        "fastfeed cache explain https://host/model.bin --offset 1048576",
    )
    add_dataset_options(parser, "a dataset, or one file")
    parser.add_argument("--row", type=int, metavar="N", help="a row of the dataset")
    parser.add_argument("--offset", type=int, metavar="BYTES", help="a place in the file")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    if (args.row is None) == (args.offset is None):
        raise UsageError("say what to explain: --row of a dataset, or --offset in a file.")
    with Daemon(args) as daemon:
        told = daemon.ask(Command.EXPLAIN, {**dataset_arguments(args), "row": args.row, "offset": args.offset})
    if args.json:
        print_json(told)
    elif not args.quiet:
        print(told["text"])
    return 0
