"""`fastfeed cache config`: checks the configuration, and prints each value and where it came from."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastfeed.cli.cache_asking import Daemon, add_socket_options
from fastfeed.cli.common import UsageError, add_command, print_json
from fastfeed.daemon.config import load
from fastfeed.daemon.report import to_json
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "config",
        description="Check the configuration as `fastfeed cache serve` would read it, and print each value and\n"
        "where it came from: a default, the file, the environment, or a flag. With --running, what the daemon uses.",
        example="fastfeed cache config --config /etc/fastfeed/cache.toml\nfastfeed cache config --running --long",
    )
    add_config_options(parser)
    parser.add_argument("--running", action="store_true", help="ask the daemon instead of reading files")
    parser.add_argument("--long", action="store_true", help="also say what each value is for, and which a reload takes")
    add_socket_options(parser)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add --config and --set, for `serve` and `config`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file (default: $FASTFEED_CACHE_CONFIG, else none)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="one setting, as in --set pools.default.limit=1TiB; may be repeated",
    )  # fmt: skip
    parser.add_argument("--embedded", action="store_true", help="as loaders start it: leave when idle")


def flags_of(args: argparse.Namespace) -> Mapping[str, tuple[str, str]]:
    """--set KEY=VALUE as the configuration takes flags."""
    flags = {}
    for each in args.settings:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {each}: write KEY=VALUE, as in --set limits.ring=16MiB.")
        flags[key] = (value, f"--set {each}")
    return flags


def run(args: argparse.Namespace) -> int:
    if args.running:
        with Daemon(args) as daemon:
            settings = daemon.ask(Command.CONFIG)["settings"]
    else:
        loaded = load(args.config, flags=flags_of(args), embedded=args.embedded)
        settings = to_json(loaded.provenance)
    if args.json:
        print_json({"settings": settings})
    elif not args.quiet:
        print(settings_text(settings, long=args.long))
    return 0


def settings_text(settings: list[dict[str, Any]], *, long: bool) -> str:
    """A line a setting; long: what it is for below it. Pure."""
    keys = max(len(each["key"]) for each in settings)
    texts = max(len(each["text"]) for each in settings)
    lines = []
    for each in settings:
        lines.append(f"{each['key']:<{keys}}  {each['text']:<{texts}}  {each['source']}")
        if long:
            lines.append(f"    {each['doc']}" + (" Taken on SIGHUP." if each["reload"] else ""))
    return "\n".join(lines)
