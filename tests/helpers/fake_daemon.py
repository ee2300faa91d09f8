"""A daemon without a cache, for tests of its clients: objects in memory, every miss by the ring, threads of the test.

It speaks the protocol with the product's codec, and can be ended at any moment and started again, or told to answer
wrongly. Not for throughput.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from fastfeed._native.cache import ChunkMap, Ring, map_bytes
from fastfeed.dataset.manifest import decode_manifest
from fastfeed.dataset.urls import object_urls
from fastfeed.wire import hot
from fastfeed.wire import messages as m
from fastfeed.wire.answers import answer_to
from fastfeed.wire.framing import MESSAGE_BYTES_MAX, ErrorCode, ProtocolError, unpack_frame
from fastfeed.wire.listing import ListedFile, pack_listing
from fastfeed.wire.page import PAGE_BYTES, PageView
from fastfeed.wire.recipe import Recipe
from fastfeed.wire.sets import sizes_hash

CHUNK = hot.CHUNK_BYTES
RING_BYTES = 8 * CHUNK
SLOTS = 16


class FakeDaemon:
    """Serves `objects` (URL -> bytes) at the socket `path`. `with` ends it.

    answer: given each control request, may return another answer (or raise one) than the usual; None: the usual.
    """

    def __init__(
        self, path: Path, objects: Mapping[str, bytes], answer: Callable[[m.Message], m.Message | None] = lambda _: None
    ) -> None:
        self.path, self.objects, self._answer = path, objects, answer
        self.requests: list[m.Message] = []
        self.gets: list[hot.Get] = []
        self.recipes: list[Recipe] = []
        self.sessions: list[_Session] = []
        self.epoch = int.from_bytes(os.urandom(4), "little")
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._begin(self._accept)

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End at once, as if killed; the socket's file stays. Idempotent."""
        for each in [self._listener, *self._connections]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in [self._listener, *self._connections]:
            each.close()
        while self.sessions:
            self.sessions.pop().close()

    def open_connections(self) -> int:
        """Connections whose other end is still there."""
        return sum(thread.is_alive() for thread in self._threads) - 1

    def of(self, kind: type) -> list[m.Message]:
        """The requests of one type."""
        return [each for each in self.requests if isinstance(each, kind)]

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        session: _Session | None = None
        try:
            while packet := connection.recv(MESSAGE_BYTES_MAX):
                frame = unpack_frame(packet)
                if session is not None and session.is_data:
                    session.miss(connection, frame)
                    continue
                message = m.unpack(frame)
                self.requests.append(message)
                try:
                    if (told := self._answer(message)) is not None:
                        connection.send(m.pack(told, frame.request))
                        continue
                    if isinstance(message, m.Hello):
                        session = _Session(self, message)
                        self.sessions.append(session)
                        answer, descriptors = session.welcome(self)
                    else:
                        assert session is not None
                        answer, descriptors = session.answer(message)
                except Exception as error:  # whatever goes wrong is an answer
                    answer, descriptors = answer_to(error), []
                portions = m.portions(descriptors)
                socket.send_fds(connection, [m.pack(answer, frame.request)], portions[0])
                for portion in portions[1:]:
                    socket.send_fds(connection, [m.pack(m.More(), frame.request)], portion)
                if not (session is not None and session.is_data):
                    for descriptor in descriptors:
                        os.close(descriptor)
        except OSError:
            pass


class _Session:
    """One connection: a control connection's sets, or a data connection's ring."""

    def __init__(self, daemon: FakeDaemon, hello: m.Hello) -> None:
        self._daemon = daemon
        self.is_data = hello.kind == m.Kind.DATA
        self.token = hello.token or os.urandom(16)
        self.sets: dict[int, list[str]] = {}
        self.registrations = 0
        self._descriptors: list[int] = []
        self._busy: dict[int, tuple[int, int]] = {}  # request -> what of the ring it has
        if self.is_data:
            self.control = next(each for each in daemon.sessions if each.token == hello.token)
            self._ring_fd = memory_file(b"", RING_BYTES)
            self._ring = Ring(self._ring_fd, RING_BYTES)
            self.page = memory_file(b"", PAGE_BYTES)
            self._descriptors = [self._ring_fd, self.page, memory_file(struct.pack("<Q", 2) * SLOTS), memory_file(b"")]

    def welcome(self, daemon: FakeDaemon) -> tuple[m.Message, list[int]]:
        common = {"version": 1, "daemon_epoch": daemon.epoch, "token": self.token, "daemon_pid": os.getpid()}
        if not self.is_data:
            return m.Welcome(**common), []
        return m.Welcome(**common, ring_bytes=RING_BYTES, slots=SLOTS, slabs=((0, SLOTS),),
                         descriptors=len(self._descriptors)), self._descriptors  # fmt: skip

    def page_view(self) -> PageView:
        return PageView(os.pread(self.page, PAGE_BYTES, 0))

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        if self.is_data:
            self._ring.close()

    def answer(self, message: m.Message) -> tuple[m.Message, list[int]]:
        objects = self._daemon.objects
        if isinstance(message, m.List):
            prefix = f"{message.url}/"
            below = {url.removeprefix(prefix): len(data) for url, data in objects.items() if url.startswith(prefix)}
            files = [ListedFile(name, size_bytes, 5_000_000) for name, size_bytes in below.items()
                     if message.recursive or "/" not in name]  # fmt: skip
            data = pack_listing(files)
            return m.Listed(size_bytes=len(data), files=len(files), descriptors=1), [memory_file(data)]
        if isinstance(message, m.File):
            data = self._object(message.url)
            answer = m.FileHere(size_bytes=len(data), etag=etag_of(data), modified_us=5_000_000, descriptors=1)
            return answer, [memory_file(data)]
        if isinstance(message, m.Head):
            data = self._object(message.url)
            return m.HeadOf(size_bytes=len(data), etag=etag_of(data), modified_us=5_000_000), []
        if isinstance(message, m.OpenDataset):
            name = f"{message.url}/_feed/manifests/{message.snapshot:020d}.arrow"
            manifest = decode_manifest(memoryview(self._object(name)), name)
            return self._opened(message.set, object_urls(message.url, manifest.shards.paths()))
        if isinstance(message, m.OpenUrl):
            data = self._object(message.url)
            if message.etag not in ("", etag_of(data)):
                raise ProtocolError(f"{message.url}: was replaced", ErrorCode.ORIGIN_CHANGED)
            return self._opened(message.set, [message.url])
        if isinstance(message, m.CloseSet):
            del self.sets[message.set]
            return m.Done(), []
        if isinstance(message, m.Register):
            self._daemon.recipes.append(Recipe.of(message.recipe))
            self.registrations += 1
            return m.Registered(registration=100 + self.registrations, forecast=b'{"hits": 0.5}'), []
        if isinstance(message, m.Unregister | m.Ping):
            return m.Done(), []
        if isinstance(message, m.Ask):
            return m.Told(text=message.arguments), []
        raise ProtocolError(f"no request: {message}", ErrorCode.UNSUPPORTED)

    def _opened(self, number: int, urls: list[str]) -> tuple[m.Message, list[int]]:
        if number in self.sets:
            raise ProtocolError(f"set {number} is open already")
        sizes = np.array([len(self._object(url)) for url in urls], np.uint64)
        chunks = int(((sizes + np.uint64(CHUNK - 1)) // np.uint64(CHUNK)).sum())
        descriptor = memory_file(b"", map_bytes(chunks, len(urls)))
        ChunkMap(descriptor, chunks, len(urls), keys=bytes(16 * len(urls))).close()
        self.sets[number] = urls
        last = self._object(urls[-1]) if urls else b""
        return m.Opened(objects=len(urls), chunks=chunks, sizes_hash=sizes_hash(sizes), size_bytes=len(last),
                        etag=etag_of(last), modified_us=5_000_000, descriptors=1), [descriptor]  # fmt: skip

    def _object(self, url: str) -> bytes:
        if url not in self._daemon.objects:
            raise FileNotFoundError(f"{url}: there is no such object")
        return self._daemon.objects[url]

    def miss(self, connection: socket.socket, frame: object) -> None:
        message = hot.unpack_hot(frame)  # type: ignore[arg-type]
        request = frame.request  # type: ignore[attr-defined]
        if isinstance(message, hot.Release):
            del self._busy[request]
            return
        assert isinstance(message, hot.Get)
        self._daemon.gets.append(message)
        try:
            data = self._object(self.control.sets[message.set][message.object])
        except (FileNotFoundError, KeyError) as error:
            connection.send(hot.pack_hot(answer_to(FileNotFoundError(str(error))), request))
            return
        at = self._free(message.length)
        self._busy[request] = at, at + message.length
        self._ring.write(at, data[message.offset : message.offset + message.length])
        connection.send(hot.pack_hot(hot.InRing(at=at, length=message.length), request))

    def _free(self, length: int) -> int:
        """The first place in the ring with room: a client asks for at most half of it at a time."""
        at = 0
        for start, stop in sorted(self._busy.values()):
            if at + length <= start:
                break
            at = stop
        assert at + length <= RING_BYTES, "the client has asked for more than half of the ring"
        return at


def etag_of(data: bytes) -> str:
    """Another one for other bytes, mostly."""
    return f'"{len(data)}-{hash(data) & 0xFFFFFFFF:08x}"'


def memory_file(data: bytes, size_bytes: int | None = None) -> int:
    """A sealed memfd with `data`, or with zeros that may be written through maps that exist."""
    descriptor = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, len(data) if size_bytes is None else size_bytes)
    os.pwrite(descriptor, data, 0)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


def objects_of(root: Path, url: str) -> dict[str, bytes]:
    """The files of a folder, as objects below `url`."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {f"{url}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}
