"""One epoch of a mixture, both ways: which row of which source comes when, and when a row comes.

A pure function of its options; immutable, and may be shared by threads. The formula is docs/mixtures.md, section 7: a
period's keyed permutation says which sample of which source a position is (csrc/order/mixture), and the source's own
order which row that sample is. A source has an order for each of its passes, and its passes go on from epoch to epoch:
epoch e begins with sample e * counts[source] of it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed._native.mixture import MixtureEpoch, source_seed
from fastfeed.errors import ConfigError
from fastfeed.loader.mixture_plan import Segment
from fastfeed.loader.sampler import Picks
from fastfeed.order import Order, ShuffleMode

# Positions that go through all steps together: what they need (two megabytes) stays in a cache, and each source's order
# is asked for enough of them also where there are a hundred sources (benchmarks/bench_mixture.py).
RUN_POSITIONS = 1 << 15
_EPOCH_MODULUS = 1 << 64  # of an order's epoch: passes beyond would begin anew


class MixtureRecipe(NamedTuple):
    """What decides a mixture's order beside seed and epoch. `block_rows`: of each source's order."""

    sizes: tuple[int, ...]
    segments: tuple[Segment, ...]
    counts: tuple[int, ...]  # samples of each source in an epoch
    shuffle: ShuffleMode
    shuffle_window: int
    block_rows: tuple[int, ...]


class MixtureOrder:
    """The order of one epoch: `order[p]` is (source, row) at position p, `order.positions(source, row)` the way back.

    A row that an epoch repeats has several positions, one that it leaves out has none.
    """

    def __init__(self, recipe: MixtureRecipe, seed: int, epoch: int) -> None:
        self.recipe, self.seed, self.epoch = recipe, seed, epoch
        self._native = MixtureEpoch(seed, epoch, recipe.shuffle is not ShuffleMode.NONE, recipe.segments)
        self._seeds = [source_seed(seed, source) for source in range(len(recipe.sizes))]
        self._orders: list[Order | None] = [None] * len(self._seeds)
        # Of each source: the pass in which the epoch begins, and the samples of it that are gone.
        self._begins = [divmod(epoch * count, size)
                        for count, size in zip(recipe.counts, recipe.sizes, strict=True)]

    @property
    def length(self) -> int:
        """Positions of the epoch."""
        return self._native.length

    def __len__(self) -> int:
        return self.length

    # --- from positions to rows ------------------------------------------------------------------------------

    def __getitem__(self, position: int) -> tuple[int, int]:
        """(source, row) at `position`; negative ones count from the end. IndexError outside."""
        at = operator.index(position)
        if not -self.length <= at < self.length:
            raise IndexError(f"position {at} of an order of {self.length} samples")
        rows, sources = self.picks(np.array([at % self.length]))
        assert sources is not None
        return int(sources[0]), int(rows[0])

    def rows(self, start: int, stop: int) -> Picks:
        """The rows and their sources at positions start..stop-1. IndexError unless 0 <= start <= stop <= length."""
        if not 0 <= start <= stop <= self.length:
            raise IndexError(f"positions {start} to {stop} are not a range of the {self.length} that there are")
        return self.picks(np.arange(start, stop, dtype=np.int64))

    def picks(self, positions: npt.NDArray[np.int64]) -> Picks:
        """The row, and its source, at each of `positions`. IndexError outside. Consecutive positions are fastest."""
        if len(positions) <= RUN_POSITIONS:
            return Picks(*self._run_of_picks(positions))
        sources, rows = np.empty(len(positions), np.int32), np.empty(len(positions), np.int64)
        for start in range(0, len(positions), RUN_POSITIONS):
            run = slice(start, start + RUN_POSITIONS)
            rows[run], sources[run] = self._run_of_picks(positions[run])
        return Picks(rows, sources)

    def _run_of_picks(
        self, positions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        sources, indexes = self._native.picks(positions)
        for source, at in _by_source(sources, len(self._seeds)):
            indexes[at] = self._rows_of(source, indexes[at])
        return indexes, sources

    def _rows_of(self, source: int, indexes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of a source's samples of this epoch."""
        first_pass, gone = self._begins[source]
        size = self.recipe.sizes[source]
        places = indexes + gone
        if places.max() < size:
            return self._order(source, first_pass).rows_at(places)
        passes, places = np.divmod(places, size)
        for number in np.unique(passes).tolist():
            at = passes == number
            places[at] = self._order(source, first_pass + number).rows_at(places[at])
        return places

    # --- from rows to positions ------------------------------------------------------------------------------

    def passes(self, source: int) -> range:
        """The passes over a source that this epoch takes part of: pass number i gives each of its rows once."""
        source = self._checked_source(source)
        first, gone = self._begins[source]
        return range(first, first - (-(gone + self.recipe.counts[source]) // self.recipe.sizes[source]))

    def positions(self, source: int, row: int) -> list[int]:
        """The positions at which a source's row comes in this epoch, ascending. IndexError for rows outside."""
        passes = np.array(self.passes(source))
        found = self.positions_of(np.full(len(passes), source), np.full(len(passes), operator.index(row)), passes)
        return sorted(found[found >= 0].tolist())

    def positions_of(
        self, sources: npt.ArrayLike, rows: npt.ArrayLike, passes: npt.ArrayLike
    ) -> npt.NDArray[np.int64]:
        """The position of each row in a pass over its source; -1 where this epoch has not that part of the pass."""
        numbers = np.asarray(sources, np.int32)
        wanted, which = np.asarray(rows, np.int64), np.asarray(passes, np.int64)
        if not numbers.shape == wanted.shape == which.shape:
            raise ConfigError(f"{numbers.size} sources, {wanted.size} rows and {which.size} passes: give as many.")
        result = np.full(len(numbers), -1, np.int64)
        for start in range(0, len(numbers), RUN_POSITIONS):
            run = slice(start, start + RUN_POSITIONS)
            for source, at in _by_source(numbers[run], len(self._seeds)):
                result[run][at] = self._indexes_of(source, wanted[run][at], which[run][at])
        inside = result >= 0
        if inside.all():
            return self._native.positions_of(numbers, result)
        result[inside] = self._native.positions_of(numbers[inside], result[inside])
        return result

    def _indexes_of(
        self, source: int, rows: npt.NDArray[np.int64], passes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The number of each row among the source's samples of this epoch; -1 where it is none of them."""
        indexes = np.full(len(rows), -1, np.int64)
        gone = self._begins[source][1]
        for relative, number in enumerate(self.passes(source)):
            at = passes == number
            if at.any():
                places = self._order(source, number).positions_of(rows[at])
                indexes[at] = places + (relative * self.recipe.sizes[source] - gone)
        indexes[(indexes < 0) | (indexes >= self.recipe.counts[source])] = -1
        return indexes

    # --- samples of a source ----------------------------------------------------------------------------------

    def source_at(self, position: int) -> tuple[int, int]:
        """The source at `position`, and the number of its samples in this epoch."""
        source = int(self._native.picks(np.array([position]))[0][0])
        return source, self.recipe.counts[source]

    def position_of_sample(self, source: int, index: int) -> int:
        """The position of sample `index` of those that a source gives in this epoch."""
        return int(self._native.positions_of(np.array([source], np.int32), np.array([index]))[0])

    # --- inside ----------------------------------------------------------------------------------------------

    def _order(self, source: int, number: int) -> Order:
        """That of pass `number`. The last one of each source is kept; threads may replace each other's."""
        kept, recipe = self._orders[source], self.recipe
        if kept is None or kept.epoch != number % _EPOCH_MODULUS:
            kept = Order(recipe.sizes[source], seed=self._seeds[source], epoch=number % _EPOCH_MODULUS,
                         shuffle=recipe.shuffle.argument, shuffle_window=recipe.shuffle_window,
                         block_rows=recipe.block_rows[source])
            self._orders[source] = kept
        return kept

    def _checked_source(self, source: int) -> int:
        number = operator.index(source)
        if not 0 <= number < len(self._seeds):
            raise IndexError(f"source {number} is not one of the {len(self._seeds)} of the mixture")
        return number

    def __reduce__(self) -> tuple[type[MixtureOrder], tuple[Any, ...]]:
        return MixtureOrder, (self.recipe, self.seed, self.epoch)

    def __repr__(self) -> str:
        return (f"MixtureOrder({self.length} samples of {len(self._seeds)} sources, seed={self.seed}, "
                f"epoch={self.epoch}, shuffle={self.recipe.shuffle.argument!r})")


def _by_source(sources: npt.NDArray[np.int32], count: int) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each source that occurs, and where."""
    # As int16, which numpy sorts by radix; there are at most 1,024 sources.
    small = sources.astype(np.int16)
    order = np.argsort(small, kind="stable")
    ends = np.searchsorted(small[order], np.arange(count + 1, dtype=np.int16))
    for source in np.flatnonzero(ends[1:] > ends[:-1]):
        yield int(source), order[ends[source] : ends[source + 1]]
