"""`fastfeed cache`: the group of commands around the node's cache. Each is a module, `cache_<name>.py`."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

# Command -> its line in `fastfeed cache --help`.
COMMANDS = {
    "serve": "run the daemon in the foreground",
    "status": "say what the daemon does: hits, bytes, jobs, disks, errors",
    "ls": "list what is in the cache",
    "warm": "fetch a dataset now, and say how much of it is here",
    "pin": "keep a dataset, whatever else is needed",
    "unpin": "let a pinned dataset go when there is need",
    "evict": "remove a dataset from the cache",
    "drain": "ask the daemon to finish and leave",
    "explain": "say why a row's bytes are here or not, and when they are needed",
    "config": "check the configuration; print each value and where it came from",
}
EPILOG = """\
example:
  fastfeed cache status
  fastfeed cache warm s3://bucket/imagenet
  fastfeed cache config --config /etc/fastfeed/cache.toml

`fastfeed cache COMMAND --help` tells about one command."""


def add_group(subparsers: Subparsers, subcommand: str | None) -> None:
    """Add the group's parser, with the options of `subcommand` only."""
    group = subparsers.add_parser(
        "cache",
        description="Run, watch and steer the node's cache. Everything works while training runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = group.add_subparsers(dest="subcommand", metavar="COMMAND", title="commands", required=True)
    for name, summary in COMMANDS.items():
        if name == subcommand:
            importlib.import_module(f"fastfeed.cli.cache_{name}").add_parser(commands)
        else:
            commands.add_parser(name, help=summary)


def run(args: argparse.Namespace) -> int:
    return int(importlib.import_module(f"fastfeed.cli.cache_{args.subcommand}").run(args))
