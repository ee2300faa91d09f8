"""The stage after the native reader: runs the Python callables, in the caller's thread, in threads, or in processes.

Workers are threads of this process. Each takes the oldest batch of the reader, then runs the callables on it, itself or
in a process of its own; `next` hands results out in the order of submission. So at most one batch a worker is in work,
and the number of results that wait is bounded by what was submitted.

Lock order: `_pull_lock` before `_changed`. The first is held while a worker waits for the reader, so that batches are
numbered in the order in which the reader gives them; the second only for bookkeeping.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fastfeed.errors import FastfeedError, LoaderTimeoutError
from fastfeed.loader.callables import Callables
from fastfeed.loader.options import PythonMode
from fastfeed.loader.reading import BatchReader, Pulled, Wish

if TYPE_CHECKING:
    from fastfeed.loader.process import CallableProcess

# How long close() waits for the worker threads. A callable cannot be interrupted, the threads are daemons, and Ctrl-C
# must end a program within a second whatever a callable does.
CLOSE_JOIN_S = 0.3


class Made(NamedTuple):
    """What the loader yields for a batch, and the thread-seconds that it took: as WAIT_STAGES."""

    value: Any
    spent_s: tuple[float, ...]


class Stage(Protocol):
    """Batches in, results out, in order."""

    def submit(self, wish: Wish) -> None:
        """Queue one batch. Never waits."""
        ...

    def next(self, timeout_s: float) -> Made:
        """The result of the oldest batch. Raises its error, once; after LoaderTimeoutError ask for it again."""
        ...

    def cancel(self) -> None:
        """Forget all batches; running work is waited for."""
        ...

    def close(self) -> None:
        """Stop threads and processes, and the reader. Idempotent."""
        ...

    def python_s(self) -> float:
        """Seconds that callables ran, over all workers."""
        ...


class InlineStage:
    """Runs the callables in the thread that asks for a batch."""

    def __init__(self, batches: BatchReader, callables: Callables) -> None:
        self._batches, self._callables = batches, callables
        self._python_s = 0.0

    def submit(self, wish: Wish) -> None:
        self._batches.submit(wish)

    def next(self, timeout_s: float) -> Made:
        batch, present, key, spent_s = self._batches.pull(timeout_s)
        if not self._callables:
            return Made(batch, (*spent_s, 0.0))
        began = time.perf_counter()
        python_s = 0.0
        try:
            value = self._callables.run(batch, key, present)
        finally:
            python_s = time.perf_counter() - began
            self._python_s += python_s
        return Made(value, (*spent_s, python_s))

    def cancel(self) -> None:
        self._batches.cancel()

    def close(self) -> None:
        self._batches.reader.close()

    def python_s(self) -> float:
        return self._python_s


class WorkerStage:
    """Runs the callables in `worker_count` threads or processes, which start at the first batch."""

    def __init__(
        self, batches: BatchReader, callables: Callables, worker_count: int, mode: PythonMode, timeout_s: float
    ) -> None:
        self._batches, self._callables = batches, callables
        self._worker_count, self._timeout_s = worker_count, timeout_s
        self._pid = os.getpid()
        self._pull_lock = threading.Lock()
        self._changed = threading.Condition()
        # All below under _changed.
        self._tickets: deque[int] = deque()  # submitted, not yet pulled
        self._in_work: dict[int, tuple[int, int]] = {}  # pulled, by number: first row and position
        self._results: dict[int, Callable[[], Made]] = {}  # by number: returns the result or raises its error
        self._submitted = self._delivered = 0
        self._busy = 0
        self._late: LoaderTimeoutError | None = None  # the reader's, for a batch that is still on its way
        self._closed = False
        self._python_s = 0.0
        self._threads: list[threading.Thread] = []
        self._processes = _processes(callables, worker_count) if mode is PythonMode.PROCESSES else []

    def submit(self, wish: Wish) -> None:
        self._batches.submit(wish)
        with self._changed:
            self._tickets.append(self._submitted)
            self._submitted += 1
            self._changed.notify_all()
        if not self._threads:
            self._start()

    def next(self, timeout_s: float) -> Made:
        with self._changed:
            number = self._delivered
            if not self._changed.wait_for(lambda: number in self._results or self._late or self._closed, timeout_s):
                raise LoaderTimeoutError(
                    f"no batch for {timeout_s:g} s: {self._place(number)}; {self._busy} of {self._worker_count} "
                    "workers are busy. Raise timeout_s= or python_workers=, or look at what the callables wait for.")
            if self._closed:
                raise FastfeedError("the loader was closed while a batch was waited for.")
            if number not in self._results and self._late is not None:
                late, self._late = self._late, None
                raise late
            result = self._results.pop(number)
            self._delivered += 1
        return result()

    def cancel(self) -> None:
        """Forget everything submitted. Waits for the workers: at most one batch each."""
        with self._changed:
            self._tickets.clear()
            self._delivered = self._submitted  # a worker that still has an older batch keeps it to itself
            self._changed.wait_for(lambda: self._busy == 0, self._timeout_s)
            self._results.clear()
            self._late = None
        self._batches.cancel()

    def close(self) -> None:
        """Stop workers and reader. A forked child only forgets: the threads and processes are its parent's."""
        self._batches.reader.close()
        if self._pid != os.getpid():
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for process in self._processes:
            process.close()
        deadline = time.monotonic() + CLOSE_JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def python_s(self) -> float:
        with self._changed:
            return self._python_s

    def _place(self, number: int) -> str:
        """Where batch `number` is, for a message. Under _changed."""
        if number in self._in_work:
            row, position = self._in_work[number]
            return f"the oldest is in stage python, the batch that begins with row {row} (position {position})"
        if number in self._tickets:
            return "the oldest waits for stage python"
        return "the oldest is with the reader (stages read to place)"

    def _start(self) -> None:
        for number in range(self._worker_count):
            run: Callable[[Pulled], Any] = (
                self._processes[number].run if self._processes else lambda pulled: self._callables.run(
                    pulled.batch, pulled.key, pulled.present))
            thread = threading.Thread(target=self._work, args=(run,), name=f"fastfeed-python-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, run: Callable[[Pulled], Any]) -> None:
        while self._one(run):
            pass

    def _one(self, run: Callable[[Pulled], Any]) -> bool:
        """Make one result; False when the stage was closed."""
        with self._pull_lock:
            with self._changed:
                self._changed.wait_for(lambda: self._tickets or self._closed)
                if self._closed:
                    return False
                number = self._tickets.popleft()
                self._busy += 1
            try:
                pulled = self._batches.pull(self._timeout_s)
            except LoaderTimeoutError as error:  # the batch may still come: its ticket stays the next one
                with self._changed:
                    if number >= self._delivered:
                        self._tickets.appendleft(number)
                        self._late = error
                    self._busy -= 1
                    self._changed.notify_all()
                return True
            except Exception as error:  # it belongs to whoever asks for this batch
                self._finish(number, _raiser(error), 0.0)
                return True
        if len(pulled.batch):
            with self._changed:
                self._in_work[number] = int(pulled.batch.rows[0]), int(pulled.batch.positions[0])
        began = time.perf_counter()
        try:
            value = run(pulled)
            made = Made(value, (*pulled.spent_s, time.perf_counter() - began))
            del pulled, value
            result: Callable[[], Made] = lambda: made  # noqa: E731
        except Exception as error:
            result = _raiser(error)
        self._finish(number, result, time.perf_counter() - began)
        return True

    def _finish(self, number: int, result: Callable[[], Made], python_s: float) -> None:
        with self._changed:
            if number >= self._delivered:
                self._results[number] = result
            self._in_work.pop(number, None)
            self._late = None
            self._busy -= 1
            self._python_s += python_s
            self._changed.notify_all()


def _raiser(error: Exception) -> Callable[[], Made]:
    def raise_it() -> Made:
        raise error

    return raise_it


def make_stage(
    batches: BatchReader, callables: Callables, worker_count: int, mode: PythonMode, timeout_s: float
) -> Stage:
    """Return the stage for `callables`: workers only where there is something for them to do."""
    if worker_count and callables.take_time():
        return WorkerStage(batches, callables, worker_count, mode, timeout_s)
    if worker_count and batches.reads_itself:  # storage may be stuck, and next() has a time limit
        return WorkerStage(batches, callables, 1, PythonMode.THREADS, timeout_s)
    return InlineStage(batches, callables)


def _processes(callables: Callables, count: int) -> list[CallableProcess]:
    # Not before: it brings multiprocessing and subprocess, 20 ms of a process that has no use for them.
    from fastfeed.loader.process import CallableProcess

    return [CallableProcess(callables) for _ in range(count)]
