"""Fetching: each byte once, however many ask, and what somebody waits for first.

1. Who misses a chunk joins the fetch of it that is there, or starts one (`want`). Whole chunks are told apart by (key,
   chunk), exact bytes by their range.
2. What clients wait for stands in a queue of its origin, a lane a client. What stands next to each other in an object
   and is wanted is fetched in one request of up to RUN_BYTES_MAX.
3. When many chunks are missing at once (a cold start), a small read gets its exact bytes first, once a chunk and within
   a share of the object; the chunk itself comes with the prefetch.
4. Bytes that come back are checked against the index where it has a checksum, given to all who wait (by their rings),
   and then to the keeper, who writes them as far as the disks keep up.
5. From an origin of which nobody waits for anything, what registered loaders need next is fetched ahead (`Planner`).

One event loop. Memory: a request of an origin begins only when its bytes fit the buffers, and they count until the
last of its chunks is written or dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from enum import Enum
from typing import Protocol

from fastfeed.daemon.buffers import Buffers
from fastfeed.daemon.counters import FetchCounters, MissReason
from fastfeed.daemon.exact_ranges import ExactRanges
from fastfeed.daemon.keeper import Keeper
from fastfeed.daemon.objects import CachedObject
from fastfeed.daemon.sources import Source
from fastfeed.errors import CorruptDataError, FastfeedError, OriginChangedError, OriginError
from fastfeed.wire.hot import CHUNK_BYTES

# Requests of object stores are fastest from here on, and one run of a prefetch holds a connection for 80 ms at
# 100 MB/s.
RUN_BYTES_MAX = 8 << 20
RUN_CHUNKS_MAX = RUN_BYTES_MAX // CHUNK_BYTES
# From so many chunks that are wanted and not here on, small reads are served by exact bytes. Fewer are here as whole
# chunks in the time of two requests.
EXACT_PRESSURE_CHUNKS = 8
# A read of a good part of a chunk may as well fetch the chunk.
EXACT_BYTES_MAX = CHUNK_BYTES // 8
# Bytes between two exact ranges that are fetched rather than asked for apart: what a request costs in time on a
# connection of 100 MB/s and 0.3 ms.
EXACT_GAP_BYTES = 32 << 10
# How often an origin may give bytes without their checksum before whoever waits is told.
CHECKS_MAX = 3
# Of the origin's connections, and of the buffers, what is fetched ahead may use so much. The rest is for who waits.
PREFETCH_SHARE = 0.5
# After a prefetch failed, the next one waits, longer each time.
PREFETCH_PAUSE_S = 1.0
PREFETCH_PAUSE_S_MAX = 30.0


class Waiter(Protocol):
    """A request for bytes [offset, offset + length) of an object, in one chunk."""

    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...
    def arrived(self, data: memoryview) -> None:
        """Exactly its bytes; borrowed for the time of the call."""

    def failed(self, error: BaseException) -> None: ...


class Planned(Protocol):
    """Chunks of one object that will be needed."""

    @property
    def object(self) -> CachedObject: ...
    @property
    def first_chunk(self) -> int: ...
    @property
    def count(self) -> int: ...


class Planner(Protocol):
    """Who knows the future of a pool (jobs.py)."""

    def next_fetches(self, budget_bytes: int, is_open: Callable[[CachedObject], bool]) -> Iterable[Planned]:
        """What to fetch ahead now, the most urgent first, each once; not more than these bytes, but for the first.
        is_open: whether the origin of a job's first object, and so the job, takes part."""
        ...

    def is_exact(self, key: bytes, chunk: int) -> bool:
        """Whether reads of this chunk get their exact bytes, because it is not worth a slot."""
        ...


class State(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class Demand:
    """Bytes [start, stop) of an object that somebody waits for: a whole chunk, or a part of one."""

    __slots__ = ("chunk", "failed_checks", "is_whole", "lane", "object", "start", "state", "stop", "waiters")

    def __init__(
        self, object_: CachedObject, chunk: int, start: int, stop: int, lane: Hashable, is_whole: bool
    ) -> None:
        self.object, self.chunk, self.start, self.stop = object_, chunk, start, stop
        self.lane, self.is_whole = lane, is_whole
        self.waiters: list[tuple[Hashable, Waiter]] = []
        self.state = State.QUEUED
        self.failed_checks = 0


class Fetcher:
    """Of one pool. on_trouble: told where something went wrong, and what, for people."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keeper: Keeper,
        planner: Planner,
        buffers: Buffers,
        counters: FetchCounters,
        on_trouble: Callable[[str, str], None],
    ) -> None:
        self._loop, self._keeper, self._planner, self._buffers = loop, keeper, planner, buffers
        self._counters, self._on_trouble = counters, on_trouble
        self._whole: dict[tuple[bytes, int], Demand] = {}
        self._exact = ExactRanges()
        self._waiting_sources: dict[Source, None] = {}  # in the order in which they came to have demand
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_woken = self._is_closed = False
        self._planned: deque[tuple[CachedObject, int, int]] = deque()
        self._pauses: dict[Source, tuple[float, float]] = {}  # no prefetch before, and the pause that it was
        buffers.call_on_room(self.wake)

    # --- what is asked for ----------------------------------------------------------------------------------------

    def want(self, lane: Hashable, object_: CachedObject, waiter: Waiter, *, must_verify: bool = False) -> MissReason:
        """Have the waiter get its bytes, at once or later. must_verify: not the exact bytes, which nobody can check,
        and nothing that is in memory. Says why they were not there."""
        chunk = waiter.offset // CHUNK_BYTES
        if not must_verify and (data := self._keeper.arriving(object_.key, chunk)) is not None:
            at = waiter.offset - chunk * CHUNK_BYTES
            self._counters.joins += 1
            waiter.arrived(data[at : at + waiter.length])
            return MissReason.ARRIVING
        flight = self._whole.get((object_.key, chunk))
        if flight is None and not must_verify:
            flight = self._exact.find(object_.key, waiter.offset, waiter.offset + waiter.length)
        if flight is not None:
            self._counters.joins += 1
            self._join(flight, lane, waiter)
            return MissReason.ARRIVING
        is_exact, reason = (False, MissReason.ABSENT) if must_verify else self._exactness(object_, chunk, waiter.length)
        if is_exact:
            flight = Demand(object_, chunk, waiter.offset, waiter.offset + waiter.length, lane, is_whole=False)
            self._exact.add(flight)
        else:
            flight = self._new_whole(object_, chunk, lane)
        flight.waiters.append((lane, waiter))
        self._enqueue(lane, flight)
        return reason

    def forget(self, lane: Hashable) -> None:
        """A client has gone. Its fetches that nobody else waits for and that have not begun are dropped."""
        for source in self._waiting_sources:
            for demand in source.demand.drop(lane):
                demand.waiters = [each for each in demand.waiters if each[0] != lane]
                if demand.waiters and demand.state is State.QUEUED:
                    source.demand.push(demand.waiters[0][0], demand)
                elif demand.state is State.QUEUED:
                    self._done(demand)

    def wake(self) -> None:
        """Look for what to do, soon."""
        if not self._is_woken and not self._is_closed:
            self._is_woken = True
            self._loop.call_soon(self._pump)

    @property
    def running(self) -> int:
        """Requests of origins under way."""
        return len(self._tasks)

    def is_coming(self, key: bytes, chunk: int) -> bool:
        """Whether the chunk is being fetched, or about to be."""
        return (key, chunk) in self._whole or any(
            object_.key == key and first <= chunk < stop for object_, first, stop in self._planned
        )

    async def close(self) -> None:
        """End what is under way; who waits is told."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _exactness(self, object_: CachedObject, chunk: int, length: int) -> tuple[bool, MissReason]:
        """Whether a miss is read by its exact bytes, and what to call it."""
        if not self._keeper.keeps or self._planner.is_exact(object_.key, chunk):
            return True, MissReason.NO_SLOTS
        if self._keeper.has(object_.key, chunk):
            return True, MissReason.NO_SLOTS  # in a slot, on a disk that hangs: the chunk would not get another one
        if (
            length <= min(EXACT_BYTES_MAX, object_.exact_left_bytes)
            and len(self._whole) >= EXACT_PRESSURE_CHUNKS
            and chunk not in object_.exact_touched
        ):
            object_.exact_left_bytes -= length
            object_.exact_touched.add(chunk)
            return True, MissReason.ABSENT
        return False, MissReason.ABSENT

    def _new_whole(self, object_: CachedObject, chunk: int, lane: Hashable) -> Demand:
        start = chunk * CHUNK_BYTES
        demand = Demand(object_, chunk, start, start + object_.chunk_bytes(chunk), lane, is_whole=True)
        self._whole[object_.key, chunk] = demand
        return demand

    def _join(self, flight: Demand, lane: Hashable, waiter: Waiter) -> None:
        if flight.state is State.QUEUED and all(other != lane for other, _ in flight.waiters):
            flight.object.source.demand.push(lane, flight)  # it begins when the first of its lanes has its turn
        flight.waiters.append((lane, waiter))

    def _enqueue(self, lane: Hashable, flight: Demand) -> None:
        source = flight.object.source
        source.demand.push(lane, flight)
        self._waiting_sources.setdefault(source)
        self.wake()

    # --- what is begun --------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._is_woken = False
        for source in list(self._waiting_sources):
            while source.demand and source.running < source.in_flight_max:
                lane, demand = source.demand.pop()
                if demand.state is not State.QUEUED:
                    continue
                run = self._gather(demand)
                if not self._buffers.take(run[-1].stop - run[0].start):
                    self._exact.put_back(each for each in run if not each.is_whole)
                    source.demand.push_first(lane, demand)
                    return
                self._begin(source, run, is_ahead=False)
            if not source.demand:
                del self._waiting_sources[source]
        self._fetch_ahead()

    def _gather(self, demand: Demand) -> list[Demand]:
        """What one request fetches: this, and the neighbours that are wanted too."""
        if not demand.is_whole:
            return self._exact.gather(demand, EXACT_GAP_BYTES, RUN_BYTES_MAX)
        run = [demand]
        for step in (1, -1):
            while len(run) < RUN_CHUNKS_MAX:
                edge = run[-1] if step > 0 else run[0]
                other = self._whole.get((demand.object.key, edge.chunk + step))
                if other is None or other.state is not State.QUEUED:
                    break
                run.insert(len(run) if step > 0 else 0, other)
        return run

    def _begin(self, source: Source, run: list[Demand], *, is_ahead: bool) -> None:
        for demand in run:
            demand.state = State.RUNNING
        source.running += 1
        source.prefetches_running += is_ahead
        task = self._loop.create_task(self._run(source, run, is_ahead))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fetch_ahead(self) -> None:
        """Where nobody waits: fetch what will be asked for. The planner names a run once; what cannot begin yet is
        kept."""
        if not self._keeper.keeps or self._is_closed:
            return
        if not any(self._is_open(object_) for object_, _, _ in self._planned):
            room = int(self._buffers.limit_bytes * PREFETCH_SHARE) - self._buffers.used_bytes
            # What comes ahead of time can wait for the disks: nobody gains from a write that is dropped.
            room = min(room, (self._keeper.room_chunks - len(self._whole)) * CHUNK_BYTES)
            # So do origins that have demand now: what was planned for them stays until they have none.
            room -= sum(stop - first for _, first, stop in self._planned) * CHUNK_BYTES
            if room >= RUN_BYTES_MAX:
                for planned in self._planner.next_fetches(room, self._is_open):
                    self._planned.extend(_split(planned))
        not_now: list[tuple[CachedObject, int, int]] = []
        while self._planned:
            object_, first, stop = self._planned.popleft()
            source = object_.source
            if not self._is_open(object_):
                not_now.append((object_, first, stop))
                continue
            chunks = [chunk for chunk in range(first, stop) if self._is_absent(object_, chunk)]
            if not chunks:
                continue
            if (gap := next((at for at in range(1, len(chunks)) if chunks[at] != chunks[0] + at), None)) is not None:
                self._planned.appendleft((object_, chunks[gap], stop))
                chunks = chunks[:gap]
            size_bytes = sum(map(object_.chunk_bytes, chunks))
            if not self._buffers.take(size_bytes, share=PREFETCH_SHARE):
                self._planned.appendleft((object_, chunks[0], chunks[-1] + 1))
                break
            self._begin(source, [self._new_whole(object_, chunk, None) for chunk in chunks], is_ahead=True)
        self._planned.extendleft(reversed(not_now))

    def _is_absent(self, object_: CachedObject, chunk: int) -> bool:
        return (object_.key, chunk) not in self._whole and not self._keeper.has(object_.key, chunk)

    def _is_open(self, object_: CachedObject) -> bool:
        """Whether something may be fetched ahead from the object's origin now."""
        source = object_.source
        is_full = source.prefetches_running >= source.in_flight_max * PREFETCH_SHARE
        return not (is_full or source in self._waiting_sources or self._is_paused(source))

    def _is_paused(self, source: Source) -> bool:
        return time.monotonic() < self._pauses.get(source, (0.0, 0.0))[0]

    # --- what comes back ------------------------------------------------------------------------------------------

    async def _run(self, source: Source, run: list[Demand], is_ahead: bool) -> None:
        """One request of an origin, and all that follows from its answer."""
        object_, start, stop = run[0].object, run[0].start, run[-1].stop
        held_bytes, is_here = stop - start, False
        try:
            piece = await source.origin.get_range(object_.path, start, stop, etag=object_.etag or None)
            _pin(object_, piece.info.size_bytes, piece.info.etag)
            is_here = True
        except (FastfeedError, OSError) as error:
            self._failed(run, error, source, is_ahead)
            return
        except asyncio.CancelledError:
            self._fail(run, OriginError(f"{object_.url}: the cache daemon is leaving."))
            raise
        finally:
            source.running -= 1
            source.prefetches_running -= is_ahead
            if not is_here:
                self._buffers.give_back(held_bytes)
                # An error that nobody foresaw goes on to the log. Who waits gets an answer all the same, and the next
                # who asks a fetch of its own.
                self._fail([each for each in run if each.state is State.RUNNING], _unforeseen(object_))
            self.wake()
        self._pauses.pop(source, None)
        self._count(run, held_bytes, is_ahead)
        left = _Shares(len(run), lambda: self._buffers.give_back(held_bytes))
        for demand in run:
            self._arrived(demand, piece.data[demand.start - start : demand.stop - start], left.give_back)

    def _arrived(self, demand: Demand, data: memoryview, release: Callable[[], None]) -> None:
        """One chunk, or exact bytes, of an answer. `release`: this part of the answer is not needed any more."""
        if not demand.is_whole:
            self._done(demand)
            _give(demand, data)
            release()
        elif not demand.object.is_right(demand.chunk, data):
            self._wrong(demand)
            release()
        else:
            self._done(demand)
            # Before the waiters are told: what they ask for next finds it.
            self._keeper.keep(demand.object, demand.chunk, data, release)
            _give(demand, data)

    def _wrong(self, demand: Demand) -> None:
        """The origin gave bytes that are not those of the index: ask again, then say so."""
        self._counters.checksum_failures += 1
        demand.failed_checks += 1
        text = (
            f"{demand.object.url}: bytes {demand.start} to {demand.stop} do not have the checksum that the index "
            f"gives, {demand.failed_checks} times in a row. `fastfeed verify` says what else is damaged there."
        )
        self._on_trouble(f"origin {demand.object.source.name}", text)
        if demand.failed_checks >= CHECKS_MAX or not demand.waiters:
            self._fail([demand], CorruptDataError(text))
        else:
            demand.state = State.QUEUED
            self._enqueue(demand.waiters[0][0], demand)

    def _failed(self, run: list[Demand], error: BaseException, source: Source, is_ahead: bool) -> None:
        if is_ahead and not isinstance(error, FileNotFoundError):
            pause_s = min(2 * self._pauses.get(source, (0.0, PREFETCH_PAUSE_S / 2))[1], PREFETCH_PAUSE_S_MAX)
            self._pauses[source] = (time.monotonic() + pause_s, pause_s)
        self._on_trouble(f"origin {source.name}", str(error))
        self._fail(run, error)

    def _fail(self, run: list[Demand], error: BaseException) -> None:
        for demand in run:
            waiters, demand.waiters = demand.waiters, []
            self._done(demand)
            for _, waiter in waiters:
                waiter.failed(error)

    def _done(self, demand: Demand) -> None:
        demand.state = State.DONE
        if demand.is_whole:
            self._whole.pop((demand.object.key, demand.chunk), None)
        else:
            self._exact.discard(demand)

    def _count(self, run: list[Demand], size_bytes: int, is_ahead: bool) -> None:
        if is_ahead:
            self._counters.prefetch_bytes += size_bytes
        else:
            self._counters.demand_bytes += size_bytes
        if not run[0].is_whole:
            self._counters.exact_bytes += size_bytes


def _split(planned: Planned) -> Iterator[tuple[CachedObject, int, int]]:
    """Parts of at most RUN_CHUNKS_MAX chunks: object, first chunk, the one after the last."""
    stop = planned.first_chunk + planned.count
    for first in range(planned.first_chunk, stop, RUN_CHUNKS_MAX):
        yield planned.object, first, min(first + RUN_CHUNKS_MAX, stop)


class _Shares:
    """Calls back when all of `count` parts were given back."""

    def __init__(self, count: int, on_last: Callable[[], None]) -> None:
        self._left, self._on_last = count, on_last

    def give_back(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._on_last()


def _give(demand: Demand, data: memoryview) -> None:
    waiters, demand.waiters = demand.waiters, []
    for _, waiter in waiters:
        at = waiter.offset - demand.start
        waiter.arrived(data[at : at + waiter.length])


def _unforeseen(object_: CachedObject) -> FastfeedError:
    return FastfeedError(f"{object_.url}: the cache daemon failed while it fetched this. Its log says how: report it.")


def _pin(object_: CachedObject, size_bytes: int, etag: str) -> None:
    """The first answer says which version is read from now on. OriginChangedError where this one is of another."""
    if size_bytes != object_.size_bytes:
        raise OriginChangedError(
            f"{object_.url}: has {size_bytes} bytes, and had {object_.size_bytes} when it was opened. It was replaced, "
            "which a shard never is: open the dataset again."
        )
    if object_.etag and etag and etag != object_.etag:
        raise OriginChangedError(
            f"{object_.url}: was replaced while it was read (ETag {etag}, before {object_.etag}). Open it again."
        )
    object_.etag = object_.etag or etag
