"""The Python callables of a loader: which there are, in which order they run, and what each is given.

On every batch run, in this order: the callables of `transforms=` per sample and column, `map_sample` per sample,
`map_batch` on the batch, a framework's conversion, and `collate_fn`, whose result is what the loader yields. A callable
with a parameter named `rng` gets a numpy Generator that depends on (seed, epoch, position, row) and on which callable
it is, and on nothing else; so results are equal for any number of workers, threads or processes.

Rows that are not there (holes of on_error="skip") are not shown to per-sample callables. Thread-safe as far as the
callables are; pickles if they do.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastfeed.dataset.batch import Batch
from fastfeed.errors import ConfigError, TransformError
from fastfeed.loader.collate import collate_values

# The row in the key of callables that see a whole batch: no sample has it.
_WHOLE_BATCH = (1 << 64) - 1


class RunKey(NamedTuple):
    """What random numbers of a run depend on, beside the sample."""

    seed: int
    epoch: int


class Step(NamedTuple):
    """One callable. `number` is its place among the loader's callables and part of its random key."""

    function: Callable[..., Any]
    takes_rng: bool
    number: int
    label: str  # for messages: "transforms['image']", "map_batch"

    def call(self, value: Any, key: RunKey, position: int, row: int) -> Any:
        """Apply to `value`. What it raises becomes a TransformError that names row, position and callable."""
        try:
            if self.takes_rng:
                return self.function(value, rng=sample_rng(key, position, row, self.number))
            return self.function(value)
        except Exception as error:  # whatever a user's function raises; it arrives whole, as the cause
            where = f"the batch at position {position}" if row == _WHOLE_BATCH else f"row {row} (position {position})"
            name = getattr(self.function, "__qualname__", None) or repr(self.function)
            trace = "".join(traceback.format_exception(error))
            raise TransformError(f"{self.label}: {name} failed on {where}: {type(error).__name__}: {error}\n"
                                 f"It happened here:\n{trace}") from error


def sample_rng(key: RunKey, position: int, row: int, number: int) -> np.random.Generator:
    """The generator of callable `number` for one sample: Philox4x64 with the key (seed, epoch), counting from
    (0, number, row, position)."""
    counter = np.array([0, number, row, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([key.seed, key.epoch], np.uint64), counter=counter))


@dataclass(frozen=True)
class Callables:
    """All callables of one loader."""

    columns: Mapping[str, tuple[Step, ...]]
    sample: Step | None = None
    batch: Step | None = None
    finish: Callable[[Any], Any] | None = None  # a framework's conversion
    finish_takes_time: bool = False
    collate: Step | None = None

    def __bool__(self) -> bool:
        """Whether anything is to be done in Python."""
        return bool(self.columns) or any((self.sample, self.batch, self.finish, self.collate))

    def take_time(self) -> bool:
        """Whether there is work for workers: user code, or a conversion that copies."""
        return bool(self.columns) or any((self.sample, self.batch, self.collate, self.finish_takes_time))

    def run(self, batch: Batch, key: RunKey, present: Sequence[bool] | None = None) -> Any:
        """Return what the loader yields for `batch`. `present` is False for holes; None: there are none."""
        if self.columns or self.sample:
            batch = self._per_sample(batch, key, present)
        result: Any = batch
        first = int(batch.positions[0]) if len(batch) else 0
        if self.batch:
            result = self.batch.call(result, key, first, _WHOLE_BATCH)
        if self.finish:
            result = self.finish(result)
        if self.collate:
            result = self.collate.call(result, key, first, _WHOLE_BATCH)
        return result

    def sample_values(self, batch: Batch, number: int, key: RunKey) -> dict[str, Any]:
        """Sample `number` of `batch` as a dict of values, after the per-sample callables."""
        position, row = int(batch.positions[number]), int(batch.rows[number])
        sample = {name: value_at(batch, name, number) for name in batch.columns}
        for name, steps in self.columns.items():
            for step in steps:
                sample[name] = step.call(sample[name], key, position, row)
        if self.sample:
            changed = self.sample.call(sample, key, position, row)
            if not isinstance(changed, Mapping):
                raise ConfigError(f"map_sample returned {type(changed).__name__} for row {row}: it must return the "
                                  "sample, a dict from column names to values.")
            sample = dict(changed)
        return sample

    def _per_sample(self, batch: Batch, key: RunKey, present: Sequence[bool] | None) -> Batch:
        if self.sample is None:
            return self._changed_columns(batch, key, present)
        samples = [self.sample_values(batch, number, key) if present is None or present[number] else None
                   for number in range(len(batch))]
        names = next((list(sample) for sample in samples if sample is not None), list(batch.columns))
        for number, sample in enumerate(samples):
            if sample is not None and sample.keys() != set(names):
                raise ConfigError(f"map_sample returned the columns {', '.join(sample)} for row "
                                  f"{batch.rows[number]}, and {', '.join(names)} for others of its batch.")
        columns = {name: collate_values([None if sample is None else sample[name] for sample in samples])
                   for name in names}
        return Batch(columns, batch.rows, batch.positions, batch.valid, None, batch.source)

    def _changed_columns(self, batch: Batch, key: RunKey, present: Sequence[bool] | None) -> Batch:
        """Only the columns with callables are taken apart; the others stay the arrays that they are."""
        columns, nulls = dict(batch.columns), dict(batch.nulls)
        for name, steps in self.columns.items():
            values = []
            for number in range(len(batch)):
                value = None
                if present is None or present[number]:
                    value = value_at(batch, name, number)
                    for step in steps:
                        value = step.call(value, key, int(batch.positions[number]), int(batch.rows[number]))
                values.append(value)
            columns[name], nulls[name] = collate_values(values), None
        return Batch(columns, batch.rows, batch.positions, batch.valid, nulls, batch.source)


def value_at(batch: Batch, name: str, number: int) -> Any:
    """One value of a batch as a per-sample callable sees it: None where null, arrays as views."""
    nulls = batch.nulls.get(name)
    return None if nulls is not None and nulls[number] else batch.columns[name][number]


def make_callables(
    columns: Mapping[str, Sequence[Callable[..., Any]]],
    sample: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
    finish: Callable[[Any], Any] | None = None,
    collate: Callable[..., Any] | None = None,
    *,
    finish_takes_time: bool = False,
) -> Callables:
    """Number the callables in the order in which they run, and find out which want an `rng`."""
    number = 0

    def step(function: Callable[..., Any] | None, label: str) -> Step | None:
        nonlocal number
        if function is None:
            return None
        number += 1
        return Step(function, _takes_rng(function), number, label)

    steps = {name: tuple(made for function in chain if (made := step(function, f"transforms[{name!r}]")))
             for name, chain in columns.items()}
    return Callables(steps, step(sample, "map_sample"), step(batch, "map_batch"), finish, finish_takes_time,
                     step(collate, "collate_fn"))


def _takes_rng(function: Callable[..., Any]) -> bool:
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return False
