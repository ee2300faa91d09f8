"""Shards for tests: schemas and samples by hypothesis, and writing them without ceremony."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from hypothesis import strategies as st

from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import (
    ITEM_TYPES,
    Array,
    Bytes,
    ColumnType,
    Image,
    Json,
    Kind,
    Scalar,
    Schema,
    Tensor,
    Text,
)
from fastfeed.format.seal import SealedShard
from fastfeed.format.stream import TokenShardWriter
from fastfeed.format.writer import ShardWriter
from tests.helpers.png import tiny_png


def write_shard(
    folder: Path,
    schema: Schema,
    samples: Sequence[Mapping[str, Any]],
    *,
    dictionaries: Mapping[str, bytes] | None = None,
    cuts: Sequence[int] = (),
    zstd_level: int = 3,
) -> SealedShard:
    """Write `samples` as one shard into `folder`, in calls that end at `cuts`."""
    encoder = SampleEncoder(schema, dictionaries, zstd_level)
    writer = ShardWriter(folder, schema, dictionaries)
    bounds = [0, *sorted(cuts), len(samples)]
    for start, stop in pairwise(bounds):
        writer.add(encoder.encode_samples(samples[start:stop]))
    return writer.finish(folder)


def write_stream(folder: Path, dtype: str, documents: Sequence[Any]) -> SealedShard:
    writer = TokenShardWriter(folder, dtype)
    for document in documents:
        writer.add(document)
    return writer.finish(folder)


def small_dictionary(seed: str = "word") -> bytes:
    """A zstd dictionary of 1 KiB for text of numbered words."""
    samples = [f"{seed} {i}, and {seed} {i * 7919 % 1000} with more words {i % 37} ".encode() * 3 for i in range(400)]
    return zstandard.train_dictionary(1024, samples, k=64, d=8, f=16, accel=1).as_bytes()


def same(left: Any, right: Any) -> bool:
    """Equality that knows arrays, and that nan is nan."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        left, right = np.asarray(left), np.asarray(right)
        return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right) or (left != left and right != right)
    return type(left) is type(right) and left == right


# --- strategies ---

_item_types = st.sampled_from(sorted(ITEM_TYPES))
_codecs = st.sampled_from(["raw", "zstd"])
_sizes = st.integers(1, 3)
_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def column_types(draw: st.DrawFn) -> ColumnType:
    nullable = draw(st.booleans())
    kind = draw(st.sampled_from(list(Kind)))
    if kind is Kind.SCALAR:
        return Scalar(draw(_item_types), nullable=nullable)
    if kind is Kind.TENSOR:
        return Tensor(draw(_item_types), tuple(draw(st.lists(_sizes, min_size=1, max_size=3))), nullable=nullable)
    if kind is Kind.ARRAY:
        shape: list[int | None] = list(draw(st.lists(_sizes, max_size=2)))
        shape.insert(draw(st.integers(0, len(shape))), None)
        return Array(draw(_item_types), tuple(shape), codec=draw(_codecs), nullable=nullable)
    if kind is Kind.IMAGE:
        return Image(nullable=nullable)
    return {Kind.BYTES: Bytes, Kind.TEXT: Text, Kind.JSON: Json}[kind](codec=draw(_codecs), nullable=nullable)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    # A dot could make a name equal to a lane of another column, which is an error of its own.
    names = draw(st.lists(_names.filter(lambda name: "." not in name), min_size=1, max_size=5, unique=True))
    return Schema({name: draw(column_types()) for name in names})


@st.composite
def arrays(draw: st.DrawFn, item_type: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(item_type)
    count = int(np.prod(shape))
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if item_type == "bool":
        return (np.frombuffer(raw, np.uint8) & 1).astype(bool).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)  # nan and inf with any payload among them


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.integers(1, 9).map(
    lambda n: "so " * 40 * n
)
_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def values(draw: st.DrawFn, column: ColumnType) -> Any:
    """A value as the reader gives it back."""
    if column.nullable and draw(st.booleans()):
        return None
    if column.kind is Kind.SCALAR:
        return draw(arrays(str(column.item_type), (1,)))[0].item()
    if column.kind is Kind.TENSOR:
        return draw(arrays(str(column.item_type), tuple(size or 0 for size in column.dims or ())))
    if column.kind is Kind.ARRAY:
        free = draw(st.integers(0, 3) | st.just(40))
        return draw(arrays(str(column.item_type), tuple(free if size is None else size for size in column.dims or ())))
    if column.kind is Kind.IMAGE:
        return tiny_png(draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(0, 255)))
    if column.kind is Kind.TEXT:
        return draw(_texts)
    if column.kind is Kind.JSON:
        return draw(_json_values)
    return draw(st.binary(max_size=40) | st.integers(0, 600).map(lambda n: b"ab" * n))


@st.composite
def shard_contents(draw: st.DrawFn, max_rows: int = 6) -> tuple[Schema, list[dict[str, Any]]]:
    schema = draw(schemas())
    rows = draw(st.integers(1, max_rows))
    return schema, [{name: draw(values(column)) for name, column in schema.items()} for _ in range(rows)]
