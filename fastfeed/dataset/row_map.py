"""Which physical row each row of a view is. Pure: no files, no schema.

A map is immutable. Which kind of map a set of rows becomes is a function of the rows, so that equal views have equal
digests and take the least memory:

everything   all rows: nothing is stored;
strided      every k-th row of another map, also backwards: nothing is stored;
chosen       a bitmap with rank and select: universe / 8 bytes * 1.15;
listed       8 bytes a row: rows in an order of the caller's, or fewer than one row in 64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.selection import Selection

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# Below one row in so many, a list of 8 bytes a row is smaller than a bitmap.
LIST_SHARE = 64
# Rows looked at at once where all of them are: 8 MiB of masks.
SPAN_ROWS = 1 << 23


class RowMap(ABC):
    """View rows 0 .. len-1 to physical rows 0 .. universe-1."""

    universe: int

    @property
    @abstractmethod
    def is_ascending(self) -> bool:
        """Whether physical rows ascend strictly with view rows."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def physical(self, rows: Rows) -> Rows:
        """The physical row of each of `rows`, all in [0, len)."""

    @abstractmethod
    def within(self, first: int, stop: int) -> tuple[slice | Rows, Rows]:
        """The view rows whose physical row is in [first, stop), a slice where the map ascends; and those rows."""

    @abstractmethod
    def digest(self) -> bytes:
        """Bytes that differ where maps do; none for everything."""


@dataclass(frozen=True, slots=True, eq=False)
class Everything(RowMap):
    """The identity."""

    universe: int

    @property
    def is_ascending(self) -> bool:
        return True

    def __len__(self) -> int:
        return self.universe

    def physical(self, rows: Rows) -> Rows:
        return rows

    def numbers(self, first: int, stop: int) -> slice:
        """The view rows whose physical row is in [first, stop)."""
        return slice(first, stop)

    def within(self, first: int, stop: int) -> tuple[slice, Rows]:
        return slice(first, stop), np.arange(first, stop, dtype=np.int64)

    def digest(self) -> bytes:
        return b""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen(RowMap):
    """The rows of a bitmap."""

    selection: Selection

    @property
    def universe(self) -> int:  # type: ignore[override]
        return self.selection.universe

    @property
    def is_ascending(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.selection)

    def physical(self, rows: Rows) -> Rows:
        return self.selection.rows_at(rows)

    def numbers(self, first: int, stop: int) -> slice:
        """The view rows whose physical row is in [first, stop)."""
        low, high = self.selection.ranks_of([first, stop]).tolist()
        return slice(low, high)

    def within(self, first: int, stop: int) -> tuple[slice, Rows]:
        numbers = self.numbers(first, stop)
        return numbers, self.selection.rows_at(np.arange(numbers.start, numbers.stop))

    def digest(self) -> bytes:
        return b"chosen" + self.selection.digest()


@dataclass(frozen=True, slots=True, eq=False)
class Strided(RowMap):
    """Rows number start, start + step, … of `inner`, which is everything or chosen; `count` of them."""

    inner: Everything | Chosen
    start: int
    step: int
    count: int

    @property
    def universe(self) -> int:  # type: ignore[override]
        return self.inner.universe

    @property
    def is_ascending(self) -> bool:
        return self.step > 0

    def __len__(self) -> int:
        return self.count

    def physical(self, rows: Rows) -> Rows:
        return self.inner.physical(self.start + self.step * rows)

    def within(self, first: int, stop: int) -> tuple[slice, Rows]:
        inner = self.inner.numbers(first, stop)
        # start + step * i is in [inner.start, inner.stop)
        if self.step > 0:
            low, high = -((self.start - inner.start) // self.step), -((self.start - inner.stop) // self.step)
        else:
            low = (self.start - inner.stop) // -self.step + 1
            high = (self.start - inner.start) // -self.step + 1
        low, high = min(max(low, 0), self.count), min(max(high, 0), self.count)
        return slice(low, high), self.physical(np.arange(low, high, dtype=np.int64))

    def digest(self) -> bytes:
        return f"strided {self.start} {self.step} {self.count} ".encode() + self.inner.digest()


@dataclass(frozen=True, slots=True, eq=False)
class Listed(RowMap):
    """An array of physical rows, in any order, repeated or not."""

    rows: Rows
    universe: int
    is_ascending: bool
    _order: list[Rows] = field(default_factory=list)  # of `rows` by value, once it was needed

    def __len__(self) -> int:
        return len(self.rows)

    def physical(self, rows: Rows) -> Rows:
        return self.rows[rows]

    def within(self, first: int, stop: int) -> tuple[slice | Rows, Rows]:
        if self.is_ascending:
            low, high = np.searchsorted(self.rows, [first, stop]).tolist()
            return slice(low, high), self.rows[low:high]
        if not self._order:
            self._order.append(np.argsort(self.rows, kind="stable"))
        order = self._order[0]
        low, high = np.searchsorted(self.rows, [first, stop], sorter=order).tolist()
        return order[low:high], self.rows[order[low:high]]

    def digest(self) -> bytes:
        head = f"listed {self.universe} ".encode()
        digest: bytes = xxhash.xxh3_128_digest(self.rows.tobytes())
        return head + digest


def of_selection(selection: Selection) -> RowMap:
    """The smallest map of the rows of a bitmap."""
    if len(selection) == selection.universe:
        return Everything(selection.universe)
    if len(selection) * LIST_SHARE < selection.universe:
        return Listed(selection.rows_at(np.arange(len(selection))), selection.universe, is_ascending=True)
    return Chosen(selection)


def picked(base: RowMap, rows: Rows) -> RowMap:
    """Rows `rows` of `base`, all in [0, len), in that order."""
    physical = base.physical(rows)
    if bool((physical[1:] > physical[:-1]).all()):
        if len(physical) * LIST_SHARE >= base.universe:
            return of_selection(Selection.from_rows(physical, base.universe))
        return Listed(physical, base.universe, is_ascending=True)
    return Listed(physical, base.universe, is_ascending=False)


def sliced(base: RowMap, rows: range) -> RowMap:
    """Rows `rows` of `base`, all in [0, len)."""
    if rows == range(len(base)):
        return base
    if isinstance(base, Listed):
        return picked(base, np.arange(rows.start, rows.stop, rows.step, dtype=np.int64))
    if isinstance(base, Strided):
        start = base.start + base.step * rows.start
        return Strided(base.inner, start, base.step * rows.step, len(rows))
    assert isinstance(base, Everything | Chosen)
    return Strided(base, rows.start, rows.step, len(rows))


def composed(base: RowMap, selection: Selection) -> RowMap:
    """The rows of `base` whose numbers in it are in `selection`."""
    if isinstance(base, Everything):
        return of_selection(selection)
    if not base.is_ascending:
        return picked(base, selection.rows_at(np.arange(len(selection))))

    def test(first: int, stop: int) -> Mask:
        found = np.zeros(stop - first, np.bool_)
        at, rows = base.within(first, stop)
        assert isinstance(at, slice)  # the base ascends
        found[rows - first] = selection.contains(np.arange(at.start, at.stop))
        return found

    return kept(base, ((first, stop, partial(test, first, stop)) for first, stop in spans(base.universe)))


def spans(universe: int) -> Iterable[tuple[int, int]]:
    """All rows, SPAN_ROWS at a time."""
    return ((first, min(first + SPAN_ROWS, universe)) for first in range(0, universe, SPAN_ROWS))


def kept(base: RowMap, tests: Iterable[tuple[int, int, Callable[[], Mask]]]) -> RowMap:
    """The rows of `base` that pass, in its order.

    tests: (first, stop, test), ranges of physical rows that ascend and are together all of them; `test` says which rows
    of its range pass, and is not called where `base` has no row in it.
    """
    bits = _Bits(base.universe if base.is_ascending else 0)
    keep = np.zeros(0 if base.is_ascending else len(base), np.bool_)
    for first, stop, test in tests:
        at, rows = base.within(first, stop)
        if len(rows) == 0:
            continue
        passed = test()
        if not base.is_ascending:
            keep[at] = passed[rows - first]
            continue
        if len(rows) < stop - first:
            of_base = np.zeros(stop - first, np.bool_)
            of_base[rows - first] = True
            passed = passed & of_base
        bits.put(first, passed)
    return of_selection(bits.selection()) if base.is_ascending else picked(base, np.flatnonzero(keep))


class _Bits:
    """A bitmap that is filled range by range."""

    def __init__(self, universe: int) -> None:
        self._universe = universe
        self._bytes = np.zeros((universe + 7) // 8, np.uint8)

    def put(self, first: int, mask: Mask) -> None:
        """Set rows first, first + 1, … where `mask` is True."""
        packed = np.packbits(np.concatenate([np.zeros(first % 8, np.bool_), mask]), bitorder="little")
        self._bytes[first // 8 : first // 8 + len(packed)] |= packed

    def selection(self) -> Selection:
        return Selection.from_bits(self._bytes, self._universe)
