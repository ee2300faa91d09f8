"""The mixture written once more from docs/mixtures.md, in plain Python: slow, obvious, independent of csrc.

Nothing of fastfeed is imported. A period is found by counting periods one by one, where the core computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tests.helpers.order_oracle import OracleOrder, derive, permute, unpermute

PERIOD_TAG = 0x6D69782D70657231  # "mix-per1"
SOURCE_TAG = 0x6D69782D73726331  # "mix-src1"


def period_key(seed: int, epoch: int, number: int) -> int:
    return derive(derive(derive(PERIOD_TAG, seed), epoch), number)


def source_seed(seed: int, source: int) -> int:
    return derive(derive(SOURCE_TAG, seed), source)


class Segment(NamedTuple):
    """The first j of `periods` periods hold floor(j * counts[k] / denominator) samples of source k."""

    periods: int
    denominator: int
    counts: tuple[int, ...]


class Period(NamedTuple):
    number: int
    start: int  # position
    firsts: tuple[int, ...]  # index of each source's first sample in it
    counts: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class OracleMixture:
    segments: tuple[Segment, ...]
    seed: int
    epoch: int
    shuffled: bool = True

    def periods(self) -> list[Period]:
        return _periods(self.segments)

    @property
    def length(self) -> int:
        return sum(period.size for period in self.periods())

    def pick(self, position: int) -> tuple[int, int]:
        """Source, and index in the source's samples of this epoch."""
        period = next(each for each in self.periods() if each.start <= position < each.start + each.size)
        x = position - period.start
        if self.shuffled:
            x = permute(period.size, period_key(self.seed, self.epoch, period.number), x)
        for source, count in enumerate(period.counts):
            if x < count:
                return source, period.firsts[source] + x
            x -= count
        raise AssertionError("counts do not fill the period")

    def position(self, source: int, index: int) -> int:
        period = next(each for each in self.periods()
                      if each.firsts[source] <= index < each.firsts[source] + each.counts[source])
        x = sum(period.counts[:source]) + index - period.firsts[source]
        if self.shuffled:
            x = unpermute(period.size, period_key(self.seed, self.epoch, period.number), x)
        return period.start + x


@lru_cache(maxsize=8)
def _periods(segments: tuple[Segment, ...]) -> list[Period]:
    found: list[Period] = []
    start, firsts = 0, [0] * len(segments[0].counts)
    for segment in segments:
        base = list(firsts)
        for j in range(segment.periods):
            ends = [b + (j + 1) * c // segment.denominator for b, c in zip(base, segment.counts, strict=True)]
            counts = tuple(end - first for end, first in zip(ends, firsts, strict=True))
            found.append(Period(len(found), start, tuple(firsts), counts))
            start += sum(counts)
            firsts = ends
    return found


def row_of(index: int, source: int, rows: int, count: int, seed: int, epoch: int,
           options: Sequence[int | str | bool]) -> tuple[int, int]:
    """Pass and row of sample `index` of a source that gives `count` samples an epoch; options of its order."""
    which, place = divmod(epoch * count + index, rows)
    order = OracleOrder(rows, source_seed(seed, source), which, *options)  # type: ignore[arg-type]
    return which, order.row(place)
