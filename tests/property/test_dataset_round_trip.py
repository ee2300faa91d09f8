"""A dataset equals the list of samples that was written, over schemas and shapes of shards, by every way to read it."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastfeed as ff
from fastfeed.format.reference import read_dataset

ITEM_TYPES = ("bool", "int8", "uint16", "int64", "float16", "float64")
JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                    max_leaves=5)  # fmt: skip


def arrays(dtype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Arrays of small whole numbers, which every item type holds exactly."""
    count = int(np.prod(shape))
    return st.lists(st.integers(0, 1), min_size=count, max_size=count).map(
        lambda items: np.array(items).astype(dtype).reshape(shape)
    )


@st.composite
def columns(draw: st.DrawFn) -> tuple[Any, st.SearchStrategy[Any]]:
    """(a column type, its values)."""
    nullable = draw(st.booleans())
    codec = draw(st.sampled_from(["raw", "zstd"]))
    dtype = draw(st.sampled_from(ITEM_TYPES))
    column, values = draw(
        st.sampled_from(
            [
                (ff.Scalar("int64", nullable=nullable), st.integers(-(2**63), 2**63 - 1)),
                (ff.Scalar("float64", nullable=nullable), st.floats(allow_nan=False)),
                (ff.Scalar("bool", nullable=nullable), st.booleans()),
                (ff.Tensor(dtype, (2, 3), nullable=nullable), arrays(dtype, (2, 3))),
                (
                    ff.Array(dtype, (2, None), codec=codec, nullable=nullable),
                    st.integers(0, 5).flatmap(lambda free: arrays(dtype, (2, free))),
                ),
                (ff.Bytes(codec=codec, nullable=nullable), st.binary(max_size=300)),
                (ff.Text(codec=codec, nullable=nullable), st.text(max_size=100)),
                (ff.Json(codec=codec, nullable=nullable), JSON),
            ]
        )
    )
    return column, (st.none() | values) if nullable else values


@st.composite
def datasets(draw: st.DrawFn) -> tuple[ff.Schema, list[dict[str, Any]]]:
    drawn = draw(st.lists(columns(), min_size=1, max_size=4))
    schema = ff.Schema({f"column {number}": column for number, (column, _) in enumerate(drawn)})
    sample = st.fixed_dictionaries({f"column {number}": values for number, (_, values) in enumerate(drawn)})
    return schema, draw(st.lists(sample, max_size=30))


def plain(value: Any) -> Any:
    """`value` with arrays as what tells them apart."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tolist())
    return value


def tokens(value: np.ndarray) -> tuple[str, bytes]:
    """Small windows are many, and lists of their tokens slow."""
    return str(value.dtype), value.tobytes()


def without_shape(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(), st.integers(1, 12), st.data())
def test_a_dataset_is_the_list_that_was_written(
    drawn: tuple[ff.Schema, list[dict[str, Any]]], copies: int, data: st.DataObject
) -> None:
    schema, few = drawn
    samples = few * copies  # so that some datasets have several shards and share whole ones
    with tempfile.TemporaryDirectory() as folder:
        with ff.DatasetWriter(Path(folder) / "set", schema, shard_size="64KiB") as writer:
            for sample in samples:
                writer.write(sample)
        dataset = ff.open(Path(folder) / "set")
        wanted = [plain(sample) for sample in samples]
        assert [plain(sample) for sample in dataset] == wanted
        assert [plain(sample) for sample in read_dataset(Path(folder) / "set")] == wanted
        assert [plain(sample) for sample in pickle.loads(pickle.dumps(dataset))[:]] == wanted
        rows = data.draw(st.lists(st.integers(0, len(samples) - 1), max_size=20)) if samples else []
        taken = dataset.take(rows).to_dict()
        for name in schema:
            assert taken[name] == [without_shape(samples[row][name]) for row in rows]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 9_000), min_size=1, max_size=12),
    st.sampled_from(["uint16", "uint32"]),
    st.integers(1, 5_000),
    st.integers(1, 9_000),
)
def test_a_stream_is_its_documents_and_its_windows_are_slices_of_them(
    lengths: list[int], dtype: str, length: int, stride: int
) -> None:
    documents = [(np.arange(size) * 7 + number).astype(dtype) for number, size in enumerate(lengths)]
    everything = np.concatenate(documents)
    with tempfile.TemporaryDirectory() as folder:
        with ff.TokenWriter(Path(folder) / "set", dtype, shard_size="64KiB") as writer:
            for document in documents:
                writer.write(document)
        dataset = ff.open(Path(folder) / "set")
        assert [tokens(sample["tokens"]) for sample in dataset] == [tokens(document) for document in documents]
        windows = dataset.windows(length, stride)
        starts = range(0, len(everything) - length + 1, stride)
        assert len(windows) == len(starts)
        wanted = [tokens(everything[start : start + length]) for start in starts]
        assert [tokens(sample["tokens"]) for sample in windows] == wanted
        assert [tokens(row) for row in windows.take(range(len(windows)))["tokens"]] == wanted
