"""How well an order shuffles, and what it asks of storage, as numbers.

Pure: an order's two functions go in, numbers come out; nothing is read. Definitions, and what the numbers are for good
and bad shuffles, are in docs/shuffle-quality.md.

Classes are those of labels, or the worst case is taken: a dataset that is sorted by class. Rows are taken to have one
size, and to lie one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fastfeed.errors import ConfigError

Rows: TypeAlias = npt.NDArray[np.int64]
Shares: TypeAlias = npt.NDArray[np.float64]

CHUNK_BYTES = 1 << 20
# The median batch is that of so many, evenly spread over the epoch.
BATCHES_SAMPLED = 101
# Neighbours whose positions are compared.
PAIRS_SAMPLED = 1 << 16
# All rows are placed for the load: sorting so many takes about two seconds. Of a larger dataset chunks are sampled,
# whole ones.
LOAD_ROWS_MAX, SAMPLE_ROWS = 1 << 24, 1 << 21


@dataclass(frozen=True, slots=True)
class ClassDistance:
    """Total-variation distance of the classes of a batch from those of the dataset, over that of an iid draw."""

    iid: float  # the distance that an iid draw has on average
    first: float  # ratios from here on
    fifth: float
    median: float
    last: float


@dataclass(frozen=True, slots=True)
class NeighbourDistance:
    """How far apart in time rows come that lie side by side in storage."""

    epoch_share: float  # mean, as a part of the epoch; 1/3 in a true shuffle
    median_batches: float
    same_batch: float  # share of neighbours that meet in one batch


@dataclass(frozen=True, slots=True)
class StorageLoad:
    """Needs of chunks: a chunk is *needed anew* where its last use is more than a window ago."""

    windows_per_chunk: float  # how often a chunk is needed anew in an epoch
    window_peak: float | None  # most needs in any window of steps, over the mean; the epoch's beginning included
    steady_peak: float | None  # most needs in a span of steps over the mean, behind the first window; None: no such
    span_steps: int  # one step, or those of a group of the order where that is longer
    chunk_count: int
    is_sample: bool  # chunks were sampled, and peaks are not known


class SortedClasses:
    """The rows of a dataset sorted by `class_count` classes of one size, as far as they divide `row_count`."""

    def __init__(self, row_count: int, class_count: int) -> None:
        if not 1 <= class_count <= row_count:
            raise ConfigError(f"{row_count} rows cannot be sorted by {class_count} classes: take at least one, and at "
                              "most as many as there are rows.")
        self.row_count, self.class_count = row_count, class_count
        # Class c begins at the first row r with floor(r * C / n) = c.
        begins = -(-np.arange(class_count + 1) * row_count // class_count)
        self.shares: Shares = np.diff(begins) / row_count

    def of(self, rows: Rows) -> Rows:
        """The class of each of `rows`, 0 to class_count - 1."""
        return rows * self.class_count // self.row_count


class LabelClasses:
    """The classes that labels tell: one label a row, in the order of rows. Keeps 8 bytes a row."""

    def __init__(self, labels: npt.ArrayLike) -> None:
        values, self._of_row, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
        self.row_count, self.class_count = len(self._of_row), len(values)
        self.shares: Shares = counts / len(self._of_row)

    def of(self, rows: Rows) -> Rows:
        """The class of each of `rows`, 0 to class_count - 1."""
        return self._of_row[rows]


def iid_distance(shares: Shares, batch_size: int) -> float:
    """The mean distance of `batch_size` independent draws from classes of these shares, exactly.

    Half of the sum of E|X/G - p| over classes, X binomial; its mean absolute deviation is De Moivre's closed form.
    """
    return sum(_half_deviation(p, batch_size) for p in shares.tolist() if 0 < p < 1)


def _half_deviation(p: float, batch_size: int) -> float:
    m = math.floor(batch_size * p) + 1
    log_term = (math.lgamma(batch_size + 1) - math.lgamma(m + 1) - math.lgamma(batch_size - m + 1)
                + m * math.log(p) + (batch_size - m + 1) * math.log1p(-p))
    return m * math.exp(log_term) / batch_size


def class_distance(
    rows_of_epoch: list[Callable[[int, int], Rows]], classes: SortedClasses | LabelClasses, batch_size: int
) -> ClassDistance:
    """Ratios to an iid draw, each a mean over epochs. `rows_of_epoch[e](start, stop)`: the rows of these positions."""
    batch_count = classes.row_count // batch_size
    if batch_count == 0:
        raise ConfigError(f"{classes.row_count} rows give no batch of {batch_size}: take a smaller one.")
    spread = sorted({round(at) for at in np.linspace(0, batch_count - 1, BATCHES_SAMPLED)})
    fifth, last = min(4, batch_count - 1), batch_count - 1
    found = []
    for rows in rows_of_epoch:
        distances = {}
        for batch in {0, fifth, last, *spread}:
            members = classes.of(rows(batch * batch_size, (batch + 1) * batch_size))
            shares = np.bincount(members, minlength=classes.class_count) / batch_size
            distances[batch] = float(np.abs(shares - classes.shares).sum() / 2)
        found.append((distances[0], distances[fifth], float(np.median([distances[batch] for batch in spread])),
                      distances[last]))
    iid = iid_distance(classes.shares, batch_size)
    return ClassDistance(iid, *(np.mean(found, axis=0) / max(iid, 1e-12)).tolist())


def neighbour_distance(
    positions_of: Callable[[Rows], Rows], row_count: int, batch_size: int
) -> NeighbourDistance:
    """Of pairs of rows r and r + 1, evenly spread over the dataset. At least two rows."""
    firsts = np.unique(np.linspace(0, row_count - 2, PAIRS_SAMPLED).astype(np.int64))
    one, other = positions_of(firsts), positions_of(firsts + 1)
    apart = np.abs(one - other)
    return NeighbourDistance(epoch_share=float(apart.mean() / row_count),
                             median_batches=float(np.median(apart) / batch_size),
                             same_batch=float((one // batch_size == other // batch_size).mean()))


def storage_load(
    positions_of: Callable[[Rows], Rows], row_count: int, row_bytes: int, window_rows: int, group_rows: int,
    batch_size: int,
) -> StorageLoad:
    """Needs of chunks of 1 MiB. `window_rows`, `group_rows`: positions of a window and of a group of the order."""
    chunk_count = -(-row_count * row_bytes // CHUNK_BYTES)
    rows_per_chunk = CHUNK_BYTES // row_bytes + 2
    is_sample = row_count > LOAD_ROWS_MAX
    if is_sample:
        sampled = max(1, SAMPLE_ROWS // rows_per_chunk)
        chunks = np.unique(np.linspace(0, chunk_count - 1, sampled).astype(np.int64))
    else:
        chunks = np.arange(chunk_count)
    needs = chunk_needs(positions_of, row_count, row_bytes, min(window_rows, row_count), chunks)
    span_steps = -(-min(group_rows, row_count) // batch_size)
    window_peak = steady_peak = None
    if not is_sample:
        window_peak = _peak_of_any_window(needs, row_count, min(window_rows, row_count))
        steady_peak = _peak_behind(needs, row_count, window_rows, span_steps * batch_size)
    return StorageLoad(windows_per_chunk=len(needs) / len(chunks), window_peak=window_peak, steady_peak=steady_peak,
                       span_steps=span_steps, chunk_count=chunk_count, is_sample=is_sample)


def chunk_needs(
    positions_of: Callable[[Rows], Rows], row_count: int, row_bytes: int, window_rows: int, chunks: Rows | None = None
) -> Rows:
    """The positions, ascending, at which any of `chunks` (None: all) is needed anew. Takes 16 bytes a row of theirs."""
    if chunks is None:
        chunks = np.arange(-(-row_count * row_bytes // CHUNK_BYTES))
    firsts = chunks * CHUNK_BYTES // row_bytes
    lasts = np.minimum((chunks * CHUNK_BYTES + CHUNK_BYTES - 1) // row_bytes, row_count - 1)
    counts = lasts - firsts + 1
    # One entry for each chunk and row in it: key = chunk's number * n + position.
    owner = np.repeat(np.arange(len(chunks)), counts)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    keys = owner * row_count + positions_of(firsts[owner] + offset)
    keys.sort()
    owner, positions = np.divmod(keys, row_count)
    anew = np.ones(len(keys), np.bool_)
    anew[1:] = (owner[1:] != owner[:-1]) | (positions[1:] - positions[:-1] > window_rows)
    return np.sort(positions[anew])


def _peak_of_any_window(needs: Rows, row_count: int, window_rows: int) -> float:
    """Most needs in any window over the mean, epoch after epoch."""
    twice = np.concatenate([needs, needs + row_count])
    in_window = np.searchsorted(twice, needs + window_rows) - np.arange(len(needs))
    return float(in_window.max() / (len(needs) * window_rows / row_count))


def _peak_behind(needs: Rows, row_count: int, window_rows: int, span: int) -> float | None:
    """Most needs in spans of `span` positions behind the first window, over the epoch's mean; None: no span fits."""
    span_count = (row_count - window_rows) // span
    if span_count < 1:
        return None
    start = row_count - span_count * span
    counts = np.bincount((needs[needs >= start] - start) // span, minlength=span_count)
    return float(counts.max() / (len(needs) * span / row_count))
