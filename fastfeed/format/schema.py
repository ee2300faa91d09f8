"""Schemas: which columns a sample has, how each is stored, and what Arrow calls it (docs/format.md, section
4).

Pure values: no files, nothing native but the tuple that describes a column to the core. A `Schema` is
immutable, hashable and pickles small. Which dictionary a zstd column uses belongs to a shard, not to a
schema: `to_arrow` takes the dictionaries and `dictionary_hashes` reads them back.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import xxhash

from fastfeed.errors import ConfigError, CorruptDataError

# Limits of the format (docs/format.md, sections 4.1 and 7).
COLUMN_COUNT_MAX = 4096
NAME_BYTES_MAX = 255
DIMENSION_COUNT_MAX = 32  # what numpy before 2.0 can hold
VALUE_BYTES_MAX = 2**31 - 1
FRAME_BYTES_MAX = 2**32 - 8
FRAME_ALIGN = 8
IMAGE_FIXED_BYTES = 12

KIND_KEY = b"fastfeed.kind"
CODEC_KEY = b"fastfeed.codec"
SHAPE_KEY = b"fastfeed.shape"
DICTIONARY_KEY = b"fastfeed.dictionary"

ITEM_TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(), "int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64(),
    "uint8": pa.uint8(), "uint16": pa.uint16(), "uint32": pa.uint32(), "uint64": pa.uint64(),
    "float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(),
}  # fmt: skip
_ITEM_NAMES = {arrow_type: name for name, arrow_type in ITEM_TYPES.items()}


class Kind(IntEnum):
    """What a column's bytes mean. The numbers are those of csrc/format/frame.hpp."""

    SCALAR = 0
    TENSOR = 1
    ARRAY = 2
    BYTES = 3
    TEXT = 4
    JSON = 5
    IMAGE = 6


class Codec(IntEnum):
    """How a value's bytes are stored. The numbers are those of csrc/format/frame.hpp."""

    RAW = 0
    ZSTD = 1


Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class ColumnType(ABC):
    """The type of one column. Use a subclass: Scalar, Tensor, Array, Bytes, Text, Json, Image."""

    kind: ClassVar[Kind]
    nullable: bool = field(default=False, kw_only=True)

    @property
    def storage(self) -> Codec:
        """How the variable part is stored."""
        return Codec.RAW

    @property
    def item_type(self) -> str | None:
        """The numpy (and Arrow) name of one item; None where the value is bytes."""
        return None

    @property
    def dims(self) -> Shape | None:
        """The shape, None for a free dimension; None where the kind has no shape."""
        return None

    @property
    def has_variable_part(self) -> bool:
        """Whether frames hold bytes of it whose number differs by row."""
        return self.kind not in (Kind.SCALAR, Kind.TENSOR)

    @property
    def item_bytes(self) -> int:
        """Bytes of one item; 1 where the value is bytes."""
        return 1 if self.item_type is None else np.dtype(self.item_type).itemsize

    @property
    def step_items(self) -> int:
        """Items of one step along the free dimension (array), of the whole (tensor), else 1."""
        return math.prod(size for size in self.dims or () if size is not None)

    @property
    def fixed_bytes(self) -> int:
        """Bytes of the part of a frame whose size the schema knows."""
        if self.kind is Kind.IMAGE:
            return IMAGE_FIXED_BYTES
        if not self.has_variable_part:
            return self.item_bytes * self.step_items
        return 4 if self.storage is Codec.ZSTD else 0

    @property
    @abstractmethod
    def arrow_type(self) -> pa.DataType:
        """How Arrow holds a column of these values (docs/format.md, section 4.1)."""

    def lanes(self, name: str) -> list[pa.Field]:
        """The lanes that repeat this column (docs/format.md, section 2.7)."""
        return [pa.field(f"{name}.bytes", pa.uint32(), self.nullable)] if self.has_variable_part else []


@dataclass(frozen=True)
class Scalar(ColumnType):
    """One number or truth value: int, float, bool or a numpy scalar."""

    kind = Kind.SCALAR
    dtype: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _item_name(self.dtype))

    @property
    def item_type(self) -> str:
        return self.dtype

    @property
    def arrow_type(self) -> pa.DataType:
        return ITEM_TYPES[self.dtype]

    def lanes(self, name: str) -> list[pa.Field]:
        return [pa.field(name, self.arrow_type, self.nullable)]


@dataclass(frozen=True)
class Tensor(ColumnType):
    """An array of one shape: `Tensor("float16", (768,))`."""

    kind = Kind.TENSOR
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _item_name(self.dtype))
        object.__setattr__(self, "shape", _shape(self.shape, free_count=0, kind="Tensor"))
        if self.fixed_bytes > VALUE_BYTES_MAX:
            raise ConfigError(
                f"Tensor({self.dtype!r}, {self.shape}) has {self.fixed_bytes} bytes; a value has at most "
                f"{VALUE_BYTES_MAX}. Split it into several samples or columns."
            )

    @property
    def item_type(self) -> str:
        return self.dtype

    @property
    def dims(self) -> Shape:
        return self.shape

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.list_(pa.field("item", ITEM_TYPES[self.dtype], nullable=False), self.step_items)


@dataclass(frozen=True)
class _Coded(ColumnType):
    """A column whose variable part may be compressed."""

    codec: str = field(default="raw", kw_only=True)

    def __post_init__(self) -> None:
        if self.codec not in ("raw", "zstd"):
            raise ConfigError(
                f"codec={self.codec!r} is not available for {type(self).__name__} columns. Use 'raw' or 'zstd'."
            )

    @property
    def storage(self) -> Codec:
        return Codec.ZSTD if self.codec == "zstd" else Codec.RAW


@dataclass(frozen=True)
class Array(_Coded):
    """An array with one free dimension: `Array("float32", (None, 4))` holds any number of boxes."""

    kind = Kind.ARRAY
    dtype: str
    shape: Shape

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "dtype", _item_name(self.dtype))
        object.__setattr__(self, "shape", _shape(self.shape, free_count=1, kind="Array"))

    @property
    def item_type(self) -> str:
        return self.dtype

    @property
    def dims(self) -> Shape:
        return self.shape

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_list(pa.field("item", ITEM_TYPES[self.dtype], nullable=False))


@dataclass(frozen=True)
class Bytes(_Coded):
    """Bytes as they are."""

    kind = Kind.BYTES

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_binary()


@dataclass(frozen=True)
class Text(_Coded):
    """A str, stored as UTF-8."""

    kind = Kind.TEXT

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string()


@dataclass(frozen=True)
class Json(_Coded):
    """Whatever JSON can say. In a column that is not nullable, None is the JSON value null."""

    kind = Kind.JSON

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_string()


@dataclass(frozen=True)
class Image(ColumnType):
    """An encoded JPEG, PNG or WebP, kept as it is with its width, height and channels beside it."""

    kind = Kind.IMAGE
    codec: str = field(default="keep", kw_only=True)

    def __post_init__(self) -> None:
        if self.codec != "keep":
            raise ConfigError(
                f"codec={self.codec!r} is not available for Image columns in this version. Use 'keep': "
                "the encoded bytes are stored as they are."
            )

    @property
    def arrow_type(self) -> pa.DataType:
        return pa.large_binary()

    def lanes(self, name: str) -> list[pa.Field]:
        return [
            pa.field(f"{name}.width", pa.uint32(), self.nullable),
            pa.field(f"{name}.height", pa.uint32(), self.nullable),
            pa.field(f"{name}.channels", pa.uint8(), self.nullable),
            *super().lanes(name),
        ]


class Schema(Mapping[str, ColumnType]):
    """The columns of a dataset in rows layout, in order. Equal where names, types and order are equal."""

    layout: ClassVar[str] = "rows"

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._columns = dict(columns)
        if not 1 <= len(self._columns) <= COLUMN_COUNT_MAX:
            raise ConfigError(f"a schema has 1 to {COLUMN_COUNT_MAX} columns, not {len(self._columns)}")
        for name, column in self._columns.items():
            _check_name(name)
            if not isinstance(column, ColumnType):
                raise ConfigError(
                    f"column {name!r} is {column!r}, which is no column type. Use Scalar, Tensor, Array, Bytes, "
                    "Text, Json or Image."
                )
        if self.head_bytes > FRAME_BYTES_MAX:
            raise ConfigError(
                f"the fixed-size columns have {self.head_bytes} bytes a sample; at most {FRAME_BYTES_MAX}"
            )
        self._check_lane_names()

    def __getitem__(self, name: str) -> ColumnType:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return list(self._columns.items()) == list(other._columns.items())

    def __hash__(self) -> int:
        return hash(tuple(self._columns.items()))

    def __repr__(self) -> str:
        return "Schema({" + ", ".join(f"{name!r}: {column!r}" for name, column in self.items()) + "})"

    @property
    def names(self) -> list[str]:
        """Column names, in order."""
        return list(self._columns)

    @property
    def lanes(self) -> pa.Schema:
        """The Arrow schema of the lanes; empty where no column has one."""
        return pa.schema([lane for name, column in self.items() for lane in column.lanes(name)])

    @property
    def head_bytes(self) -> int:
        """Bytes of a frame before its first variable part (docs/format.md, section 2.5)."""
        columns = self._columns.values()
        variable_count = sum(column.has_variable_part for column in columns)
        nullable_count = sum(column.nullable for column in columns)
        fixed = sum(column.fixed_bytes for column in columns)
        return 4 + 4 * variable_count + (nullable_count + 7) // 8 + fixed

    @property
    def stride(self) -> int:
        """Bytes of every frame where no column has a variable part, else 0."""
        if any(column.has_variable_part for column in self._columns.values()):
            return 0
        return -(-self.head_bytes // FRAME_ALIGN) * FRAME_ALIGN

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that are equal where schemas are (docs/format.md, section 4.3)."""
        lines = [
            fingerprint_line(
                name,
                column.kind.name.lower(),
                column.item_type,
                column.dims,
                column.storage.name.lower(),
                column.nullable,
            )
            for name, column in self.items()
        ]
        return fingerprint_of(lines)

    def to_arrow(self, dictionaries: Mapping[str, bytes] | None = None) -> pa.Schema:
        """The Arrow schema. `dictionaries` gives, per zstd column that uses one, the dictionary's 16-byte
        hash.
        """
        hashes = dictionaries or {}
        return pa.schema([_arrow_field(name, column, hashes.get(name)) for name, column in self.items()])

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> Schema:
        """The schema that `to_arrow` described. CorruptDataError where it describes none."""
        columns: dict[str, ColumnType] = {}
        for arrow_field in schema:
            if arrow_field.name in columns:
                raise CorruptDataError(f"the stored schema has two columns named {arrow_field.name!r}")
            try:
                columns[arrow_field.name] = _column_of(arrow_field)
            except ConfigError as error:
                raise CorruptDataError(f"stored column {arrow_field.name!r}: {error}") from error
        try:
            return cls(columns)
        except ConfigError as error:
            raise CorruptDataError(f"stored schema: {error}") from error

    def _check_lane_names(self) -> None:
        seen: set[str] = set()
        for lane in self.lanes.names:
            if lane in seen:
                raise ConfigError(
                    f"two columns would both have the lane {lane!r} (a column of that name, and the size of another). "
                    "Rename one."
                )
            seen.add(lane)


@dataclass(frozen=True)
class Tokens:
    """The only column of a stream: token ids, uint16 or uint32."""

    dtype: str

    def __post_init__(self) -> None:
        name = np.dtype(self.dtype).name
        if name not in ("uint16", "uint32"):
            raise ConfigError(f"tokens are uint16 or uint32, not {name}")
        object.__setattr__(self, "dtype", name)


class StreamSchema(Mapping[str, Tokens]):
    """The schema of a dataset in stream layout: one column, `tokens`."""

    layout: ClassVar[str] = "stream"

    def __init__(self, dtype: str) -> None:
        self.tokens = Tokens(dtype)

    def __getitem__(self, name: str) -> Tokens:
        if name != "tokens":
            raise KeyError(name)
        return self.tokens

    def __iter__(self) -> Iterator[str]:
        return iter(("tokens",))

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StreamSchema):
            return NotImplemented
        return self.tokens == other.tokens

    def __hash__(self) -> int:
        return hash(self.tokens)

    def __repr__(self) -> str:
        return f"StreamSchema({self.dtype!r})"

    @property
    def names(self) -> list[str]:
        """["tokens"]."""
        return ["tokens"]

    @property
    def dtype(self) -> str:
        """"uint16" or "uint32"."""
        return self.tokens.dtype

    @property
    def token_bytes(self) -> int:
        """2 or 4."""
        return np.dtype(self.dtype).itemsize

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that are equal for equal token types (docs/format.md, section 4.3)."""
        return fingerprint_of([fingerprint_line("tokens", "tokens", self.dtype, None, "raw", False)])

    def to_arrow(self) -> pa.Schema:
        """The schema of one list column (docs/format.md, section 3)."""
        item = pa.field("item", ITEM_TYPES[self.dtype], nullable=False)
        return pa.schema([pa.field("tokens", pa.list_(item), False, {KIND_KEY: b"tokens"})])

    @classmethod
    def from_arrow(cls, schema: pa.Schema) -> StreamSchema:
        """The schema that `to_arrow` described. CorruptDataError where it describes none."""
        for dtype in ("uint16", "uint32"):
            candidate = cls(dtype)
            if schema.equals(candidate.to_arrow(), check_metadata=True):
                return candidate
        raise CorruptDataError(
            f"the stored schema of a stream is {schema}, not one column `tokens` of uint16 or uint32 lists"
        )


AnySchema = Schema | StreamSchema


def is_stream(schema: pa.Schema) -> bool:
    """Whether a stored Arrow schema describes a stream."""
    return len(schema) == 1 and (schema.field(0).metadata or {}).get(KIND_KEY) == b"tokens"


def schema_from_arrow(schema: pa.Schema) -> AnySchema:
    """The stored schema of either layout. CorruptDataError where it describes none."""
    return StreamSchema.from_arrow(schema) if is_stream(schema) else Schema.from_arrow(schema)


def dictionary_hashes(schema: pa.Schema) -> dict[str, bytes]:
    """Per column that uses a zstd dictionary its 16-byte hash, from a shard's stored schema."""
    hashes: dict[str, bytes] = {}
    for arrow_field in schema:
        text = (arrow_field.metadata or {}).get(DICTIONARY_KEY)
        if text is None:
            continue
        if len(text) != 32 or text.lower() != text or text.strip(b"0123456789abcdef"):
            raise CorruptDataError(f"stored column {arrow_field.name!r}: {text!r} is no dictionary hash")
        hashes[arrow_field.name] = bytes.fromhex(text.decode())
    return hashes


def fingerprint_line(
    name: str, kind: str, item_type: str | None, shape: Shape | None, codec: str, nullable: bool
) -> str:
    """One column's line of the text that is hashed (docs/format.md, section 4.3)."""
    return " ".join((
        json.dumps(name, ensure_ascii=False),
        kind,
        item_type or "-",
        _shape_text(shape) if shape is not None else "-",
        codec,
        "nullable" if nullable else "required",
    ))  # fmt: skip


def fingerprint_of(lines: list[str]) -> bytes:
    """The schema's fingerprint, 16 bytes, from its columns' lines."""
    text = "".join(f"{line}\n" for line in ("fastfeed schema 1", *lines))
    return xxhash.xxh3_128_digest(text.encode())


def _item_name(dtype: Any) -> str:
    try:
        if dtype is None:
            raise TypeError("numpy takes None for float64")
        name: str = np.dtype(dtype).name
    except TypeError as error:
        raise ConfigError(f"{dtype!r} is no item type. Use one of {', '.join(ITEM_TYPES)}.") from error
    if name not in ITEM_TYPES:
        raise ConfigError(f"{name} is no item type of fastfeed. Use one of {', '.join(ITEM_TYPES)}.")
    return name


def _shape(shape: Any, *, free_count: int, kind: str) -> Shape:
    sizes = (shape,) if shape is None or isinstance(shape, int) else tuple(shape)
    if not 1 <= len(sizes) <= DIMENSION_COUNT_MAX:
        raise ConfigError(f"{kind} shape {shape!r} needs 1 to {DIMENSION_COUNT_MAX} dimensions")
    if sum(size is None for size in sizes) != free_count:
        wanted = "no free dimension (None); see Array" if free_count == 0 else "exactly one free dimension (None)"
        raise ConfigError(f"{kind} shape {shape!r} needs {wanted}")
    checked: list[int | None] = []
    for size in sizes:
        if size is not None and (isinstance(size, bool) or int(size) != size or not 1 <= size <= VALUE_BYTES_MAX):
            raise ConfigError(f"{kind} shape {shape!r}: {size!r} is not a size from 1 to {VALUE_BYTES_MAX}")
        checked.append(None if size is None else int(size))
    if math.prod(size for size in checked if size is not None) > VALUE_BYTES_MAX:
        raise ConfigError(f"{kind} shape {shape!r} has more than {VALUE_BYTES_MAX} items")
    return tuple(checked)


def _shape_text(shape: Shape) -> str:
    return ",".join(str(size) for size in shape)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"column name {name!r} is not a non-empty str")
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"column name {name!r} is not valid Unicode: {error}") from error
    if len(encoded) > NAME_BYTES_MAX:
        raise ConfigError(f"column name {name!r} has {len(encoded)} bytes in UTF-8; at most {NAME_BYTES_MAX}")


def _arrow_field(name: str, column: ColumnType, dictionary_hash: bytes | None) -> pa.Field:
    metadata = {KIND_KEY: column.kind.name.lower().encode()}
    if column.dims is not None:
        metadata[SHAPE_KEY] = _shape_text(column.dims).encode()
    if column.storage is Codec.ZSTD:
        metadata[CODEC_KEY] = b"zstd"
    if dictionary_hash is not None:
        if column.storage is not Codec.ZSTD:
            raise ConfigError(f"column {name!r} does not use zstd, so it has no dictionary")
        metadata[DICTIONARY_KEY] = dictionary_hash.hex().encode()
    return pa.field(name, column.arrow_type, column.nullable, metadata)


def _column_of(arrow_field: pa.Field) -> ColumnType:
    metadata = arrow_field.metadata or {}
    kind = metadata.get(KIND_KEY, b"").decode("utf-8", "replace")
    codec = metadata.get(CODEC_KEY, b"raw").decode("utf-8", "replace")
    column = _construct(kind, codec, arrow_field, metadata)
    if column.arrow_type != arrow_field.type:
        raise ConfigError(f"kind {kind} is stored as {column.arrow_type}, not {arrow_field.type}")
    return column


def _construct(kind: str, codec: str, arrow_field: pa.Field, metadata: Mapping[bytes, bytes]) -> ColumnType:
    nullable = arrow_field.nullable
    plain: dict[str, type[_Coded]] = {"bytes": Bytes, "text": Text, "json": Json}
    if kind in plain:
        return plain[kind](codec=codec, nullable=nullable)
    if kind == "array":
        shape = _parse_shape(metadata)
        return Array(_arrow_item(arrow_field.type), shape, codec=codec, nullable=nullable)
    if codec != "raw":
        raise ConfigError(f"kind {kind} has no codec {codec}")
    if kind == "scalar":
        return Scalar(_ITEM_NAMES.get(arrow_field.type, str(arrow_field.type)), nullable=nullable)
    if kind == "tensor":
        return Tensor(_arrow_item(arrow_field.type), _parse_shape(metadata), nullable=nullable)  # type: ignore[arg-type]
    if kind == "image":
        return Image(nullable=nullable)
    raise ConfigError(f"kind {kind!r} is unknown")


def _parse_shape(metadata: Mapping[bytes, bytes]) -> Shape:
    text = metadata.get(SHAPE_KEY, b"").decode("utf-8", "replace")
    sizes: list[int | None] = []
    for part in text.split(","):
        if part == "None":
            sizes.append(None)
        elif part.isascii() and part.isdigit() and len(part) <= 10:
            sizes.append(int(part))
        else:
            raise ConfigError(f"{text!r} is no shape")
    return tuple(sizes)


def _arrow_item(arrow_type: pa.DataType) -> str:
    if not (pa.types.is_fixed_size_list(arrow_type) or pa.types.is_large_list(arrow_type)):
        raise ConfigError(f"{arrow_type} is no list")
    return _ITEM_NAMES.get(arrow_type.value_type, str(arrow_type.value_type))
