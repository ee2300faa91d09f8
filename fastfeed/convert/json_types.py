"""Which column type holds all values of a JSON column: inferred from every value, not from the first ones.

null and an absent key are missing values: the column becomes nullable. Numbers are int64; uint64 where they
need it and none is negative; float64 as soon as one has a fraction or an exponent. Lists of numbers (of
lists of one length, of numbers) are arrays with a free first dimension. Other lists and objects are json.
Kinds that no type holds together are a ConfigError that names a line of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastfeed.errors import ConfigError
from fastfeed.format.schema import DIMENSION_COUNT_MAX, Array, ColumnType, Json, Scalar, Text

INT64_MIN, INT64_MAX, UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
WORDS = {bool: "true or false", int: "numbers", float: "numbers", str: "text", list: "lists", dict: "objects"}
REMEDY = "Say what it is with --schema, or clean the input"


class Numbers(NamedTuple):
    """What is known of numbers that a type has to hold."""

    kind: type  # bool, int or float
    least: int = 0
    most: int = 0

    def joined(self, other: Numbers) -> Numbers | None:
        """What holds both; None where nothing does."""
        if (self.kind is bool) != (other.kind is bool):
            return None
        kind = float if float in (self.kind, other.kind) else self.kind
        return Numbers(kind, min(self.least, other.least), max(self.most, other.most))

    @property
    def dtype(self) -> str | None:
        """The item type; None where none is large enough."""
        if self.kind is bool:
            return "bool"
        if self.kind is float:
            return "float64"
        if self.least >= INT64_MIN and self.most <= INT64_MAX:
            return "int64"
        return "uint64" if self.least >= 0 and self.most <= UINT64_MAX else None


class Lists(NamedTuple):
    """What is known of nested lists of numbers; `numbers` is None where all are empty."""

    numbers: Numbers | None = None
    dims: tuple[int, ...] = ()  # all but the first

    def joined(self, other: Lists) -> Lists | None:
        """What holds both; None where nothing does."""
        if self.numbers is None or other.numbers is None:
            return self if other.numbers is None else other
        numbers = self.numbers.joined(other.numbers)
        return None if numbers is None or self.dims != other.dims else Lists(numbers, self.dims)


class JsonColumn:
    """The values of one column, seen one by one."""

    def __init__(self) -> None:
        self.present = 0  # values that are not null
        self._first: dict[str, str] = {}  # word -> where it was met first
        self._types: set[type] = set()
        self._least = self._most = 0
        self._lists: Lists | None = Lists()  # None: json

    def add(self, value: Any, file_name: str, line: int) -> None:
        """One more value, and where it stands."""
        if value is None:
            return
        self.present += 1
        kind = type(value)
        if kind not in self._types:
            self._types.add(kind)
            self._first.setdefault(WORDS[kind], f"{file_name}, line {line:,}")
        if kind is int:
            if value < self._least:
                self._least = value
            elif value > self._most:
                self._most = value
        elif kind is list and self._lists is not None:
            found = lists_of(value)
            self._lists = None if found is None else self._lists.joined(found)

    def column(self, name: str, *, nullable: bool) -> ColumnType:
        """The type."""
        kinds = self._types
        if kinds <= {str}:
            return Text(nullable=nullable)
        if kinds in ({bool}, {int}, {float}, {int, float}):
            kind = float if float in kinds else next(iter(kinds))
            dtype = Numbers(kind, self._least, self._most).dtype
            if dtype is None:
                raise ConfigError(
                    f"column {name!r}: has integers from {self._least} to {self._most}, more than 64 bits. {REMEDY}."
                )
            return Scalar(dtype, nullable=nullable)
        if kinds == {list} and self._lists is not None and self._lists.numbers is not None:
            dtype = self._lists.numbers.dtype
            if dtype is not None:
                return Array(dtype, (None, *self._lists.dims), nullable=nullable)
        if kinds <= {list, dict}:
            return Json(nullable=nullable)
        where = " and ".join(f"{word} ({place})" for word, place in self._first.items())
        raise ConfigError(f"column {name!r}: has {where}. {REMEDY}.")


def lists_of(value: list[Any], depth: int = 1) -> Lists | None:
    """What is known of one list; None where it is not made of numbers in a regular shape."""
    kinds = set(map(type, value))
    if not kinds:
        return Lists()
    if kinds == {bool}:
        return Lists(Numbers(bool))
    if kinds == {int}:
        return Lists(Numbers(int, min(0, min(value)), max(0, max(value))))
    if kinds <= {int, float}:
        return Lists(Numbers(float))
    if kinds != {list} or depth == DIMENSION_COUNT_MAX or not value[0] or len(set(map(len, value))) > 1:
        return None
    together: Lists | None = Lists()
    for inner in value:
        found = lists_of(inner, depth + 1)
        together = None if found is None or together is None else together.joined(found)
        if together is None:
            return None
    assert together is not None
    return Lists(together.numbers, (len(value[0]), *together.dims))
