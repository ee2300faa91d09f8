"""`Mixture`: several datasets as one, in given proportions.

A value: datasets, proportions and where an epoch ends. It reads nothing and keeps no place; the loader that it is given
to does. What its words mean is docs/mixtures.md; how periods are made of them, `mixture_plan.py`.
"""

from __future__ import annotations

import operator
import os
import resource
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import xxhash

from fastfeed._native.feed import Snapshot
from fastfeed._native.mixture import SOURCES_MAX
from fastfeed.dataset.dataset import OPEN_FILES_MAX, Dataset, as_dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.mixture_order import MixtureOrder, MixtureRecipe
from fastfeed.loader.mixture_plan import (
    AllExhausted,
    FirstExhausted,
    SampleCount,
    Segment,
    Stage,
    StopRule,
    Weight,
    checked_epoch,
    integer_weights,
    plan_epoch,
    stage_of,
    times,
    whole_epoch,
)
from fastfeed.loader.options import LoaderOptions
from fastfeed.order import ORDER_VERSION, SHUFFLE_WINDOW_DEFAULT, Shuffle, ShuffleMode, shuffle_mode

# The formulas of docs/mixtures.md, section 7, which name it in their keys. It changes when any position does.
MIXTURE_VERSION = 1
# Proportions as words in a state, which has to stay below 1 KB; the hash beside them says all.
PROPORTIONS_CHARS_MAX = 60
STOP_RULES = ("first_exhausted", "all_exhausted", "steps")

Place: TypeAlias = Dataset | str | os.PathLike[str]
Schedule: TypeAlias = Sequence[tuple[int, Sequence[Weight]]]


class Mixture:
    """Datasets in proportions. Give it to a `Loader` in a dataset's place; `len(mixture)` is the samples of an epoch.

    sources: pairs of a dataset (or its place) and its weight; or datasets alone, with one of
    repeats: how often each comes an epoch (1.5: once and a half), counts: how many samples of each an epoch has,
    schedule: pairs of a position of the epoch and the weights from there on, the first at 0.
    stop: where an epoch ends: "first_exhausted" (the default: no row comes twice in the first epoch), "all_exhausted",
    the number of its samples, or "steps": `steps` times `global_batch_size` samples. Not for repeats and counts, which
    say it themselves.

    datasets: the sources, in the order of `batch.source`. counts: samples of each in an epoch. weight_error: by how
    much a source's share differs from its weight's at most; 0.0 where weights are followed exactly.
    """

    def __init__(
        self,
        sources: Iterable[tuple[Place, Weight]] | Iterable[Place],
        *,
        repeats: Sequence[Weight] | None = None,
        counts: Sequence[int] | None = None,
        schedule: Schedule | None = None,
        stop: str | int | None = None,
        steps: int | None = None,
        global_batch_size: int | None = None,
    ) -> None:
        given = _listed("the sources", sources)
        lists = {name: _listed(f"{name}=", value)
                 for name, value in (("repeats", repeats), ("counts", counts), ("schedule", schedule))
                 if value is not None}
        places, weights = _split(given, lists)
        self.datasets = tuple(as_dataset(place) for place in places)
        self._arguments: dict[str, Any] = {**lists, "stop": stop, "steps": steps,
                                           "global_batch_size": global_batch_size}
        self._weights = weights
        self._sizes = tuple(map(len, self.datasets))
        for dataset in self.datasets:
            if len(dataset) == 0:
                raise ConfigError(f"{dataset!r} has no rows: leave it out of the mixture.")
        self.weight_error = 0.0
        if repeats is not None or counts is not None:
            self._stop: str | int | None = None
            self._segments = self._whole(lists.get("repeats"), lists.get("counts"), (stop, steps, global_batch_size))
        else:
            self._stop, rule = self._stop_rule(stop, steps, global_batch_size)
            self._segments = self._planned(lists.get("schedule"), rule)
        self.counts = checked_epoch(self._segments, len(self.datasets))

    # --- what it is ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """How an epoch is made of periods (docs/mixtures.md, section 7)."""
        return self._segments

    @property
    def fingerprint(self) -> str:
        """32 hex digits that are equal where the sources' content is, in the same order."""
        digest: str = xxhash.xxh3_128_hexdigest(" ".join(each.fingerprint for each in self.datasets).encode())
        return digest

    def order(self, seed: int = 0, epoch: int = 0, shuffle: Shuffle = "window",
              shuffle_window: int = SHUFFLE_WINDOW_DEFAULT, block_rows: int | None = None) -> MixtureOrder:
        """The order of one epoch, as a loader with these options has it."""
        return MixtureOrder(self.recipe(shuffle_mode(shuffle), shuffle_window, block_rows), seed, epoch)

    def recipe(self, shuffle: ShuffleMode, shuffle_window: int, block_rows: int | None) -> MixtureRecipe:
        """What decides the order beside seed and epoch."""
        return MixtureRecipe(self._sizes, self._segments, self.counts, shuffle, shuffle_window,
                             tuple(block_rows or dataset.block_rows for dataset in self.datasets))

    @property
    def words(self) -> str:
        """The proportions in short."""
        if len(self._words) <= PROPORTIONS_CHARS_MAX:
            return self._words
        return self._words[: PROPORTIONS_CHARS_MAX - 1] + "…"

    def __repr__(self) -> str:
        stop = "" if self._stop is None else f", stop={self._stop!r}"
        error = f", weights within {self.weight_error:.1e}" if self.weight_error else ""
        return (f"Mixture({len(self.datasets)} sources, {self.words}{stop}: {len(self)} samples an epoch, "
                f"{_shortened(self.counts)} of each{error})")

    def __reduce__(self) -> tuple[Any, ...]:
        sources = self.datasets if self._weights is None else tuple(zip(self.datasets, self._weights, strict=True))
        return _remake, (sources, self._arguments)

    # --- inside ----------------------------------------------------------------------------------------------

    def _whole(self, repeats: Sequence[Weight] | None, counts: Sequence[int] | None, rest: tuple[Any, ...]
               ) -> tuple[Segment, ...]:
        """The epoch by repeats or counts. Sets what the proportions are called."""
        if any(argument is not None for argument in rest):
            raise ConfigError("repeats= and counts= say how long an epoch is: leave stop=, steps= and "
                              "global_batch_size= out.")
        name, given = ("counts", counts or ()) if repeats is None else ("repeats", repeats)
        if len(given) != len(self.datasets):
            raise ConfigError(f"{len(given)} {name} for {len(self.datasets)} sources: give one for each.")
        self._words = f"{name} {':'.join(map(str, given))}"
        if repeats is None:
            return whole_epoch([_positive(name, count) for count in given])
        return whole_epoch([times(repeat, size) for repeat, size in zip(repeats, self._sizes, strict=True)])

    def _planned(self, schedule: Schedule | None, rule: StopRule) -> tuple[Segment, ...]:
        """The epoch by weights. Sets `weight_error` and what the proportions are called."""
        changes = [(0, self._weights or ())] if schedule is None else _checked_schedule(schedule, len(self.datasets))
        stages: list[Stage] = []
        for position, weights in changes:
            counts, error = integer_weights(weights)
            if not all(counts) and len(changes) == 1:
                raise ConfigError(f"weights {list(weights)}: a weight of 0 leaves a source out. Leave it out of the "
                                  "list, or give a schedule that brings it later.")
            stages.append(stage_of(counts, position))
            self.weight_error = max(self.weight_error, error)
        self._words = " then ".join(":".join(map(str, stage.counts)) for stage in stages)
        return plan_epoch(stages, rule)

    def _stop_rule(self, stop: str | int | None, steps: int | None, batch: int | None) -> tuple[str | int, StopRule]:
        if (stop == "steps") != (steps is not None) or (stop == "steps") != (batch is not None):
            raise ConfigError("stop='steps' needs steps= and global_batch_size= (the samples of a step), and only it "
                              "takes them.")
        if stop is None or stop == "first_exhausted":
            return "first_exhausted", FirstExhausted(self._sizes)
        if stop == "all_exhausted":
            return stop, AllExhausted(self._sizes)
        if stop == "steps":
            samples = _positive("steps", steps) * _positive("global_batch_size", batch)
            return samples, SampleCount(samples)
        if isinstance(stop, str):
            raise ConfigError(f"stop={stop!r}: choose {', '.join(map(repr, STOP_RULES))}, or a number of samples.")
        return int(stop), SampleCount(_positive("stop", stop))


def as_source(dataset: Place | Mixture | None, remote: str | None = None) -> Dataset | Mixture:
    """What a loader reads: a mixture, or the one dataset that `dataset` or `remote` mean."""
    if not isinstance(dataset, Mixture):
        return as_dataset(dataset, remote)
    if remote is not None:
        raise ConfigError(f"give one dataset: {dataset!r} or remote={remote!r}.")
    return dataset


def datasets_of(source: Dataset | Mixture) -> tuple[Dataset, ...]:
    """The datasets that are read."""
    return source.datasets if isinstance(source, Mixture) else (source,)


def native_snapshots(datasets: Sequence[Dataset], io: str = "auto") -> list[Snapshot]:
    """What one reader of all `datasets` reads from, by the engine `io`. Several share a quarter of the files that this
    process may open: what is being read is open beside that, and each dataset has its manifest and its index open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    open_files_max = OPEN_FILES_MAX
    if len(datasets) > 1 and limit != resource.RLIM_INFINITY:
        open_files_max = max(1, min(OPEN_FILES_MAX, limit // 4 // len(datasets)))
    sizes = {dataset: dataset.bytes_in_place() for dataset in dict.fromkeys(datasets)}
    total = sum(sizes.values())
    return [dataset.native_snapshot(io, open_files_max, total - sizes[dataset]) for dataset in datasets]


class MixtureSampler:
    """A mixture under a loader's options (`fastfeed.loader.sampler.Sampler`)."""

    def __init__(self, mixture: Mixture, options: LoaderOptions) -> None:
        self.datasets = mixture.datasets
        self._mixture = mixture
        self._recipe = mixture.recipe(options.shuffle, options.shuffle_window, options.block_rows)

    @property
    def fingerprint(self) -> str:
        """That of the mixture."""
        return self._mixture.fingerprint

    def describe(self) -> Mapping[str, Any]:
        """Words for people, and a hash over everything that decides."""
        recipe = self._recipe
        window = recipe.shuffle is ShuffleMode.WINDOW
        decides = (recipe.sizes, [tuple(segment) for segment in recipe.segments],
                   (recipe.shuffle_window, recipe.block_rows) if window else ())
        return {"version": ORDER_VERSION, "mixture_version": MIXTURE_VERSION, "proportions": self._mixture.words,
                "samples": len(self._mixture), "shuffle": recipe.shuffle.name.lower(),
                "shuffle_window": recipe.shuffle_window if window else 0,
                "mixture": xxhash.xxh3_64_hexdigest(repr(decides).encode())}

    def at_epoch(self, seed: int, epoch: int) -> MixtureOrder:
        """The order of an epoch."""
        return MixtureOrder(self._recipe, seed, epoch)


def _split(given: list[Any], lists: Mapping[str, Any]) -> tuple[list[Any], list[Any] | None]:
    """Datasets, and their weights where they are pairs. ConfigError unless proportions are given in one way."""
    pairs = [each for each in given if isinstance(each, tuple | list)]
    if not given or len(given) > SOURCES_MAX:
        raise ConfigError(f"a mixture of {len(given)} sources: give from 1 to {SOURCES_MAX}.")
    if pairs and (len(pairs) != len(given) or any(len(pair) != 2 for pair in pairs)):
        raise ConfigError("the sources of a mixture are either all pairs of a dataset and its weight, or all datasets "
                          "alone, with repeats=, counts= or schedule=.")
    if len(lists) + bool(pairs) != 1:
        names = " and ".join([*(["weights"] if pairs else []), *(f"{name}=" for name in lists)]) or "none"
        raise ConfigError(f"proportions are given in one way, this is {names}: give pairs of a dataset and its weight, "
                          "or datasets alone with one of repeats=, counts= and schedule=.")
    if pairs:
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return given, None


def _checked_schedule(schedule: Schedule, sources: int) -> list[tuple[int, Sequence[Weight]]]:
    if not schedule or any(not isinstance(each, tuple | list) or len(each) != 2 for each in schedule):
        raise ConfigError("schedule= is a list of pairs: a position of the epoch, and the weights from there on.")
    changes: list[tuple[int, Sequence[Weight]]]
    changes = [(_whole_number("a position of schedule", position), _listed("weights in schedule=", weights))
               for position, weights in schedule]
    positions = [position for position, _ in changes]
    if positions[0] != 0 or any(b <= a for a, b in pairwise(positions)):
        raise ConfigError(f"schedule= changes at positions {positions[:20]}: begin at 0, and ascend.")
    for position, weights in changes:
        if len(weights) != sources:
            raise ConfigError(f"schedule= has {len(weights)} weights at position {position} for {sources} sources: "
                              "give one for each, 0 for those that do not come there.")
    return changes


def _listed(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{name} {value!r}: a list is needed, with one entry for each.")
    return list(value)


def _whole_number(name: str, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"{name}={value!r}: it must be an integer.") from error


def _positive(name: str, value: object) -> int:
    number = _whole_number(name, value)
    if isinstance(value, bool) or number < 1:
        raise ConfigError(f"{name}={value!r}: it must be at least 1.")
    return number


def _shortened(counts: tuple[int, ...], most: int = 8) -> str:
    words = [str(count) for count in counts[:most]]
    return ", ".join([*words, "…"] if len(counts) > most else words)


def _remake(sources: Sequence[Any], arguments: Mapping[str, Any]) -> Mixture:
    return Mixture(sources, **arguments)
