"""One connection to the daemon: packets with descriptors over a SOCK_SEQPACKET socket, each wait with a deadline.

Not thread-safe, and of one process: its owner (session.py) sees to both. A connection that ended raises
`ConnectionLost`; every other error leaves it usable, for answers are told apart by their request's number.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

from fastfeed.errors import ConfigError, DaemonUnavailableError
from fastfeed.wire.answers import exception_of
from fastfeed.wire.framing import DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, UNASKED, ProtocolError, unpack_frame
from fastfeed.wire.hot import Error
from fastfeed.wire.messages import Message, More, descriptor_count, pack, unpack
from fastfeed.wire.places import believed_users, check_socket_path

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_DESCRIPTOR = struct.calcsize("i")
# A Unix socket whose queue of connections is full says so at once instead of waiting.
BACKLOG_POLL_S = 0.005
# The daemon knows a request's deadline and answers by then; its own text is better than ours.
ANSWER_GRACE_S = 2.0


class ConnectionLost(DaemonUnavailableError):
    """Nobody listens, or the other side closed: attaching again may help."""


class Answer(NamedTuple):
    """A message and the descriptors that came with it, which are the caller's to close."""

    message: Message
    descriptors: list[int]


class Connection:
    """A socket to the daemon at `path`. ConnectionLost where nobody listens; ConfigError where a stranger does."""

    def __init__(self, path: Path, deadline_s: float) -> None:
        """deadline_s: when to give up, by time.monotonic()."""
        check_socket_path(path)
        self._path = path
        self._request = UNASKED
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _connect(self._socket, path, deadline_s)
            self.server_uid = _check_server(self._socket, path)
        except BaseException:
            self._socket.close()
            raise

    def ask(self, message: Message, timeout_s: float) -> Answer:
        """Send a request and wait for its answer. The daemon's ERROR is raised as the exception that it means."""
        self._request += 1
        deadline_s = time.monotonic() + timeout_s + ANSWER_GRACE_S
        self._send(pack(message, self._request), deadline_s)
        answer = self._receive(deadline_s)
        try:
            while len(answer.descriptors) < descriptor_count(answer.message):
                more = self._receive(deadline_s)
                answer.descriptors.extend(more.descriptors)
                if not isinstance(more.message, More) or not more.descriptors:
                    raise ProtocolError(f"{len(answer.descriptors)} descriptors came with {answer.message}")
            if isinstance(answer.message, Error):
                raise exception_of(answer.message)
            if len(answer.descriptors) != descriptor_count(answer.message):
                raise ProtocolError(f"{len(answer.descriptors)} descriptors came with {answer.message}")
        except BaseException:
            close_all(answer.descriptors)
            raise
        return answer

    def detach(self) -> int:
        """Give the socket away as a descriptor; this object is closed then."""
        self._socket.settimeout(None)
        return self._socket.detach()

    def close(self) -> None:
        """Idempotent."""
        self._socket.close()

    def _send(self, packet: bytes, deadline_s: float) -> None:
        try:
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            self._socket.sendall(packet)
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self, deadline_s: float) -> Answer:
        """The next message of the current request. Older ones, whose waits were given up, are dropped."""
        while True:
            packet, descriptors = self._receive_packet(deadline_s)
            try:
                frame = unpack_frame(packet)
                if frame.request == self._request:
                    return Answer(unpack(frame), descriptors)
            except ProtocolError:
                close_all(descriptors)
                raise
            close_all(descriptors)

    def _receive_packet(self, deadline_s: float) -> tuple[bytes, list[int]]:
        try:
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            packet, ancillary, flags, _ = self._socket.recvmsg(
                MESSAGE_BYTES_MAX, socket.CMSG_SPACE(DESCRIPTORS_MAX * _DESCRIPTOR), socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise self._lost(error) from error
        descriptors = _descriptors_in(ancillary)
        if flags & socket.MSG_CTRUNC:
            close_all(descriptors)
            text = f"{os.strerror(errno.EMFILE)}: the daemon's descriptors do not fit. Raise the limit (ulimit -n)"
            raise OSError(errno.EMFILE, text, str(self._path))
        if not packet or flags & socket.MSG_TRUNC:
            close_all(descriptors)
            raise self._lost("it closed the connection" if not packet else "it sent a packet that is no message")
        return packet, descriptors

    def _silent(self) -> DaemonUnavailableError:
        return DaemonUnavailableError(
            f"{self._path}: the cache daemon did not answer in time. `fastfeed cache status` says whether it is alive, "
            "its log what it does."
        )

    def _lost(self, why: object) -> ConnectionLost:
        return ConnectionLost(f"{self._path}: the connection to the cache daemon ended: {why}")


def close_all(descriptors: list[int]) -> None:
    """Close descriptors that nobody took."""
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()


def _connect(connecting: socket.socket, path: Path, deadline_s: float) -> None:
    while True:
        try:
            connecting.settimeout(max(0.001, deadline_s - time.monotonic()))
            return connecting.connect(os.fsencode(path))
        except BlockingIOError as error:
            if time.monotonic() > deadline_s:
                raise DaemonUnavailableError(
                    f"{path}: the cache daemon takes no connections. Its log says what it does."
                ) from error
        except PermissionError as error:
            raise ConfigError(
                f"{path}: user {os.geteuid()} may not connect to this cache daemon. Ask who runs it to add the user to "
                "a pool and its group, or unset FASTFEED_CACHE_SOCKET to use a daemon of your own."
            ) from error
        except OSError as error:
            raise ConnectionLost(f"{path}: no cache daemon listens there: {error.strerror or error}") from error
        time.sleep(BACKLOG_POLL_S)


def _check_server(connected: socket.socket, path: Path) -> int:
    """The uid that listens. ConfigError for one that is not to be believed."""
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    try:
        believed = believed_users(path, os.geteuid())
    except FileNotFoundError as error:
        raise ConnectionLost(f"{path}: the cache daemon has just left") from error
    if uid not in believed:
        raise ConfigError(
            f"{path}: user {uid} listens there, and only {', '.join(map(str, sorted(believed)))} would be believed: "
            "who answers decides which bytes are read. Use a socket in a directory that only its daemon can write to."
        )
    return uid


def _descriptors_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
