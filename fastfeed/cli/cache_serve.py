"""`fastfeed cache serve`: runs the daemon in the foreground. The one entry of its process."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from fastfeed.cli.cache_config import add_config_options, flags_of
from fastfeed.cli.common import add_command
from fastfeed.daemon.config import Loaded, load
from fastfeed.daemon.daemon import serve

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "serve",
        description="Run the node's cache daemon. It writes its log to stderr, reads its configuration again on\n"
        "SIGHUP, and leaves on SIGTERM after it has answered who waits.",
        example="fastfeed cache serve --config /etc/fastfeed/cache.toml\n"
        "fastfeed cache serve --set pools.default.limit=1TiB",
    )
    add_config_options(parser)


def run(args: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )

    def read() -> Loaded:
        return load(args.config, flags=flags_of(args), embedded=args.embedded)

    serve(read(), read)
    return 0
