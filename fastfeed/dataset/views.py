"""Views of a dataset: small frozen steps that are applied one after the other to the rows of a snapshot.

A step is what a view pickles as; from the snapshot and its steps any process makes the same rows again. Steps know
nothing of each other: each turns a `RowMap` into another. Rows that a snapshot has and that were deleted are no step:
they are missing in the map that the first step is given.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed._native.selection import Selection, split_mask
from fastfeed.dataset.lanes import lane_schema, read_lanes
from fastfeed.dataset.row_map import LIST_SHARE, Mask, RowMap, Rows, composed, kept, picked, sliced, spans
from fastfeed.dataset.shards import ShardEntry
from fastfeed.dataset.windows import Window
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema

# Hashes of a split are below this; so are the thresholds between its parts, and the last threshold is it.
SPLIT_LIMIT = 1 << 63
# Decimal fractions that people write down miss 1 by less than this.
FRACTIONS_TOLERANCE = 1e-9
_SEED_MAX = 2**64 - 1
# Windows of a stream belong to no shard: their hash is that of the window's number under this uid.
_WINDOWS_UID = bytes(16)

GivenRows = Sequence[int] | npt.ArrayLike | slice | range | Selection
Tests = Iterator[tuple[int, int, Callable[[], Mask]]]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The snapshot that steps read lanes and uids from. `rows`: physical rows (documents, or windows)."""

    shards: Sequence[ShardEntry]
    schema: AnySchema
    window: Window | None
    rows: int


class Step(Protocol):
    """One step of a view; pickles."""

    def apply(self, base: RowMap, source: Source) -> RowMap:
        """The rows that are left of `base`. May read lanes: CorruptDataError, OSError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """Rows by their numbers in the view below: a range, a set (Selection), or a list in an order of its own."""

    rows: range | Selection | Rows

    def apply(self, base: RowMap, source: Source) -> RowMap:
        if isinstance(self.rows, range):
            return sliced(base, self.rows)
        if isinstance(self.rows, Selection):
            return composed(base, self.rows)
        return picked(base, self.rows)

    def __str__(self) -> str:
        return f"select({self.rows})" if isinstance(self.rows, range) else f"select({len(self.rows)} rows)"


@dataclass(frozen=True, slots=True)
class Filter:
    """The rows for which an expression over lanes is true."""

    expression: str

    def apply(self, base: RowMap, source: Source) -> RowMap:
        if source.window is not None:
            raise ConfigError(f"filter({self.expression!r}) of windows: a window has no lanes, only documents have. "
                              "Select windows by their numbers instead.")  # fmt: skip
        # Not before: it brings pyarrow.compute, 30 ms of a process that filters nothing.
        from fastfeed.dataset.expression import Expression

        compiled = Expression(self.expression, source.schema)
        lanes = lane_schema(source.schema)

        def test(shard: ShardEntry) -> Mask:
            batch = read_lanes(shard, lanes)
            return compiled.evaluate(batch or pa.RecordBatch.from_pylist([{}] * shard.rows))

        return kept(base, _by_shard(source, test))

    def __str__(self) -> str:
        return f"filter({self.expression!r})"


@dataclass(frozen=True, slots=True)
class Split:
    """The rows whose hash is in [low, high): one part of a split."""

    name: str
    seed: int
    low: int
    high: int

    def apply(self, base: RowMap, source: Source) -> RowMap:
        if source.window is None:
            return kept(base, _by_shard(source, lambda shard: self._mask(shard.uid, 0, shard.rows)))
        return kept(base, ((first, stop, partial(self._mask, _WINDOWS_UID, first, stop - first))
                           for first, stop in spans(source.rows)))  # fmt: skip

    def _mask(self, uid: bytes, first: int, rows: int) -> Mask:
        return split_mask(self.seed, uid, first, rows, self.low, self.high)

    def __str__(self) -> str:
        return f"split({self.name!r}, seed={self.seed})"


def select_step(rows: GivenRows, length: int, shown: object) -> Select:
    """The step that `Dataset.select(rows)` of a view of `length` rows means. `shown` names that view in errors."""
    if isinstance(rows, slice):
        return Select(range(length)[rows])
    if isinstance(rows, range):
        if len(rows) and not (min(rows[0], rows[-1]) >= 0 and max(rows[0], rows[-1]) < length):
            raise IndexError(f"select({rows}): rows outside {shown}")
        return Select(rows)
    if isinstance(rows, Selection):
        if rows.universe != length:
            raise ConfigError(f"a {rows} for {shown}: it needs to be one of its {length} rows.")
        return Select(rows)
    given = np.asarray(rows)
    if given.dtype == np.bool_:
        if given.shape != (length,):
            raise ConfigError(f"a mask of shape {given.shape} for {shown}: it needs one truth value a row, {length}.")
        return Select(Selection.from_bits(np.packbits(given, bitorder="little"), length))
    numbers = checked_rows(given, length, shown)
    if bool((numbers[1:] > numbers[:-1]).all()) and len(numbers) * LIST_SHARE >= length:
        return Select(Selection.from_rows(numbers, length))
    return Select(numbers)


def checked_rows(rows: Sequence[int] | npt.ArrayLike, length: int, shown: object) -> Rows:
    """Row numbers as int64, negative ones counted from the end. IndexError where there is none in `shown`."""
    given = np.asarray(rows)
    if given.size == 0:
        given = given.astype(np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise ConfigError(f"rows are a flat sequence of integers, not {given.dtype} of shape {given.shape}.")
    outside = (given < -length) | (given >= length)
    if outside.any():
        raise IndexError(f"row {given[np.argmax(outside)]} is outside {shown}")
    wanted = given.astype(np.int64)
    return np.where(wanted < 0, wanted + length, wanted)


def split_steps(fractions: Mapping[str, float], seed: int) -> dict[str, Split]:
    """The steps of `Dataset.split`, by name. ConfigError where the fractions are none of a whole."""
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise ConfigError(f"split(seed={seed!r}): it must be an integer.") from error
    if not 0 <= number <= _SEED_MAX:
        raise ConfigError(f"split(seed={number}): it must be from 0 to 2^64 - 1.")
    if not isinstance(fractions, Mapping) or not fractions:
        raise ConfigError('split() takes names and fractions, like {"train": 0.9, "val": 0.1}.')
    for name, fraction in fractions.items():
        if isinstance(fraction, bool) or not isinstance(fraction, int | float | Fraction) or not 0 <= fraction <= 1:
            raise ConfigError(f"split(): the fraction of {name!r} is {fraction!r}; it must be a number from 0 to 1.")
    if abs(math.fsum(fractions.values()) - 1) > FRACTIONS_TOLERANCE:
        raise ConfigError(f"split(): the fractions {dict(fractions)} add up to {math.fsum(fractions.values())}, not "
                          "to 1: every row belongs to a part. Name the rest, too.")  # fmt: skip
    ends = split_ends(list(fractions.values()))
    return {name: Split(str(name), number, low, high)
            for name, low, high in zip(fractions, [0, *ends[:-1]], ends, strict=True)}  # fmt: skip


def split_ends(fractions: Sequence[float | Fraction]) -> list[int]:
    """Where each part ends: the running sum of the fractions as they are written down, times SPLIT_LIMIT, rounded half
    up. Exact integers, so that every machine has the same."""
    ends, running = [], Fraction(0)
    for fraction in fractions:
        running += fraction if isinstance(fraction, Fraction) else Fraction(repr(float(fraction)))
        ends.append(min(SPLIT_LIMIT, math.floor(running * SPLIT_LIMIT + Fraction(1, 2))))
    ends[-1] = SPLIT_LIMIT
    return ends


def _by_shard(source: Source, test: Callable[[ShardEntry], Mask]) -> Tests:
    return ((shard.first_row, shard.first_row + shard.rows, partial(test, shard)) for shard in source.shards)
