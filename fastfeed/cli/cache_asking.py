"""What the cache's commands share: asking the daemon, and naming a dataset or a pool."""

from __future__ import annotations

import argparse
import json
import logging
import mmap
import os
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from fastfeed.cli.common import positive_float
from fastfeed.errors import DaemonUnavailableError
from fastfeed.wire.connection import Answer, Connection, ConnectionLost, close_all
from fastfeed.wire.framing import ProtocolError
from fastfeed.wire.messages import VERSION, VERSION_MIN, Ask, Command, Hello, Kind, Told, Welcome
from fastfeed.wire.places import given_socket, own_socket
from fastfeed.wire.sessions import place_for, session_at

log = logging.getLogger("fastfeed")

# An answer is made from what the daemon knows; only what asks storage takes longer.
TIMEOUT_S = 60.0


def add_socket_options(parser: argparse.ArgumentParser) -> None:
    """Add --socket and --timeout: which daemon is asked, and for how long."""
    parser.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help="the daemon's socket (default: $FASTFEED_CACHE_SOCKET, the system's, else this user's own)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_float,
        default=TIMEOUT_S,
        metavar="S",
        help="seconds to wait for an answer (default: 60)",
    )


def add_dataset_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add URL, --snapshot and --pool."""
    parser.add_argument("url", metavar="URL", help=what)
    parser.add_argument("--snapshot", type=int, metavar="N", help="which snapshot of a dataset (default: the newest)")
    parser.add_argument("--pool", metavar="NAME", help="in which pool (default: the one that this user belongs to)")


def dataset_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_dataset_options` read, as the daemon expects it."""
    return {"url": args.url, "snapshot": args.snapshot, "pool": args.pool}


def socket_of(args: argparse.Namespace) -> Path:
    """The socket that the command asks."""
    given: Path | None = args.socket or given_socket(os.environ)
    return given.absolute() if given is not None else own_socket(os.environ, os.geteuid())


class Daemon:
    """A session with the daemon that the command line means. DaemonUnavailableError where none runs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.socket = socket_of(args)
        self._timeout_s: float = args.timeout
        try:
            self._connection = Connection(self.socket, time.monotonic() + self._timeout_s)
        except ConnectionLost as error:
            raise DaemonUnavailableError(
                f"no cache daemon runs at {self.socket}. A loader that opens a remote dataset starts one; "
                "`fastfeed cache serve` runs one in the foreground."
            ) from error
        try:
            answer = self._connection.ask(
                Hello(
                    version_min=VERSION_MIN,
                    version_max=VERSION,
                    kind=Kind.CONTROL,
                    pid=os.getpid(),
                    job="fastfeed cache",
                ),
                self._timeout_s,
            )
            if not isinstance(answer.message, Welcome):
                raise ProtocolError(f"{self.socket}: the daemon answered {type(answer.message).__name__} to Hello")
        except BaseException:
            self._connection.close()
            raise

    def ask(self, command: Command, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The daemon's answer to a command: a JSON object."""
        given = {name: value for name, value in (arguments or {}).items() if value is not None}
        answer = self._connection.ask(Ask(command=command, arguments=json.dumps(given).encode()), self._timeout_s)
        told: dict[str, Any] = json.loads(_text_of(answer))
        return told

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def daemon_or_new(args: argparse.Namespace) -> Daemon:
    """The daemon, or one that is started for this user as a loader would start it: it leaves a minute after its last
    client, and what it holds stays. One that was named is never started."""
    try:
        return Daemon(args)
    except DaemonUnavailableError:
        if args.socket is not None:
            raise
    started = session_at(place_for("auto")).welcome  # asking starts it; the session holds it until we have ours
    log.info("started a cache daemon, process %d", started.daemon_pid)
    return Daemon(args)


def _text_of(answer: Answer) -> bytes:
    """The JSON of an answer: in the message, or where it is long in a memfd beside it."""
    try:
        if not isinstance(answer.message, Told):
            raise ProtocolError(f"the daemon answered {type(answer.message).__name__} to a command")
        if not answer.descriptors:
            return answer.message.text
        with closing(mmap.mmap(answer.descriptors[0], answer.message.size_bytes, access=mmap.ACCESS_READ)) as view:
            return view[:]
    finally:
        close_all(answer.descriptors)
