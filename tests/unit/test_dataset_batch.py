"""Batches and ragged columns: what users touch of what was read."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from fastfeed._native.feed import NativeBatch, RaggedArrays
from fastfeed.dataset.batch import Batch, Ragged
from fastfeed.errors import ConfigError, CorruptDataError


def ragged_bytes(values: list[bytes], kind: str = "bytes", nulls: Any = None) -> Ragged:
    offsets = np.cumsum([0, *map(len, values)])
    return Ragged(np.frombuffer(b"".join(values), np.uint8), offsets, None, kind, nulls)


def boxes(counts: list[int]) -> Ragged:
    """Arrays of shape (count, 4) with ascending numbers."""
    offsets = np.cumsum([0, *(4 * count for count in counts)])
    shapes = np.array([[count, 4] for count in counts])
    return Ragged(np.arange(offsets[-1], dtype=np.float32), offsets, shapes, "array")


def batch_of_three() -> Batch:
    native = NativeBatch(
        columns=[
            np.array([7, 8, 9]),
            RaggedArrays(np.frombuffer(b"oneto", np.uint8), np.array([0, 3, 3, 5]), None),
        ],
        nulls=[None, np.array([False, True, False])],
        rows=np.array([5, 2, 9]),
        positions=np.arange(3),
        valid=np.ones(3, bool),
        whole=True,
        spent_s=0.0,
    )
    return Batch.from_native(native, ["label", "caption"], ["scalar", "text"])


class TestRagged:
    def test_values_are_what_the_kind_says(self) -> None:
        assert list(ragged_bytes([b"a", b"", b"bc"])) == [b"a", b"", b"bc"]
        assert ragged_bytes(["é".encode(), b"x"], "text").tolist() == ["é", "x"]
        assert ragged_bytes([b'{"a":[1]}', b"null"], "json").tolist() == [{"a": [1]}, None]
        assert ragged_bytes([b"\xff\xd8"], "image")[0] == b"\xff\xd8"

    def test_arrays_are_views_in_their_shapes(self) -> None:
        ragged = boxes([2, 0, 1])
        assert [value.shape for value in ragged] == [(2, 4), (0, 4), (1, 4)]
        assert np.shares_memory(ragged[2], ragged.values)
        assert ragged.tolist()[2] == [[8.0, 9.0, 10.0, 11.0]]
        flat = Ragged(np.arange(3), np.array([0, 1, 3]))
        assert flat[1].tolist() == [1, 2]

    def test_indices_count_from_both_ends_and_end(self) -> None:
        ragged = ragged_bytes([b"a", b"b"])
        assert ragged[-2] == ragged[np.int64(0)] == b"a"
        for outside in (2, -3):
            with pytest.raises(IndexError, match=f"index {outside} is outside a ragged column of 2"):
                ragged[outside]

    def test_slices_are_ragged_and_equal_to_slices_of_the_list(self) -> None:
        nulls = np.array([False, True, False, False])
        whole = ragged_bytes([b"a", b"", b"bc", b"def"], nulls=nulls)
        for part in (slice(1, 3), slice(None), slice(3, 1), slice(None, None, -1), slice(0, 4, 2), slice(4, 9)):
            assert whole[part].tolist() == whole.tolist()[part]
        assert np.shares_memory(whole[2:].values, whole.values)
        assert boxes([2, 0, 1])[::2][1].tolist() == boxes([2, 0, 1])[2].tolist()

    def test_nulls_are_none(self) -> None:
        assert ragged_bytes([b"a", b""], nulls=np.array([False, True])).tolist() == [b"a", None]

    def test_a_ragged_pickles_and_says_what_it_is(self) -> None:
        ragged = boxes([1, 2])
        again = pickle.loads(pickle.dumps(ragged))
        assert again.tolist() == ragged.tolist()
        assert repr(again) == "Ragged(2 values of kind 'array', 12 items of float32)"

    def test_what_is_not_utf8_is_corrupt(self) -> None:
        values = np.frombuffer(b"ok\xff\xfe", np.uint8)
        column = Ragged(values, np.array([0, 2, 4]), kind="text")
        assert column[0] == "ok"
        with pytest.raises(CorruptDataError, match="text value 1: is not UTF-8"):
            column.tolist()

    def test_what_is_no_json_is_corrupt(self) -> None:
        with pytest.raises(CorruptDataError, match="JSON value 1: is no JSON"):
            ragged_bytes([b"{}", b"{"], "json").tolist()


class TestBatch:
    def test_columns_are_reached_by_name(self) -> None:
        batch = batch_of_three()
        assert len(batch) == 3
        assert batch["label"].tolist() == [7, 8, 9]
        assert batch["caption"].tolist() == ["one", None, "to"]
        assert list(batch) == batch.keys() == ["label", "caption"]
        assert "label" in batch
        assert "image" not in batch
        assert [name for name, _ in batch.items()] == ["label", "caption"]
        assert batch.values()[0] is batch["label"]
        assert dict(batch)["label"] is batch["label"]
        with pytest.raises(KeyError, match="no column 'image' in this batch: it has label, caption"):
            batch["image"]

    def test_nulls_sources_and_python_values(self) -> None:
        batch = batch_of_three()
        assert batch.nulls["label"] is None
        assert batch.nulls["caption"].tolist() == [False, True, False]
        assert batch.source is None
        assert batch.to_dict() == {"label": [7, 8, 9], "caption": ["one", None, "to"]}

    def test_a_null_scalar_is_none_in_a_list(self) -> None:
        batch = Batch(
            {"x": np.array([1, 0])}, np.arange(2), np.arange(2), np.ones(2, bool), {"x": np.array([False, True])}
        )
        assert batch.to_dict() == {"x": [1, None]}

    def test_a_batch_pickles(self) -> None:
        again = pickle.loads(pickle.dumps(batch_of_three()))
        assert again.to_dict() == batch_of_three().to_dict()
        assert again.rows.tolist() == [5, 2, 9]

    def test_the_cpu_is_the_only_device_of_numpy(self) -> None:
        batch = batch_of_three()
        assert batch.to("cpu") is batch
        assert batch.to(torch.device("cpu")) is batch
        with pytest.raises(ConfigError, match=r"fastfeed\.torch"):
            batch.to("cuda:0")

    def test_dlpack_shares_the_memory_with_torch(self) -> None:
        batch = Batch({"x": np.zeros((2, 3), np.float32)}, np.arange(2), np.arange(2), np.ones(2, bool))
        torch.from_dlpack(batch["x"])[1, 2] = 5
        assert batch["x"][1, 2] == 5

    def test_repr_names_columns_and_shapes(self) -> None:
        assert repr(batch_of_three()) == (
            "Batch(3 samples; label: int64[3], caption: Ragged(3 values of kind 'text', 5 items of uint8))"
        )
