"""The misses of one client: GET to answer, over its data connection (docs/wire.md, section 4).

Every GET gets exactly one answer: IN_SLOT, IN_RING or ERROR, at the latest at its deadline. First come first served
where the ring is full: a request that has its bytes but no room for them lets go of them, and asks again when a RELEASE
made room; so a client that does not release holds back itself alone, and no fetch. Of a client that has too many
requests open nothing more is read until some are answered.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from fastfeed._native.cache import Ring
from fastfeed.cache.memory import make_memory, seal
from fastfeed.daemon.counters import FetchCounters, MissReason
from fastfeed.daemon.fetch import Fetcher
from fastfeed.daemon.keeper import Keeper
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.packets import PacketConnection
from fastfeed.daemon.ring_space import RingSpace
from fastfeed.daemon.sets import ObjectSet
from fastfeed.errors import CorruptDataError, FastfeedError
from fastfeed.wire.answers import answer_to
from fastfeed.wire.framing import ErrorCode, ProtocolError, pack_frame, unpack_frame
from fastfeed.wire.hot import CHUNK_BYTES, Error, Get, GetFlag, InRing, InSlot, Release, pack_hot, unpack_hot

# A ring holds two whole chunks at least: one that is read while the next one comes.
RING_BYTES_MIN = 2 << 20
_IN_SLOT = struct.Struct("<Q")
_IN_RING = struct.Struct("<QI")


class Request:
    """One GET. The waiter that fetches know."""

    __slots__ = (
        "at", "deadline_s", "entry", "fetches", "flags", "is_open", "length", "number", "object", "offset", "owner",
    )  # fmt: skip

    def __init__(self, owner: Requests, number: int, object_: CachedObject, get: Get, deadline_s: float) -> None:
        self.owner, self.number, self.object, self.deadline_s = owner, number, object_, deadline_s
        self.offset, self.length, self.flags, self.entry = get.offset, get.length, get.flags, get.entry
        self.at = -1  # in the ring; -1: nowhere yet
        self.is_open = True
        self.fetches = 0

    @property
    def chunk(self) -> int:
        return self.offset // CHUNK_BYTES

    def arrived(self, data: memoryview) -> None:
        self.owner.by_ring(self, data)

    def failed(self, error: BaseException) -> None:
        self.owner.fail(self, answer_to(error))


class Limits(Protocol):
    """Of LimitsConfig."""

    @property
    def requests_per_client_max(self) -> int: ...
    @property
    def request_timeout_s(self) -> float: ...
    @property
    def disk_timeout_s(self) -> float: ...


class Requests:
    """Those of one session. `lane`: what fetches call this client; `sets`: what it has open, by its numbers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sets: Mapping[int, ObjectSet],
        fetcher: Fetcher,
        keeper: Keeper,
        counters: FetchCounters,
        limits: Callable[[], Limits],
        ring_bytes: int,
    ) -> None:
        self._loop, self._sets, self._fetcher, self._keeper = loop, sets, fetcher, keeper
        self._counters, self._limits = counters, limits
        self.ring_descriptor = make_memory("ring", max(ring_bytes, RING_BYTES_MIN))
        self.ring_bytes = max(ring_bytes, RING_BYTES_MIN)
        self._ring = Ring(self.ring_descriptor, self.ring_bytes)
        seal(self.ring_descriptor)
        self._space = RingSpace(self.ring_bytes)
        self._connection: PacketConnection | None = None
        self._open: dict[int, Request] = {}
        self._in_ring: dict[int, Request] = {}  # answered by the ring, not released
        self._without_room: deque[Request] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def connect(self, connection: PacketConnection) -> None:
        """Answers go here from now on."""
        self._connection = connection

    @property
    def open_count(self) -> int:
        return len(self._open)

    def on_packets(self, packets: list[bytes]) -> None:
        """What the client sent, in its order."""
        for packet in packets:
            request = 0
            try:
                frame = unpack_frame(packet)
                request = frame.request
                message = unpack_hot(frame)
                if isinstance(message, Get):
                    self._get(request, message)
                elif isinstance(message, Release):
                    self._release(request)
                else:
                    raise ProtocolError(f"a client does not send {type(message).__name__}")
            except (FastfeedError, OSError) as error:
                self._send(answer_to(error), request)
        self._update_pause()

    def check_deadlines(self, now_s: float) -> None:
        """Answer what has waited too long. Called from time to time."""
        for request in [each for each in self._open.values() if each.deadline_s <= now_s]:
            if request in self._without_room:
                text = "its ring is full: bytes that it was given are not released"
            else:
                running, waiting = request.object.source.running, len(request.object.source.demand)
                text = f"the origin has {running} requests under way, {waiting} wait (see `fastfeed cache status`)"
            self.fail(request, Error(code=ErrorCode.TIMEOUT, text=f"{request.object.url}: no bytes in time: {text}."))

    def close(self) -> None:
        """The session has ended."""
        self._is_closed = True
        self._fetcher.forget(self)
        for request in self._open.values():
            request.is_open = False
        self._open.clear()
        for task in self._tasks:
            task.cancel()
        self._ring.close()
        os.close(self.ring_descriptor)

    # --- questions ------------------------------------------------------------------------------------------------

    def _get(self, number: int, get: Get) -> None:
        self._counters.requests += 1
        if number in self._open or number in self._in_ring:
            # Two answers to one number could not be told apart.
            raise ProtocolError(f"request {number} has been asked already, and its bytes are not released")
        if len(self._open) >= 2 * self._limits().requests_per_client_max:
            raise ProtocolError(f"{len(self._open)} requests wait for answers, and most of them for room in the ring")
        opened = self._sets.get(get.set)
        if opened is None:
            raise ProtocolError(f"set {get.set} is not open in this session", ErrorCode.NOT_FOUND)
        try:
            object_ = opened.object(get.object)
        except IndexError as error:
            raise ProtocolError(f"GET: {error}") from error
        if get.offset + get.length > object_.size_bytes:
            raise ProtocolError(f"GET: {get.length} bytes at {get.offset} of {object_.size_bytes}")
        timeout_s = min(get.deadline_ms / 1000, self._limits().request_timeout_s)
        request = self._open[number] = Request(self, number, object_, get, time.monotonic() + timeout_s)
        self._ask(request)

    def _ask(self, request: Request) -> None:
        """Find the bytes of a request: in a slot, or by a fetch."""
        located = self._keeper.find(request.object.key, request.chunk)
        if request.flags & GetFlag.SLOT_WAS_BAD:
            self._count_miss(MissReason.BAD_BYTES)
            if located is not None and (request.entry in (0, located.entry)):
                self._start(self._keeper.check(request.object, request.chunk, located, self._limits().disk_timeout_s))
            # From another place, and compared with the index where it says what the bytes are.
            self._fetch(request, must_verify=True)
        elif located is None and self._keeper.is_unproven(request.object.key, request.chunk):
            self._start(self._prove_slot(request))
        elif located is None:
            self._count_miss(self._fetch(request))
        elif request.flags & GetFlag.BY_RING or request.at >= 0:
            # Who was fetched for once, and had no room in the ring, is not sent to a slot that it might lose.
            self._count_miss(MissReason.LOST_RACE)
            self._start(self._read_slot(request))
        else:
            self._count_miss(MissReason.STALE_MAP)
            self._counters.in_slot_answers += 1
            self._answer(request, InSlot.TYPE, _IN_SLOT.pack(located.entry))

    async def _read_slot(self, request: Request) -> None:
        """Give the bytes of a slot by the ring; from the origin where the slot cannot be read."""
        data, is_slow = None, False
        try:
            data = await self._keeper.read(request.object, request.chunk, request.offset % CHUNK_BYTES, request.length)
        except TimeoutError:
            is_slow = True
        except (OSError, CorruptDataError):
            pass  # the keeper has seen to the slot and its disk
        if not request.is_open:
            return
        if data is None:
            self._fetch(request, must_verify=not is_slow)
        else:
            self.by_ring(request, memoryview(data))

    async def _prove_slot(self, request: Request) -> None:
        """After a power loss the slot is read before anybody is sent there; it is cheaper than to fetch it again."""
        await self._keeper.prove(request.object.key, request.chunk, self._limits().disk_timeout_s)
        if not request.is_open:
            return
        if self._keeper.is_unproven(request.object.key, request.chunk):
            self._fetch(request)
        else:
            self._ask(request)

    def _fetch(self, request: Request, *, must_verify: bool = False) -> MissReason:
        """Have its bytes fetched. Twice at most: when they have come, they are given by the ring, or let go of where it
        has no room; then the request is asked again with its place in the ring."""
        request.fetches += 1
        self._counters.request_fetches_max = max(self._counters.request_fetches_max, request.fetches)
        return self._fetcher.want(self, request.object, request, must_verify=must_verify)

    def _release(self, number: int) -> None:
        request = self._in_ring.pop(number, None)
        if request is None:
            raise ProtocolError(f"RELEASE of request {number}, which has nothing in the ring")
        self._space.give_back(request.at, request.length)
        self._fill_room()

    def _fill_room(self) -> None:
        """There is room in the ring: those who wait for it ask again, with their place."""
        waiting, self._without_room = self._without_room, deque()
        while waiting:
            request = waiting.popleft()
            if not request.is_open:
                continue
            at = self._space.take(request.length)
            if at is None:
                waiting.appendleft(request)
                break
            request.at = at
            self._ask(request)
        waiting.extend(self._without_room)
        self._without_room = waiting

    # --- answers --------------------------------------------------------------------------------------------------

    def by_ring(self, request: Request, data: memoryview) -> None:
        """Its bytes are here: answer by the ring, or let go of them until there is room."""
        if not request.is_open:
            return
        if request.at < 0:
            at = None if self._without_room else self._space.take(request.length)
            if at is None:
                self._without_room.append(request)
                return
            request.at = at
        self._ring.write(request.at, data)
        self._counters.ring_answers += 1
        self._counters.ring_bytes += request.length
        self._in_ring[request.number] = request
        self._answer(request, InRing.TYPE, _IN_RING.pack(request.at, request.length))

    def fail(self, request: Request, error: Error) -> None:
        """Answer with an error."""
        if request.is_open:
            self._counters.error_answers += 1
            self._answer(request, Error.TYPE, error.body())

    def _answer(self, request: Request, message_type: int, body: bytes) -> None:
        request.is_open = False
        del self._open[request.number]
        if request.at >= 0 and message_type != InRing.TYPE:
            self._space.give_back(request.at, request.length)
            request.at = -1
            if self._without_room:
                self._loop.call_soon(self._fill_room)
        if self._connection is not None:
            self._connection.send(pack_frame(message_type, request.number, body))
        self._update_pause()

    def _send(self, message: Error, number: int) -> None:
        if self._connection is not None:
            self._connection.send(pack_hot(message, number))

    def _update_pause(self) -> None:
        if self._connection is not None:
            # Those without room wait for a RELEASE, which comes by this connection.
            moving = len(self._open) - len(self._without_room)
            self._connection.pause(moving >= self._limits().requests_per_client_max)

    def _count_miss(self, reason: MissReason) -> None:
        self._counters.misses[reason] += 1

    def _start(self, work) -> None:  # type: ignore[no-untyped-def]
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
