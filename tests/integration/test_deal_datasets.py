"""Homes of the rows of real datasets: the same after an append, in a view, and in a mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.dataset.dataset import Dataset
from fastfeed.loader.home_deal import HomeDeal
from fastfeed.loader.sampler import Picks
from fastfeed.loader.steps import Step
from tests.helpers import deal_oracle

NODES = ["gpu-0", "gpu-1", "gpu-2", "gpu-3", "gpu-4"]
SCHEMA = ff.Schema({"label": ff.Scalar("int64"), "blob": ff.Bytes()})
ROW_BYTES = 100_000  # 41 rows make a block


def write(folder: Path, rows: int, first: int = 0, append: bool = False) -> Dataset:
    with ff.DatasetWriter(folder, SCHEMA, append=append, shard_size="4MiB") as writer:
        for row in range(first, first + rows):
            writer.write({"label": row % 10, "blob": row.to_bytes(4, "little") * (ROW_BYTES // 4)})
    return ff.open(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("deal") / "a", 400)


def homes(dataset: Dataset, rows: np.ndarray) -> list[int]:
    return HomeDeal(0, NODES, [dataset]).homes(Picks(rows)).tolist()


def test_a_home_follows_from_the_first_shard_and_the_block(dataset: Dataset) -> None:
    key = int.from_bytes(dataset.shards()[0].uid[:8], "little")
    assert dataset.home_key == key
    expected = [deal_oracle.home(NODES, key, row // dataset.block_rows) for row in range(400)]
    assert homes(dataset, np.arange(400)) == expected
    assert len(set(expected)) > 1


def test_homes_stay_when_rows_are_appended(tmp_path: Path) -> None:
    before = write(tmp_path / "a", 200)
    after = write(tmp_path / "a", 100, first=200, append=True)
    assert len(after) == 300
    assert homes(after, np.arange(200)) == homes(before, np.arange(200))


def test_a_row_has_the_same_home_in_every_view(dataset: Dataset) -> None:
    rows = np.arange(399, -1, -3)
    view = dataset.select(rows)
    assert homes(view, np.arange(len(view))) == homes(dataset, view.physical_rows(np.arange(len(view))))
    few = dataset.filter("label < 3")
    labels = np.arange(400) % 10
    assert homes(few, np.arange(len(few))) == homes(dataset, np.flatnonzero(labels < 3))


def test_a_row_has_the_same_home_in_a_mixture(dataset: Dataset, tmp_path: Path) -> None:
    other = write(tmp_path / "b", 150, first=1000)
    view = dataset.filter("label == 4")
    rows = np.concatenate([np.arange(len(view)), np.arange(150)])
    sources = np.repeat(np.array([0, 1], np.int32), [len(view), 150])
    mixed = HomeDeal(0, NODES, [view, other]).homes(Picks(rows, sources)).tolist()
    assert mixed == homes(view, np.arange(len(view))) + homes(other, np.arange(150))


def test_a_loader_that_deals_home_gives_the_share_that_each_rank_computes_for_it(dataset: Dataset) -> None:
    """Five ranks in turn in one process: each is told what the others propose."""
    nodes = [NODES[rank] for rank in (3, 1, 0, 4, 2)]
    asked: list[str] = []

    def gather(text: str) -> list[str]:
        asked.append(text)
        return [text.replace('"rank": 0', f'"rank": {rank}') for rank in range(5)]

    deals = [HomeDeal(rank, nodes, [dataset]) for rank in range(5)]
    with ff.Loader(dataset, global_batch_size=50, deal="home", nodes=nodes, rank=0, world_size=5,
                   all_gather=gather, columns=["label"]) as loader:
        for start, batch in enumerate(loader):
            order = loader.order
            picks = Picks(order.rows(50 * start, 50 * start + 50))
            shares = [deal.share(Step(range(50 * start, 50 * start + 50)), lambda picks=picks: picks) for deal in deals]
            assert batch.rows.tolist() == picks.rows[shares[0]].tolist()
            assert sorted(np.concatenate(shares)) == list(range(50))
    assert len(asked) == 1
