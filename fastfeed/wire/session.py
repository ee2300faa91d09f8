"""A process's session with the daemon: one a process and place, shared by its datasets, loaders and threads.

Two connections: control (requests, here) and data (misses, owned by the native `CacheClient`, and made when a set is
opened). When either ends, both are made anew, by whoever notices first: a request, or the thread that watches the data
connection. Then all sets are opened again under their numbers, and loaders are registered again; hits have gone on
meanwhile, and misses have waited. Requests are safe to repeat: one whose connection ended is sent again until its
deadline. Only the first attachment of a session fails at once where nobody listens. Once sets are open, requests that
only ask go by connections of their own (`beside.py`), so that no loader waits for another one's listing.

Nothing of a session survives a fork: a child closes its copies of the connections at once, or the daemon would not see
that the parent has ended, and makes a session of its own when it needs one (`session_at`).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from fastfeed._native.cache import CacheClient
from fastfeed.errors import (
    CorruptDataError,
    DaemonUnavailableError,
    DatasetNotFoundError,
    FastfeedError,
    OriginChangedError,
)
from fastfeed.wire import messages as m
from fastfeed.wire.attach import attach_control, attach_data
from fastfeed.wire.beside import Beside
from fastfeed.wire.connection import Connection, ConnectionLost, close_all
from fastfeed.wire.framing import ProtocolError
from fastfeed.wire.listing import LISTING_BYTES_MAX, ListedFile, unpack_listing
from fastfeed.wire.page import PageWriter
from fastfeed.wire.place import Place
from fastfeed.wire.private import PrivateDaemons
from fastfeed.wire.recipe import Recipe
from fastfeed.wire.registration import Registration, RegistrationName
from fastfeed.wire.sets import DatasetSet, Sizes, UrlSet, WantedSet, check_opened

log = logging.getLogger("fastfeed")

# Requests that the origin answers: longer than the origin's own deadline (retries included), whose text says more.
ORIGIN_TIMEOUT_S = 180.0
# Requests that the daemon answers by itself.
REQUEST_TIMEOUT_S = 60.0
# A miss of a loader or a file.
MISS_DEADLINE_S = 180.0
# How often the watching thread looks for what to do where nothing happens, and how soon it tries again where a daemon
# is not there.
WATCH_SLICE_S = 1.0
RETRY_S = 0.2
# An answer in a memfd. What a person or a program reads is far smaller.
TOLD_BYTES_MAX = 256 << 20

T = TypeVar("T")


class RemoteFile(NamedTuple):
    """A whole object in a sealed memfd. descriptor: the caller's to close."""

    descriptor: int
    size_bytes: int
    etag: str
    modified_us: int


class RemoteSet:
    """A set that this process has open: what native readers are given, and verified byte ranges. It is closed when
    nobody holds it any more. Thread-safe; of the process that made it."""

    def __init__(self, client: CacheClient, number: int, entry: _Entry, opened: m.Opened) -> None:
        self.client, self.number, self.sizes = client, number, entry.sizes
        self.etag, self.modified_us = opened.etag, opened.modified_us
        self._entry = entry

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of object `number` of the set, verified; fewer where it ends before. OriginError, CorruptDataError,
        DaemonUnavailableError."""
        size_bytes = int(self.sizes[number])
        length = max(0, min(length, size_bytes - offset))
        if self._entry.failure is not None:
            raise self._entry.failure
        return self.client.read(self.number, number, offset, length) if length else b""


@dataclass(slots=True)
class _Entry:
    """A set as the session knows it. opened: whether the present daemon has it open; failure: why none ever will."""

    wanted: WantedSet
    sizes: Sizes
    opened: bool
    failure: FastfeedError | None = None

    @property
    def waits(self) -> bool:
        """Whether it has to be opened again."""
        return not self.opened and self.failure is None


class Session:
    """See the module. Threads share it; `session_at` gives it."""

    def __init__(self, place: Place, private: PrivateDaemons, job: str = "") -> None:
        self.place = place
        self._private, self._job = private, job
        # For the connections below and all that belongs to the session. Held over requests that change it; of these
        # only opening asks an origin, for what has mostly been read before. Never taken in a finalizer, which may run
        # in whoever holds it.
        self._lock = threading.Lock()
        self._beside = Beside(lambda: attach_control(place, job, private)[0])
        self._control: Connection | None = None
        self._welcome: m.Welcome | None = None
        self._client: CacheClient | None = None
        self._page: PageWriter | None = None
        self._entries: dict[int, _Entry] = {}
        self._open_sets: weakref.WeakValueDictionary[tuple[Any, ...], RemoteSet] = weakref.WeakValueDictionary()
        self._registrations: weakref.WeakSet[Registration] = weakref.WeakSet()
        # Numbers of sets and names of registrations that nobody holds any more: finalizers put them here.
        self._dropped: deque[int] = deque()
        self._ended: deque[RegistrationName] = deque()
        self._watcher: threading.Thread | None = None
        self._was_attached = False
        self._closed = threading.Event()

    # --- requests -----------------------------------------------------------------------------------------------

    def list_folder(self, url: str, *, recursive: bool = False) -> list[ListedFile]:
        """The files in a folder, by name; or by path, also those below it. [] where there is none."""
        request = m.List(url=url, deadline_ms=_ms(ORIGIN_TIMEOUT_S), recursive=int(recursive))
        answer, descriptors = self._ask(request, ORIGIN_TIMEOUT_S, m.Listed)
        return unpack_listing(_content(descriptors[0], answer.size_bytes, LISTING_BYTES_MAX))

    def file(self, url: str, size_bytes: int, size_bytes_max: int) -> RemoteFile:
        """A whole object. size_bytes: what it must have; 0: whatever it has, up to size_bytes_max."""
        request = m.File(
            url=url, deadline_ms=_ms(ORIGIN_TIMEOUT_S), size_bytes=size_bytes, size_bytes_max=size_bytes_max
        )
        answer, descriptors = self._ask(request, ORIGIN_TIMEOUT_S, m.FileHere)
        if os.fstat(descriptors[0]).st_size != answer.size_bytes:
            close_all(descriptors)
            raise ProtocolError(f"{url}: the cache daemon's copy is not the {answer.size_bytes} bytes that it says")
        return RemoteFile(descriptors[0], answer.size_bytes, answer.etag, answer.modified_us)

    def head(self, url: str) -> m.HeadOf:
        """Size, version and age of an object. DatasetNotFoundError (a FileNotFoundError)."""
        return self._ask(m.Head(url=url, deadline_ms=_ms(ORIGIN_TIMEOUT_S)), ORIGIN_TIMEOUT_S, m.HeadOf)[0]

    def command(self, command: m.Command, arguments: Mapping[str, Any], timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        """An operator's command; its answer, from JSON."""
        request = m.Ask(command=command, arguments=json.dumps(arguments).encode())
        answer, descriptors = self._ask(request, timeout_s, m.Told)
        text = _content(descriptors[0], answer.size_bytes, TOLD_BYTES_MAX) if descriptors else answer.text
        return json.loads(text)

    def open_dataset(self, url: str, snapshot: int, manifest_hash: bytes, sizes: Sizes) -> RemoteSet:
        """The shards of a snapshot. sizes: bytes of each, from its manifest."""
        return self._open(DatasetSet(url, snapshot, manifest_hash, sizes))

    def open_url(self, url: str, etag: str = "") -> RemoteSet:
        """One object: the version `etag`, or the one there is."""
        return self._open(UrlSet(url, etag))

    def register(self, opened: RemoteSet, recipe: Recipe) -> Registration:
        """A loader that will read this set. It is told to the daemon now, and again in each new session."""
        registration = Registration(opened.number, recipe, self._ended)

        def act(control: Connection) -> None:
            self._register(control, registration)
            self._registrations.add(registration)

        self._with_control(act, REQUEST_TIMEOUT_S)
        return registration

    def close(self) -> None:
        """End the session: the daemon drops all that belongs to it. Idempotent."""
        self._closed.set()
        self._beside.close()
        if self._client is not None:
            self._client.close()  # ends the wait of the watcher, and every read
        if self._control is not None:
            self._control.close()
        if self._watcher is not None:
            self._watcher.join()

    def forget(self) -> None:
        """In a forked child: close its copies of the connections. The locks here may be taken for ever."""
        self._closed.set()
        self._beside.close()
        if self._control is not None:
            self._control.close()
        if self._client is not None:
            self._client.close()

    @property
    def welcome(self) -> m.Welcome:
        """What the daemon said of itself when this session was attached last."""
        return self._with_control(lambda control: self._said(), REQUEST_TIMEOUT_S)

    # --- with the lock ------------------------------------------------------------------------------------------

    @contextmanager
    def _held(self, deadline_s: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=max(0.0, deadline_s - time.monotonic())):
            raise DaemonUnavailableError(f"{self.place.socket}: another request to the cache daemon takes too long.")
        try:
            yield
        finally:
            self._lock.release()

    def _with_control(self, act: Callable[[Connection], T], timeout_s: float) -> T:
        deadline_s = time.monotonic() + timeout_s
        while True:
            with self._held(deadline_s):
                try:
                    control = self._attached()
                    self._close_dropped(control)
                    return act(control)
                except ConnectionLost:
                    self._lose()
                    if self._closed.is_set() or not self._was_attached or time.monotonic() > deadline_s:
                        raise
            time.sleep(RETRY_S)

    def _ask(self, message: m.Message, timeout_s: float, expected: type[T]) -> tuple[T, list[int]]:
        ask = self._with_control if self._client is None or self._closed.is_set() else self._beside.ask
        return ask(lambda control: _answer(control, message, timeout_s, expected), timeout_s)

    def _attached(self) -> Connection:
        """The control connection, after making everything that belongs to the session anew where there is none."""
        if self._closed.is_set():
            raise DaemonUnavailableError(f"{self.place.socket}: this process's session has been closed.")
        if self._control is None:
            self._control, self._welcome = attach_control(self.place, self._job, self._private)
            if self._client is not None:
                self._attach_data(self._client, self._control)
            self._was_attached = True
        return self._control

    def _attach_data(self, client: CacheClient, control: Connection) -> None:
        connection, welcome, descriptors = attach_data(self.place, self._said().token)
        try:
            slabs = welcome.slabs
            if len(descriptors) != 3 + len(slabs):
                raise ProtocolError(f"{len(descriptors)} descriptors for ring, page, words and {len(slabs)} slabs")
            ring, page, words = descriptors[:3]
            self._page = PageWriter(page)
            data = connection.detach()
            try:
                client.attach(
                    data, ring, welcome.ring_bytes, words, welcome.slots,
                    [(fd, first, count) for fd, (first, count) in zip(descriptors[3:], slabs, strict=True)], page,
                )  # fmt: skip
            finally:
                os.close(data)
        finally:
            connection.close()
            close_all(descriptors)
        for number, entry in self._entries.items():
            entry.opened = False
            if entry.waits:
                self._try(partial(self._reopen, client, control, number, entry))
        self._ended.clear()  # of the session before
        for registration in self._registrations:
            self._try(partial(self._register, control, registration))

    def _try(self, act: Callable[[], None]) -> None:
        """What fails of one set or loader concerns only that one, unless the connection has ended."""
        try:
            act()
        except ConnectionLost:
            raise
        except (FastfeedError, OSError) as error:
            log.warning("cache: after attaching again: %s", error)

    def _lose(self) -> None:
        """The session has ended at the daemon's side. Hits go on; misses wait."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._client is not None and not self._closed.is_set():
            self._client.detach()

    def _open(self, wanted: WantedSet) -> RemoteSet:
        def act(control: Connection) -> RemoteSet:
            known = self._open_sets.get(wanted.key)
            if known is not None:
                return known
            client = self._data_client(control)
            number = next(each for each in range(m.SETS_MAX + 1) if each not in self._entries)
            sizes, opened = self._open_as(client, control, number, wanted)
            if isinstance(wanted, UrlSet):
                pinned: WantedSet = replace(wanted, etag=opened.etag, sizes=sizes)
            else:
                pinned = wanted
            entry = self._entries[number] = _Entry(pinned, sizes, opened=True)
            made = RemoteSet(client, number, entry, opened)
            weakref.finalize(made, self._dropped.append, number).atexit = False
            self._open_sets[pinned.key] = made
            return made

        return self._with_control(act, ORIGIN_TIMEOUT_S)

    def _open_as(
        self, client: CacheClient, control: Connection, number: int, wanted: WantedSet
    ) -> tuple[Sizes, m.Opened]:
        request = wanted.request(number, _ms(ORIGIN_TIMEOUT_S))
        opened, descriptors = _answer(control, request, ORIGIN_TIMEOUT_S, m.Opened)
        try:
            sizes = check_opened(wanted, opened)
            client.set_attached(number, number, descriptors[0], sizes)
        finally:
            close_all(descriptors)
        return sizes, opened

    def _reopen(self, client: CacheClient, control: Connection, number: int, entry: _Entry) -> None:
        try:
            self._open_as(client, control, number, entry.wanted)
        except (OriginChangedError, CorruptDataError, DatasetNotFoundError) as error:
            # What was read so far is of something that is no more: every further read is this error.
            entry.failure = error
            client.set_detached(number)
            raise
        entry.opened = True

    def _data_client(self, control: Connection) -> CacheClient:
        """The native client, attached; made with the first set."""
        if self._client is None:
            client = CacheClient(deadline_s=MISS_DEADLINE_S)
            self._attach_data(client, control)
            self._client = client
            self._watcher = threading.Thread(target=self._watch, args=(client,), name="fastfeed-session", daemon=True)
            self._watcher.start()
        return self._client

    def _register(self, control: Connection, registration: Registration) -> None:
        request = m.Register(set=registration.set_number, recipe=registration.recipe.to_json())
        answer, _ = _answer(control, request, REQUEST_TIMEOUT_S, m.Registered)
        if self._page is not None:
            registration.moved(answer.registration, answer.forecast, self._page)

    def _close_dropped(self, control: Connection) -> None:
        while self._dropped:
            number = self._dropped.popleft()
            entry = self._entries.pop(number)
            if self._client is not None:
                self._client.set_detached(number)
            if entry.opened:
                self._say(control, m.CloseSet(set=number))
        while self._ended:
            name = self._ended.popleft()
            if name.number:
                self._say(control, m.Unregister(registration=name.number))

    def _say(self, control: Connection, message: m.Message) -> None:
        """A request whose failure nobody needs to know: the daemon forgets it all the same when the session ends."""
        try:
            _answer(control, message, REQUEST_TIMEOUT_S, m.Done)
        except ConnectionLost:
            raise
        except FastfeedError as error:
            log.warning("cache: %s", error)

    def _said(self) -> m.Welcome:
        assert self._welcome is not None  # whoever holds a control connection has been welcomed
        return self._welcome

    # --- the watching thread ------------------------------------------------------------------------------------

    def _watch(self, client: CacheClient) -> None:
        """Attach again whenever the data connection has ended; close sets that nobody holds any more."""
        complained = False
        while not self._closed.is_set():
            is_detached = client.wait_detached(WATCH_SLICE_S)
            if self._closed.is_set():
                return
            waiting = any(each.waits for each in list(self._entries.values()))
            if not (is_detached or waiting or self._dropped or self._ended):
                continue
            try:
                with self._held(time.monotonic() + WATCH_SLICE_S):
                    self._look_after(client, is_detached)
                complained = False
            except (FastfeedError, OSError) as error:
                if not complained and not self._closed.is_set():
                    log.warning("cache: %s (reading on what is cached, and trying again every %.1f s)", error, RETRY_S)
                complained = True
                self._closed.wait(RETRY_S)

    def _look_after(self, client: CacheClient, is_detached: bool) -> None:
        try:
            if is_detached and not client.attached:
                self._lose()
            control = self._attached()
            self._close_dropped(control)
            for number, entry in self._entries.items():
                if entry.waits:
                    self._reopen(client, control, number, entry)
        except ConnectionLost:
            self._lose()
            raise


def _answer(control: Connection, message: m.Message, timeout_s: float, expected: type[T]) -> tuple[T, list[int]]:
    answer, descriptors = control.ask(message, timeout_s)
    if not isinstance(answer, expected):
        close_all(descriptors)
        raise ProtocolError(f"the cache daemon answered {type(message).__name__} with {type(answer).__name__}")
    return answer, descriptors


def _content(descriptor: int, size_bytes: int, limit_bytes: int) -> bytes:
    """What is in a memfd, which is closed."""
    try:
        if size_bytes > limit_bytes:
            raise ProtocolError(f"an answer of {size_bytes} bytes; at most {limit_bytes} are taken")
        parts, at = [], 0
        while at < size_bytes and (part := os.pread(descriptor, size_bytes - at, at)):
            parts.append(part)
            at += len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
