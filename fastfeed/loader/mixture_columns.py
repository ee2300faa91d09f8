"""What the sources of a mixture have in common: the columns of its batches. Pure: nothing is read here.

A column of a mixture has one type: what a source stores may differ (codec, nulls, and numbers that a Cast makes equal),
what the batch gets may not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.columns import ColumnPlan, plan_columns


def plan_sources(
    datasets: Sequence[Dataset], columns: Sequence[str] | None, transforms: Mapping[str, Sequence[Any]]
) -> tuple[ColumnPlan, ...]:
    """A plan for each of `datasets`, of the same columns in the same order: `columns`, or those that all have.

    ConfigError for a column that one of them has not, and for one whose values would differ in type.
    """
    if len(datasets) == 1:
        return (plan_columns(datasets[0].schema, columns, transforms),)
    names = _common_names(datasets) if columns is None else columns
    plans = []
    for number, dataset in enumerate(datasets):
        missing = [name for name in names if name not in dataset.schema] if not isinstance(names, str) else []
        if missing:
            raise ConfigError(f"no columns {missing} in source {number} of the mixture, {_name(dataset)}: it has "
                              f"{dataset.schema.names}. Name columns that all sources have.")
        plans.append(plan_columns(dataset.schema, names, transforms))
    for number, (dataset, plan) in enumerate(zip(datasets, plans, strict=True)):
        for index, name in enumerate(plan.names):
            first, other = _delivered(datasets[0], plans[0], index), _delivered(dataset, plan, index)
            if first != other:
                raise ConfigError(f"column {name!r} is {first} in source 0 of the mixture, {_name(datasets[0])}, and "
                                  f"{other} in source {number}, {_name(dataset)}. Make numbers equal with "
                                  "transforms= and fastfeed.Cast, or leave the column out with columns=.")
    return tuple(plans)


def _common_names(datasets: Sequence[Dataset]) -> list[str]:
    common = [name for name in datasets[0].schema.names if all(name in dataset.schema for dataset in datasets[1:])]
    if not common:
        each = "; ".join(f"{_name(dataset)}: {', '.join(dataset.schema.names)}" for dataset in datasets)
        raise ConfigError(f"the sources of the mixture have no column in common ({each[:1000]}).")
    return common


def _delivered(dataset: Dataset, plan: ColumnPlan, index: int) -> str:
    """What batches get, in words that are equal where it is."""
    kind, output = plan.kinds[index], plan.outputs[index]
    if kind not in ("scalar", "tensor", "array"):
        return kind
    shape = output.shape
    if dataset.layout == "stream":
        shape = (None if dataset.window is None else dataset.window.length,)
    words = ", ".join("any" if extent is None else str(extent) for extent in shape)
    return f"{output.cast or output.dtype}" + (f" of shape ({words})" if shape else "")


def _name(dataset: Dataset) -> str:
    return dataset.url
