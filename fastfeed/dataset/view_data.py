"""Views as data: what a recipe says of one, and the same view made again from it, in another process.

Only steps that are small whatever the dataset's size: windows, ranges, filters and splits. A view by a list of rows has
no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.snapshot import OpenSnapshot
from fastfeed.dataset.views import Filter, Select, Split
from fastfeed.errors import ConfigError

ViewData = Sequence[Mapping[str, Any]]


def view_data(dataset: Dataset) -> ViewData | None:
    """The steps from the snapshot to this view, in their order; None where one has no small form."""
    data: list[Mapping[str, Any]] = []
    if dataset.window is not None:
        data.append({"windows": [dataset.window.length, dataset.window.stride]})
    for step in dataset.steps:
        if isinstance(step, Select) and isinstance(step.rows, range):
            data.append({"range": [step.rows.start, step.rows.stop, step.rows.step]})
        elif isinstance(step, Filter):
            data.append({"filter": step.expression})
        elif isinstance(step, Split):
            data.append({"split": [step.name, step.seed, step.low, step.high]})
        else:
            return None
    return data


def view_of(opened: OpenSnapshot, data: ViewData) -> Dataset:
    """The view of `opened` that `view_data` told of. ConfigError where there is no such view of it."""
    view = Dataset(opened)
    for each in data:
        try:
            ((kind, value),) = each.items()
            view = _STEPS[kind](view, value)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ConfigError(f"{str(each)[:200]} is no step of {view!r}: {error!r}") from error
    return view


def _split(view: Dataset, value: Any) -> Dataset:
    name, seed, low, high = value
    return Dataset(view.opened, view.window, (*view.steps, Split(str(name), int(seed), int(low), int(high))), view)


_STEPS: Mapping[str, Callable[[Dataset, Any], Dataset]] = {
    "windows": lambda view, value: view.windows(*value),
    "range": lambda view, value: view.select(range(*value)),
    "filter": lambda view, value: view.filter(str(value)),
    "split": _split,
}
