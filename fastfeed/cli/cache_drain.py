"""`fastfeed cache drain`: asks the daemon to finish and leave, and waits until it has."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from fastfeed.cli.cache_asking import Daemon, add_socket_options
from fastfeed.cli.common import add_command, print_json
from fastfeed.errors import DaemonUnavailableError
from fastfeed.format.wording import count_text
from fastfeed.wire.messages import Command

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

POLL_S = 0.1
# Beyond the daemon's own time for it.
GRACE_S = 10.0


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "drain",
        description="Ask the daemon to finish what it does and leave. Jobs go on reading what is here; what is not\n"
        "waits for the next daemon. The cache stays on its disks.",
        example="fastfeed cache drain",
    )
    parser.add_argument("--detach", action="store_true", help="return at once")
    add_socket_options(parser)


def run(args: argparse.Namespace) -> int:
    with Daemon(args) as daemon:
        told = daemon.ask(Command.DRAIN)
        if not args.detach:
            wait_for_end(daemon, told["drain_s"] + GRACE_S)
            told["left"] = True
    if args.json:
        print_json(told)
    elif not args.quiet:
        clients = count_text(told["clients"], "client")
        print("the daemon has left" if told.get("left") else f"the daemon is leaving; it has {clients}")
    return 0


def wait_for_end(daemon: Daemon, seconds: float) -> None:
    """Until the daemon does not answer any more. DaemonUnavailableError where it still does after so long."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        try:
            daemon.ask(Command.STATUS)
        except DaemonUnavailableError:
            return
        time.sleep(POLL_S)
    raise DaemonUnavailableError(
        f"{daemon.socket}: the daemon is still there after {seconds:.0f} s. Its log says what it waits for."
    )
