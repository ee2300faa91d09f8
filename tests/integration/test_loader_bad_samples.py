"""Several ranks over one damaged dataset: they stay in step whatever they do with bad samples, and every good row
counts once.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.dataset.shards import ShardEntry
from fastfeed.errors import CorruptDataError
from fastfeed.loader.loader import Loader
from tests.helpers.loader_data import sample_of, write_rows

ROWS = 700
BAD_SAMPLES = 23
ZEROED_ROWS = 40
WORLDS = (1, 3, 4)


def frame_at(shard: ShardEntry, row: int) -> int:
    assert shard.row_index is not None
    return int(shard.row_index[row]) * 8


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, set[int]]:
    """A dataset with flipped bits in some rows, and zeros over the end of a shard; and which rows these are."""
    dataset = write_rows(tmp_path_factory.mktemp("bad") / "data", ROWS)
    shards = list(dataset.shards())
    zeroed = range(shards[-1].first_row + shards[-1].rows - ZEROED_ROWS, ROWS)
    bad = set(random.Random(0).sample(range(zeroed.start), BAD_SAMPLES))
    for shard in shards:
        with open(shard.path, "r+b") as file:
            for row in sorted(bad & set(range(shard.first_row, shard.first_row + shard.rows))):
                file.seek(frame_at(shard, row - shard.first_row) + 5)
                byte = file.read(1)[0]
                file.seek(-1, 1)
                file.write(bytes([byte ^ 4]))
    with open(shards[-1].path, "r+b") as file:
        start = file.seek(frame_at(shards[-1], zeroed.start - shards[-1].first_row))
        file.write(bytes(shards[-1].payload_end - start))
    bad |= set(zeroed)
    return open_dataset(dataset.url), bad


def steps_of(dataset: Dataset, rank: int, world: int, **options: Any) -> list[Any]:
    with Loader(dataset, batch_size=16, rank=rank, world_size=world, threads=2, **options) as loader:
        made = [(batch.rows.copy(), batch.valid.copy(), batch["id"].copy(), loader.state_dict()) for batch in loader]
        assert len(made) == len(loader)
        return made


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("shuffle", [False, "window"])
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_ranks_take_as_many_steps_and_every_good_row_counts_once(damaged, on_error, shuffle, world):
    dataset, bad = damaged
    ranks = [steps_of(dataset, rank, world, on_error=on_error, shuffle=shuffle, last="short") for rank in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    for of_one_step in zip(*ranks, strict=True):
        states = [state for *_, state in of_one_step]
        assert states == [states[0]] * world
    everything = [step for steps in ranks for step in steps]
    good = np.concatenate([rows[valid] for rows, valid, *_ in everything])
    assert sorted(good.tolist()) == sorted(set(range(ROWS)) - bad)
    for rows, valid, ids, _ in everything:
        assert ids[valid].tolist() == [sample_of(row)["id"] for row in rows[valid]]
        if on_error == "skip":
            assert not ids[~valid].any()
        else:
            assert ids[~valid].tolist() == rows[~valid].tolist()
            assert not bad & set(rows[~valid].tolist())


@pytest.mark.parametrize("world", WORLDS)
def test_a_damaged_dataset_has_the_steps_of_a_whole_one(damaged, tmp_path, world):
    dataset, _ = damaged
    whole = write_rows(tmp_path / "whole", ROWS)
    for last in ("drop", "pad", "short"):
        holes = steps_of(dataset, 0, world, on_error="skip", last=last)
        right = steps_of(whole, 0, world, last=last)
        assert len(holes) == len(right)
        assert all(np.array_equal(one[0], other[0]) for one, other in zip(holes, right, strict=True))


def test_raise_names_file_and_row_of_the_first_bad_position(damaged):
    dataset, bad = damaged
    with pytest.raises(CorruptDataError, match=rf"row {min(bad)} of the dataset"):
        steps_of(dataset, 0, 1, shuffle=False)
