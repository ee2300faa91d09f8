"""Columns out of Python samples: checks each value against its column, and says which one does not fit.

Each kind has a fast path that converts the whole column at once, and one slow loop, entered only after a
failure, that finds the row to name. What fits: ints into integer columns (within range), ints and floats into
float columns, bools into bool columns, numpy scalars like their Python counterparts; anything that numpy can
make an array of into tensors and arrays, as long as no value changes but by rounding; str into text; bytes,
bytearray, memoryview and uint8 arrays into bytes and images; whatever json.dumps accepts into json.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed.errors import ConfigError
from fastfeed.format.columns import PlainColumn
from fastfeed.format.schema import ColumnType, Kind


def dump_json(value: Any) -> str:
    """The one text that stands for `value` in a json column."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def plain_column(name: str, column: ColumnType, values: Sequence[Any]) -> PlainColumn:
    """`values`, None where missing, as the column wants them. ConfigError names the row and the value's
    type.
    """
    nulls = _nulls(name, column, values)
    if column.kind is Kind.SCALAR:
        return PlainColumn(nulls, items=_scalars(name, column, values))
    if column.kind is Kind.TENSOR:
        return PlainColumn(nulls, items=_tensors(name, column, values))
    if column.kind is Kind.ARRAY:
        return _joined(nulls, [b"" if v is None else _array(name, column, row, v) for row, v in enumerate(values)])
    return _joined(nulls, _encoded(name, column, values, nulls))


def _nulls(name: str, column: ColumnType, values: Sequence[Any]) -> npt.NDArray[np.uint8] | None:
    if column.kind is Kind.JSON and not column.nullable:
        return None  # None is the JSON value null
    if not any(value is None for value in values):
        return None
    nulls = np.fromiter((value is None for value in values), np.uint8, len(values))
    if not column.nullable:
        row = int(nulls.argmax())
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: None, but the column is not nullable. Give a value, or "
            f"declare it nullable=True."
        )
    return nulls


def _joined(nulls: npt.NDArray[np.uint8] | None, parts: Sequence[bytes | memoryview]) -> PlainColumn:
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    return PlainColumn(nulls, values=np.frombuffer(b"".join(parts), np.uint8), offsets=offsets)


# --- scalars ---

_BOOL_TYPES: set[type] = {bool, np.bool_}
_INT_TYPES: set[type] = {int, *(np.dtype(code).type for code in "bhilqBHILQ")}
_FLOAT_TYPES: set[type] = {float, *(np.dtype(code).type for code in "efdg")}
_SCALAR_TYPES: dict[str, set[type]] = {
    "b": _BOOL_TYPES,
    "i": _INT_TYPES,
    "u": _INT_TYPES,
    "f": _INT_TYPES | _FLOAT_TYPES,
}


def _scalars(name: str, column: ColumnType, values: Sequence[Any]) -> npt.NDArray[np.generic]:
    dtype = np.dtype(column.item_type)
    wanted = _SCALAR_TYPES[dtype.kind]
    zero = dtype.type(0)
    present = [zero if value is None else value for value in values]
    try:
        if not set(map(type, present)) <= wanted:
            raise TypeError
        return _cast_scalars(present, dtype)
    except (TypeError, OverflowError, ValueError):
        return np.array([_scalar(name, column, row, value, dtype) for row, value in enumerate(present)], dtype)


def _cast_scalars(values: Sequence[Any], dtype: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """All values at once. OverflowError where one does not fit."""
    if dtype.kind == "b":
        return np.array(values, dtype)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            wide = np.array(values, np.float64)
            narrow = wide.astype(dtype, copy=False)
        if bool((np.isinf(narrow) & ~np.isinf(wide)).any()):
            raise OverflowError
        return narrow
    if dtype == np.uint64:
        if min(values, default=0) < 0:
            raise OverflowError
        return np.array(values, np.uint64)
    wide_ints = np.array(values, np.int64)
    limits = np.iinfo(dtype)
    if wide_ints.size and not (limits.min <= int(wide_ints.min()) and int(wide_ints.max()) <= limits.max):
        raise OverflowError
    return wide_ints.astype(dtype, copy=False)


def _scalar(name: str, column: ColumnType, row: int, value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if type(value) not in _SCALAR_TYPES[dtype.kind]:
        raise _unfit(name, row, value, f"a Scalar({column.item_type!r})")
    try:
        return _cast_scalars([value], dtype)[0]
    except OverflowError as error:
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: {value!r} does not fit {column.item_type}"
        ) from error


# --- tensors and arrays ---


def _tensors(name: str, column: ColumnType, values: Sequence[Any]) -> npt.NDArray[np.generic]:
    shape = tuple(size for size in column.dims or () if size is not None)
    items = np.zeros((len(values), *shape), np.dtype(column.item_type))
    for row, value in enumerate(values):
        if value is None:
            continue
        array = _items(name, column, row, value)
        if array.shape != shape:
            raise ConfigError(f"column {name!r}, row {row} of the batch: shape {array.shape}, the column has {shape}")
        items[row] = array
    return items


def _array(name: str, column: ColumnType, row: int, value: Any) -> bytes | memoryview:
    shape = column.dims or ()
    array = _items(name, column, row, value)
    if array.size == 0 and array.ndim == 1:  # [] has no shape to compare
        array = array.reshape([0 if size is None else size for size in shape])
    fits = array.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ConfigError(f"column {name!r}, row {row} of the batch: shape {array.shape}, the column has {shape}")
    return _view(np.ascontiguousarray(array).data)


def _items(name: str, column: ColumnType, row: int, value: Any) -> npt.NDArray[np.generic]:
    """`value` as an array of the column's item type."""
    dtype = np.dtype(column.item_type)
    if isinstance(value, np.ndarray) and value.dtype == dtype:
        return value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:  # ragged lists, and objects whose __array__ refuses
        raise _unfit(name, row, value, f"an array of {dtype.name}") from error
    if array.size == 0:
        return array.astype(dtype) if array.dtype.kind in "biuf" else np.empty(array.shape, dtype)
    same_kind = array.dtype.kind == "b" if dtype.kind == "b" else array.dtype.kind in "iuf"
    if not same_kind or (array.dtype.kind == "f" and dtype.kind != "f"):
        raise _unfit(name, row, value, f"an array of {dtype.name}", f" of {array.dtype}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    lossy = (
        (np.isinf(cast) & ~np.isinf(array)) if dtype.kind == "f" else ((cast != array) | ((cast < 0) != (array < 0)))
    )
    if bool(np.any(lossy)):
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: {array[lossy][0]!r} in an array of {array.dtype} does not fit "
            f"{dtype.name}"
        )
    return cast


# --- bytes, text, json, images ---


def _encoded(
    name: str, column: ColumnType, values: Sequence[Any], nulls: npt.NDArray[np.uint8] | None
) -> list[bytes | memoryview]:
    encode = {Kind.TEXT: _text, Kind.JSON: _json}.get(column.kind, _bytes)
    parts: list[bytes | memoryview] = []
    for row, value in enumerate(values):
        if nulls is not None and value is None:
            parts.append(b"")
        else:
            parts.append(encode(name, row, value))
    return parts


def _bytes(name: str, row: int, value: Any) -> bytes | memoryview:
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview | np.ndarray):
        view = value.data if isinstance(value, np.ndarray) else memoryview(value)
        if view.c_contiguous and view.itemsize == 1:
            return _view(view)
    raise _unfit(name, row, value, "bytes")


def _view(view: memoryview) -> bytes | memoryview:
    return view.cast("B") if view.nbytes else b""  # a view of no bytes cannot be cast


def _text(name: str, row: int, value: Any) -> bytes:
    if not isinstance(value, str):
        raise _unfit(name, row, value, "a str")
    return _utf8(name, row, value)


def _json(name: str, row: int, value: Any) -> bytes:
    try:
        text = dump_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: a {type(value).__name__} that is no JSON: {error}"
        ) from error
    return _utf8(name, row, text)


def _utf8(name: str, row: int, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"column {name!r}, row {row} of the batch: text that is not valid Unicode: {error}"
        ) from error


def _unfit(name: str, row: int, value: Any, wanted: str, detail: str = "") -> ConfigError:
    return ConfigError(
        f"column {name!r}, row {row} of the batch: a {type(value).__name__}{detail} where the column wants {wanted}"
    )
