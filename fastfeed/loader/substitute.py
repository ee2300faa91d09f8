"""Other rows in the places of those that cannot be read (on_error="substitute").

The row that takes a place is a function of (seed, epoch, position, attempt): the one at position
xxh3_64(seed, epoch, position, attempt as little-endian u64) mod length of the same epoch, for attempts 0 to 7; in a
mixture, the sample with that number, mod the samples that its source gives in the epoch, of the same source. So every
rank, with any number of threads, takes the same one; steps and positions do not change, and no count enters the state.
Substitutes are marked invalid, since their own positions bring them again. Random transforms see the position of the
place.

Bad samples are rare, so this reads in the thread that pulls batches (a worker's, unless the user wants none) and
patches the arrays of the batch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed.dataset.batch import Batch, Ragged
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import CorruptDataError
from fastfeed.loader.mixture_order import MixtureOrder
from fastfeed.loader.sampler import EpochSampler, Picks, physical_rows

# Eight bad rows in a row are no accident: at 1 % of bad rows it would take 10^16 samples.
SUBSTITUTE_ATTEMPTS = 8


class TakingReader(Protocol):
    """What substitutes need of `fastfeed._native.feed.Reader`, which is one that skips."""

    def take(
        self,
        rows: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        seed: int,
        epoch: int,
        *,
        sources: npt.NDArray[np.int32] | None = None,
    ) -> Any: ...


def substitute_position(seed: int, epoch: int, position: int, attempt: int, length: int) -> int:
    """The position whose row takes the place of the one at `position`, at the given attempt."""
    return int(xxhash.xxh3_64_intdigest(struct.pack("<4Q", seed, epoch, position, attempt)) % length)


def other_position(sampler: EpochSampler, seed: int, epoch: int, position: int, attempt: int) -> int:
    """The same in the epoch of `sampler`; in a mixture, a position of the same source."""
    if not isinstance(sampler, MixtureOrder):
        return substitute_position(seed, epoch, position, attempt, sampler.length)
    source, samples = sampler.source_at(position % sampler.length)
    return sampler.position_of_sample(source, substitute_position(seed, epoch, position, attempt, samples))


class Substitutes:
    """Fills holes of batches. Thread-safe as far as the reader's take() is."""

    def __init__(
        self, reader: TakingReader, datasets: Sequence[Dataset], names: Sequence[str], kinds: Sequence[str]
    ) -> None:
        self._reader, self._datasets = reader, datasets
        self._names, self._kinds = names, kinds

    def fill(self, batch: Batch, sampler: EpochSampler, seed: int, epoch: int) -> Batch:
        """`batch` with another row in each place where `batch.valid` is False; these stay False.

        CorruptDataError where no attempt gives a row that can be read.
        """
        holes = np.flatnonzero(~batch.valid)
        for attempt in range(SUBSTITUTE_ATTEMPTS):
            if len(holes) == 0:
                return batch
            others = np.array([other_position(sampler, seed, epoch, int(position), attempt)
                               for position in batch.positions[holes]], np.int64)
            picks = sampler.picks(others)
            taken = self._take(picks, batch.positions[holes], seed, epoch)
            good = taken.valid
            batch = patched(batch, holes[good], taken, np.flatnonzero(good))
            holes = holes[~good]
        if len(holes) == 0:
            return batch
        hole = int(holes[0])
        raise CorruptDataError(
            f"row {batch.rows[hole]} (position {batch.positions[hole]}) cannot be read, and neither can the "
            f"{SUBSTITUTE_ATTEMPTS} rows that were tried in its place. Run `fastfeed verify` on the dataset.")

    def _take(self, picks: Picks, positions: npt.NDArray[np.int64], seed: int, epoch: int) -> Batch:
        physical = physical_rows(self._datasets, picks)
        native = self._reader.take(picks.rows if physical is None else physical, positions, seed, epoch,
                                   sources=picks.sources)
        taken = Batch.from_native(native, self._names, self._kinds)
        taken.rows = picks.rows
        taken.source = None if picks.sources is None else picks.sources.astype(np.int64)
        return taken


def patched(batch: Batch, places: npt.NDArray[np.int64], other: Batch, numbers: npt.NDArray[np.int64]) -> Batch:
    """`batch` with the samples `numbers` of `other` in `places`. Fixed arrays are changed in place, ragged ones made
    anew; `valid` and `positions` stay."""
    if len(places) == 0:
        return batch
    columns: dict[str, Any] = {}
    for name, column in batch.columns.items():
        if isinstance(column, Ragged):
            columns[name] = _patched_ragged(column, places, other.columns[name], numbers)
        else:
            column[places] = other.columns[name][numbers]
            columns[name] = column
    nulls: Mapping[str, Any] = batch.nulls
    for name, null in nulls.items():
        if null is not None:
            null[places] = np.asarray(other.nulls[name])[numbers]
    batch.rows[places] = other.rows[numbers]
    if batch.source is not None and other.source is not None:
        batch.source[places] = other.source[numbers]
    return Batch(columns, batch.rows, batch.positions, batch.valid, nulls, batch.source)


def _patched_ragged(
    column: Ragged, places: npt.NDArray[np.int64], other: Ragged, numbers: npt.NDArray[np.int64]
) -> Ragged:
    sizes = np.diff(column.offsets)
    sizes[places] = np.diff(other.offsets)[numbers]
    parts = []
    kept_from = 0
    for place, number in zip(places.tolist(), numbers.tolist(), strict=True):
        parts.append(column.values[column.offsets[kept_from] : column.offsets[place]])
        parts.append(other.values[other.offsets[number] : other.offsets[number + 1]])
        kept_from = place + 1
    parts.append(column.values[column.offsets[kept_from] :])
    shapes = column.shapes
    if shapes is not None and other.shapes is not None:
        shapes = shapes.copy()
        shapes[places] = other.shapes[numbers]
    nulls = column.nulls  # of JSON these are not the batch's: a hole's text is missing, too
    if nulls is not None:
        nulls[places] = False if other.nulls is None else other.nulls[numbers]
    return Ragged(np.concatenate(parts), np.concatenate([[0], np.cumsum(sizes)]), shapes, column.kind, nulls)
