"""What reading many rows gives: `Batch`, and `Ragged` for columns whose values differ in size.

Framework-free: numpy arrays, which DLPack shares with any framework without copying. An array of a batch is the
user's as long as any view of it lives; the reader reuses its memory afterwards. Nothing here reads files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from fastfeed.errors import ConfigError, CorruptDataError

if TYPE_CHECKING:
    from fastfeed._native.feed import NativeBatch, RaggedArrays

# Kinds (fastfeed.format.schema) whose ragged values are bytes of something.
_BYTE_KINDS = ("bytes", "text", "json", "image")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ragged:
    """n values of different sizes, one after the other.

    values: the items, flat (uint8 for bytes, text, json and encoded images). offsets: int64 [n + 1], in items.
    shapes: int64 [n, dimensions], or None where a value has one dimension. kind: the column's, which says what
    `ragged[i]` is: bytes, str, a parsed JSON value, or an array. nulls: bool [n], or None where none can be.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64] | None = None
    kind: str = "array"
    nulls: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Ragged: ...
    def __getitem__(self, index: int | np.integer[Any] | slice) -> Any:
        """Value `index` (None where it is null; arrays are views), or a Ragged of a slice's values."""
        if isinstance(index, slice):
            return self._slice(range(len(self))[index])
        number = int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index {number} is outside a ragged column of {len(self)} values")
        return self._value(number % len(self))

    def __iter__(self) -> Iterator[Any]:
        return (self._value(number) for number in range(len(self)))

    def tolist(self) -> list[Any]:
        """The values as Python objects: arrays become nested lists."""
        return [value.tolist() if isinstance(value, np.ndarray) else value for value in self]

    def __repr__(self) -> str:
        return f"Ragged({len(self)} values of kind {self.kind!r}, {self.values.size} items of {self.values.dtype})"

    def _value(self, number: int) -> Any:
        if self.nulls is not None and self.nulls[number]:
            return None
        value = self.values[self.offsets[number] : self.offsets[number + 1]]
        if self.kind in _BYTE_KINDS and self.shapes is None:
            data = value.tobytes()
            if self.kind == "text":
                return decode_text(data, f"text value {number}")
            return parse_json(data, f"JSON value {number}") if self.kind == "json" else data
        return value if self.shapes is None else value.reshape(self.shapes[number])

    def _slice(self, numbers: range) -> Ragged:
        if numbers.step == 1:
            picked = slice(numbers.start, max(numbers.start, numbers.stop))
            offsets = self.offsets[picked.start : picked.stop + 1]
            return Ragged(
                self.values[offsets[0] : offsets[-1]],
                offsets - offsets[0],
                None if self.shapes is None else self.shapes[picked],
                self.kind,
                None if self.nulls is None else self.nulls[picked],
            )
        rows = np.fromiter(numbers, np.int64, len(numbers))
        nulls = None if self.nulls is None else self.nulls[rows]
        parts = [self.values[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        values = np.concatenate(parts) if parts else self.values[:0]
        return Ragged(values, offsets, None if self.shapes is None else self.shapes[rows], self.kind, nulls)


ColumnValues: TypeAlias = npt.NDArray[Any] | Ragged


class Batch:
    """One array a column (`Ragged` where values differ in size), for the same n samples in the same order.

    rows: int64 [n], which rows of the dataset these are. positions: int64 [n], where in the epoch's order they
    came. valid: bool [n], False for padding and for samples that could not be read. source: int64 [n] in a mixture,
    else None. nulls: for each column bool [n], or None where the column is not nullable; a null's value is zero.
    """

    __slots__ = ("columns", "nulls", "positions", "rows", "source", "valid")

    def __init__(
        self,
        columns: Mapping[str, Any],
        rows: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        valid: npt.NDArray[np.bool_],
        nulls: Mapping[str, npt.NDArray[np.bool_] | None] | None = None,
        source: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.rows = rows
        self.positions = positions
        self.valid = valid
        self.nulls = dict.fromkeys(self.columns) if nulls is None else dict(nulls)
        self.source = source

    @classmethod
    def from_native(cls, native: NativeBatch, names: Sequence[str], kinds: Sequence[str]) -> Batch:
        """Wrap what a reader made, without copying. names, kinds: of its outputs, in their order."""
        batch = cls.__new__(cls)  # the dicts made here are its own
        columns: dict[str, ColumnValues] = {}
        for name, kind, column, nulls in zip(names, kinds, native.columns, native.nulls, strict=True):
            if isinstance(column, np.ndarray):
                columns[name] = column
            else:
                missing = _without_text(column, nulls, native.valid) if kind == "json" else nulls
                columns[name] = Ragged(column.values, column.offsets, column.shapes, kind, missing)
        batch.columns, batch.nulls = columns, dict(zip(names, native.nulls, strict=True))
        batch.rows, batch.positions, batch.valid = native.rows, native.positions, native.valid
        batch.source = None
        return batch

    def __len__(self) -> int:
        """Samples in the batch (not columns)."""
        return len(self.rows)

    def __getitem__(self, name: str) -> Any:
        try:
            return self.columns[name]
        except KeyError:
            raise KeyError(f"no column {name!r} in this batch: it has {', '.join(self.columns)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def keys(self) -> Sequence[str]:
        """Column names, in order."""
        return list(self.columns)

    def values(self) -> Sequence[Any]:
        """Columns, in the order of keys()."""
        return list(self.columns.values())

    def items(self) -> Sequence[tuple[str, Any]]:
        """(name, column) pairs, in order."""
        return list(self.columns.items())

    def to(self, device: object) -> Batch:
        """This batch: it is in the CPU's memory, and only `fastfeed.torch` knows other devices."""
        if str(device) != "cpu":
            raise ConfigError(f"to({device!r}): a numpy batch is on 'cpu'. fastfeed.torch.Loader knows other devices.")
        return self

    def to_dict(self) -> dict[str, list[Any]]:
        """Every column as a list of Python values, None for nulls."""
        return {name: self._to_list(name, column) for name, column in self.columns.items()}

    def __repr__(self) -> str:
        parts = (
            f"{name}: {column.dtype}{list(column.shape)}" if isinstance(column, np.ndarray) else f"{name}: {column!r}"
            for name, column in self.columns.items()
        )
        return f"Batch({len(self)} samples; {', '.join(parts)})"

    def _to_list(self, name: str, column: Any) -> list[Any]:
        values: list[Any] = column.tolist()
        nulls = self.nulls.get(name)
        if nulls is None:
            return values
        return [None if null else value for value, null in zip(values, nulls, strict=True)]


def _without_text(
    column: RaggedArrays, nulls: npt.NDArray[np.bool_] | None, valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_] | None:
    """Which values of a JSON column have no text to parse: nulls, and samples that could not be read. Elsewhere an
    empty text is an error."""
    if valid.all():
        return nulls
    holes: npt.NDArray[np.bool_] = ~valid & (np.diff(column.offsets) == 0)
    return holes if nulls is None else holes | nulls


def decode_text(data: bytes, where: str) -> str:
    """The value of a text column. Writers store UTF-8, so what is not was not written by one."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptDataError(f"{where}: is not UTF-8 ({error})") from error


def parse_json(data: str | bytes, where: str) -> Any:
    """The value of a JSON column. Writers check what they store, so what is no JSON was not written by one."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptDataError(f"{where}: is no JSON ({error})") from error
