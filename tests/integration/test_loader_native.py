"""The loader over real shards and the native reader: every row once, by identity, whatever the shape."""

import gc
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.loader import image
from fastfeed.loader.loader import Loader
from fastfeed.loader.substitute import substitute_position
from fastfeed.loader.transforms import Cast
from tests.helpers import loader_callables as functions
from tests.helpers.loader_data import sample_of, write_images, write_rows, write_tokens

ROWS = 700


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = write_rows(tmp_path_factory.mktemp("rows") / "data", ROWS)
    assert len(dataset.shards()) > 1
    return dataset


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_images(tmp_path_factory.mktemp("images") / "data", 60)


def loader_of(dataset: Dataset, **options: Any) -> Loader:
    return Loader(dataset, **{"batch_size": 32, "rank": 0, "world_size": 1, "threads": 2, **options})


def snapshot_of(batch: Any) -> dict[str, Any]:
    """A copy of everything in a batch, as Python values."""
    return {**batch.to_dict(), "rows": batch.rows.tolist(), "positions": batch.positions.tolist(),
            "valid": batch.valid.tolist()}


@pytest.mark.parametrize("shuffle", [False, "full", "window"])
@pytest.mark.parametrize("last", ["drop", "pad", "short"])
@pytest.mark.parametrize(("world", "batch", "threads"), [(1, 32, 1), (1, 33, 2), (3, 7, 2), (5, 64, 3), (8, 1, 1)])
def test_every_valid_row_comes_once_over_all_ranks(dataset, shuffle, last, world, batch, threads):
    rows, payload, steps = [], [], set()
    for rank in range(world):
        with loader_of(dataset, batch_size=batch, threads=threads, last=last, shuffle=shuffle, rank=rank,
                       world_size=world, columns=["id"], shuffle_window=4) as loader:
            count = 0
            for made in loader:
                rows += made.rows[made.valid].tolist()
                payload += made["id"][made.valid].tolist()
                count += 1
            steps.add(count)
            assert count == len(loader)
    assert len(steps) == 1
    assert rows == payload
    expected = ROWS - ROWS % (batch * world) if last == "drop" else ROWS
    assert len(rows) == len(set(rows)) == expected


def test_every_column_of_every_row_is_what_was_written(dataset):
    with loader_of(dataset, last="short") as loader:
        for batch in loader:
            for number, row in enumerate(batch.rows.tolist()):
                expected = sample_of(row)
                assert batch["text"][number] == expected["text"]
                assert batch["meta"][number] == expected["meta"]
                np.testing.assert_array_equal(batch["vector"][number], expected["vector"])
                np.testing.assert_array_equal(batch["boxes"][number], expected["boxes"])
                assert bool(batch.nulls["weight"][number]) == (expected["weight"] is None)
                assert batch["weight"][number] == (expected["weight"] or 0)


def test_the_order_is_what_one_rank_of_one_is_given(dataset):
    with loader_of(dataset, last="short", seed=9, epoch=4) as loader:
        delivered = np.concatenate([batch.rows for batch in loader])
        np.testing.assert_array_equal(loader.order.rows(0, ROWS), delivered)


@pytest.mark.parametrize(("before", "after"), [((1, 32), (3, 10)), ((3, 10), (2, 45))])
def test_resuming_gives_exactly_the_rest_with_another_world_and_batch(dataset, before, after):
    seen, state = [], {}
    for rank in range(before[0]):
        with loader_of(dataset, batch_size=before[1], world_size=before[0], rank=rank, last="short") as loader:
            iterator = iter(loader)
            for _ in range(4):
                batch = next(iterator)
                seen += batch["id"][batch.valid].tolist()
            state = loader.state_dict()
    for rank in range(after[0]):
        with loader_of(dataset, batch_size=after[1], world_size=after[0], rank=rank, last="short") as loader:
            loader.load_state_dict(state)
            seen += [row for batch in loader for row in batch["id"][batch.valid].tolist()]
    assert sorted(seen) == list(range(ROWS))


def test_results_are_identical_for_any_threads_and_prefetch(images):
    def epoch(**options: Any) -> list[dict[str, Any]]:
        chain = [image.RandomResizedCrop(16), image.RandomHorizontalFlip()]
        with loader_of(images, batch_size=7, last="pad", transforms={"image": chain}, **options) as loader:
            return [snapshot_of(batch) for batch in loader]

    expected = epoch(threads=1)
    assert epoch(threads=3, prefetch_factor=9) == expected
    assert epoch(threads=2, prefetch=1) == expected


def test_python_callables_are_identical_for_any_workers(dataset):
    def epoch(**options: Any) -> list[Any]:
        with loader_of(dataset, batch_size=64, columns=["id", "text"], last="short", map_sample=functions.with_length,
                       transforms={"id": [functions.add_noise]}, map_batch=functions.drawn,
                       collate_fn=functions.as_lists, **options) as loader:
            return list(loader)

    expected = epoch(python_workers=0)
    assert epoch(python_workers=3) == expected
    assert epoch(python_workers=2, python_mode="processes") == expected


def test_images_are_decoded_natively_and_go_on_to_python(images):
    chain = [image.Resize((20, 24)), image.ToLayout("HWC"), lambda pixels: int(pixels[:4, :4].mean())]
    with loader_of(images, transforms={"image": chain}, last="short") as loader:
        for batch in loader:
            assert batch["image"].min() > 200  # the bright corner
        assert loader.stats()["images"]["decoded"] >= 60  # and those of the next epoch, read ahead


def test_images_without_transforms_stay_encoded(images):
    with loader_of(images, columns=["image"]) as loader:
        assert next(iter(loader))["image"][0][:2] == b"\xff\xd8"


def test_cast_changes_the_type_natively(dataset):
    with loader_of(dataset, columns=["id", "vector", "boxes"], shuffle=False,
                   transforms={"id": Cast("float32"), "vector": [Cast("int32")], "boxes": Cast("float16")}) as loader:
        batch = next(iter(loader))
    assert [batch[name].dtype for name in ("id", "vector")] == ["float32", "int32"]
    assert batch["boxes"].values.dtype == "float16"
    assert batch["id"].tolist() == list(range(32))


def test_windows_of_tokens_are_rows(tmp_path):
    dataset = write_tokens(tmp_path / "tokens", 200).windows(8, stride=4)
    with loader_of(dataset, batch_size=10, last="short", transforms={"tokens": [Cast("int64")]}) as loader:
        for batch in loader:
            np.testing.assert_array_equal(batch["tokens"], batch.rows[:, None] * 4 + np.arange(8))
    with loader_of(dataset, batch_size=10, predownload=100) as loader:
        assert next(iter(loader))["tokens"].dtype == np.uint16


@pytest.mark.parametrize(("column", "chain", "message"), [
    ("id", [len, Cast("int8")], "must come before"),
    ("id", [3], "neither a transform"),
    ("id", [image.Resize(8)], "needs an Image column"),
    ("text", [Cast("int8")], "Cast is for numbers"),
    ("id", [Cast("int8"), Cast("int16")], "give one Cast"),
])
def test_a_chain_that_cannot_be_done_is_refused(dataset, column, chain, message):
    with pytest.raises(ConfigError, match=message):
        loader_of(dataset, transforms={column: chain})


def test_cast_is_not_for_images_and_knows_its_types(images):
    with pytest.raises(ConfigError, match="Normalize"):
        loader_of(images, transforms={"image": [Cast("float32")]})
    for dtype in ("complex64", "fancy"):
        with pytest.raises(ConfigError, match="choose one of bool"):
            Cast(dtype)


def test_held_batches_never_change(dataset, caplog):
    """Slots are reused only after the last view is gone, so what is held stays; many held batches give one note."""
    with caplog.at_level(logging.WARNING, logger="fastfeed"), \
            loader_of(dataset, batch_size=2, last="short", columns=["id", "text", "vector"]) as loader:
        kept = [(batch["id"], batch["text"], batch["vector"][:1], snapshot_of(batch)) for batch in loader]
    assert len(kept) == ROWS / 2
    for ids, texts, first, copy in kept:
        assert ids.tolist() == copy["id"]
        assert texts.tolist() == copy["text"]
        assert first[0].tolist() == copy["vector"][0]
    assert len([record for record in caplog.records if "batches are held" in record.getMessage()]) == 1


def test_dropped_batches_give_their_memory_back(dataset):
    with loader_of(dataset, batch_size=8, prefetch_factor=3) as loader:
        for _ in range(3):
            for _ in loader:
                pass
        gc.collect()
        assert loader.stats()["slots"]["all"] <= 3 + 4


def damaged(tmp_path: Path) -> Dataset:
    """One byte in the payload of the first shard is wrong."""
    dataset = write_rows(tmp_path / "damaged", 200)
    shard = dataset.shards()[0].path
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[4096 + 500] ^= 1
    shard.write_bytes(data)
    return dataset


def test_a_bad_sample_raises_and_names_itself(tmp_path):
    with loader_of(damaged(tmp_path), shuffle=False) as loader:
        iterator = iter(loader)
        with pytest.raises(CorruptDataError, match="row"):
            next(iterator)
        assert next(iterator).rows[0] == 32


def test_skip_leaves_a_masked_hole_and_counts_it(tmp_path):
    with loader_of(damaged(tmp_path), shuffle=False, on_error="skip", last="short",
                   transforms={"text": [functions.upper]}) as loader:
        batches = list(loader)
        stats = loader.stats()
    assert sum(int((~batch.valid).sum()) for batch in batches) == 1
    assert len(batches) == 7
    assert stats["errors"]["skipped"] == 1
    assert stats["errors"]["first"]


def test_a_substitute_is_another_row_whole_in_every_column(tmp_path):
    with loader_of(damaged(tmp_path), shuffle="full", on_error="substitute", last="short") as loader:
        batches = list(loader)
        assert loader.stats()["errors"]["substituted"] == 1
    invalid = [(batch, number) for batch in batches for number in np.flatnonzero(~batch.valid)]
    assert len(invalid) == 1
    for batch in batches:
        expected = [sample_of(row) for row in batch.rows.tolist()]
        for name in ("id", "text", "meta", "weight"):
            assert batch.to_dict()[name] == [sample[name] for sample in expected]
        for name in ("vector", "boxes"):
            assert all(np.array_equal(value, sample[name]) for value, sample in zip(batch[name], expected, strict=True))
    batch, number = invalid[0]
    position = substitute_position(0, 0, int(batch.positions[number]), 0, 200)
    assert batch.rows[number] == loader.order[position] != loader.order[int(batch.positions[number])]


def test_stats_know_what_was_read(dataset):
    with loader_of(dataset) as loader:
        list(loader)
        stats = loader.stats()
    assert stats["samples"] >= 32 * len(loader)
    assert stats["bytes"]["local"] > 0
    assert stats["bytes"]["batch"] > 0
    assert stats["threads"] == 2
    assert stats["io"]["name"] == "pread"
    assert stats["io"]["cached_bytes"] > 0
    assert stats["prefetch_batches"] >= 2
    assert set(stats["stages"]) == {"locate_s", "read_s", "read_wait_s", "verify_s", "decode_s", "place_s", "python_s",
                                    "idle_s"}


def test_a_url_is_opened(dataset):
    with Loader(dataset.url, batch_size=4) as loader, Loader(remote=dataset.url, batch_size=4) as other:
        assert next(iter(loader)).rows.tolist() == next(iter(other)).rows.tolist()


def test_a_forked_child_goes_on_with_threads_of_its_own(dataset):
    loader = loader_of(dataset, last="short", columns=["id"], transforms={"id": [abs]})
    iterator = iter(loader)
    next(iterator)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            rest = [int(row) for batch in iterator for row in batch["id"]]
            again = [int(row) for batch in loader for row in batch["id"]]
            os.write(write_end, pickle.dumps((rest, len(again))))
            loader.close()
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        child_rest, child_again = pickle.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    assert child_rest == [int(row) for batch in iterator for row in batch["id"]]
    assert child_again == ROWS
    loader.close()
