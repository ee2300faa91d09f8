"""One column from the values that a Python callable returned for its samples. Pure.

Numbers and numpy scalars become one array; arrays of one shape are stacked; arrays that differ in size, str and
bytes become `Ragged`; anything else, and mixtures, stay a list. None stands for a sample that is not there (a hole): it
gets a zero of the others' type and shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastfeed.dataset.batch import Ragged


def collate_values(values: Sequence[Any]) -> Any:
    """Return the column for `values`: np.ndarray, Ragged or list."""
    present = [value for value in values if value is not None]
    if not present:
        return list(values)
    if all(isinstance(value, str) for value in present):
        return _ragged_bytes([b"" if value is None else value.encode() for value in values], "text")
    if all(isinstance(value, bytes) for value in present):
        return _ragged_bytes([b"" if value is None else value for value in values], "bytes")
    if all(isinstance(value, bool | int | float | np.generic) for value in present):
        return np.asarray([0 if value is None else value for value in values], _number_type(present))
    if all(isinstance(value, np.ndarray) for value in present):
        return _arrays(values, present)
    return list(values)


def _number_type(present: Sequence[Any]) -> np.dtype[Any]:
    """Of numpy scalars their common type; Python's int is int64 and its float float64."""
    return np.result_type(*{np.asarray(value).dtype for value in present})


def _arrays(values: Sequence[Any], present: Sequence[Any]) -> Any:
    dtype = np.result_type(*{value.dtype for value in present})
    if len({value.shape for value in present}) == 1:
        zero = np.zeros(present[0].shape, dtype)
        return np.stack([zero if value is None else value.astype(dtype, copy=False) for value in values])
    dimension_count = present[0].ndim
    if any(value.ndim != dimension_count for value in present):
        return list(values)
    zero = np.zeros((0,) * dimension_count, dtype)
    filled = [zero if value is None else value for value in values]
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([value.size for value in filled], out=offsets[1:])
    flat = np.concatenate([value.reshape(-1) for value in filled]).astype(dtype, copy=False)
    shapes = None if dimension_count == 1 else np.array([value.shape for value in filled], np.int64)
    return Ragged(flat, offsets, shapes, "array")


def _ragged_bytes(values: Sequence[bytes], kind: str) -> Ragged:
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return Ragged(np.frombuffer(bytearray(b"".join(values)), np.uint8), offsets, None, kind)
