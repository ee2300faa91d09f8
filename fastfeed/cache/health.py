"""Whether a disk is believed. Pure: told of operations and probes, asked for the state; the clock is an argument.

ok -> suspect: an operation failed. No new slots; what is there is still read, as one bad sector is no bad disk.
suspect -> ok: a probe went well. suspect -> out: `failed_probes_max` in a row did not, or `failed_operations_max` other
operations with none between that went well: so many bad sectors in a row are a bad disk.
any -> out: an operation takes longer than `operation_timeout_s`: who reads there would wait as long.
out -> ok: a probe went well, and nothing hangs any more.

Thread-safe: operations are told of by the disk's threads, the state is asked for by the pool's.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastfeed.cache.options import HealthOptions
from fastfeed.cache.stats import DiskState

# No room: the disk is well, and one slot is not to be had.
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
# A disk that fails again so soon after a good probe waits longer for the next one.
RELAPSE_S = 60.0
# fdatasync writes everything that was filled since the last one: gigabytes, where others move a megabyte.
SYNC_PATIENCE = 24


class DiskHealth:
    """One disk's state, and why."""

    def __init__(self, options: HealthOptions, clock: Callable[[], float]) -> None:
        self._options = options
        self._clock = clock
        # Held for a few assignments only, never across I/O.
        self._lock = threading.Lock()
        self._state = DiskState.OK
        self.reason = ""
        self.errors = 0
        self.full_errors = 0
        self._failed_probes = 0
        self._failed_in_a_row = 0
        self._probe_at_s = 0.0
        self._probe_after_s = options.probe_after_s
        self._well_since_s = -RELAPSE_S
        # Number -> when the operation would be late, when it began, what it is.
        self._running: dict[int, tuple[float, float, str]] = {}
        self._next_operation = 0

    @property
    def state(self) -> DiskState:
        """The state now: an operation that hangs is seen here."""
        with self._lock:
            first = min(self._running.values(), default=None)
            if first is not None and self._state is not DiskState.OUT:
                late_at_s, begun_s, what = first
                if (now_s := self._clock()) > late_at_s:
                    self.errors += 1
                    self._leave(DiskState.OUT, f"{what} takes {now_s - begun_s:.1f} s already")
            return self._state

    @contextmanager
    def operation(self, what: str, *, accuses: bool = True, patience: int = 1) -> Iterator[None]:
        """Around every operation on the disk: its duration is watched, and an OSError counts and goes on.

        `accuses` False: a failure says nothing of the disk that was not known, as of a slot that failed before.
        `patience`: it may take so many times as long as others.
        """
        with self._lock:
            number = self._next_operation = self._next_operation + 1
            now_s = self._clock()
            self._running[number] = (now_s + patience * self._options.operation_timeout_s, now_s, what)
        try:
            yield
        except OSError as error:
            with self._lock:
                self.errors += 1
                if error.errno in FULL_ERRORS:
                    self.full_errors += 1
                elif accuses:
                    self._accuse(f"{what}: {error}")
            raise
        else:
            with self._lock:
                self._failed_in_a_row = 0
        finally:
            with self._lock:
                del self._running[number]

    @property
    def probe_is_due(self) -> bool:
        """Whether a disk that is not ok is to be probed now. Never while an operation hangs."""
        with self._lock:
            now_s = self._clock()
            hangs = any(now_s > late_at_s for late_at_s, _, _ in self._running.values())
            return self._state is not DiskState.OK and not hangs and now_s >= self._probe_at_s

    def probe_went(self, failure: str | None) -> None:
        """A probe ended: None: well."""
        with self._lock:
            now_s = self._clock()
            if failure is None:
                self._state, self.reason, self._failed_probes = DiskState.OK, "", 0
                self._well_since_s = now_s
                return
            self._failed_probes += 1
            self._probe_after_s = min(2 * self._probe_after_s, self._options.probe_interval_s_max)
            self._probe_at_s = now_s + self._probe_after_s
            self.reason = failure
            if self._failed_probes >= self._options.failed_probes_max:
                self._state = DiskState.OUT

    def _accuse(self, reason: str) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._options.failed_operations_max and self._state is not DiskState.OUT:
            self._leave(DiskState.OUT, reason)
        elif self._state is DiskState.OK:
            self._leave(DiskState.SUSPECT, reason)

    def _leave(self, state: DiskState, reason: str) -> None:
        now_s = self._clock()
        if self._state is DiskState.OK:
            relapse = now_s - self._well_since_s < RELAPSE_S
            self._probe_after_s = (
                min(2 * self._probe_after_s, self._options.probe_interval_s_max)
                if relapse
                else self._options.probe_after_s
            )
            self._failed_probes = 0
            self._probe_at_s = now_s + self._probe_after_s
        self._state, self.reason = state, reason
