"""Label files: a CSV or JSONL table that names files and says things about them.

Reads the table and infers a column type from all of its values; knows nothing of images or folders.

CSV: the first line names the columns, an empty cell is a missing value. JSONL: one object a line, a missing
key or null is a missing value. A column is int64 where every value is a whole number, else float64 where
every value is a number, else text; in JSONL also bool, and json for lists and objects. It is nullable where
a value is missing.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastfeed.errors import ConfigError
from fastfeed.format.schema import ColumnType, Json, Scalar, Text

FILE_COLUMNS = ("file_name", "filename", "file", "path", "image")
# No leading zeros: "007" is a name, and would come back as 7.
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)", re.ASCII)
NUMBER = re.compile(
    r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|nan|inf)", re.ASCII | re.IGNORECASE
)
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
INT64_CHARACTERS_MAX = len(str(INT64_MIN))


@dataclass(frozen=True)
class LabelTable:
    """Columns of a label file; `files` and all columns have one entry a row. Json columns hold JSON text."""

    path: Path
    files: Sequence[str]
    columns: dict[str, list[Any]]
    types: dict[str, ColumnType]


def read_labels(path: Path) -> LabelTable:
    """Read a label file. ConfigError says which line does not make sense; OSError where it cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ConfigError(f"{path}: a label file is a .csv or a .jsonl.")
    read, infer = READERS[suffix]
    columns = read(path)
    file_column = next((name for name in FILE_COLUMNS if name in columns), None)
    if file_column is None:
        raise ConfigError(
            f"{path}: has the columns {', '.join(map(repr, columns)) or '(none)'}, but none that "
            f"names the file. Call it {FILE_COLUMNS[0]!r} (or one of {', '.join(FILE_COLUMNS[1:])})."
        )
    files = columns.pop(file_column)
    for row, name in enumerate(files):
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}: row {row} has no file name in column {file_column!r}.")
    types = {}
    for name in columns:
        columns[name], types[name] = infer(f"{path}: column {name!r}", columns[name])
    return LabelTable(path, files, columns, types)


def read_csv(path: Path) -> dict[str, list[Any]]:
    """Columns of cells; None where a cell is empty. ConfigError names the line."""
    # utf-8-sig: spreadsheets put a byte order mark in front.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            lines = [(reader.line_num, cells) for cells in reader if cells]
        except csv.Error as error:
            raise ConfigError(f"{path}: line {reader.line_num}: {error}.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: is not UTF-8: {error}.") from error
    if not lines:
        raise ConfigError(f"{path}: is empty. The first line names the columns.")
    names = lines[0][1]
    if len(set(names)) < len(names) or "" in names:
        raise ConfigError(f"{path}: the first line must name each column, once; it has {names}.")
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise ConfigError(
                f"{path}: line {number} has {len(cells)} cells, the first line names {len(names)} columns."
            )
    return {name: [cells[at] or None for _, cells in lines[1:]] for at, name in enumerate(names)}


def read_jsonl(path: Path) -> dict[str, list[Any]]:
    """Columns of JSON values; None where a line lacks the key. ConfigError names the line."""
    samples: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(utf8_lines(path, file), start=1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}: line {number} is not JSON: {error}.") from error
            if not isinstance(sample, dict):
                raise ConfigError(f"{path}: line {number} is not an object, but {line.strip()[:40]!r}.")
            samples.append(sample)
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    return {name: [sample.get(name) for sample in samples] for name in names}


def utf8_lines(path: Path, file: Iterable[str]) -> Iterable[str]:
    """The lines of `file`, with a ConfigError that names it where they are not UTF-8."""
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: {error}.") from error


def csv_column(where: str, cells: list[Any]) -> tuple[list[Any], ColumnType]:
    """Infer the type of a column of text cells (None: missing)."""
    present = [cell for cell in cells if cell is not None]
    nullable = len(present) < len(cells)
    if present and all(NUMBER.fullmatch(cell) for cell in present):
        wholes = [cell for cell in present if WHOLE.fullmatch(cell)]
        if all(map(is_int64, wholes)):  # a longer one is the name of something: a float64 would lose its digits
            if len(wholes) == len(present):
                return converted(cells, int), Scalar("int64", nullable=nullable)
            if not any(map(is_beyond_float64, present)):
                return converted(cells, float), Scalar("float64", nullable=nullable)
    return cells, Text(nullable=nullable)


def is_beyond_float64(number: str) -> bool:
    """Whether a number that is not written as an infinity becomes one."""
    return math.isinf(float(number)) and number[-1].isdigit()


def is_int64(whole: str) -> bool:
    """Whether a whole number has at most 64 bits."""
    return len(whole) <= INT64_CHARACTERS_MAX and INT64_MIN <= int(whole) <= INT64_MAX


def json_column(where: str, values: list[Any]) -> tuple[list[Any], ColumnType]:
    """Infer the type of a column of JSON values (None: missing)."""
    present = [value for value in values if value is not None]
    nullable = len(present) < len(values)
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return values, Scalar("bool", nullable=nullable)
    if kinds and kinds <= {int, float}:
        long = next((value for value in present if type(value) is int and not INT64_MIN <= value <= INT64_MAX), None)
        if long is not None:
            raise ConfigError(f"{where} has a whole number of more than 64 bits. Write its values as text.")
        if kinds == {int}:
            return values, Scalar("int64", nullable=nullable)
        return converted(values, float), Scalar("float64", nullable=nullable)
    if kinds <= {str}:
        return values, Text(nullable=nullable)
    if kinds <= {list, dict}:
        return converted(values, json_text), Json(nullable=nullable)
    words = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ConfigError(f"{where} mixes {words}. Make all its values of one kind.")


def json_text(value: Any) -> str:
    """A value as the json column stores it: no spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def converted(values: list[Any], to: Callable[[Any], Any]) -> list[Any]:
    """`to` of each value; None stays."""
    return [None if value is None else to(value) for value in values]


Values = list[Any]
READERS: dict[str, tuple[Callable[[Path], dict[str, Values]], Callable[[str, Values], tuple[Values, ColumnType]]]] = {
    ".csv": (read_csv, csv_column),
    ".jsonl": (read_jsonl, json_column),
}
