"""Where a session's daemon is, whether it may be started, and the handshakes of both connections."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from fastfeed.errors import FormatVersionError
from fastfeed.wire.connection import Connection, ConnectionLost, close_all
from fastfeed.wire.framing import ProtocolError
from fastfeed.wire.messages import VERSION, VERSION_MIN, Hello, Kind, Welcome, agreed_version
from fastfeed.wire.place import Place, Start, checked_cache
from fastfeed.wire.places import given_socket, own_socket, runtime_directory
from fastfeed.wire.private import PrivateDaemons
from fastfeed.wire.starting import Launched, connect_or_start, daemon_command, launch_detached

# Both sides of a handshake only look things up. More means that the daemon is stopped, or that the machine swaps.
HANDSHAKE_TIMEOUT_S = 30.0


def place_of(cache: str | os.PathLike[str], environ: Mapping[str, str], private: PrivateDaemons) -> Place:
    """What the argument `cache` of `fastfeed.open` means here: "auto", "off", or the path of a socket."""
    text = checked_cache(cache)
    euid = os.geteuid()
    if text == "off":
        return Place(private.socket(runtime_directory(environ, euid)), Start.CHILD, text)
    if text != "auto":
        return Place(Path(text).absolute(), said=text)
    given = given_socket(environ)
    return Place(own_socket(environ, euid), Start.DETACHED, text) if given is None else Place(given, said=text)


def attach_control(place: Place, job: str, private: PrivateDaemons) -> tuple[Connection, Welcome]:
    """A control connection after its handshake; a daemon is started where the place says so.

    ConnectionLost where nobody listens at a socket that someone else serves; DaemonUnavailableError where a daemon
    that was started does not come up; ConfigError where this user may not read, or should not believe who listens.
    """

    def connect() -> tuple[Connection, Welcome]:
        connection, welcome, descriptors = _handshake(place, Kind.CONTROL, job=job)
        close_all(descriptors)
        return connection, welcome

    def launch(runtime: Path) -> Launched:
        if place.start is Start.CHILD:
            return private.launch(runtime, os.environ)
        return launch_detached(runtime, daemon_command(), os.environ)

    try:
        return connect()
    except ConnectionLost as error:
        if place.start is Start.NEVER:
            text = "Start it (fastfeed cache serve), or name no socket: then one is started for you."
            raise ConnectionLost(f"{error}. {text}") from error
    return connect_or_start(place.socket.parent, connect, launch)


def attach_data(place: Place, token: bytes) -> tuple[Connection, Welcome, list[int]]:
    """The data connection of a control connection's session, with the descriptors of its Welcome."""
    return _handshake(place, Kind.DATA, token=token)


def _handshake(place: Place, kind: Kind, job: str = "", token: bytes = b"") -> tuple[Connection, Welcome, list[int]]:
    connection = Connection(place.socket, time.monotonic() + HANDSHAKE_TIMEOUT_S)
    try:
        hello = Hello(version_min=VERSION_MIN, version_max=VERSION, kind=kind, pid=os.getpid(), job=job, token=token)
        welcome, descriptors = connection.ask(hello, HANDSHAKE_TIMEOUT_S)
        if not isinstance(welcome, Welcome):
            close_all(descriptors)
            raise ProtocolError(f"{place.socket}: answered HELLO with {welcome}")
        if agreed_version(welcome.version, welcome.version) is None:
            close_all(descriptors)
            raise FormatVersionError(
                f"{place.socket}: the cache daemon speaks version {welcome.version} of the protocol, this fastfeed "
                f"{VERSION_MIN} to {VERSION}. Upgrade the older of the two."
            )
        return connection, welcome, descriptors
    except BaseException:
        connection.close()
        raise
