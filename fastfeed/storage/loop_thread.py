"""An event loop in a thread of its own, for callers that are not asynchronous.

Starts with the first call and ends with close(), with the last reference, or with the interpreter. Safe for threads; a
forked child gets a ConfigError, for the thread has stayed with its parent.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from fastfeed.errors import ConfigError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for blocking callers."""

    def __init__(self) -> None:
        # Held while the thread is started or ended, never while it works.
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        self._pid = os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end. An interrupt (Ctrl-C) cancels it."""
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work`."""
        if os.getpid() != self._pid:
            work.close()
            raise ConfigError("this connection to a storage belongs to another process. Open the storage in each "
                              "process, and do not fork one that has used an object store: spawn.")  # fmt: skip
        return asyncio.run_coroutine_threadsafe(work, self._started())

    def close(self) -> None:
        """End the thread; what runs in it is cancelled. Idempotent."""
        with self._lock:
            end, self._end, self._loop = self._end, None, None
        if end is not None:
            end()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=_serve, args=(self._loop,), name="fastfeed-origin", daemon=True)
                thread.start()
                self._end = weakref.finalize(self, _stop, self._loop, thread, os.getpid())
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.run_until_complete(_end_tasks())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _end_tasks() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread, pid: int) -> None:
    if os.getpid() == pid and thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()
