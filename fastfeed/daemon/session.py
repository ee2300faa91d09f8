"""One client process: what it has open, and what its control requests mean.

The control connection's end ends the session and everything of it: sets, registrations, requests, the data connection.
A session has one pool, chosen when it began by the user whom the kernel named; no request can name another's data.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Protocol

from fastfeed.cache.memory import make_memory
from fastfeed.daemon.control import Outcome, unsupported
from fastfeed.daemon.memfds import seal_size, sealed_bytes
from fastfeed.daemon.packets import PacketConnection
from fastfeed.daemon.peers import Peer
from fastfeed.daemon.pool_service import PoolService
from fastfeed.daemon.requests import Requests
from fastfeed.daemon.sets import ObjectSet, UrlSet
from fastfeed.errors import ConfigError
from fastfeed.wire import messages as m
from fastfeed.wire.framing import ErrorCode, ProtocolError
from fastfeed.wire.page import PAGE_BYTES, PageView
from fastfeed.wire.recipe import Recipe

# Loaders of one process: training, evaluations, and some that a notebook has forgotten.
REGISTRATIONS_MAX = 64
# Bytes of a whole file that a client may ask for: an index of 2^31 rows.
FILE_BYTES_MAX = 8 << 30


class Commands(Protocol):
    """Who answers an operator's commands."""

    async def tell(self, session: Session, command: m.Command, arguments: bytes) -> object:
        """What to answer, as JSON can hold it."""
        ...


class Session:
    """See the module. token: what its data connection must show."""

    def __init__(self, token: bytes, peer: Peer, service: PoolService, job: str, commands: Commands) -> None:
        self.token, self.peer, self.service, self.job = token, peer, service, job
        self._commands = commands
        self.sets: dict[int, ObjectSet] = {}
        self.registrations: set[int] = set()
        self.requests: Requests | None = None
        self.data: PacketConnection | None = None
        self.page_descriptor = -1
        self._page: mmap.mmap | None = None
        self.is_closed = False

    # --- the data connection --------------------------------------------------------------------------------------

    def begin_data(self, requests: Requests, connection: PacketConnection) -> None:
        """The client's data connection is here; one that it had before is ended."""
        self.end_data()
        self.requests, self.data = requests, connection
        self.page_descriptor = make_memory("page", PAGE_BYTES)
        seal_size(self.page_descriptor)
        self._page = mmap.mmap(self.page_descriptor, PAGE_BYTES, access=mmap.ACCESS_READ)

    def end_data(self) -> None:
        """Drop the data connection with its ring and page. Idempotent."""
        if (page := self.page()) is not None:
            self.service.reader_has_left(page)
        if self.data is not None:
            self.data.close()
            self.data = None
        if self.requests is not None:
            self.requests.close()
            self.requests = None
        if self._page is not None:
            self._page.close()
            os.close(self.page_descriptor)
            self._page, self.page_descriptor = None, -1

    def page(self) -> PageView | None:
        """What the client says of itself now: believe nothing of it."""
        return None if self._page is None else PageView(self._page)

    def page_or_zeros(self) -> PageView:
        """The same for who needs some page; without a data connection all its words are 0."""
        return self.page() or PageView(bytes(PAGE_BYTES))

    def close(self) -> None:
        """The session has ended. Idempotent."""
        self.is_closed = True
        self.end_data()
        for registration in self.registrations:
            self.service.unregister(registration)
        self.registrations.clear()
        for opened in self.sets.values():
            self.service.release(opened)
        self.sets.clear()

    # --- control requests -----------------------------------------------------------------------------------------

    async def handle(self, message: m.Message) -> Outcome:
        """Do what a control message asks. Raises what `answers.answer_to` can translate."""
        match message:
            case m.Ping():
                return Outcome.of(m.Done())
            case m.List():
                descriptor, size_bytes, files = await self.service.files.list(
                    message.url, recursive=bool(message.recursive)
                )
                return Outcome(m.Listed(size_bytes=size_bytes, files=files, descriptors=1), [descriptor])
            case m.File():
                return await self._file(message)
            case m.Head():
                info = await self.service.files.head(message.url)
                modified_us = int(info.modified_s * 1e6)
                return Outcome.of(m.HeadOf(size_bytes=info.size_bytes, etag=info.etag, modified_us=modified_us))
            case m.OpenDataset():
                opened = await self.service.objects.open_dataset(message.url, message.snapshot, message.manifest_hash)
                return self._opened(message.set, opened)
            case m.OpenUrl():
                return self._opened(message.set, await self.service.objects.open_url(message.url, message.etag))
            case m.CloseSet():
                self._close_set(message.set)
                return Outcome.of(m.Done())
            case m.Register():
                return await self._register(message)
            case m.Unregister():
                self._unregister(message.registration)
                return Outcome.of(m.Done())
            case m.Ask():
                return _told(await self._commands.tell(self, message.command, message.arguments))
        raise unsupported(message)

    async def _file(self, message: m.File) -> Outcome:
        size_bytes_max = min(message.size_bytes_max, FILE_BYTES_MAX)
        descriptor, info = await self.service.files.open(message.url, message.size_bytes, size_bytes_max)
        here = m.FileHere(
            size_bytes=info.size_bytes, etag=info.etag, modified_us=int(info.modified_s * 1e6), descriptors=1
        )
        return Outcome(here, [descriptor])

    def _opened(self, number: int, opened: ObjectSet) -> Outcome:
        if self.is_closed:
            raise ProtocolError("the session has ended")
        if number not in self.sets and len(self.sets) >= m.SETS_MAX:
            raise ConfigError(f"{len(self.sets)} sets are open in this session. Close some.")
        self._close_set(number)
        descriptor = self.service.hold(opened)
        self.sets[number] = opened
        one = isinstance(opened, UrlSet)
        answer = m.Opened(
            objects=len(opened),
            chunks=opened.chunks,
            sizes_hash=opened.sizes_hash,
            size_bytes=int(opened.sizes[0]) if one else 0,
            etag=opened.object(0).etag if one else "",
            modified_us=opened.modified_us if isinstance(opened, UrlSet) else 0,
            descriptors=1,
        )
        return Outcome(answer, [descriptor])

    def _close_set(self, number: int) -> None:
        opened = self.sets.pop(number, None)
        if opened is not None:
            self.service.release(opened)

    async def _register(self, message: m.Register) -> Outcome:
        opened = self.sets.get(message.set)
        if opened is None:
            raise ProtocolError(f"set {message.set} is not open in this session", ErrorCode.NOT_FOUND)
        if len(self.registrations) >= REGISTRATIONS_MAX:
            raise ConfigError(
                f"this process has {len(self.registrations)} loaders registered. Close those that are done."
            )
        registration, forecast = await self.service.register(self, opened, Recipe.of(message.recipe))
        self.registrations.add(registration)
        return Outcome.of(m.Registered(registration=registration, forecast=json.dumps(forecast).encode()))

    def _unregister(self, registration: int) -> None:
        if registration in self.registrations:
            self.registrations.discard(registration)
            self.service.unregister(registration)


def _told(answer: object) -> Outcome:
    text = json.dumps(answer).encode()
    if len(text) <= m.JSON_BYTES_MAX:
        return Outcome.of(m.Told(text=text))
    return Outcome(m.Told(size_bytes=len(text), descriptors=1), [sealed_bytes("answer", text)])
