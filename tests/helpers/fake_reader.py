"""A reader without files: columns that are functions of the row, made when they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastfeed.errors import CorruptDataError, LoaderTimeoutError


class FakeReader:
    """Speaks like `fastfeed._native.feed.Reader`, in the calling thread. Columns: id (int64, the physical row), text
    ("row 7").

    bad_rows: reading a batch with one of them raises CorruptDataError, or, with holes=True, gives a hole.
    slots_held: what pulse() says about them. Set `spent_s` and `idle_s` for what batches say they took.
    """

    spent_s: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    idle_s = 0.0
    is_traced = False

    def __init__(
        self, *, bad_rows: Collection[int] = (), holes: bool = False, slots_held: int = 0, batch_bytes: int = 1000
    ) -> None:
        self._bad_rows, self._holes = frozenset(bad_rows), holes
        self._slots_held, self._batch_bytes = slots_held, batch_bytes
        self._queue: deque[tuple[np.ndarray, np.ndarray]] = deque()
        self.submitted = self.taken = self.cancelled = 0
        self.in_flight_max = 0
        self.is_closed = False

    def submit(
        self, rows: np.ndarray, positions: np.ndarray, seed: int, epoch: int, *, sources: np.ndarray | None = None
    ) -> None:
        self._queue.append((rows.copy(), positions.copy()))
        self.submitted += 1
        self.in_flight_max = max(self.in_flight_max, len(self._queue))

    def next(self, timeout_s: float) -> Any:
        if not self._queue:
            raise LoaderTimeoutError(f"no batch for {timeout_s} s: stage read, shard none, row none")
        return self._made(*self._queue.popleft())

    def take(
        self, rows: np.ndarray, positions: np.ndarray, seed: int, epoch: int, *, sources: np.ndarray | None = None
    ) -> Any:
        self.taken += len(rows)
        return self._made(rows, positions)

    def _made(self, rows: np.ndarray, positions: np.ndarray) -> Any:
        bad = np.isin(rows, list(self._bad_rows))
        if bad.any() and not self._holes:
            raise CorruptDataError(f"row {rows[bad][0]} is bad")
        texts = [b"" if is_bad else f"row {row}".encode() for row, is_bad in zip(rows, bad, strict=True)]
        ragged = SimpleNamespace(values=np.frombuffer(bytearray(b"".join(texts)), np.uint8),
                                 offsets=np.cumsum([0, *map(len, texts)], dtype=np.int64), shapes=None)
        return SimpleNamespace(columns=[np.where(bad, 0, rows), ragged], nulls=[None, None], rows=rows,
                               positions=positions, valid=~bad, whole=not bad.any(), spent_s=self.spent_s)

    def cancel(self) -> None:
        self.cancelled += len(self._queue)
        self._queue.clear()

    def pulse(self) -> Any:
        return SimpleNamespace(batch_bytes=self._batch_bytes, idle_s=self.idle_s, slots_held=self._slots_held)

    def set_trace(self, on: bool) -> None:
        self.is_traced = on

    def take_spans(self) -> list[tuple[str, int, int, int]]:
        return []

    def stats(self) -> dict[str, Any]:
        return {"slots_held": self._slots_held, "io": "pread", "io_choice": "a fake reads nothing",
                "io_bytes": {"cached": 0, "device": 0}, "io_device_reads": 0}

    def close(self) -> None:
        self.is_closed = True
