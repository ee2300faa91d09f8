"""Encoding: what fits a column, what does not, and that errors name column, row and type."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Schema, Tensor, Text
from tests.helpers.png import tiny_png
from tests.helpers.shards import small_dictionary


def frames(column: ColumnType, *values: Any) -> bytes:
    return SampleEncoder(Schema({"x": column})).encode_samples([{"x": value} for value in values]).frames.tobytes()


def arrow_frames(column: ColumnType, array: pa.Array) -> bytes:
    batch = pa.RecordBatch.from_arrays([array], names=["x"])
    return SampleEncoder(Schema({"x": column})).encode_batch(batch).frames.tobytes()


@pytest.mark.parametrize(
    ("column", "value", "plain"),
    [
        (Scalar("int64"), np.int8(-3), -3),
        (Scalar("uint64"), np.uint64(2**64 - 1), 2**64 - 1),
        (Scalar("uint8"), np.array(7), 7),
        (Scalar("float32"), 3, 3.0),
        (Scalar("float32"), np.float64(0.1), 0.1),
        (Scalar("float16"), np.float16(0.5), 0.5),
        (Scalar("bool"), np.bool_(True), True),
        (Tensor("float32", (2,)), [1, 2], np.array([1, 2], np.float32)),
        (Tensor("int8", (2, 1)), np.array([[1], [2]], np.int64), np.array([[1], [2]], np.int8)),
        (Tensor("bool", (2,)), [True, False], np.array([True, False])),
        (Tensor("int8", (4,)), np.arange(8, dtype=np.int8)[::2], np.array([0, 2, 4, 6], np.int8)),
        (Array("float32", (None, 4)), [], np.zeros((0, 4), np.float32)),
        (Array("uint16", (2, None)), [[1, 2, 3], [4, 5, 6]], np.array([[1, 2, 3], [4, 5, 6]], np.uint16)),
        (Bytes(), bytearray(b"abc"), b"abc"),
        (Bytes(), memoryview(b"xabcx")[1:4], b"abc"),
        (Bytes(), np.frombuffer(b"abc", np.uint8), b"abc"),
        (Bytes(), np.empty(0, np.uint8), b""),
        (Json(), OrderedDict(b=1, a=(2, "ü")), {"b": 1, "a": [2, "ü"]}),
        (Text(), np.str_("é"), "é"),
    ],
)
def test_values_that_mean_the_same_give_the_same_frames(column: ColumnType, value: Any, plain: Any) -> None:
    assert frames(column, value, value) == frames(column, plain, plain)


@pytest.mark.parametrize(
    ("column", "value", "because"),
    [
        (Scalar("int64"), 1.0, "a float where the column wants a Scalar"),
        (Scalar("int64"), True, "a bool where"),
        (Scalar("int64"), "1", "a str where"),
        (Scalar("int64"), None, "None, but the column is not nullable"),
        (Scalar("int8"), 128, "128 does not fit int8"),
        (Scalar("uint8"), -1, "-1 does not fit uint8"),
        (Scalar("uint64"), -1, "-1 does not fit uint64"),
        (Scalar("int64"), 2**63, "does not fit int64"),
        (Scalar("uint64"), 2**64, "does not fit uint64"),
        (Scalar("int32"), np.int64(2**31), "does not fit int32"),
        (Scalar("float32"), 1e300, "does not fit float32"),
        (Scalar("float64"), 10**400, "does not fit float64"),
        (Scalar("float16"), "x", "a str where"),
        (Scalar("bool"), 1, "a int where"),
        (Tensor("float32", (2,)), [1, 2, 3], r"shape \(3,\), the column has \(2,\)"),
        (Tensor("float32", (2,)), "ab", "a str of <U2 where the column wants an array of float32"),
        (Tensor("float32", (2,)), [[1], [2, 3]], "a list where"),
        (Tensor("int8", (2,)), [1.5, 2], "a list of float64 where"),
        (Tensor("int8", (2,)), [1, 300], "300.* does not fit int8"),
        (Tensor("uint64", (1,)), [-1], "-1.* does not fit uint64"),
        (Tensor("float16", (1,)), np.array([1e6]), "does not fit float16"),
        (Tensor("bool", (1,)), [1], "wants an array of bool"),
        (Array("float32", (None, 4)), [[1, 2]], r"shape \(1, 2\), the column has \(None, 4\)"),
        (Array("float32", (None, 4)), 3.0, r"shape \(\)"),
        (Bytes(), "abc", "a str where the column wants bytes"),
        (Bytes(), np.zeros(2, np.int16), "a ndarray where"),
        (Bytes(), np.zeros(4, np.uint8)[::2], "a ndarray where"),
        (Text(), b"abc", "a bytes where the column wants a str"),
        (Text(), "\ud800", "not valid Unicode"),
        (Json(), float("nan"), "a float that is no JSON"),
        (Json(), {"x": object()}, "a dict that is no JSON"),
        (Json(), ["\ud800"], "not valid Unicode"),
        (Image(), "a.jpg", "a str where the column wants bytes"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_column_row_and_type(
    column: ColumnType, value: Any, because: str
) -> None:
    fitting = {"Scalar": np.dtype(column.item_type or "u1").type(1), "Bytes": b"", "Text": "", "Json": 0}
    good = fitting.get(type(column).__name__)
    if isinstance(column, Tensor):
        good = np.ones(column.shape, column.dtype)
    if isinstance(column, Array):
        good = []
    if isinstance(column, Image):
        good = tiny_png(2, 2)
    with pytest.raises(ConfigError, match=f"column 'x', row 1 of the batch: .*{because}"):
        frames(column, good, value)


def test_bytes_that_are_no_image_are_refused_with_the_column() -> None:
    with pytest.raises(CorruptDataError, match="column 'x': "):
        frames(Image(), tiny_png(2, 2), b"GIF89a")


def test_a_nullable_column_may_be_left_out_and_no_other() -> None:
    encoder = SampleEncoder(Schema({"a": Scalar("int8"), "b": Text(nullable=True)}))
    assert (
        encoder.encode_samples([{"a": 1}]).frames.tobytes()
        == encoder.encode_samples([{"a": 1, "b": None}]).frames.tobytes()
    )
    with pytest.raises(ConfigError, match=r"row 1 of the batch lacks columns \['a'\]"):
        encoder.encode_samples([{"a": 1, "b": "x"}, {"b": "x"}])
    with pytest.raises(ConfigError, match=r"row 0 of the batch has unknown columns \['c'\]"):
        encoder.encode_samples([{"a": 1, "c": 2}])


def test_a_record_batch_may_leave_out_a_nullable_column_and_no_other() -> None:
    encoder = SampleEncoder(Schema({"a": Scalar("int8"), "b": Text(nullable=True)}))
    encoded = encoder.encode_batch(pa.record_batch({"a": pa.array([1, 2], pa.int8())}))
    assert encoded.frames.tobytes() == encoder.encode_samples([{"a": 1}, {"a": 2}]).frames.tobytes()
    with pytest.raises(ConfigError, match="the record batch has unknown columns"):
        encoder.encode_batch(pa.record_batch({"a": pa.array([1], pa.int8()), "z": pa.array([1])}))
    twice = pa.RecordBatch.from_arrays([pa.array([1], pa.int8())] * 2, names=["a", "a"])
    with pytest.raises(ConfigError, match="two columns of one name"):
        encoder.encode_batch(twice)


VIEWS = pa.array(["a", None, "", "b" * 40], pa.string_view())


@pytest.mark.parametrize(
    ("column", "array", "values"),
    [
        (Scalar("int64"), pa.array([1, 2], pa.int8()), [1, 2]),
        (Scalar("float32"), pa.array([1, 2], pa.int64()), [1, 2]),
        (Scalar("float32"), pa.array([0.1, float("inf")], pa.float64()), [0.1, float("inf")]),
        (Scalar("bool", nullable=True), pa.array([True, None, False]), [True, None, False]),
        (Scalar("int16", nullable=True), pa.array([5, None, 7, 8], pa.int16())[1:], [None, 7, 8]),
        (Scalar("bool"), pa.array([True, False, True, True])[1:], [False, True, True]),
        (Scalar("float16"), pa.array([np.float16(0.5)], pa.float16()), [0.5]),
        (Scalar("int8"), pa.array([3, 3, 4], pa.int8()).dictionary_encode(), [3, 3, 4]),
        (Tensor("float32", (2,)), pa.array([[1, 2], [3, 4]], pa.list_(pa.float32())), [[1, 2], [3, 4]]),
        (Tensor("float32", (2, 2)), pa.array([[1, 2, 3, 4]], pa.list_(pa.int8(), 4)), [[[1, 2], [3, 4]]]),
        (Tensor("int8", (2, 2)), pa.array([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int8()))), [[[1, 2], [3, 4]]]),
        (Tensor("int8", (2,), nullable=True), pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (Tensor("int8", (2,)), pa.array([[9, 9], [1, 2], [3, 4]], pa.list_(pa.int8(), 2))[1:], [[1, 2], [3, 4]]),
        (Tensor("int8", (2,)), pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.int8(), (2,)), pa.array([[1, 2]], pa.list_(pa.int8(), 2))), [[1, 2]]),
        (Array("int8", (None,)), pa.array([[9], [1, 2], []], pa.list_(pa.int8()))[1:], [[1, 2], []]),
        (Array("int8", (None, 2)), pa.array([[[1, 2]], []], pa.list_(pa.list_(pa.int8(), 2))), [[[1, 2]], []]),
        (Array("int8", (None,), nullable=True), pa.array([[1], None, [2]], pa.large_list(pa.int8())), [[1], None, [2]]),
        (Array("bool", (None,)), pa.array([[True], [False, True]]), [[True], [False, True]]),
        (Bytes(), pa.array([b"xy", b"a", b""], pa.binary())[1:], [b"a", b""]),
        (Bytes(nullable=True), pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
        (Bytes(), pa.array([b"ab" * 20], pa.binary_view()), [b"ab" * 20]),
        (Bytes(), pa.array([], pa.binary()), []),
        (Text(nullable=True), VIEWS, ["a", None, "", "b" * 40]),
        (Text(), pa.array(["é", ""], pa.string()), ["é", ""]),
        (Json(), pa.array(['{"a" : [1, 2]}', "null"]), [{"a": [1, 2]}, None]),
        (Json(nullable=True), pa.array([{"a": 1}, None]), [{"a": 1}, None]),
        (Image(), pa.array([tiny_png(3, 2)]), [tiny_png(3, 2)]),
    ],
)  # fmt: skip
def test_arrow_arrays_give_the_frames_of_their_values(column: ColumnType, array: pa.Array, values: list[Any]) -> None:
    assert arrow_frames(column, array) == frames(column, *values)


@pytest.mark.parametrize(
    ("column", "array", "because"),
    [
        (Scalar("int64"), pa.array([1.0]), "Arrow type double does not fit"),
        (Scalar("bool"), pa.array([1]), "Arrow type int64 does not fit"),
        (Scalar("int8"), pa.array([1, 300]), "int64 does not fit int8"),
        (Scalar("float16"), pa.array([1.0, 1e9]), "row 1 of the batch: 1000000000.0 does not fit float16"),
        (Scalar("int64"), pa.array([1, None]), "row 1 of the batch: null"),
        (Tensor("int8", (2,)), pa.array([[1, 2], [1]], pa.list_(pa.int8())), "1 items, the shape"),
        (Tensor("int8", (2,)), pa.array([[1, None]], pa.list_(pa.int8())), "a null inside a list"),
        (Tensor("int8", (2,)), pa.array([1], pa.int8()), "Arrow type int8 does not fit"),
        (Tensor("int8", (2,)), pa.array([[[1], [2]]], pa.list_(pa.list_(pa.int8()))), "does not fit"),
        (Array("int8", (None, 2)), pa.array([[1, 2, 3]], pa.list_(pa.int8())), "no multiple of 2"),
        (Array("int8", (None, 2)), pa.array([[[1, 2], [3]]], pa.list_(pa.list_(pa.int8()))), "an inner list"),
        (Bytes(), pa.array(["x"]), "Arrow type string does not fit"),
        (Text(), pa.array([b"x"]), "Arrow type binary does not fit"),
        (Text(), pa.array([b"\xff"]).view(pa.string()), "not valid UTF-8"),
        (Json(), pa.array(["{"]), "row 0 of the batch: '{' is no JSON"),
        (Json(), pa.array([None], pa.string()), "null, but the column is not nullable"),
        (Image(), pa.array([1]), "does not fit"),
    ],
)
def test_arrow_arrays_that_do_not_fit_are_refused(column: ColumnType, array: pa.Array, because: str) -> None:
    with pytest.raises(ConfigError, match=f"column 'x'.*{because}"):
        arrow_frames(column, array)


def test_ranges_under_nulls_are_not_stored() -> None:
    """Arrow allows a null to cover bytes; they must not reach a frame."""
    offsets = pa.py_buffer(np.array([0, 3, 6], np.int64))
    hidden = pa.Array.from_buffers(pa.large_binary(), 2, [pa.py_buffer(b"\x01"), offsets, pa.py_buffer(b"abcdef")])
    assert arrow_frames(Bytes(nullable=True), hidden) == frames(Bytes(nullable=True), b"abc", None)
    items = pa.array([1, 2, 3, 4, 5, 6], pa.int8())
    lists = pa.Array.from_buffers(pa.large_list(pa.int8()), 2, [pa.py_buffer(b"\x01"), offsets], children=[items])
    column = Array("int8", (None,), nullable=True)
    assert arrow_frames(column, lists) == frames(column, [1, 2, 3], None)


def test_a_dictionary_for_a_column_that_cannot_use_one_is_refused() -> None:
    schema = Schema({"raw": Text(), "coded": Text(codec="zstd")})
    SampleEncoder(schema, {"coded": small_dictionary()})
    for name in ("raw", "other"):
        with pytest.raises(ConfigError, match=f"a dictionary for column '{name}'"):
            SampleEncoder(schema, {name: b"x"})


def test_a_large_value_among_small_ones_is_encoded_with_the_same_dictionary() -> None:
    schema = Schema({"x": Text(codec="zstd")})
    encoded = SampleEncoder(schema, {"x": small_dictionary()}).encode_samples(
        [{"x": "word 1, and more words " * repeat} for repeat in (1, 5000, 1)]
    )
    assert encoded.rows == 3
    assert encoded.bytes < 1000
