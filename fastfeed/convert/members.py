"""What the members of tar samples become: column types from extensions and contents, values from bytes.

`ColumnFinder` sees the head of every member of a column and says its type; `value_of` turns a member's
content into a value of a type. Pickles are bytes: nothing of the input is ever executed.
"""

from __future__ import annotations

import io
import json
import math
import re
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from fastfeed.convert.sniff import is_image
from fastfeed.format.schema import (
    ITEM_TYPES,
    Array,
    Bytes,
    ColumnType,
    Image,
    Json,
    Kind,
    Scalar,
    Tensor,
    Text,
)

# As webdataset's own decoders understand them.
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
NUMBER_EXTENSIONS = ("cls", "cls2", "class", "count", "index", "inx", "id")
TEXT_EXTENSIONS = ("txt", "text", "transcript")
JSON_EXTENSIONS = ("json", "jsn")
ARRAY_EXTENSIONS = ("npy",)
# Bytes of each member that the scan looks at: a .npy header of numpy has 128, one with many fields is no tensor.
HEAD_BYTES = 1024
WHOLE = re.compile(rb"\s*[+-]?[0-9]{1,19}\s*")
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class ColumnFinder:
    """Finds the type of one column from all of its members."""

    def __init__(self, suffix: str) -> None:
        self.extension = suffix.rpartition(".")[2]
        self.count = 0
        self._fits = True  # whether all so far are what the extension, or the first member, says
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        self._same_first = True  # whether all arrays so far have the same first dimension

    @property
    def needs_head(self) -> bool:
        """Whether `add` looks at the content."""
        known = (*IMAGE_EXTENSIONS, *TEXT_EXTENSIONS, *JSON_EXTENSIONS)
        return self.extension not in known and self._fits

    def add(self, head: bytes, size_bytes: int) -> None:
        """One more member. `head`: its first HEAD_BYTES, where `needs_head`."""
        self.count += 1
        if not self.needs_head:
            return
        if self.extension in NUMBER_EXTENSIONS:
            self._fits = size_bytes <= HEAD_BYTES and is_int64(head)
        elif self.extension in ARRAY_EXTENSIONS:
            self._fits = self._add_array(head)
        else:
            self._fits = is_image(head)

    def _add_array(self, head: bytes) -> bool:
        try:
            shape, _, dtype = array_header(head)
        except ValueError:
            return True  # damaged, and said so when it is read
        if dtype.name not in ITEM_TYPES or not shape or 0 in shape[1:]:
            return False
        if self._dtype is None:
            self._dtype, self._shape = dtype, shape
        self._same_first = self._same_first and shape[0] == self._shape[0] and shape[0] > 0
        return dtype == self._dtype and shape[1:] == self._shape[1:]

    def column(self, *, nullable: bool) -> ColumnType:
        """The type."""
        if self.extension in IMAGE_EXTENSIONS:
            return Image(nullable=nullable)
        if self.extension in TEXT_EXTENSIONS:
            return Text(nullable=nullable)
        if self.extension in JSON_EXTENSIONS:
            return Json(nullable=nullable)
        if self.extension in NUMBER_EXTENSIONS:
            return Scalar("int64", nullable=nullable) if self._fits else Text(nullable=nullable)
        if self.extension in ARRAY_EXTENSIONS:
            if not self._fits or self._dtype is None:
                return Bytes(nullable=nullable)
            if self._same_first:
                return Tensor(self._dtype.name, self._shape, nullable=nullable)
            return Array(self._dtype.name, (None, *self._shape[1:]), nullable=nullable)
        return Image(nullable=nullable) if self._fits else Bytes(nullable=nullable)


def is_int64(text: bytes) -> bool:
    """Whether it is a whole number of 64 bits."""
    return WHOLE.fullmatch(text) is not None and INT64_MIN <= int(text) <= INT64_MAX


def array_header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, whether in Fortran's order, dtype) of a .npy file. ValueError where it is none."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(file)
    except (SyntaxError, TokenError, TypeError, RecursionError) as error:  # it is a Python expression
        raise ValueError(f"has a damaged .npy header: {error}") from error
    return shape, fortran, dtype


def value_of(content: bytes, column: ColumnType) -> Any:
    """The value that a member's content is. ValueError says why it is none."""
    if column.kind is Kind.TEXT:
        return content.decode()
    if column.kind is Kind.JSON:
        return json.loads(content)
    if column.kind is Kind.SCALAR:
        return number_of(content, column)
    if column.kind in (Kind.TENSOR, Kind.ARRAY):
        return array_of(content)
    return content


def number_of(content: bytes, column: ColumnType) -> int | float | bool:
    """The number that a text is."""
    assert column.item_type is not None
    kind = np.dtype(column.item_type).kind
    text = content.decode("ascii").strip()
    if kind == "f":
        return float(text)
    if kind == "b" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = int(text)
    return bool(number) if kind == "b" and number in (0, 1) else number


def array_of(content: bytes) -> npt.NDArray[Any]:
    """The array of a .npy file, in C order."""
    shape, _, dtype = array_header(content)
    if math.prod(shape) * dtype.itemsize > len(content):  # before numpy takes the memory for it
        raise ValueError(f"has {len(content)} bytes, and says that it is {dtype} of shape {shape}")
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array)


def reason(error: ValueError | RecursionError) -> str:
    """What an error of `value_of` says, in few words."""
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8: {error.reason} at byte {error.start}"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)
