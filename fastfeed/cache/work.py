"""What a disk's thread does beside filling and reading: checks, trials and probes, shrinking, the watermark.

The pool's owner puts orders into `orders`; the thread works them off in `upkeep`, and puts what it found into the
pool's `results`, which the owner takes up. Both are deques: one side appends, the other pops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from fastfeed._native.cache import SlotInfo, SlotWords
from fastfeed.cache.disk import Disk
from fastfeed.cache.health import FULL_ERRORS
from fastfeed.cache.stats import DiskState

# How long one upkeep works off orders before the disk's thread may do something else.
UPKEEP_BUSY_S = 0.25
# Orders that wait for a disk's next upkeep: more than any disk does in UPKEEP_BUSY_S.
ORDERS_MAX = 2048
# Fenced slots that one probe tries.
PROBED_SLOTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Reservation:
    """A slot that is kept for a chunk until fill() or abandon()."""

    slot: int
    key: bytes
    chunk: int
    length: int
    disk: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A chunk was written, and its slot's word is even."""

    reservation: Reservation
    generation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A chunk could not be written, and its slot's word is odd."""

    reservation: Reservation
    error: OSError


@dataclass(frozen=True, slots=True)
class Proven:
    """A slot was read; `good`: it is what the table says, and its word is even now."""

    slot: int
    good: bool


class Trial(Enum):
    """How a fenced slot did."""

    GOOD = "good"
    BAD = "bad"
    FULL = "full"  # there is no room for it still


@dataclass(frozen=True, slots=True)
class Tried:
    """A fenced slot was written and read again."""

    slot: int
    trial: Trial
    failure: str = ""
    ordered: bool = False  # by the owner; else by a probe


Result = Filled | Failed | Proven | Tried


@dataclass(frozen=True, slots=True)
class Prove:
    """Check a slot's bytes."""

    slot: int
    expected: SlotInfo


@dataclass(frozen=True, slots=True)
class Try:
    """Write a fenced slot, and read it again. The table forgets it first. The slot stays fenced until this has been
    done."""

    slot: int


class DiskWork:
    """One disk's orders, and the numbers that its upkeep needs. `upkeep` blocks, and is the disk's thread's; all else
    is the owner's."""

    def __init__(self, disk: Disk, words: SlotWords, results: deque[Result], clock: Callable[[], float]) -> None:
        self.disk = disk
        self.orders: deque[Prove | Try] = deque()
        # Changed by the owner, looked at by the thread.
        self.fenced_until_s: dict[int, float] = {}
        self.unproven_left = 0  # slots that wait for their check, or are being checked
        self.retired = 0  # slots beyond the target that are in use still
        self._words = words
        self._results = results
        self._clock = clock
        self._synced_at_s = float("-inf")

    def upkeep(self, sync_interval_s: float, day: int, written_today: int) -> None:
        """Probe a disk that is not ok, or do what waits. Failures go to the disk's state."""
        try:
            if self.disk.state is not DiskState.OK:
                if self.disk.health.probe_is_due:
                    self._probe()
                return
            until_s = self._clock() + UPKEEP_BUSY_S
            for _ in range(len(self.orders)):
                order = self.orders.popleft()
                if isinstance(order, Prove):
                    self.prove(order)
                else:
                    self._results.append(replace(self._try(order.slot), ordered=True))
                if self._clock() > until_s:
                    break
            if not self.retired:
                self.disk.trim()
            if self.disk.changed and self._clock() - self._synced_at_s >= sync_interval_s:
                self.sync(day, written_today)
        except OSError:
            pass  # the disk's health has counted it, and its state says it

    def prove(self, order: Prove) -> bool:
        """Check a slot, and say so."""
        good = False
        try:
            good = self.disk.prove(self._words, order.slot, order.expected)
        except OSError:
            pass  # counted; its bytes are of no use
        finally:
            self._results.append(Proven(order.slot, good))
        return good

    def sync(self, day: int, written_today: int) -> None:
        """Move the watermark. OSError."""
        self._synced_at_s = self._clock()
        self.disk.sync(day=day, written_bytes=written_today, keep_watermark=self.unproven_left > 0)

    def _try(self, slot: int) -> Tried:
        if self.disk.index_of(slot) >= self.disk.target:
            return Tried(slot, Trial.GOOD)  # beyond the limit: new ground, should it come back
        try:
            self.disk.forget(slot)
            good = self.disk.try_slot(self._words, slot)
        except OSError as error:
            return Tried(slot, Trial.FULL if error.errno in FULL_ERRORS else Trial.BAD, str(error))
        return Tried(slot, Trial.GOOD) if good else Tried(slot, Trial.BAD, f"slot {slot} does not give back its bytes")

    def _probe(self) -> None:
        """One fenced slot that can be written and read again is enough. A single one that cannot may be a bad sector:
        then other operations decide. Failures of slots count where the disk is well."""
        fenced = list(self.fenced_until_s)[-PROBED_SLOTS_MAX:]
        tried: list[Tried] = []
        for slot in fenced:
            tried.append(self._try(slot))
            if tried[-1].trial is Trial.GOOD:
                break
        failure = tried[-1].failure if tried else ""
        if len(fenced) < 2 and not any(each.trial is Trial.GOOD for each in tried):
            failure = self._look()
        if not failure:
            self._results.extend(tried)
        self.disk.health.probe_went(failure or None)

    def _look(self) -> str:
        try:
            self.disk.look()
        except OSError as error:
            return str(error)
        return ""
