"""From `columns=` and `transforms=` to what the native reader makes and what Python does afterwards.

A chain of transforms begins with native ones (`fastfeed.image`, `fastfeed.Cast`), which the reader applies while it
decodes, and may go on with Python callables. Pure: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fastfeed._native.feed import OutputSpec
from fastfeed._native.image import ImageProgram
from fastfeed.dataset.outputs import checked_columns, kind_names, output_specs
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema
from fastfeed.loader import image
from fastfeed.loader.transforms import Cast


class ColumnPlan(NamedTuple):
    """The columns of a loader's batches, in their order: how each is read, its kind, and its Python callables."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    outputs: tuple[OutputSpec, ...]
    callables: Mapping[str, tuple[Callable[..., Any], ...]]


def plan_columns(
    schema: AnySchema, columns: Sequence[str] | None, transforms: Mapping[str, Sequence[Any]]
) -> ColumnPlan:
    """Return the plan for `columns` (None: all). Raises ConfigError for columns that are not there and for chains that
    cannot be done."""
    names = checked_columns(schema, columns)
    kinds = dict(zip(names, kind_names(schema, names), strict=True))
    images: dict[str, ImageProgram] = {}
    casts: dict[str, str] = {}
    callables: dict[str, tuple[Callable[..., Any], ...]] = {}
    for name, chain in transforms.items():
        if name not in kinds:
            raise ConfigError(f"transforms={{{name!r}: …}}: the column is not among those read ({', '.join(names)}).")
        native, python = _split(name, chain)
        if native and kinds[name] == "image":
            images[name] = _image_program(name, native)
        elif native:
            casts[name] = _cast(name, kinds[name], native)
        if python:
            callables[name] = python
    outputs = output_specs(schema, names, images, casts)
    return ColumnPlan(tuple(names), tuple(kinds.values()), tuple(outputs), callables)


def _split(name: str, chain: Sequence[Any]) -> tuple[list[Any], tuple[Callable[..., Any], ...]]:
    """Cut a chain into its native head and its Python tail."""
    native: list[Any] = []
    python: list[Callable[..., Any]] = []
    for step in chain:
        if isinstance(step, Cast | image.TRANSFORMS):
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


def _image_program(name: str, native: Sequence[Any]) -> ImageProgram:
    if any(isinstance(step, Cast) for step in native):
        raise ConfigError(f"transforms of column {name!r}: Cast is for numbers; an image's type is set by "
                          "fastfeed.image.Normalize(dtype=…), or by a Python callable.")
    return image.compile_program(native)


def _cast(name: str, kind: str, native: Sequence[Any]) -> str:
    casts = [step for step in native if isinstance(step, Cast)]
    if len(casts) != len(native):
        raise ConfigError(f"transforms of column {name!r}: fastfeed.image needs an Image column, this one is {kind}.")
    if kind not in ("scalar", "tensor", "array"):
        raise ConfigError(f"transforms of column {name!r}: Cast is for numbers, this column is {kind}. "
                          "Use a Python callable.")
    if len(casts) > 1:
        raise ConfigError(f"transforms of column {name!r}: give one Cast, not {len(casts)}.")
    return casts[0].dtype
