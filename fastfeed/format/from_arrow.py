"""Columns out of Arrow arrays, without a copy where Arrow's layout is ours, and without Python work a row.

Columns match by name. Accepted are: numbers for scalars of the same kind (integers also for floats; a value
out of range is an error), (large_)binary and fixed_size_binary for bytes and images, (large_)string for text,
lists of any of Arrow's kinds for tensors and arrays, flattened or nested as the shape says, views and
dictionary-encoded arrays of all of these. A json column takes strings of JSON text or any other Arrow type,
of which it keeps the JSON; this is the one conversion that costs Python work a row, since text must be
checked and brought into its one form.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fastfeed.errors import ConfigError
from fastfeed.format.columns import PlainColumn
from fastfeed.format.from_python import plain_column as plain_python_column
from fastfeed.format.schema import ITEM_TYPES, ColumnType, Kind


def plain_column(name: str, column: ColumnType, array: pa.Array) -> PlainColumn:
    """`array` as the column wants it. ConfigError names the column and, where one row is at fault, the
    row.
    """
    array = _unwrapped(array)
    if column.kind is Kind.JSON:
        return _json_column(name, column, array)
    nulls = _nulls(name, column, array)
    if column.kind is Kind.SCALAR:
        return PlainColumn(nulls, items=_scalars(name, column, array, nulls))
    if column.kind is Kind.TENSOR:
        return PlainColumn(nulls, items=_tensors(name, column, array, nulls))
    if column.kind is Kind.ARRAY:
        return _arrays(name, column, array, nulls)
    return _binary(name, column, array, nulls)


def _unwrapped(array: pa.Array) -> pa.Array:
    """Without extension type and dictionary encoding."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _nulls(name: str, column: ColumnType, array: pa.Array) -> npt.NDArray[np.uint8] | None:
    if array.null_count == 0:
        return None
    nulls: npt.NDArray[np.uint8] = array.is_null().cast(pa.uint8()).to_numpy(zero_copy_only=False)
    if not column.nullable:
        raise ConfigError(
            f"column {name!r}, row {int(nulls.argmax())} of the batch: null, but the column is not nullable. "
            "Fill the nulls, or declare it nullable=True."
        )
    return nulls


# --- numbers ---


def _scalars(
    name: str, column: ColumnType, array: pa.Array, nulls: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.generic]:
    items = _items(name, column, array)
    if nulls is None:
        return items
    items = items.copy()
    items[nulls.view(bool)] = 0  # what lies under a null is anything
    return items


def _items(name: str, column: ColumnType, array: pa.Array) -> npt.NDArray[np.generic]:
    """The numbers of `array`, whatever under nulls, in the column's item type; a view where the types are
    equal.
    """
    assert column.item_type is not None
    wanted = ITEM_TYPES[column.item_type]
    if array.type != wanted:
        array = _cast(name, column, array, wanted)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    data = array.buffers()[1]
    dtype = np.dtype(np.uint8 if column.item_type == "bool" else column.item_type)
    if len(array) == 0 or data is None:
        return np.empty(0, np.dtype(column.item_type))
    items = np.frombuffer(data, dtype, len(array), array.offset * dtype.itemsize)
    return items.view(np.bool_) if column.item_type == "bool" else items


def _cast(name: str, column: ColumnType, array: pa.Array, wanted: pa.DataType) -> pa.Array:
    given_integers, wanted_integers = pa.types.is_integer(array.type), pa.types.is_integer(wanted)
    given_floats, wanted_floats = pa.types.is_floating(array.type), pa.types.is_floating(wanted)
    if not ((given_integers and wanted_integers) or (wanted_floats and (given_integers or given_floats))):
        raise _unfit(name, column, array.type)
    try:
        # Integers may round when they become floats, as in Python; they may not wrap when they become
        # smaller.
        cast = array.cast(wanted, safe=wanted_integers)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"column {name!r}: a value of {array.type} does not fit {column.item_type}: {error}"
        ) from error
    if wanted_floats and given_floats:
        overflowed = pc.and_(pc.is_inf(cast.cast(pa.float64())), pc.invert(pc.is_inf(array.cast(pa.float64()))))
        if pc.any(overflowed).as_py():
            row = pc.index(overflowed, True).as_py()
            raise ConfigError(
                f"column {name!r}, row {row} of the batch: {array[row].as_py()!r} does not fit {column.item_type}"
            )
    return cast


# --- lists ---


def _tensors(
    name: str, column: ColumnType, array: pa.Array, nulls: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.generic]:
    present = array if nulls is None else array.drop_null()  # what lies under a null is anything
    offsets, leaves = _flattened(name, column, present)
    size = column.step_items
    lengths = np.diff(offsets)
    if bool((lengths != size).any()):
        row = int((lengths != size).argmax())
        raise ConfigError(
            f"column {name!r}, value {row} of the batch: {lengths[row]} items, the shape {column.dims} has {size}"
        )
    items = _leaf_items(name, column, leaves)[offsets[0] : offsets[-1]].reshape(len(present), size)
    if nulls is None:
        return items
    whole = np.zeros((len(array), size), items.dtype)
    whole[nulls == 0] = items
    return whole


def _arrays(name: str, column: ColumnType, array: pa.Array, nulls: npt.NDArray[np.uint8] | None) -> PlainColumn:
    present = array if nulls is None else array.drop_null()
    offsets, leaves = _flattened(name, column, present)
    lengths = np.diff(offsets)
    odd = lengths % column.step_items != 0
    if bool(odd.any()):
        row = int(odd.argmax())
        raise ConfigError(
            f"column {name!r}, value {row} of the batch: {lengths[row]} items are no multiple of {column.step_items}, "
            f"as the shape {column.dims} needs"
        )
    items = _leaf_items(name, column, leaves)
    if nulls is not None:
        whole = np.zeros(len(array) + 1, np.int64)
        whole[1:][nulls == 0] = lengths
        offsets = offsets[0] + np.cumsum(whole)
    return PlainColumn(nulls, values=items.view(np.uint8), offsets=offsets * column.item_bytes)


def _flattened(name: str, column: ColumnType, array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """(offsets in leaves [n + 1], the leaves). Inner lists, where there are any, must have the sizes of
    the shape.
    """
    if not _is_list(array.type):
        raise _unfit(name, column, array.type)
    offsets, leaves = _list_parts(array)
    dims = (column.dims or ())[1:]
    for size in dims:
        if not _is_list(leaves.type):
            break  # flattened, as fastfeed itself stores it
        inner, below = _list_parts(leaves)
        lengths = np.diff(inner)
        if leaves.null_count or (size is not None and bool((lengths != size).any())):
            raise ConfigError(f"column {name!r}: an inner list has not the size {size} of the shape {column.dims}")
        offsets, leaves = inner[offsets], below
    if _is_list(leaves.type):
        raise _unfit(name, column, array.type)
    return offsets, leaves


def _list_parts(array: pa.Array) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """(offsets [n + 1] into the values, the values), views where offsets have 64 bits."""
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        values = array.values
        return (array.offset + np.arange(len(array) + 1, dtype=np.int64)) * size, values
    return array.offsets.to_numpy().astype(np.int64, copy=False), array.values


def _leaf_items(name: str, column: ColumnType, leaves: pa.Array) -> npt.NDArray[np.generic]:
    leaves = _unwrapped(leaves)
    if leaves.null_count:
        raise ConfigError(f"column {name!r}: a null inside a list; items cannot be null. Fill them first.")
    return _items(name, column, leaves)


def _is_list(arrow_type: pa.DataType) -> bool:
    variable = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
    return bool(variable or pa.types.is_fixed_size_list(arrow_type))


# --- bytes, text, json, images ---


def _binary(name: str, column: ColumnType, array: pa.Array, nulls: npt.NDArray[np.uint8] | None) -> PlainColumn:
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or array.type == pa.string_view()
    is_bytes = (
        pa.types.is_binary(array.type)
        or pa.types.is_large_binary(array.type)
        or pa.types.is_fixed_size_binary(array.type)
        or array.type == pa.binary_view()
    )
    if not (is_text if column.kind is Kind.TEXT else is_bytes):
        raise _unfit(name, column, array.type)
    if is_text:
        _check_utf8(name, array)
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        offset_type: type[np.signedinteger[Any]] = np.int32
    else:
        offset_type = np.int64
        array = array.cast(pa.large_string() if is_text else pa.large_binary())
    if nulls is not None:
        array = array.fill_null("" if is_text else b"")
    _, offsets_buffer, data = array.buffers()
    if len(array) == 0:
        return PlainColumn(nulls, values=np.empty(0, np.uint8), offsets=np.zeros(1, np.int64))
    start = array.offset * np.dtype(offset_type).itemsize
    offsets = np.frombuffer(offsets_buffer, offset_type, len(array) + 1, start).astype(np.int64, copy=False)
    values = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return PlainColumn(nulls, values=values, offsets=offsets)


def _check_utf8(name: str, array: pa.Array) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"column {name!r}: text that is not valid UTF-8: {error}") from error


def _json_column(name: str, column: ColumnType, array: pa.Array) -> PlainColumn:
    values = array.to_pylist()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or array.type == pa.string_view():
        values = [None if value is None else _parsed(name, row, value) for row, value in enumerate(values)]
        if not column.nullable and array.null_count:
            _nulls(name, column, array)
    return plain_python_column(name, column, values)


def _parsed(name: str, row: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"column {name!r}, row {row} of the batch: {text[:80]!r} is no JSON: {error}") from error


def _unfit(name: str, column: ColumnType, arrow_type: pa.DataType) -> ConfigError:
    return ConfigError(
        f"column {name!r}: Arrow type {arrow_type} does not fit {column!r}. Cast it, for example to "
        f"{column.arrow_type}."
    )
