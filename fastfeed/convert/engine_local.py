"""Writing the shards of a plan on this machine, with one process or several.

One shard is one task, written by one process from start to end: workers share nothing but the staging
folder, and what a shard holds does not depend on who writes it. The parent hands out tasks, collects
messages, and commits nothing; that is the job's.

Protocol, over one pipe a worker. Parent to worker: (shard number, items); closing the pipe ends the worker.
Worker to parent: Advanced for every batch, then Done or Failed. A pipe that ends without them means that
the worker died: an error that names it. Workers ignore SIGINT: the parent gets it too, and closes the
pipes; a worker in the middle of a shard finds that out when it sends its next message.

Workers start from a fork server that has imported this module once: two workers are ready
after 0.6 s, against 1.0 s with "spawn" (each imports numpy and pyarrow); plain fork is not safe beside the
threads of Arrow and of a progress display.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from fastfeed.convert.encoding import encoded_pieces
from fastfeed.convert.source import Item, Rejected, Source
from fastfeed.errors import FastfeedError
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import Schema
from fastfeed.format.seal import SealedShard
from fastfeed.format.writer import ShardWriter

# How long a worker that was told to end may take before it is killed.
STOP_TIMEOUT_S = 10.0

# Called with (rows, bytes of input) that were written since the last call.
OnAdvance = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ShardWork:
    """What every task of a conversion has in common; sent to each worker once. Pickles."""

    source: Source
    schema: Schema
    check: str = "structure"  # how images are checked
    on_error: str = "stop"
    staging: Path  # the only folder that workers write to; shards are finished in it too


class Advanced(NamedTuple):
    """A worker has written this much more."""

    rows: int
    size_bytes: int


class Done(NamedTuple):
    """A worker has sealed its shard."""

    shard: SealedShard


class Failed(NamedTuple):
    """A worker could not go on; the error has the traceback."""

    error: Exception


def write_shards(
    work: ShardWork, shards: Sequence[Sequence[Item]], workers: int, on_advance: OnAdvance
) -> list[SealedShard]:
    """Write each of `shards` and return them sealed, in order. The first failure ends all and is raised."""
    if workers == 1 or len(shards) <= 1:
        return [write_shard(work, items, on_advance) for items in shards]
    return write_in_processes(work, shards, min(workers, len(shards)), on_advance)


def write_shard(work: ShardWork, items: Sequence[Item], on_advance: OnAdvance) -> SealedShard:
    """Write one shard from start to end in this process."""
    encoder = SampleEncoder(work.schema)
    writer = ShardWriter(work.staging, work.schema)
    try:
        for piece in encoded_pieces(work.source, items, encoder, check=work.check, on_error=work.on_error):
            if not isinstance(piece, Rejected):
                writer.add(piece)
                on_advance(piece.rows, piece.bytes)
        return writer.finish(work.staging)
    except BaseException:
        writer.abort()
        raise


@dataclass
class Worker:
    """One process, seen by the parent."""

    process: BaseProcess
    pipe: Connection
    shard: int = -1  # the one that it is writing


def write_in_processes(
    work: ShardWork, shards: Sequence[Sequence[Item]], worker_count: int, on_advance: OnAdvance
) -> list[SealedShard]:
    """Hand shards to processes as they get free; return them sealed, in order. All processes have ended on return."""
    sealed: dict[int, SealedShard] = {}
    waiting = iter(range(len(shards)))
    workers: dict[Connection, Worker] = {}
    try:
        for number in range(worker_count):
            worker = start_worker(work, f"convert-{number}")
            workers[worker.pipe] = worker
            give_next(worker, waiting, shards)
        while len(sealed) < len(shards):
            for pipe in wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]
                message = receive(worker, len(shards))
                match message:
                    case Advanced(rows, size_bytes):
                        on_advance(rows, size_bytes)
                    case Done(shard):
                        sealed[worker.shard] = shard
                        give_next(worker, waiting, shards)
                    case Failed(error):
                        raise error
    finally:
        stop(list(workers.values()))
    return [sealed[number] for number in range(len(shards))]


def start_worker(work: ShardWork, name: str) -> Worker:
    """Start one process that waits for tasks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe()
    process = context.Process(target=worker_main, args=(work, there), name=name, daemon=True)
    process.start()
    there.close()  # the worker's end: once it is the only holder, its death ends the pipe
    return Worker(process, here)


def give_next(worker: Worker, waiting: Iterator[int], shards: Sequence[Sequence[Item]]) -> None:
    """Hand the next shard to `worker`, if there is one."""
    worker.shard = next(waiting, -1)
    if worker.shard >= 0:
        try:
            worker.pipe.send(list(shards[worker.shard]))
        except BrokenPipeError as error:
            raise death_of(worker, len(shards)) from error


def receive(worker: Worker, shard_count: int) -> Advanced | Done | Failed:
    """The next message of a worker. FastfeedError where it died."""
    try:
        message: Advanced | Done | Failed = worker.pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise death_of(worker, shard_count) from error
    return message


def death_of(worker: Worker, shard_count: int) -> FastfeedError:
    """What to say of a worker whose pipe has ended."""
    worker.process.join(STOP_TIMEOUT_S)
    code = worker.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with code {code}"
    return FastfeedError(
        f"worker {worker.process.name} (pid {worker.process.pid}) {how} while it wrote shard "
        f"{worker.shard + 1} of {shard_count}. Nothing was committed. "
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


def worker_main(work: ShardWork, pipe: Connection) -> None:
    """The life of a worker: tasks until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with pipe:
        try:
            while True:
                pipe.send(result_of(work, pipe.recv(), pipe))
        except (EOFError, OSError):
            return  # the parent has ended, or has closed our pipe: nobody waits for an answer


def result_of(work: ShardWork, items: Sequence[Item], pipe: Connection) -> Done | Failed:
    """Write one shard; what goes wrong becomes a message, with its traceback as a note for --debug."""
    try:
        return Done(write_shard(work, items, lambda rows, size_bytes: pipe.send(Advanced(rows, size_bytes))))
    except Exception as error:  # whatever it is, the parent has to hear of it
        error.add_note(traceback.format_exc())
        return Failed(portable(error))


def portable(error: Exception) -> Exception:
    """`error`, or what it says if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, AttributeError, pickle.PicklingError):
        return FastfeedError(f"{type(error).__name__}: {error}")
    return error
