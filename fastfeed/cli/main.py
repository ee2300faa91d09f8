"""The `fastfeed` command: finds the subcommand, runs it, turns what it raises into a message and an exit
code.

Exit codes are those of `fastfeed.errors`, and the shell's own 130 (interrupted) and 141 (who read our
output has gone). An error is one or two lines on stderr, without a traceback unless `--debug`; with
`--json` it is also an object `{"error": {...}}` on stdout, so that a program that reads stdout always finds
JSON there.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from fastfeed import __version__
from fastfeed.cli.common import Parser, UsageError, print_json
from fastfeed.errors import FastfeedError, exit_code_of

# Command -> its line in `fastfeed --help`. The module of a command has its name.
COMMANDS = {
    "convert": "turn images, tars, Parquet or JSON lines into a dataset",
    "info": "say what a dataset is: rows, bytes, schema, shards, statistics",
    "verify": "read everything and check every checksum",
    "preview": "show samples in the terminal",
    "bench": "measure how fast this machine can feed a dataset, and what bounds it",
    "cache": "run, watch and steer the node's cache",
    "gc": "remove what no snapshot of a dataset names (a dry run unless told otherwise)",
    "doctor": "say what this machine offers and lacks",
}
# Commands that have commands of their own.
GROUPS = {"cache"}
DESCRIPTION = "Prepare and inspect datasets that feed training."
EPILOG = """\
example:
  fastfeed convert photos out/photos    # photos/<class>/*.jpg
  fastfeed info out/photos
  fastfeed verify out/photos

`fastfeed COMMAND --help` tells about one command."""

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
READER_GONE = 141  # 128 + SIGPIPE


def build_parser(command: str | None, subcommand: str | None = None) -> Parser:
    """The whole parser, with the options of `command` only: the others' modules need not be imported. subcommand: of a
    command that is a group, whose module is treated alike."""
    parser = Parser(
        prog="fastfeed",
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastfeed {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, summary in COMMANDS.items():
        if name == command:
            module = importlib.import_module(f"fastfeed.cli.{name}")
            if name in GROUPS:
                module.add_group(subparsers, subcommand)
            else:
                module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: sys.argv) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = run(arguments)
        sys.stdout.flush()  # here, where a reader that has gone is still an error that we can name
    except BrokenPipeError:
        # Python flushes stdout once more when it exits: that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:  # the outermost frame: whatever it is becomes a message and an exit code
        report_error(error, as_json=as_json, debug=debug)
        return int(exit_code_of(error))
    return code


def run(arguments: list[str]) -> int:
    """Run one command line; errors are the caller's."""
    command, subcommand = [*(word for word in arguments if not word.startswith("-")), None, None][:2]
    parser = build_parser(command, subcommand)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    return int(importlib.import_module(f"fastfeed.cli.{args.command}").run(args))


def report_error(error: Exception, *, as_json: bool, debug: bool) -> None:
    """Write what `error` says to stderr (and to stdout as JSON)."""
    if debug:
        traceback.print_exception(error)
    elif isinstance(error, UsageError) and error.usage:
        sys.stderr.write(error.usage)
    message = message_of(error)
    print(f"fastfeed: error: {message}", file=sys.stderr)
    if as_json:
        kind = "ConfigError" if isinstance(error, UsageError) else type(error).__name__
        print_json({"error": {"type": kind, "message": message, "exit_code": int(exit_code_of(error))}})


def message_of(error: Exception) -> str:
    """What a person is told of `error`, without its type where that says nothing."""
    if isinstance(error, FastfeedError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return f"{where}{error.strerror}"
    return (
        f"internal: {type(error).__name__}: {error}\n"
        "This is a bug in fastfeed. Run again with --debug for a traceback to report."
    )
