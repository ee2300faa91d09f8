"""Writing the tasks of a conversion on this machine, with threads or with processes.

One task is written by one worker from start to end: workers share nothing but the staging folder, and what a task
gives does not depend on who writes it. The caller hands in the tasks that are left, and hears of progress; results
are the records in the staging folder.

Threads where the work is short: processes take 0.6 s to start, in which two threads write half a gigabyte. Reading,
checking, encoding and hashing run without the GIL. Processes where it is long, so that the Python of a source that
parses text runs in parallel too, and a worker that dies is an error and not the end.

Protocol, over one pipe a process. Parent to worker: (task number, items), or None when there are no more; closing
the pipe ends the worker. Worker to parent: Advanced for every batch; Free when it can take another task; Done when one
is recorded, which may be after the next has begun; or Failed. A pipe that ends early means that the worker died: an
error that names it. Workers ignore SIGINT: the parent gets it too, and closes the pipes; a worker in the
middle of a task finds that out when it sends its next message. So a parent that is killed ends its workers too.

Processes start from a fork server that has imported this module once: two are ready after 0.6 s, against 1.0 s with
"spawn" (each imports numpy and pyarrow); plain fork is not safe beside the threads of Arrow and of a progress display.
"""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeAlias

from fastfeed.convert.source import Item
from fastfeed.convert.task import OnAdvance, TaskWork, TaskWriter
from fastfeed.errors import FastfeedError

# How long a worker that was told to end may take before it is killed.
STOP_TIMEOUT_S = 10.0
# Up to this much input, threads are done before processes would have made good for their start.
THREADS_BYTES_MAX = 1 << 30
# The same where the source's own Python takes most of the time: JSON lines cost 32 ms a MiB, so that two processes
# have made good for their start after about 40 MiB.
PYTHON_THREADS_BYTES_MAX = 40 << 20
# How much news may wait for a listener that is slow; then workers wait.
NEWS_MAX = 256

# Task numbers with the items of each.
Tasks: TypeAlias = Sequence[tuple[int, Sequence[Item]]]


class WorkerKind(StrEnum):
    """What works; `auto` chooses by the size of the work."""

    AUTO = "auto"
    THREADS = "threads"
    PROCESSES = "processes"


class Advanced(NamedTuple):
    """A worker has written this much more."""

    rows: int
    size_bytes: int


class Free(NamedTuple):
    """A worker process can take the next task."""


class Done(NamedTuple):
    """A worker has finished its task; the record is in the staging folder."""

    task: int


class Failed(NamedTuple):
    """A worker could not go on; the error has the traceback."""

    error: Exception


News: TypeAlias = Advanced | Free | Done | Failed


def write_tasks(work: TaskWork, tasks: Tasks, workers: int, kind: WorkerKind, on_advance: OnAdvance) -> None:
    """Write each of `tasks`. The first failure ends all and is raised; what is finished by then stays."""
    workers = min(workers, len(tasks))
    if workers <= 1 and kind is not WorkerKind.PROCESSES:
        write_here(work, tasks, on_advance)
    elif kind is WorkerKind.THREADS or (kind is WorkerKind.AUTO and input_bytes(tasks) <= threads_bytes_max(work)):
        write_in_threads(work, tasks, workers, on_advance)
    else:
        write_in_processes(work, tasks, workers, on_advance)


def write_here(work: TaskWork, tasks: Tasks, on_advance: OnAdvance) -> None:
    """Write all tasks in this thread."""
    with closing(TaskWriter(work)) as writer:
        for number, items in tasks:
            writer.write(number, items, on_advance)
        writer.flush()


def threads_bytes_max(work: TaskWork) -> int:
    """Up to how much input threads are done first."""
    return PYTHON_THREADS_BYTES_MAX if work.source.holds_the_gil else THREADS_BYTES_MAX


def input_bytes(tasks: Tasks) -> int:
    """What the items of all tasks say that they have."""
    return sum(item.size_bytes for _, items in tasks for item in items)


# --- threads ---


class _Stopped(Exception):
    """Ends a thread whose work nobody wants any more."""


def write_in_threads(work: TaskWork, tasks: Tasks, count: int, on_advance: OnAdvance) -> None:
    """Hand tasks to threads as they get free. All threads have ended on return."""
    crew = _Crew(work, tasks)
    threads = [threading.Thread(target=crew.work, name=f"convert-{number}", daemon=True) for number in range(count)]
    try:
        for thread in threads:
            thread.start()
        done = 0
        while done < len(tasks):
            match crew.news.get():
                case Advanced(rows, size_bytes):
                    on_advance(rows, size_bytes)
                case Done():
                    done += 1
                case Failed(error):
                    raise error
    finally:
        crew.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


class _Crew:
    """What threads share: the tasks that are left, and what they have to say."""

    def __init__(self, work: TaskWork, tasks: Tasks) -> None:
        self.news: queue.Queue[News] = queue.Queue(NEWS_MAX)
        self._work = work
        self._tasks = iter(tasks)
        self._lock = threading.Lock()  # held to take a task
        self._stopping = False

    def work(self) -> None:
        """The life of a thread."""
        try:
            with closing(TaskWriter(self._work)) as writer:
                while (task := self._next()) is not None:
                    self._done(writer.write(*task, self._advance))
                self._done(writer.flush())
        except _Stopped:
            return
        except Exception as error:  # whatever it is, the caller has to hear of it
            self._tell(Failed(error))

    def stop(self) -> None:
        """End the threads at their next batch."""
        self._stopping = True
        while True:  # a thread that waits for room gets it, and finds out
            try:
                self.news.get_nowait()
            except queue.Empty:
                return

    def _next(self) -> tuple[int, Sequence[Item]] | None:
        with self._lock:
            return None if self._stopping else next(self._tasks, None)

    def _advance(self, rows: int, size_bytes: int) -> None:
        self._tell(Advanced(rows, size_bytes))
        if self._stopping:
            raise _Stopped

    def _done(self, task: int | None) -> None:
        if task is not None:
            self._tell(Done(task))

    def _tell(self, news: News) -> None:
        if not self._stopping:
            self.news.put(news)


# --- processes ---


@dataclass
class Worker:
    """One process, seen by the parent."""

    process: BaseProcess
    pipe: Connection
    task: int = -1  # the one that it is writing


def write_in_processes(work: TaskWork, tasks: Tasks, count: int, on_advance: OnAdvance) -> None:
    """Hand tasks to processes as they get free. All processes have ended on return."""
    waiting = iter(tasks)
    workers: dict[Connection, Worker] = {}
    done = 0
    try:
        for number in range(count):
            worker = start_worker(work, f"convert-{number}")
            workers[worker.pipe] = worker
            give_next(worker, waiting)
        while done < len(tasks):
            for pipe in wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]
                match receive(worker):
                    case Advanced(rows, size_bytes):
                        on_advance(rows, size_bytes)
                    case Free():
                        give_next(worker, waiting)
                    case Done():
                        done += 1
                    case Failed(error):
                        raise error
    finally:
        stop(list(workers.values()))


def start_worker(work: TaskWork, name: str) -> Worker:
    """Start one process that waits for tasks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe()
    process = context.Process(target=worker_main, args=(work, there), name=name, daemon=True)
    process.start()
    there.close()  # the worker's end: once it is the only holder, its death ends the pipe
    return Worker(process, here)


def give_next(worker: Worker, waiting: Iterator[tuple[int, Sequence[Item]]]) -> None:
    """Hand the next task to `worker`, or tell it that there is none."""
    task = next(waiting, None)
    if task is not None:
        worker.task = task[0]
    try:
        worker.pipe.send(None if task is None else (task[0], list(task[1])))
    except BrokenPipeError as error:
        raise death_of(worker) from error


def receive(worker: Worker) -> News:
    """The next message of a worker. FastfeedError where it died."""
    try:
        message: News = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise death_of(worker) from error
    return message


def death_of(worker: Worker) -> FastfeedError:
    """What to say of a worker whose pipe has ended."""
    worker.process.join(STOP_TIMEOUT_S)
    code = worker.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with code {code}"
    return FastfeedError(
        f"worker {worker.process.name} (pid {worker.process.pid}) {how} while it wrote task {worker.task + 1}. "
        "Nothing was committed; what is finished is kept, and the same command goes on from there. "
        "If the system was short of memory, run with fewer --workers."
    )


def stop(workers: Sequence[Worker]) -> None:
    """End all workers: one that waits ends with its pipe, one that writes at its next batch."""
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(STOP_TIMEOUT_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()


def worker_main(work: TaskWork, pipe: Connection) -> None:
    """The life of a worker: tasks until there are no more, or the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pipe:
        try:
            try:
                serve(work, pipe)
            except _Gone:
                return
            except Exception as error:  # whatever it is, the parent has to hear of it
                error.add_note(traceback.format_exc())
                pipe.send(Failed(portable(error)))
            pipe.recv()  # the parent closes the pipe when it needs nobody any more
        except (EOFError, OSError):
            return  # the parent has ended, or has closed our pipe: nobody waits for an answer


class _Gone(Exception):
    """The parent is not there, or wants nothing any more."""


def serve(work: TaskWork, pipe: Connection) -> None:
    """Write the tasks that come through the pipe."""

    def tell(news: News) -> None:
        try:
            pipe.send(news)
        except OSError as error:
            raise _Gone from error

    def next_task() -> tuple[int, Sequence[Item]] | None:
        try:
            task: tuple[int, Sequence[Item]] | None = pipe.recv()
        except (EOFError, OSError) as error:
            raise _Gone from error
        return task

    with closing(TaskWriter(work)) as writer:
        while (task := next_task()) is not None:
            done = writer.write(*task, lambda rows, size_bytes: tell(Advanced(rows, size_bytes)))
            if done is not None:
                tell(Done(done))
            tell(Free())
        if (done := writer.flush()) is not None:
            tell(Done(done))


def portable(error: Exception) -> Exception:
    """`error`, or what it says if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, AttributeError, pickle.PicklingError):
        return FastfeedError(f"{type(error).__name__}: {error}")
    return error
