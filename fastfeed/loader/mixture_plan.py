"""How a mixture's epoch is made of periods: from weights, stop rule and sizes to segments. Pure integer arithmetic.

A *stage* has constant proportions: `cycle` samples of which source k gives exactly `counts[k]`, cut into `denominator`
periods of at most about PERIOD_SAMPLES. The first j periods hold floor(j * counts[k] / denominator) samples of source
k, so that proportions hold in every part of an epoch. An epoch is whole periods of one stage after the other, then a
short last period that has the stop rule's exact counts. Nothing here depends on seed or epoch: every epoch has the same
length, and the same number of samples of each source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import NamedTuple, Protocol, TypeAlias

from fastfeed._native.mixture import LENGTH_MAX, SEGMENTS_MAX
from fastfeed.errors import ConfigError

# A source's samples of one period come in any order, so a period widens what is read at a time: 4,096 photographs are
# 0.4 GiB beside a window of 4 GiB. Shorter periods would follow weights no better: cycles have exact counts.
PERIOD_SAMPLES = 4096
# Weights that are no integers become fractions with this denominator at most: their error is below one in a million.
WEIGHT_DENOMINATOR_MAX = 1 << 20
# Of integers, after what they have in common is divided out.
WEIGHT_SUM_MAX = 1 << 40
# Of csrc/order/mixture.hpp: products of two remainders fit 64 bits.
DENOMINATOR_MAX = 1 << 31


# Integers and fractions are exact.
Weight: TypeAlias = float | Fraction


class Segment(NamedTuple):
    """What csrc/order/mixture.hpp takes."""

    periods: int
    denominator: int
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """Proportions, and the position from which on they hold: whole periods may bring them up to one period later."""

    start: int
    denominator: int
    counts: tuple[int, ...]

    @property
    def cycle(self) -> int:
        """Samples after which the proportions are exact."""
        return sum(self.counts)

    def taken(self, periods: int) -> list[int]:
        """Samples of each source in the first `periods` periods."""
        return [periods * count // self.denominator for count in self.counts]

    def period(self, number: int) -> list[int]:
        """Samples of each source in one period."""
        return [after - before for before, after in zip(self.taken(number), self.taken(number + 1), strict=True)]

    def whole_periods(self, samples: int) -> int:
        """Periods that `samples` fill."""
        periods = samples * self.denominator // self.cycle  # right, or one too small: a period has more than `sources`
        while sum(self.taken(periods + 1)) <= samples:
            periods += 1
        return periods


class StopRule(Protocol):
    """Where an epoch ends. `used`: samples of each source that came before the stage."""

    def last_period(self, stage: Stage, used: Sequence[int]) -> int | None:
        """The number of the stage's period in which the epoch ends, if all of it were this stage; None: it never
        would."""
        ...

    def last_counts(self, period: Sequence[int], used: Sequence[int]) -> list[int]:
        """Samples of each source that still come, out of that period, after `used`."""
        ...


@dataclass(frozen=True, slots=True)
class FirstExhausted:
    """The epoch ends where the first source has given every row once and would have to give another."""

    sizes: tuple[int, ...]

    def last_period(self, stage: Stage, used: Sequence[int]) -> int | None:
        """The first period that some source cannot fill."""
        return min(((size - gone + 1) * stage.denominator - 1) // count
                   for size, gone, count in zip(self.sizes, used, stage.counts, strict=True) if count)

    def last_counts(self, period: Sequence[int], used: Sequence[int]) -> list[int]:
        """The same part of every source's samples: all that the exhausted one has left, none of others twice."""
        part = min(Fraction(size - gone, count)
                   for size, gone, count in zip(self.sizes, used, period, strict=True) if count)
        return [math.floor(count * part) for count in period]


@dataclass(frozen=True, slots=True)
class AllExhausted:
    """The epoch ends where every source has given every row at least once."""

    sizes: tuple[int, ...]

    def last_period(self, stage: Stage, used: Sequence[int]) -> int | None:
        """The period that brings the last missing row."""
        last = 0
        for size, gone, count in zip(self.sizes, used, stage.counts, strict=True):
            if gone < size and not count:
                return None
            if gone < size:
                last = max(last, -(-(size - gone) * stage.denominator // count) - 1)
        return last

    def last_counts(self, period: Sequence[int], used: Sequence[int]) -> list[int]:
        """The part of every source's samples that brings the last row of the one that misses most."""
        missing = [Fraction(size - gone, count)
                   for size, gone, count in zip(self.sizes, used, period, strict=True) if size > gone]
        return [math.floor(count * max(missing, default=Fraction(0))) for count in period]


@dataclass(frozen=True, slots=True)
class SampleCount:
    """The epoch has this many samples."""

    samples: int

    def last_period(self, stage: Stage, used: Sequence[int]) -> int | None:
        """The first period that is not whole."""
        return stage.whole_periods(self.samples - sum(used))

    def last_counts(self, period: Sequence[int], used: Sequence[int]) -> list[int]:
        """What is left, in the period's proportions: rounded down, then one more where most was cut off."""
        left, size = self.samples - sum(used), sum(period)
        counts = [count * left // size for count in period]
        cut = sorted(range(len(period)), key=lambda k: (-(period[k] * left % size), k))
        for source in cut[: left - sum(counts)]:
            counts[source] += 1
        return counts


def stage_of(counts: Sequence[int], start: int = 0) -> Stage:
    """The stage of a cycle with these samples of each source."""
    common = math.gcd(*counts)
    counts = tuple(count // common for count in counts)
    cycle = sum(counts)
    return Stage(start, min(-(-cycle // PERIOD_SAMPLES), DENOMINATOR_MAX), counts)


def whole_epoch(counts: Sequence[int]) -> tuple[Segment, ...]:
    """The segments of an epoch that has exactly `counts` samples of each source."""
    if not any(counts):
        return ()
    stage = stage_of(counts)
    return (Segment(math.gcd(*counts) * stage.denominator, stage.denominator, stage.counts),)


def plan_epoch(stages: Sequence[Stage], stop: StopRule) -> tuple[Segment, ...]:
    """The segments of an epoch that goes through `stages` until `stop` ends it. ConfigError where it never does."""
    segments: list[Segment] = []
    used = [0] * len(stages[0].counts)
    for stage, following in zip(stages, [*stages[1:], None], strict=True):
        left = None if following is None else _periods_until(stage, following.start - sum(used))
        last = stop.last_period(stage, used)
        if left is None and last is None:
            raise ConfigError("stop='all_exhausted' with a source that has weight 0 from the last change of the "
                              "schedule on: the epoch would never end. Give it a weight, or stop otherwise.")
        ends = left is None or (last is not None and last < left)
        periods = last if ends else left
        assert periods is not None
        segments.append(Segment(periods, stage.denominator, stage.counts))
        used = [gone + more for gone, more in zip(used, stage.taken(periods), strict=True)]
        if ends:
            segments.append(Segment(1, 1, tuple(stop.last_counts(stage.period(periods), used))))
            break
    return tuple(each for each in segments if each.periods and any(each.counts))


def _periods_until(stage: Stage, samples: int) -> int:
    """The fewest whole periods that bring `samples`."""
    return stage.whole_periods(samples - 1) + 1 if samples > 0 else 0


def totals(segments: Iterable[Segment], sources: int) -> tuple[int, ...]:
    """Samples of each source in an epoch."""
    sums = [0] * sources
    for periods, denominator, counts in segments:
        for source, count in enumerate(counts):
            sums[source] += periods * count // denominator
    return tuple(sums)


def integer_weights(weights: Sequence[Weight]) -> tuple[tuple[int, ...], float]:
    """Integers in the proportions of `weights`, and by how much any source's share of a sample differs from what was
    asked for: 0.0 for integers and for fractions with a common denominator up to WEIGHT_DENOMINATOR_MAX.

    ConfigError where a weight is no number, negative, or too small to be followed.
    """
    exact = [_fraction(weight) for weight in weights]
    total = sum(exact)
    if not total:
        raise ConfigError(f"weights {list(weights)}: at least one must be above 0.")
    if all(isinstance(weight, Rational) for weight in weights):
        counts = _integers(exact)
        if sum(counts) > WEIGHT_SUM_MAX:
            raise ConfigError(f"weights {list(weights)}: integers must sum up to at most {WEIGHT_SUM_MAX}, after what "
                              "they have in common is divided out.")
        return counts, 0.0
    shares = [weight / total for weight in exact]
    counts = _simple(exact) or _rounded(shares)
    lost = [weight for weight, count in zip(weights, counts, strict=True) if weight and not count]
    if lost:
        raise ConfigError(f"weight {lost[0]} is less than one in {WEIGHT_DENOMINATOR_MAX} of all weights, and would be "
                          "rounded to 0. Give integers, which are exact.")
    cycle = sum(counts)
    error = max(abs(Fraction(count, cycle) - share) for count, share in zip(counts, shares, strict=True))
    # What a float cannot say anyway: 0.7 is meant as 7 of 10.
    return counts, 0.0 if error < Fraction(1, 1 << 50) else float(error)


def times(repeat: Weight, size: int) -> int:
    """Samples of `repeat` passes over `size` rows, rounded down. ConfigError where `repeat` is no such number."""
    return math.floor(_fraction(repeat).limit_denominator(WEIGHT_DENOMINATOR_MAX) * size)


def _fraction(weight: Weight) -> Fraction:
    try:
        if isinstance(weight, bool | str):  # Python would take them for numbers
            raise TypeError
        value = Fraction(weight) if isinstance(weight, Rational) else Fraction(float(weight))
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"weight {weight!r}: it must be a number.") from error
    if value < 0:
        raise ConfigError(f"weight {weight!r}: it must not be negative.")
    return value


def _integers(fractions: Sequence[Fraction]) -> tuple[int, ...]:
    """The smallest integers in the proportions of `fractions`."""
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    counts = [int(fraction * common) for fraction in fractions]
    divisor = math.gcd(*counts) or 1
    return tuple(count // divisor for count in counts)


def _simple(weights: Sequence[Fraction]) -> tuple[int, ...] | None:
    """Integers, where weights are simple fractions: .7 and .3 are 7 and 3."""
    counts = _integers([weight.limit_denominator(WEIGHT_DENOMINATOR_MAX) for weight in weights])
    return counts if 0 < sum(counts) <= WEIGHT_DENOMINATOR_MAX else None


def _rounded(shares: Sequence[Fraction]) -> tuple[int, ...]:
    """Shares in parts of WEIGHT_DENOMINATOR_MAX, whose sum is that: rounded down, then up where most was cut off."""
    scaled = [share * WEIGHT_DENOMINATOR_MAX for share in shares]
    counts = [math.floor(share) for share in scaled]
    cut = sorted(range(len(shares)), key=lambda k: (counts[k] - scaled[k], k))
    for source in cut[: WEIGHT_DENOMINATOR_MAX - sum(counts)]:
        counts[source] += 1
    divisor = math.gcd(*counts)
    return tuple(count // divisor for count in counts)


def checked_epoch(segments: tuple[Segment, ...], sources: int) -> tuple[int, ...]:
    """The samples of each source in an epoch. ConfigError where one has none, or there are too many."""
    counts = totals(segments, sources)
    silent = [source for source, count in enumerate(counts) if not count]
    if silent:
        raise ConfigError(f"source {silent[0]} would give no sample: an epoch has {sum(counts)}. Raise its weight, "
                          "leave it out, or let epochs be longer (stop=).")
    if sum(counts) > LENGTH_MAX:
        raise ConfigError(f"an epoch of {sum(counts)} samples: at most {LENGTH_MAX} are possible. Stop earlier.")
    if len(segments) > SEGMENTS_MAX:
        raise ConfigError(f"a schedule of {len(segments)} parts: at most {SEGMENTS_MAX - 1} are possible.")
    return counts
