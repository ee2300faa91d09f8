"""From `columns=` and `transforms=` to what the native reader makes and what Python does afterwards.

A chain of transforms begins with native ones (`fastfeed.image`, `fastfeed.Cast`), which the reader applies while it
decodes, and may go on with Python callables. Pure: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastfeed._native.feed import OutputSpec
from fastfeed.errors import ConfigError
from fastfeed.format.schema import ColumnType, Tokens
from fastfeed.loader import image
from fastfeed.loader.transforms import Cast

_CAST_KINDS = ("scalar", "tensor", "array")


class ColumnPlan(NamedTuple):
    """The columns of a loader's batches, in their order: how each is read, its kind, and its Python callables."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    outputs: tuple[OutputSpec, ...]
    callables: Mapping[str, tuple[Callable[..., Any], ...]]


def plan_columns(
    schema: Mapping[str, ColumnType] | Mapping[str, Tokens],
    columns: Sequence[str] | None,
    transforms: Mapping[str, Sequence[Any]],
) -> ColumnPlan:
    """Return the plan for `columns` (None: all). Raises ConfigError for columns that are not there and for chains that
    cannot be done."""
    known = list(schema)
    names = tuple(known if columns is None else columns)
    for name in names:
        if name not in schema:
            raise ConfigError(f"there is no column {name!r}: the dataset has {', '.join(known)}.")
    for name in transforms:
        if name not in names:
            raise ConfigError(f"transforms={{{name!r}: …}}: the column is not among those read ({', '.join(names)}).")
    outputs, kinds, callables = [], [], {}
    for name in names:
        column = schema[name]
        kind = kind_of(column)
        native, python = _split(name, transforms.get(name, ()))
        outputs.append(_output(known.index(name), name, column, kind, native))
        kinds.append(kind)
        if python:
            callables[name] = python
    return ColumnPlan(names, tuple(kinds), tuple(outputs), callables)


def kind_of(column: ColumnType | Tokens) -> str:
    """The kind's name as batches use it: scalar, tensor, array (tokens too), bytes, text, json, image."""
    return "array" if isinstance(column, Tokens) else column.kind.name.lower()


def _split(name: str, chain: Sequence[Any]) -> tuple[list[Any], tuple[Callable[..., Any], ...]]:
    """Cut a chain into its native head and its Python tail."""
    native: list[Any] = []
    python: list[Callable[..., Any]] = []
    for step in chain:
        if _is_native(step):
            if python:
                raise ConfigError(f"transforms of column {name!r}: {step!r} runs natively while the sample is decoded, "
                                  f"so it must come before the Python callable {python[-1]!r}.")
            native.append(step)
        elif callable(step):
            python.append(step)
        else:
            raise ConfigError(f"transforms of column {name!r}: {step!r} is neither a transform of fastfeed.image, nor "
                              "fastfeed.Cast, nor something that can be called.")
    return native, tuple(python)


def _is_native(step: Any) -> bool:
    return isinstance(step, Cast | image.TRANSFORMS)


def stored_output(number: int, column: ColumnType | Tokens) -> OutputSpec:
    """The output that gives column `number` as it is stored."""
    if isinstance(column, Tokens):
        return OutputSpec(number, dtype=column.dtype)
    if column.item_type is None:
        return OutputSpec(number)
    return OutputSpec(number, dtype=column.item_type, shape=column.dims or ())


def _output(number: int, name: str, column: ColumnType | Tokens, kind: str, native: list[Any]) -> OutputSpec:
    stored = stored_output(number, column)
    if not native:
        return stored
    casts = [step for step in native if isinstance(step, Cast)]
    if kind == "image":
        if casts:
            raise ConfigError(f"transforms of column {name!r}: Cast is for numbers; an image's type is set by "
                              "fastfeed.image.Normalize(dtype=…).")
        return stored._replace(image=image.compile_program(native))
    if len(casts) != len(native):
        raise ConfigError(f"transforms of column {name!r}: fastfeed.image needs an Image column, this one is {kind}.")
    if kind not in _CAST_KINDS:
        raise ConfigError(f"transforms of column {name!r}: Cast is for numbers, this column is {kind}. "
                          "Use a Python callable.")
    if len(casts) > 1:
        raise ConfigError(f"transforms of column {name!r}: give one Cast, not {len(casts)}.")
    return stored._replace(cast=casts[0].dtype)
