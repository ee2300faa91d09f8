"""Schemas: what is accepted, what is refused, and what Arrow and the fingerprint make of them."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest
import xxhash

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import (
    Array,
    Bytes,
    Image,
    Json,
    Scalar,
    Schema,
    StreamSchema,
    Tensor,
    Text,
    dictionary_hashes,
    schema_from_arrow,
)

EVERYTHING = Schema({
    "image": Image(),
    "label": Scalar("int64"),
    "caption": Text(codec="zstd", nullable=True),
    "embedding": Tensor("float16", (4, 3)),
    "boxes": Array("float32", (None, 4)),
    "meta": Json(),
    "audio": Bytes(),
})  # fmt: skip


def test_a_schema_comes_back_from_arrow_and_from_a_pickle() -> None:
    stored = pa.ipc.read_schema(pa.py_buffer(EVERYTHING.to_arrow().serialize()))
    assert schema_from_arrow(stored) == EVERYTHING
    assert pickle.loads(pickle.dumps(EVERYTHING)) == EVERYTHING
    assert hash(pickle.loads(pickle.dumps(EVERYTHING))) == hash(EVERYTHING)
    assert eval(repr(EVERYTHING)) == EVERYTHING


def test_the_fingerprint_is_the_hash_of_the_documented_text() -> None:
    text = (
        "fastfeed schema 1\n"
        '"image" image - - raw required\n'
        '"label" scalar int64 - raw required\n'
        '"caption" text - - zstd nullable\n'
        '"embedding" tensor float16 4,3 raw required\n'
        '"boxes" array float32 None,4 raw required\n'
        '"meta" json - - raw required\n'
        '"audio" bytes - - raw required\n'
    )
    assert EVERYTHING.fingerprint == xxhash.xxh3_128_digest(text.encode())


def test_the_fingerprint_of_a_stream_is_the_documented_one() -> None:
    text = 'fastfeed schema 1\n"tokens" tokens uint16 - raw required\n'
    assert StreamSchema("uint16").fingerprint == xxhash.xxh3_128_digest(text.encode())


@pytest.mark.parametrize(
    "other",
    [
        {"a": Scalar("int32")},
        {"a": Scalar("int64", nullable=True)},
        {"b": Scalar("int64")},
        {"a": Tensor("int64", (1,))},
        {"a": Scalar("int64"), "b": Scalar("int64")},
    ],
)
def test_schemas_that_differ_have_other_fingerprints(other: dict[str, Any]) -> None:
    schema = Schema({"a": Scalar("int64")})
    assert Schema(other) != schema
    assert Schema(other).fingerprint != schema.fingerprint


def test_the_head_of_a_frame_is_measured_as_documented() -> None:
    # crc 4, one variable column 4, one nullable column 1, its raw length 4, the label 8
    schema = Schema({"t": Text(codec="zstd", nullable=True), "label": Scalar("int64")})
    assert (schema.head_bytes, schema.stride) == (21, 0)
    assert (Schema({"x": Scalar("bool")}).head_bytes, Schema({"x": Scalar("bool")}).stride) == (5, 8)


def test_lanes_repeat_scalars_sizes_and_image_sides() -> None:
    assert EVERYTHING.lanes.names == [
        "image.width", "image.height", "image.channels", "image.bytes", "label", "caption.bytes", "boxes.bytes",
        "meta.bytes", "audio.bytes",
    ]  # fmt: skip
    assert EVERYTHING.lanes.field("caption.bytes").nullable
    assert not EVERYTHING.lanes.field("label").nullable


@pytest.mark.parametrize(
    ("make", "because"),
    [
        (lambda: Scalar("complex64"), "complex64 is no item type"),
        (lambda: Scalar("int65"), "'int65' is no item type"),
        (lambda: Scalar(None), "None is no item type"),
        (lambda: Scalar("datetime64[s]"), "is no item type"),
        (lambda: Tensor("int8", ()), "1 to 32 dimensions"),
        (lambda: Tensor("int8", (None,)), "no free dimension"),
        (lambda: Tensor("int8", (0,)), "is not a size"),
        (lambda: Tensor("int8", (True,)), "is not a size"),
        (lambda: Tensor("int8", (2**20, 2**20)), "items"),
        (lambda: Tensor("int64", (2**29,)), "a value has at most"),
        (lambda: Array("int8", (3,)), "exactly one free dimension"),
        (lambda: Array("int8", (None, None)), "exactly one free dimension"),
        (lambda: Array("int8", (None,), codec="lz4"), "codec='lz4' is not available for Array"),
        (lambda: Text(codec="dct"), "codec='dct' is not available for Text"),
        (lambda: Image(codec="dct"), "codec='dct' is not available for Image"),
        (lambda: Schema({}), "1 to 4096 columns"),
        (lambda: Schema({f"c{i}": Bytes() for i in range(4097)}), "not 4097"),
        (lambda: Schema({"": Bytes()}), "non-empty"),
        (lambda: Schema({"x" * 256: Bytes()}), "256 bytes"),
        (lambda: Schema({"\ud800": Bytes()}), "not valid Unicode"),
        (lambda: Schema({1: Bytes()}), "column name 1"),
        (lambda: Schema({"x": "int64"}), "is 'int64', which is no column type"),
        (lambda: Schema({"x": Bytes(), "x.bytes": Scalar("int8")}), "both have the lane 'x.bytes'"),
        (lambda: Schema({f"c{i}": Tensor("int8", (2**31 - 1,)) for i in range(3)}), "bytes a sample"),
        (lambda: StreamSchema("int16"), "uint16 or uint32, not int16"),
        (lambda: EVERYTHING.to_arrow({"label": bytes(16)}), "has no dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(make: Any, because: str) -> None:
    with pytest.raises(ConfigError, match=because):
        make()


def test_a_numpy_type_and_a_python_type_name_the_same_item() -> None:
    assert Scalar(float) == Scalar("float64") == Scalar("<f8")


def test_dictionary_hashes_are_kept_in_the_stored_schema_and_change_no_fingerprint() -> None:
    stored = EVERYTHING.to_arrow({"caption": bytes(range(16))})
    assert dictionary_hashes(stored) == {"caption": bytes(range(16))}
    assert Schema.from_arrow(stored).fingerprint == EVERYTHING.fingerprint


def field(arrow_type: pa.DataType, **metadata: str) -> pa.Schema:
    return pa.schema([pa.field("x", arrow_type, False, {f"fastfeed.{k}": v for k, v in metadata.items()})])


@pytest.mark.parametrize(
    ("schema", "because"),
    [
        (field(pa.int64()), "kind '' is unknown"),
        (field(pa.int64(), kind="fancy"), "kind 'fancy' is unknown"),
        (field(pa.string(), kind="scalar"), "string is no item type|is no item type"),
        (field(pa.int64(), kind="scalar", codec="zstd"), "has no codec zstd"),
        (field(pa.large_string(), kind="bytes"), "is stored as large_binary"),
        (field(pa.large_binary(), kind="bytes", codec="new"), "codec='new' is not available"),
        (field(pa.int64(), kind="tensor", shape="1"), "int64 is no list"),
        (field(pa.list_(pa.int8(), 2), kind="tensor", shape="x"), "'x' is no shape"),
        (field(pa.list_(pa.field("item", pa.int8(), nullable=False), 2), kind="tensor", shape="3"), "is stored as"),
        (pa.schema([]), "1 to 4096 columns"),
        (field(pa.list_(pa.uint64()), kind="tokens"), "not one column"),
    ],
)
def test_a_stored_schema_that_is_none_is_corrupt(schema: pa.Schema, because: str) -> None:
    with pytest.raises(CorruptDataError, match=because):
        schema_from_arrow(schema)


def test_two_stored_columns_of_one_name_are_corrupt() -> None:
    one = EVERYTHING.to_arrow().field("audio")
    with pytest.raises(CorruptDataError, match="two columns named 'audio'"):
        Schema.from_arrow(pa.schema([one, one]))


@pytest.mark.parametrize("text", ["xyz", "A" * 32, "g" * 32])
def test_a_stored_dictionary_hash_that_is_none_is_corrupt(text: str) -> None:
    with pytest.raises(CorruptDataError, match="no dictionary hash"):
        dictionary_hashes(field(pa.large_binary(), kind="bytes", codec="zstd", dictionary=text))


def test_a_stream_schema_is_a_mapping_with_tokens() -> None:
    schema = StreamSchema("uint32")
    assert list(schema) == schema.names == ["tokens"]
    assert len(schema) == 1
    assert schema["tokens"].dtype == "uint32"
    assert "other" not in schema
    assert schema.token_bytes == 4
    assert schema_from_arrow(schema.to_arrow()) == schema == pickle.loads(pickle.dumps(schema))
    assert eval(repr(schema)) == schema
    assert len({schema, StreamSchema("uint32"), StreamSchema("uint16")}) == 2
