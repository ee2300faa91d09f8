"""What all commands share: the parser, the common flags, and how numbers and results are shown.

Imports nothing heavy: `fastfeed --help` loads this module.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, NoReturn

from fastfeed.errors import ConfigError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


class UsageError(ConfigError):
    """The command line itself is wrong; `usage` is the line that shows how it should look."""

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, str]]:
        return UsageError, (str(self), self.usage)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises `UsageError` where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\nTry `{self.prog} --help`.", self.format_usage())


def add_command(subparsers: Subparsers, name: str, *, description: str, example: str) -> argparse.ArgumentParser:
    """Add the parser of one command, with the flags that every command has.

    `example` is one or more whole command lines; it stands at the end of the help.
    """
    parser = subparsers.add_parser(
        name,
        description=description,
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    common = parser.add_argument_group("common options")
    common.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    common.add_argument("--quiet", action="store_true", help="no progress and no summary; errors still go to stderr")
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser


def add_snapshot_option(parser: argparse.ArgumentParser) -> None:
    """Add --snapshot, for commands that read one snapshot."""
    parser.add_argument("--snapshot", type=int, metavar="N", help="which snapshot (default: the newest)")


def positive_int(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def positive_float(text: str) -> float:
    """An argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def print_json(value: object) -> None:
    """Print one JSON object on stdout. Keys keep their order. NaN and infinities, which JSON lacks, become null."""
    json.dump(_finite(value), sys.stdout, indent=2, ensure_ascii=False, default=str, allow_nan=False)
    sys.stdout.write("\n")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def table_text(rows: list[tuple[str, str]], indent: str = "") -> str:
    """Two columns, the first padded to its longest cell."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {value}".rstrip() for name, value in rows)
