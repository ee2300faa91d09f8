"""From columns of a schema to what the native reader makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastfeed._native.feed import OutputSpec
from fastfeed._native.image import ImageProgram
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema, StreamSchema


def checked_columns(schema: AnySchema, columns: Sequence[str] | None) -> list[str]:
    """`columns`, or all of the schema's. ConfigError for one that is not in it, or that is asked for twice."""
    if columns is None:
        return schema.names
    if isinstance(columns, str):
        raise ConfigError(f"columns={columns!r} is one str: give a list of names, like [{columns!r}].")
    unknown = [name for name in columns if name not in schema]
    if unknown:
        raise ConfigError(f"no columns {unknown} in this dataset: it has {schema.names}.")
    if len(set(columns)) != len(columns) or not columns:
        raise ConfigError(f"columns={list(columns)}: name at least one, and each once.")
    return list(columns)


def output_specs(
    schema: AnySchema,
    columns: Sequence[str],
    images: Mapping[str, ImageProgram] | None = None,
    casts: Mapping[str, str] | None = None,
) -> list[OutputSpec]:
    """What a native Reader needs to make `columns` (all in the schema), images decoded and items cast as given."""
    if isinstance(schema, StreamSchema):
        return [OutputSpec(column=0, cast=(casts or {}).get("tokens"), dtype=schema.dtype) for _ in columns]
    numbers = {name: number for number, name in enumerate(schema)}
    return [
        OutputSpec(
            column=numbers[name],
            image=(images or {}).get(name),
            cast=(casts or {}).get(name),
            dtype=schema[name].item_type or "uint8",
            shape=schema[name].dims or (),
        )
        for name in columns
    ]


def kind_names(schema: AnySchema, columns: Sequence[str]) -> list[str]:
    """The kind of each column as `Ragged.kind` wants it: "scalar" … "image", or "array" for tokens."""
    if isinstance(schema, StreamSchema):
        return ["array" for _ in columns]
    return [schema[name].kind.name.lower() for name in columns]
