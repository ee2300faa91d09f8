"""Which column a Parquet (Arrow) type becomes, and how its arrays get there (docs/convert.md has the table)."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from fastfeed.errors import ConfigError
from fastfeed.format.schema import (
    ITEM_TYPES,
    Array,
    Bytes,
    ColumnType,
    Image,
    Json,
    Kind,
    Scalar,
    Shape,
    Tensor,
    Text,
)

ITEM_NAMES = {arrow_type: name for name, arrow_type in ITEM_TYPES.items()}


def found_type(column: pa.Field, *, nullable: bool, image: bool) -> ColumnType:
    """The type of a column. `image`: its bytes begin as images do. ConfigError where no type fits."""
    arrow_type = plain_type(column.type)
    if is_binary(arrow_type):
        return Image(nullable=nullable) if image else Bytes(nullable=nullable)
    if arrow_type in ITEM_NAMES:
        return Scalar(ITEM_NAMES[arrow_type], nullable=nullable)
    if pa.types.is_temporal(arrow_type):
        return Scalar(f"int{arrow_type.bit_width}", nullable=nullable)
    if is_text(arrow_type) or pa.types.is_decimal(arrow_type):
        return Text(nullable=nullable)
    if pa.types.is_null(arrow_type):
        return Text(nullable=True)
    shaped = list_type(arrow_type, nullable)
    if shaped is not None:
        return shaped
    if is_json(arrow_type):
        return Json(nullable=nullable)
    raise ConfigError(
        f"column {column.name!r}: {arrow_type} has no counterpart, since JSON cannot hold all of it. Leave it out "
        "with --columns, or write it another way."
    )


def plain_type(arrow_type: pa.DataType) -> pa.DataType:
    """Without dictionary encoding; of extensions, what they are stored as (a tensor's with its shape)."""
    if isinstance(arrow_type, pa.FixedShapeTensorType):
        nested = arrow_type.value_type
        for size in reversed(arrow_type.shape):
            nested = pa.list_(nested, size)
        return nested
    if isinstance(arrow_type, pa.BaseExtensionType):
        return plain_type(arrow_type.storage_type)
    return plain_type(arrow_type.value_type) if pa.types.is_dictionary(arrow_type) else arrow_type


def list_type(arrow_type: pa.DataType, nullable: bool) -> Tensor | Array | None:
    """Lists of numbers: a tensor where all sizes are fixed, an array where only the outermost is free."""
    dims: list[int | None] = []
    while is_list(arrow_type):
        dims.append(arrow_type.list_size if pa.types.is_fixed_size_list(arrow_type) else None)
        arrow_type = arrow_type.value_type
    item = ITEM_NAMES.get(arrow_type)
    if item is None or not dims or None in dims[1:] or 0 in dims:
        return None
    shape: Shape = tuple(dims)
    if dims[0] is None:
        return Array(item, shape, nullable=nullable)
    return Tensor(item, tuple(size for size in dims if size is not None), nullable=nullable)


def is_binary(arrow_type: pa.DataType) -> bool:
    """Bytes, or the pair of bytes and path that the `datasets` library keeps media files in."""
    if pa.types.is_struct(arrow_type):
        names = {arrow_type.field(at).name: arrow_type.field(at).type for at in range(arrow_type.num_fields)}
        return (
            names.keys() == {"bytes", "path"}
            and is_binary(names["bytes"])
            and (is_text(names["path"]) or pa.types.is_null(names["path"]))
        )
    return bool(
        pa.types.is_binary(arrow_type)
        or pa.types.is_large_binary(arrow_type)
        or pa.types.is_fixed_size_binary(arrow_type)
        or arrow_type == pa.binary_view()
    )


def is_text(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or arrow_type == pa.string_view()
    )


def is_list(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def is_json(arrow_type: pa.DataType) -> bool:
    """Whether JSON can say every value."""
    if is_list(arrow_type):
        return is_json(arrow_type.value_type)
    if pa.types.is_struct(arrow_type):
        return all(is_json(arrow_type.field(at).type) for at in range(arrow_type.num_fields))
    if pa.types.is_map(arrow_type):
        return is_text(arrow_type.key_type) and is_json(arrow_type.item_type)
    return arrow_type in ITEM_NAMES or is_text(arrow_type) or pa.types.is_null(arrow_type)


def fit(array: pa.Array, column: ColumnType) -> pa.Array:
    """The array as the encoder takes it for `column`; itself where that is so already."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    given = array.type
    if pa.types.is_null(given):
        return pa.nulls(len(array), column.arrow_type)
    if column.kind in (Kind.IMAGE, Kind.BYTES) and pa.types.is_struct(given) and is_binary(given):
        return array.flatten()[given.get_field_index("bytes")]
    if column.kind is Kind.BYTES and is_text(given):
        return array.cast(pa.large_binary())
    if column.kind is Kind.SCALAR and pa.types.is_temporal(given):
        return array.cast(pa.int32() if given.bit_width == 32 else pa.int64())
    if column.kind is Kind.SCALAR and pa.types.is_decimal(given):
        return array.cast(pa.float64())
    if column.kind is Kind.TEXT and (pa.types.is_temporal(given) or pa.types.is_decimal(given)):
        return array.cast(pa.large_string())
    if column.kind is Kind.JSON and has_map(given):
        texts = [None if value is None else json.dumps(json_value(value, given)) for value in array.to_pylist()]
        return pa.array(texts, pa.large_string())
    return array


def has_map(arrow_type: pa.DataType) -> bool:
    """Whether a map lies in it, which Arrow gives as a list of pairs."""
    children = [arrow_type.field(at).type for at in range(arrow_type.num_fields)]
    return pa.types.is_map(arrow_type) or any(map(has_map, children))


def json_value(value: Any, arrow_type: pa.DataType) -> Any:
    """A value of to_pylist() with objects in the place of maps."""
    if value is None:
        return None
    if pa.types.is_map(arrow_type):
        return {key: json_value(item, arrow_type.item_type) for key, item in value}
    if pa.types.is_struct(arrow_type):
        return {name: json_value(item, arrow_type.field(name).type) for name, item in value.items()}
    return [json_value(item, arrow_type.value_type) for item in value] if is_list(arrow_type) else value
