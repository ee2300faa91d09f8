"""Batches of tensors: shared memory, dict behaviour, conversion."""

import copy
import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import fastfeed.torch as fft
from fastfeed.dataset.batch import Batch as NumpyBatch
from fastfeed.dataset.batch import Ragged as NumpyRagged
from fastfeed.errors import ConfigError
from fastfeed.torch.batch import to_torch
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader


def numpy_batch() -> NumpyBatch:
    text = NumpyRagged(np.frombuffer(bytearray(b"abcde"), np.uint8), np.array([0, 2, 2, 5]), None, "text")
    boxes = NumpyRagged(np.arange(12, dtype=np.float32), np.array([0, 4, 4, 12]), np.array([[1, 4], [0, 4], [2, 4]]))
    columns = {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "text": text, "boxes": boxes}
    nulls = {"x": np.array([False, True, False]), "text": None, "boxes": None}
    return NumpyBatch(columns, np.array([5, 6, 7]), np.array([0, 1, 2]), np.ones(3, bool), nulls)


def loader_of(**options: Any) -> fft.Loader:
    return fft.Loader(FakeDataset(10), batch_size=4, reader_factory=FakeReader, **options)  # type: ignore[arg-type]


def test_tensors_share_the_memory_of_the_arrays():
    batch = numpy_batch()
    tensors = to_torch(batch)
    batch["x"][0, 0] = 42
    assert tensors["x"][0, 0] == 42
    batch["text"].values[0] = ord("z")
    assert tensors["text"][0] == "zb"


def test_a_batch_is_a_dict_whose_length_is_its_samples():
    batch = to_torch(numpy_batch())
    assert isinstance(batch, dict)
    assert len(batch) == 3
    assert list(batch) == ["x", "text", "boxes"]
    assert batch.rows.tolist() == [5, 6, 7]
    assert batch.positions.tolist() == [0, 1, 2]
    assert batch.valid.dtype == torch.bool
    assert batch.source is None
    assert batch.nulls["x"].tolist() == [False, True, False]
    assert dict(**batch).keys() == batch.keys()


def test_a_ragged_column_is_two_tensors_and_lists_its_values():
    batch = to_torch(numpy_batch())
    text, boxes = batch["text"], batch["boxes"]
    assert text.values.dtype == torch.uint8
    assert text.offsets.tolist() == [0, 2, 2, 5]
    assert text.tolist() == list(text) == ["ab", "", "cde"]
    assert len(boxes) == 3
    assert boxes[2].shape == (2, 4)
    assert [tuple(box.shape) for box in boxes] == [(1, 4), (0, 4), (2, 4)]
    assert "kind 'text'" in repr(text)


def test_to_keeps_what_is_there_and_brings_the_rest():
    batch = to_torch(numpy_batch()).to("cpu")
    assert batch["x"].device.type == "cpu"
    assert batch.rows.tolist() == [5, 6, 7]
    meta = to_torch(numpy_batch()).to("meta")
    assert meta["x"].is_meta
    assert meta["boxes"].values.is_meta
    assert all(about.is_meta for about in (meta.rows, meta.positions, meta.valid, *meta.nulls.values()))


def test_a_batch_made_from_a_plain_dict_counts_its_first_column():
    batch = to_torch({"a": np.zeros((4, 2)), "b": "text", "c": np.float32(1)})
    assert len(batch) == 4
    assert batch["b"] == "text"
    assert batch["c"].dtype == torch.float32
    assert batch.rows is None
    assert len(fft.Batch({})) == 0
    assert fft.Batch({})


def test_a_batch_pickles_and_copies():
    for batch in (pickle.loads(pickle.dumps(to_torch(numpy_batch()))), copy.copy(to_torch(numpy_batch()))):
        assert batch.rows.tolist() == [5, 6, 7]
        assert batch["text"].tolist() == ["ab", "", "cde"]


def test_a_read_only_array_is_copied():
    array = np.arange(3)
    array.flags.writeable = False
    assert to_torch({"a": array})["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_types_stay_what_they_are(dtype):
    tensor = to_torch({"a": np.arange(3, dtype=dtype)})["a"]
    assert str(tensor.dtype) == f"torch.{dtype}"
    assert tensor.long().tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int32"])
def test_unsigned_types_pickle_and_copy(dtype):
    tokens = NumpyRagged(np.arange(5, dtype=dtype), np.array([0, 2, 2, 5]), None, "array")
    columns = {"a": np.arange(3, dtype=dtype), "tokens": tokens}
    batch = to_torch(NumpyBatch(columns, np.arange(3), np.arange(3), np.ones(3, bool)))
    for again in (pickle.loads(pickle.dumps(batch)), copy.copy(batch), copy.deepcopy(batch)):
        assert again["a"].dtype == batch["a"].dtype
        assert again["a"].tolist() == [0, 1, 2]
        assert again["tokens"].values.dtype == batch["a"].dtype
        assert again["tokens"].tolist() == [[0, 1], [], [2, 3, 4]]


def test_tensors_of_one_shape_that_a_callable_returns_become_one():
    batch = next(iter(loader_of(shuffle=False, transforms={"id": lambda value: torch.full((2,), int(value))})))
    assert batch["id"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    batch = to_torch(NumpyBatch({"a": [torch.ones(2), None], "b": [torch.ones(2), torch.ones(3)], "c": [None, None]},
                                np.arange(2), np.arange(2), np.ones(2, bool)))
    assert batch["a"].tolist() == [[1, 1], [0, 0]]
    assert [len(value) for value in batch["b"]] == [2, 3]
    assert batch["c"] == [None, None]


def test_the_loader_yields_dicts_of_tensors():
    batches = list(loader_of(shuffle=False, last="short"))
    assert [batch["id"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0]["text"].tolist() == ["row 0", "row 1", "row 2", "row 3"]
    assert isinstance(batches[0]["id"], torch.Tensor)


def test_map_batch_sees_numpy_and_collate_fn_tensors():
    def numpy_seen(batch: Any) -> dict[str, Any]:
        assert isinstance(batch["id"], np.ndarray)
        return {"id": batch["id"] + 1}

    def tensors_seen(batch: Any) -> Any:
        assert isinstance(batch["id"], torch.Tensor)
        return batch["id"].sum()

    loader = loader_of(shuffle=False, map_batch=numpy_seen, collate_fn=tensors_seen)
    assert [int(total) for total in loader] == [10, 26]


def test_device_moves_tensors():
    assert all(batch["id"].is_meta for batch in loader_of(device="meta"))


class Pair(NamedTuple):
    ids: Any
    rest: Any


def test_device_moves_what_collate_fn_returns():
    def collated(batch: Any) -> Pair:
        return Pair(batch["id"], [{"ids": (batch["id"],)}, batch, "text"])

    ids, rest = next(iter(loader_of(device="meta", collate_fn=collated)))
    assert ids.is_meta
    assert rest[0]["ids"][0].is_meta
    assert rest[1]["id"].is_meta
    assert rest[2] == "text"


def test_a_device_that_torch_does_not_know_is_refused():
    with pytest.raises(ConfigError, match="no device of torch"):
        loader_of(device="nonsense")


def test_pin_memory_without_a_gpu_is_refused_and_auto_leaves_it():
    assert not torch.cuda.is_available()
    assert list(loader_of(pin_memory="auto"))
    assert list(loader_of(pin_memory=False))
    with pytest.raises(ConfigError, match="needs a GPU"):
        loader_of(pin_memory=True)
    with pytest.raises(ConfigError, match="choose 'auto'"):
        loader_of(pin_memory="yes")


def test_the_torch_loader_knows_the_keywords_of_the_other():
    with pytest.raises(ConfigError, match="no keyword bach_sise"):
        loader_of(bach_sise=3)
