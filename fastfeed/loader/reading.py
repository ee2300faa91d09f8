"""Batches out of the native reader, with what the reader does not know: their run's key and which rows are padding.

One thread submits, and one at a time pulls. The reader's own mask says which samples could not be read, so padding is
masked here, afterwards: then a hole is told from a padded row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fastfeed.dataset.batch import Batch
from fastfeed.errors import LoaderTimeoutError
from fastfeed.loader.callables import RunKey
from fastfeed.loader.sampler import EpochSampler
from fastfeed.loader.substitute import Substitutes, TakingReader

if TYPE_CHECKING:
    from fastfeed._native.feed import NativeBatch, Pulse


class NativeReader(TakingReader, Protocol):
    """What a loader needs of `fastfeed._native.feed.Reader`."""

    def submit(
        self,
        rows: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        seed: int,
        epoch: int,
        *,
        sources: npt.NDArray[np.int32] | None = None,
    ) -> None: ...
    def next(self, timeout_s: float) -> NativeBatch: ...
    def cancel(self) -> None: ...
    def pulse(self) -> Pulse: ...
    def set_trace(self, on: bool) -> None: ...
    def take_spans(self) -> list[tuple[str, int, int, int]]: ...
    def stats(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


ReaderFactory = Callable[[], NativeReader]


class Wish(NamedTuple):
    """One batch to make. `valid`: False for padding; None: no padding. `physical`: the rows as the native reader counts
    them; None: as `rows`. `sources`: which dataset each is of; None: there is one. `sampler`: gives substitutes."""

    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_] | None
    key: RunKey
    physical: npt.NDArray[np.int64] | None = None
    sources: npt.NDArray[np.int32] | None = None
    sampler: EpochSampler | None = None


class Pulled(NamedTuple):
    """One batch as it was read. `present`: False for holes; None: there are none. `spent_s`: thread-seconds by stage
    of the native reader."""

    batch: Batch
    present: list[bool] | None
    key: RunKey
    spent_s: tuple[float, ...]


class BatchReader:
    """The native reader, speaking in `Wish` and `Pulled`. With `substitutes` no hole is left empty."""

    def __init__(
        self, reader: NativeReader, names: Sequence[str], kinds: Sequence[str], substitutes: Substitutes | None = None
    ) -> None:
        self.reader, self._substitutes = reader, substitutes
        self._names, self._kinds = names, kinds
        self._wishes: deque[Wish] = deque()
        self._bad: deque[int] = deque()

    @property
    def reads_itself(self) -> bool:
        """Whether pull() may read samples in the calling thread, for as long as the storage takes."""
        return self._substitutes is not None

    def submit(self, wish: Wish) -> None:
        """Queue one batch. Never blocks."""
        self._wishes.append(wish)
        rows = wish.rows if wish.physical is None else wish.physical
        self.reader.submit(rows, wish.positions, wish.key.seed, wish.key.epoch, sources=wish.sources)

    def pull(self, timeout_s: float) -> Pulled:
        """The oldest batch that was submitted. What went wrong with it is raised once; then the next one follows."""
        try:
            native = self.reader.next(timeout_s)
        except LoaderTimeoutError:  # it is still on its way
            raise
        except Exception:
            self._wishes.popleft()
            self._bad.append(0)
            raise
        wish = self._wishes.popleft()
        batch = Batch.from_native(native, self._names, self._kinds)
        if wish.physical is not None:
            batch.rows = wish.rows
        if wish.sources is not None:
            batch.source = wish.sources.astype(np.int64)
        present = None if native.whole else batch.valid.tolist()
        self._bad.append(0 if present is None else present.count(False))
        if present is not None and self._substitutes is not None and wish.sampler is not None:
            batch = self._substitutes.fill(batch, wish.sampler, wish.key.seed, wish.key.epoch)
            present = None
        if wish.valid is not None:
            batch.valid &= wish.valid
        return Pulled(batch, present, wish.key, native.spent_s)

    def bad_of_oldest(self) -> int:
        """How many samples of the oldest batch could not be read: asked once for each batch that pull() gave or failed
        for, so that those of batches that are read ahead do not count yet."""
        return self._bad.popleft() if self._bad else 0

    def cancel(self) -> None:
        """Forget what was submitted."""
        self.reader.cancel()
        self._wishes.clear()
        self._bad.clear()
