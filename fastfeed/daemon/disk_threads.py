"""The threads that touch disks: one for each disk and use, so that a disk that hangs stops its own thread only.

Threads of their own instead of an executor: an executor waits for its threads when the process ends, and a hung disk
would keep a daemon from leaving.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

Done = Callable[[Any, BaseException | None], None]


class _Job(NamedTuple):
    work: Callable[[], Any]
    done: Done


class DiskThread:
    """Does what it is given, in order. `submit` and `close` are the loop's; `done` is called in the loop, with what the
    work returned or with the OSError or FastfeedError that it raised."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._finished: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._is_closed = False
        self._begun_s: float | None = None
        self.queued = 0  # submitted and not done, in the loop's eyes
        self._thread = threading.Thread(target=self._run, name=f"fastfeed-{name}", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any], done: Done) -> None:
        """Have the thread do `work`, after what it was given before."""
        self.queued += 1
        with self._wake:
            self._jobs.append(_Job(work, done))
            self._wake.notify()

    async def call(self, work: Callable[[], Any], timeout_s: float) -> Any:
        """The result of `work`. TimeoutError where it takes too long: it goes on, and nobody gets its result."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.submit(work, done)
        async with asyncio.timeout(timeout_s):
            return await future

    def give_up_queued(self) -> list[Done]:
        """Take back what has not begun; the caller says to whom it matters."""
        with self._wake:
            jobs = list(self._jobs)
            self._jobs.clear()
        self.queued -= len(jobs)
        return [job.done for job in jobs]

    @property
    def busy_s(self) -> float:
        """For how long the thread has been at one piece of work; 0.0: it is idle."""
        begun_s = self._begun_s
        return 0.0 if begun_s is None else time.monotonic() - begun_s

    def close(self, timeout_s: float) -> bool:
        """Finish what was submitted, and end. False where the thread does not end in time: its disk hangs."""
        with self._wake:
            self._is_closed = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs:
                    if self._is_closed:
                        return
                    self._wake.wait()
                job = self._jobs.popleft()
            self._begun_s = time.monotonic()
            result: Any = None
            failure: BaseException | None = None
            try:
                result = job.work()
            except Exception as error:  # handed over whole: the loop's side knows what it asked for
                failure = error
            self._begun_s = None
            self._finish(job.done, result, failure)

    def _finish(self, done: Done, result: Any, failure: BaseException | None) -> None:
        with self._wake:
            self._finished.append((done, result, failure))
            is_first = len(self._finished) == 1
        # One wake-up of the loop for all that finish before it comes round.
        if is_first and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._wake:
            finished = list(self._finished)
            self._finished.clear()
        self.queued -= len(finished)
        for done, result, failure in finished:
            try:
                done(result, failure)
            except Exception as error:  # of this one: what others wait for is told to them all the same
                self._loop.call_exception_handler({"message": "a disk's work failed", "exception": error})
