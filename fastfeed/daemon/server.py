"""The daemon's Unix socket: who may connect, the two connections of each client, and the end of both.

1. The kernel says who connects (peers.py). A user of another user namespace, and one whom no pool admits, gets ERROR
   and the end of the connection; nothing of the daemon is told.
2. The first message is HELLO, within HELLO_TIMEOUT_S. A control connection begins a session and gets its token; a data
   connection shows the token of a session of the same user, and gets the descriptors.
3. A connection ends when the client ends it, sends no HELLO, takes no answers, or when the daemon leaves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastfeed import __version__
from fastfeed.daemon.config import Config
from fastfeed.daemon.control import ControlConnection
from fastfeed.daemon.packets import PacketConnection
from fastfeed.daemon.peers import Peer, peer_of
from fastfeed.daemon.pool_service import PoolService
from fastfeed.daemon.requests import Requests
from fastfeed.daemon.session import Commands, Session
from fastfeed.errors import ConfigError, FastfeedError
from fastfeed.wire.answers import answer_to
from fastfeed.wire.connection import close_all
from fastfeed.wire.framing import UNASKED, ErrorCode, ProtocolError, unpack_frame
from fastfeed.wire.hot import Error
from fastfeed.wire.messages import (
    VERSION,
    VERSION_MIN,
    Feature,
    Hello,
    Kind,
    Leaving,
    More,
    Welcome,
    agreed_version,
    pack,
    portions,
    unpack,
)

log = logging.getLogger("fastfeed.daemon")

# Connections that wait to be accepted. 64 processes that start at once make 128.
BACKLOG = 512
# A client says HELLO as soon as it is connected.
HELLO_TIMEOUT_S = 30.0
# Connections of one user that have not said HELLO. More are ended at once.
STRANGERS_MAX = 256
TOKEN_BYTES = 16
# After a connection could not be accepted.
ACCEPT_PAUSE_S = 0.2


class Server:
    """Accepts and keeps sessions. For one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Callable[[], Config],
        services: dict[str, PoolService],
        commands: Commands,
        epoch: int,
    ) -> None:
        self._loop, self._config, self._services = loop, config, services
        self._commands, self._epoch = commands, epoch
        self._listening: socket.socket | None = None
        self._path: Path | None = None
        # Connected, and no HELLO: until when that may be, and who it is.
        self._strangers: dict[PacketConnection, tuple[float, int]] = {}
        self.sessions: dict[bytes, Session] = {}
        self._controls: dict[bytes, tuple[ControlConnection, PacketConnection]] = {}
        self.last_client_s = time.monotonic()
        self.had_clients = False

    @property
    def has_clients(self) -> bool:
        """Whether anybody is connected."""
        return bool(self.sessions or self._strangers)

    @property
    def is_busy(self) -> bool:
        """Whether a client waits for an answer."""
        return any(session.requests is not None and session.requests.open_count for session in self.sessions.values())

    def listen(self, path: Path, mode: int) -> None:
        """Begin to accept connections. The caller holds the lock of the folder: what lies at `path` is nobody's."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            path.unlink(missing_ok=True)
            listening.bind(os.fsencode(path))
            os.chmod(path, mode)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        self._listening, self._path = listening, path
        self._loop.add_reader(listening, self._accept)

    def stop_listening(self) -> None:
        """Nobody new; the socket is gone from its folder. Idempotent."""
        if self._listening is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def say_leaving(self) -> None:
        """Ask all clients to attach again, to whoever listens next."""
        for control, _ in self._controls.values():
            control.say(Leaving())

    def close(self) -> None:
        """End everything."""
        self.stop_listening()
        for connection in list(self._strangers):
            connection.close()
        self._strangers.clear()
        for token in list(self.sessions):
            self._end_session(token, "the daemon leaves")

    def tick(self, now_s: float) -> None:
        """Deadlines. Called about once a second."""
        for connection, (until_s, _) in list(self._strangers.items()):
            if now_s > until_s:
                del self._strangers[connection]
                connection.close()
        for token, session in list(self.sessions.items()):
            if session.requests is not None:
                session.requests.check_deadlines(now_s)
            if session.data is not None:
                session.data.check(now_s)
            if token in self._controls:
                self._controls[token][1].check(now_s)
        if self.has_clients:
            self.last_client_s = now_s

    # --- connections ----------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        assert self._listening is not None
        for _ in range(BACKLOG):
            try:
                connected, _address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Too many open files: who waits is accepted when some are closed. The socket stays readable, so
                # listening on would be all that this process does.
                log.warning("cannot accept a connection: %s", error)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(ACCEPT_PAUSE_S, self._accept_again)
                return
            self._greet(connected)

    def _accept_again(self) -> None:
        if self._listening is not None:
            self._loop.add_reader(self._listening, self._accept)

    def _greet(self, connected: socket.socket) -> None:
        try:
            peer = peer_of(connected)
        except OSError as error:
            log.warning("a connection ended before it began: %s", error)
            connected.close()
            return
        waiting = _Greeting(self, peer)
        connection = PacketConnection(self._loop, connected, waiting.on_packets, waiting.on_end)
        waiting.connection = connection
        if sum(uid == peer.uid for _, uid in self._strangers.values()) >= STRANGERS_MAX:
            _refuse(connection, UNASKED, ConfigError("too many connections have not said what they are for."))
            return
        self._strangers[connection] = time.monotonic() + HELLO_TIMEOUT_S, peer.uid
        connection.start()

    def forget_stranger(self, connection: PacketConnection) -> None:
        """It has ended before it said HELLO."""
        self._strangers.pop(connection, None)

    def hello(self, connection: PacketConnection, peer: Peer, packet: bytes) -> _Role | None:
        """The first packet of a connection: what it is from now on; None: refused, and ended."""
        self._strangers.pop(connection, None)
        request = UNASKED
        try:
            frame = unpack_frame(packet)
            request = frame.request
            message = unpack(frame)
            if not isinstance(message, Hello):
                raise ProtocolError(f"a connection begins with HELLO, not {type(message).__name__}")
            version = agreed_version(message.version_min, message.version_max)
            if version is None:
                raise ProtocolError(
                    f"this daemon speaks versions {VERSION_MIN} to {VERSION} of the protocol, the client "
                    f"{message.version_min} to {message.version_max}. Upgrade the older of the two.",
                    ErrorCode.UNSUPPORTED,
                )
            if message.kind == Kind.CONTROL:
                return self._begin_session(connection, peer, message, request, version)
            if message.kind == Kind.DATA:
                return self._begin_data(connection, peer, message, request, version)
            raise ProtocolError(f"no connection is of kind {message.kind}", ErrorCode.UNSUPPORTED)
        except (FastfeedError, OSError) as error:
            _refuse(connection, request, error)
            return None

    def _begin_session(
        self, connection: PacketConnection, peer: Peer, hello: Hello, request: int, version: int
    ) -> _Role:
        service = self._service_for(peer, hello.pool)
        connected = sum(session.peer.uid == peer.uid for session in self.sessions.values())
        if connected >= self._config().limits.clients_max:
            raise ConfigError(
                f"{connected} clients of user {peer.uid} are connected. End some, or raise limits.clients of the cache "
                "daemon."
            )
        token = secrets.token_bytes(TOKEN_BYTES)
        session = Session(token, peer, service, hello.job, self._commands)
        control = ControlConnection(self._loop, session.handle)
        control.connect(connection)
        self.sessions[token] = session
        self.had_clients = True
        self._controls[token] = control, connection
        connection.send(pack(self._welcome(session, version), request))
        return _Role(control.on_packets, lambda why: self._end_session(token, why))

    def _begin_data(self, connection: PacketConnection, peer: Peer, hello: Hello, request: int, version: int) -> _Role:
        session = self.sessions.get(hello.token)
        if session is None or session.peer.uid != peer.uid:
            raise ProtocolError("no session has this token: attach the control connection again", ErrorCode.DENIED)
        service = session.service
        requests = Requests(
            self._loop, session.sets, service.fetcher, service.keeper, service.counters,
            lambda: self._config().limits, self._config().limits.ring_bytes,
        )  # fmt: skip
        requests.connect(connection)
        session.begin_data(requests, connection)
        with service.client_files() as files:
            descriptors = _duplicates(
                [requests.ring_descriptor, session.page_descriptor, files.words_fd, *(slab[0] for slab in files.slabs)]
            )
            welcome = self._welcome(
                session, version, ring_bytes=requests.ring_bytes, slots=files.slots,
                slabs=tuple((first, count) for _, first, count in files.slabs), descriptors=len(descriptors),
            )  # fmt: skip
        first, *rest = portions(descriptors)
        connection.send(pack(welcome, request), first)
        for more in rest:
            connection.send(pack(More(), request), more)

        def on_end(why: str) -> None:
            if session.data is connection:
                session.end_data()

        return _Role(requests.on_packets, on_end)

    def _service_for(self, peer: Peer, wanted: str) -> PoolService:
        if not peer.is_known:
            raise PermissionError(
                f"the kernel does not know who this is (user {peer.uid}): a process of another user namespace. Run it, "
                "or the cache daemon, in the same one."
            )
        pool = self._config().pool_for(peer.uid, peer.gids, wanted)
        if pool is None:
            raise PermissionError(
                f"user {peer.uid} may not read any pool of this cache daemon"
                + (f" that is called {wanted!r}" if wanted else "")
                + ". Ask who runs it to add the user (pools.NAME.users or groups)."
            )
        return self._services[pool.name]

    def _welcome(self, session: Session, version: int, **data: Any) -> Welcome:
        return Welcome(
            version=version,
            features=Feature.NONE,
            daemon_epoch=self._epoch,
            token=session.token,
            pool=session.service.name,
            daemon_pid=os.getpid(),
            daemon_version=__version__,
            **data,
        )

    def _end_session(self, token: bytes, why: str) -> None:
        session = self.sessions.pop(token, None)
        if session is None:
            return
        control, connection = self._controls.pop(token)
        control.close()
        connection.close()
        session.close()
        self.last_client_s = time.monotonic()
        log.debug("the session of %s has ended: %s", session.peer, why)


class _Role:
    """What a connection does with packets, after HELLO."""

    def __init__(self, on_packets: Callable[[list[bytes]], None], on_end: Callable[[str], None]) -> None:
        self.on_packets, self.on_end = on_packets, on_end


class _Greeting:
    """A connection: before HELLO nobody's, then what HELLO said."""

    def __init__(self, server: Server, peer: Peer) -> None:
        self._server, self._peer = server, peer
        self._role: _Role | None = None
        self.connection: PacketConnection | None = None

    def on_packets(self, packets: list[bytes]) -> None:
        assert self.connection is not None
        if self._role is None:
            self._role = self._server.hello(self.connection, self._peer, packets[0])
            packets = packets[1:]
        if self._role is not None and packets:
            self._role.on_packets(packets)

    def on_end(self, why: str) -> None:
        if self._role is not None:
            self._role.on_end(why)
        elif self.connection is not None:
            self._server.forget_stranger(self.connection)


def _duplicates(descriptors: list[int]) -> list[int]:
    """A descriptor of the caller's for each. OSError, where there are too many: none."""
    made: list[int] = []
    try:
        made.extend(map(os.dup, descriptors))
    except OSError:
        close_all(made)
        raise
    return made


def _refuse(connection: PacketConnection, request: int, error: BaseException) -> None:
    answer: Error = answer_to(error)
    connection.send(pack(answer, request))
    connection.close()
