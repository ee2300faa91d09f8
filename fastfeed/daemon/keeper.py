"""Between fetches and slots: what was fetched is written as far as disks keep up, and read again where a client asks.

Each disk has threads of its own for writing, for reading, and for upkeep; the event loop never waits for any of them. A
write that finds its disk's queue full, or too much memory waiting for disks, is dropped and counted: the cache has one
chunk less, and nobody waits. While a chunk is being written, whoever asks gets it from memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fastfeed.cache.policy_evictor import FutureEvictor
from fastfeed.cache.pool import Located, Pool, Reservation
from fastfeed.cache.stats import DiskState, EvictReason
from fastfeed.daemon.counters import DropReason, FetchCounters
from fastfeed.daemon.disk_threads import DiskThread
from fastfeed.daemon.objects import CachedObject
from fastfeed.errors import CorruptDataError

# What a thread that hangs in a disk is waited for when the daemon leaves.
CLOSE_TIMEOUT_S = 5.0
# Who waits for a disk's bytes goes to the origin after so long: 1 MiB takes a busy spinning disk 50 ms, and readers
# have waited for the same disk before they ask.
SLOW_DISK_S = 0.5


class GivenUpError(OSError):
    """A disk hangs: what waited for it was taken back."""


class _Threads(NamedTuple):
    writer: DiskThread
    reader: DiskThread
    upkeep: DiskThread


class Keeper:
    """Of one pool, whose owner is the loop's thread. queue_max: chunks that wait for one disk; held_bytes_max: of all
    disks, in bytes; both asked for each time, as a reload may change them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        evictor: FutureEvictor,
        counters: FetchCounters,
        queue_max: Callable[[], int],
        held_bytes_max: Callable[[], int],
    ) -> None:
        self._pool, self._evictor, self._counters = pool, evictor, counters
        self._queue_max, self._held_bytes_max = queue_max, held_bytes_max
        self._arriving: dict[tuple[bytes, int], memoryview] = {}
        self._held_bytes = 0
        self._loop = loop
        self._proofs: dict[int, asyncio.Future[None]] = {}
        self._threads = {
            disk.name: _Threads(*(DiskThread(loop, f"{use}-{disk.name}") for use in ("write", "read", "upkeep")))
            for disk in pool.options.disks
        }

    @property
    def keeps(self) -> bool:
        """Whether the pool has a place for chunks at all."""
        return self._pool.limit_bytes > 0

    def find(self, key: bytes, chunk: int) -> Located | None:
        """The slot of a chunk."""
        return self._pool.find(key, chunk)

    def arriving(self, key: bytes, chunk: int) -> memoryview | None:
        """The bytes of a chunk that is being written."""
        return self._arriving.get((key, chunk))

    def has(self, key: bytes, chunk: int) -> bool:
        """Whether the chunk is in a slot, or about to be in one."""
        return (key, chunk) in self._arriving or self._evictor.holds(key, chunk)

    @property
    def is_idle(self) -> bool:
        """Whether no disk has anything to do for clients."""
        return not any(threads.writer.queued or threads.reader.queued for threads in self._threads.values())

    def queued(self, disk: str) -> int:
        """Chunks that wait for this disk."""
        return self._threads[disk].writer.queued

    @property
    def room_chunks(self) -> int:
        """So many more may be given to the disks before a write is dropped, if all go to the busiest one."""
        queues = [threads.writer.queued for threads in self._threads.values()]
        return max(0, self._queue_max() - max(queues)) if queues else 0

    @property
    def is_behind(self) -> bool:
        """Whether a disk has half of the writes waiting that may wait for it."""
        return any(2 * threads.writer.queued >= self._queue_max() for threads in self._threads.values())

    def keep(self, object_: CachedObject, chunk: int, data: memoryview, release: Callable[[], None]) -> None:
        """Write a chunk, if the pool wants it and its disk keeps up. `release` is called when `data` is not needed any
        more, at once or later."""
        reservation = self._reserve(object_, chunk, len(data)) if self.keeps else None
        if reservation is None:
            release()
            return
        self._arriving[object_.key, chunk] = data
        self._held_bytes += len(data)
        self._threads[reservation.disk].writer.submit(
            lambda: self._pool.fill(reservation, data),
            lambda result, error: self._written(reservation, error, release),
        )

    def _reserve(self, object_: CachedObject, chunk: int, length: int) -> Reservation | None:
        """A slot for a chunk, on a disk that keeps up. What the pool does not want, it counts with its reason."""
        if self._evictor.gone(object_.key, chunk) is not None:
            self._counters.refetches += 1
        if self._held_bytes + length > self._held_bytes_max():
            self._counters.drops[DropReason.DISK_BUSY] += 1
            return None
        # A full queue is said beforehand: a reservation that is given back has emptied another chunk's slot already.
        busy = [name for name, threads in self._threads.items() if threads.writer.queued >= self._queue_max()]
        return self._pool.reserve(object_.key, chunk, length, busy)

    async def read(self, object_: CachedObject, chunk: int, offset: int, length: int) -> bytes | None:
        """Verified bytes of a slot; None: the chunk is in none any more. TimeoutError: its disk is slow, or hangs;
        CorruptDataError, OSError: the slot is out of use now."""
        located = self._pool.find(object_.key, chunk)
        if located is None:
            return None
        reader = self._threads[located.disk].reader
        if reader.busy_s > SLOW_DISK_S:
            raise TimeoutError(f"disk {located.disk} has been at one read for {reader.busy_s:.1f} s")
        try:
            data: bytes | None = await reader.call(
                lambda: self._pool.read(located, object_.key, chunk, offset, length), SLOW_DISK_S
            )
        except (CorruptDataError, OSError) as error:
            self._blame(located, error)
            raise
        return data

    async def check(self, object_: CachedObject, chunk: int, located: Located, timeout_s: float) -> None:
        """A client says that a slot's bytes are bad: look ourselves, and take the slot out of use if they are."""
        try:
            data = await self._threads[located.disk].reader.call(
                lambda: self._pool.read(located, object_.key, chunk, 0, located.length), timeout_s
            )
        except (CorruptDataError, OSError) as error:
            self._blame(located, error)
        else:
            if data is not None and not object_.is_right(chunk, data):
                self._pool.quarantine(located.slot, located.entry)

    def _blame(self, located: Located, error: CorruptDataError | OSError) -> None:
        """A slot could not be read. One whose disk only takes its time (TimeoutError is an OSError) stays: that the
        disk hangs is seen by its health."""
        if not isinstance(error, TimeoutError | GivenUpError):
            reason = EvictReason.DISK if isinstance(error, OSError) else EvictReason.BAD_BYTES
            self._pool.quarantine(located.slot, located.entry, reason)

    async def prove(self, key: bytes, chunk: int, timeout_s: float) -> None:
        """After a power loss: check a slot that nobody has checked yet, and that has this chunk. Returns when it has
        been checked, or takes too long."""
        slot = self._pool.unproven(key, chunk)
        if slot is None:
            return
        proof = self._proofs.get(slot) or self._begin_proof(slot)
        if proof is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(proof)

    def _begin_proof(self, slot: int) -> asyncio.Future[None] | None:
        """Have a slot checked; done when it has been, or when its disk hangs. None: there is nothing to check."""
        disk = self._pool.begin_proof(slot)
        if disk is None:
            return None
        proof = self._proofs[slot] = self._loop.create_future()

        def done(result: object, error: BaseException | None) -> None:
            del self._proofs[slot]
            proof.set_result(None)
            if isinstance(error, GivenUpError):
                self._pool.abandon_proof(slot)
            elif error is not None:
                raise error

        self._threads[disk].reader.submit(lambda: self._pool.prove(slot), done)
        return proof

    def is_unproven(self, key: bytes, chunk: int) -> bool:
        """Whether a slot that has this chunk waits for its check."""
        return self._pool.unproven(key, chunk) is not None

    def tick(self) -> None:
        """About once a second: states of disks, and what their upkeep needs."""
        self._pool.tick()
        states = self._pool.disk_states()
        for name, threads in self._threads.items():
            if states.get(name) is DiskState.OUT:
                error = GivenUpError(f"disk {name} does not answer")
                for done in (*threads.writer.give_up_queued(), *threads.reader.give_up_queued()):
                    done(None, error)
            if not threads.upkeep.queued:
                threads.upkeep.submit(lambda name=name: self._pool.upkeep(name), _ignore)  # type: ignore[misc]

    def close(self) -> bool:
        """Finish what waits for disks, and end the threads. Blocks. False where a disk hangs: the pool stays open."""
        ended = [thread.close(CLOSE_TIMEOUT_S) for threads in self._threads.values() for thread in threads]
        return all(ended)

    def _written(self, reservation: Reservation, error: BaseException | None, release: Callable[[], None]) -> None:
        data = self._arriving.pop((reservation.key, reservation.chunk))
        self._held_bytes -= len(data)
        release()
        if isinstance(error, GivenUpError):
            self._pool.abandon(reservation)
            self._counters.drops[DropReason.DISK_OUT] += 1
        elif error is not None:
            self._pool.abandon(reservation)
            raise error
        self._pool.settle()


def _ignore(result: Any, error: BaseException | None) -> None:
    """For work whose failures are seen elsewhere."""
    if error is not None:
        raise error
