"""An origin that keeps to limits and tries again: what everybody above the origins uses.

A request passes these stations, in this order:
 1. The gate: at most `in_flight_max` requests are between here and their end. Waiting here has no limit of its own;
    who asks decides how long (cancelling is fine at any point). From here on the deadline runs.
 2. The pace: bytes of all requests together, at `bytes_per_s_max`.   3. The pause: while the origin has said
    Retry-After, nobody asks it.   4. One attempt, with its own time limit.
 5. A failure that another attempt may mend: wait (twice as long each time, random, spaced over all requests), then
    from 2 again, until attempts or the deadline are used up: OriginError with what the last attempt met.
Anything else that an attempt raises is the answer.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fastfeed.errors import OriginError
from fastfeed.storage.failures import TransientOriginError
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.pacing import Gate, Pace
from fastfeed.storage.protocol import RANGE_BYTES_MAX, Listed, ObjectInfo, Origin, Piece

T = TypeVar("T")
# Upper bounds of the classes in which answers' times are counted: from a loopback server to a deadline.
LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# A dataset of ten million shards is 20 times the largest that we know how to open.
LISTED_MAX = 10_000_000
# Whoever waited for a pause comes back over a tenth of it more, not all in the same moment.
PAUSE_JITTER = 0.1
# A longer Retry-After is a mistake, or an outage that nobody can foretell: then it is asked again.
PAUSE_S_MAX = 300.0


@dataclass(slots=True)
class OriginCounters:
    """What one origin has cost since the start. latency_counts: attempts with an answer, by LATENCY_BOUNDS_S, and one
    more class for those above."""

    requests: int = 0
    attempts: int = 0
    retries: int = 0
    throttled: int = 0
    timeouts: int = 0
    failures: int = 0  # requests that ended in an error, after all attempts
    read_bytes: int = 0
    written_bytes: int = 0
    latency_s: float = 0.0
    latency_counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))

    def answered(self, seconds: float) -> None:
        self.latency_s += seconds
        self.latency_counts[sum(seconds > bound for bound in LATENCY_BOUNDS_S)] += 1


class SteadyOrigin:
    """Wraps `inner`, whose methods make one attempt each. For one event loop. `counters` may be read at any time."""

    def __init__(
        self,
        inner: Origin,
        options: OriginOptions,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.inner = inner
        self.counters = OriginCounters()
        self._options = options
        self._now, self._sleep, self._chance = now, sleep, chance
        self._gate = Gate(options.in_flight_max)
        self._byte_pace = Pace(options.bytes_per_s_max)
        self._retry_pace = Pace(options.retries_per_s)
        self._paused_until_s = 0.0

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def in_flight(self) -> int:
        return self._gate.inside

    @property
    def waiting(self) -> int:
        """Requests at the gate."""
        return self._gate.waiting

    def set_limits(self, options: OriginOptions) -> None:
        """Use the limits, times and retries of `options` from the next attempt on; the rest of it is not looked at."""
        self._options = options
        self._gate.set_limit(options.in_flight_max)
        self._byte_pace.per_s = options.bytes_per_s_max
        self._retry_pace.per_s = options.retries_per_s

    async def head(self, path: str) -> ObjectInfo:
        return await self._request(f"HEAD {path}", lambda: self.inner.head(path))

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        if not 0 <= start < stop <= start + RANGE_BYTES_MAX:
            raise ValueError(f"{path}: bytes {start} to {stop} are no range of 1 to {RANGE_BYTES_MAX} bytes")
        piece = await self._request(
            f"GET {path} [{start}:{stop}]",
            lambda: self.inner.get_range(path, start, stop, etag=etag),
            transfer_bytes=stop - start,
        )
        self.counters.read_bytes += stop - start
        return piece

    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        for each in await self._request(f"LIST {prefix}", lambda: self._listing(prefix, recursive), timed=False):
            yield each

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        # One tag for all attempts: the second finds what the first, whose answer was lost, has made.
        tag = tag or (secrets.token_hex(8) if if_absent else "")
        await self._request(
            f"PUT {path}",
            lambda: self.inner.put(path, data, if_absent=if_absent, tag=tag),
            transfer_bytes=len(data),
        )
        self.counters.written_bytes += len(data)

    async def delete(self, path: str) -> None:
        await self._request(f"DELETE {path}", lambda: self.inner.delete(path))

    async def close(self) -> None:
        await self.inner.close()

    async def _listing(self, prefix: str, recursive: bool) -> Sequence[Listed]:
        """A whole listing in one attempt, as a page that fails has no other continuation. Each line has the time limit,
        all together have none: a thousand pages take longer than any deadline of a request."""
        found: list[Listed] = []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._options.timeout_s) as limit:
            async for each in self.inner.list(prefix, recursive=recursive):
                found.append(each)
                if len(found) > LISTED_MAX:
                    raise OriginError(
                        f"{self.url}/{prefix}: has more than {LISTED_MAX} objects: is it a dataset's folder?"
                    )
                limit.reschedule(loop.time() + self._options.timeout_s)
        return found

    async def _request(
        self, what: str, attempt: Callable[[], Awaitable[T]], *, transfer_bytes: int = 0, timed: bool = True
    ) -> T:
        self.counters.requests += 1
        try:
            async with self._gate:
                return await self._attempts(what, attempt, transfer_bytes, timed)
        except (OriginError, OSError) as error:
            if not isinstance(error, FileNotFoundError | FileExistsError):  # these are answers
                self.counters.failures += 1
            raise

    async def _attempts(self, what: str, attempt: Callable[[], Awaitable[T]], transfer_bytes: int, timed: bool) -> T:
        begun_s = await self._paced(transfer_bytes)
        deadline_s = begun_s + self._options.deadline_s
        tried = 0
        while True:
            try:
                await self._pause(deadline_s)
                tried += 1
                return await self._attempt(attempt, transfer_bytes, deadline_s if timed else None)
            except TransientOriginError as error:
                wait_s = self._wait_s(error, tried)
                if not 0 < tried <= self._options.retries_max or self._now() + wait_s >= deadline_s:
                    raise self._gave_up(what, tried, self._now() - begun_s, error) from error
            self.counters.retries += 1
            await self._sleep(wait_s)
            await self._paced(transfer_bytes)

    async def _paced(self, transfer_bytes: int) -> float:
        """Wait for the pace of bytes; return the time then. No fault of the origin's: the deadline begins after it."""
        if (wait_s := self._byte_pace.reserve(transfer_bytes, self._now())) > 0:
            try:
                await self._sleep(wait_s)
            except asyncio.CancelledError:
                self._byte_pace.give_back(transfer_bytes)
                raise
        return self._now()

    async def _pause(self, deadline_s: float) -> None:
        """Wait for the end of the pause that the origin has asked for, of whomever."""
        while (wait_s := self._paused_until_s - self._now()) > 0:
            if self._now() + wait_s >= deadline_s:
                raise TransientOriginError("it has asked for a pause", throttled=True, retry_after_s=wait_s)
            await self._sleep(wait_s * (1 + PAUSE_JITTER * self._chance()))

    async def _attempt(self, attempt: Callable[[], Awaitable[T]], transfer_bytes: int, deadline_s: float | None) -> T:
        self.counters.attempts += 1
        limit_s = None
        if deadline_s is not None:
            wanted_s = self._options.timeout_s + transfer_bytes / self._options.slow_bytes_per_s
            limit_s = min(wanted_s, deadline_s - self._now())
        begun_s = self._now()
        try:
            async with asyncio.timeout(limit_s):
                result = await attempt()
        except TimeoutError as error:
            self.counters.timeouts += 1
            raise TransientOriginError(f"no whole answer in {self._now() - begun_s:.1f} s") from error
        except TransientOriginError as error:
            if error.throttled:
                self.counters.throttled += 1
                pause_s = min(error.retry_after_s, PAUSE_S_MAX)
                self._paused_until_s = max(self._paused_until_s, self._now() + pause_s)
            raise
        self.counters.answered(self._now() - begun_s)
        return result

    def _wait_s(self, error: TransientOriginError, tried: int) -> float:
        """Before the next attempt: at least what the origin asks for; random, so that those who failed together do not
        come back together; in line with the retries of all other requests."""
        longest_s = min(self._options.backoff_s * 2.0 ** (tried - 1), self._options.backoff_s_max)
        wait_s: float = max(longest_s * (1 + self._chance()) / 2, error.retry_after_s)
        return wait_s + self._retry_pace.reserve(1, self._now())

    def _gave_up(self, what: str, tried: int, seconds: float, error: TransientOriginError) -> OriginError:
        asked = f" It asks to be left alone for {error.retry_after_s:.0f} s." if error.retry_after_s else ""
        return OriginError(
            f"{self.url}: {what} failed {tried} times in {seconds:.1f} s; the last time: {error}.{asked} "
            "Is the storage up, and reachable from this machine? The limits are the options retries_max "
            f"({self._options.retries_max}) and deadline_s ({self._options.deadline_s:g})."
        )
