"""Where the daemon thinks that blocks lie, held against where the rows of a dataset really are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from fastfeed._native.deal import Homes
from fastfeed.cache.future import CHUNK_BYTES, OrderShape
from fastfeed.daemon.row_places import OpaqueError, SnapshotRows, row_geometry, shape_for, view_steps
from fastfeed.dataset.dataset import Dataset
from fastfeed.order import ORDER_VERSION, Order, ShuffleMode
from fastfeed.wire.recipe import Recipe

ROWS = 700


def rows_of(dataset: Dataset) -> SnapshotRows:
    opened = dataset.opened
    return SnapshotRows(opened.manifest, opened.index_maps, opened.present)


def recipe_of(dataset: Dataset, view: list[dict[str, Any]], **values: Any) -> Recipe:
    order = {"version": ORDER_VERSION, "shuffle": "window", "shuffle_window": 4, "block_rows": 16}
    given: dict[str, Any] = {"kind": "order", "url": dataset.url, "snapshot": 1, "content": dataset.fingerprint,
                             "rows": len(dataset), "view": view, "order": order} | values  # fmt: skip
    return Recipe(**given)


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows of 1 to 4,000 bytes in several shards."""
    folder = tmp_path_factory.mktemp("ragged")
    rng = np.random.default_rng(0)
    with ff.DatasetWriter(folder, ff.Schema({"x": ff.Bytes()}), shard_size="256KiB") as writer:
        for _ in range(ROWS):
            writer.write({"x": rng.bytes(int(rng.integers(1, 4000)))})
    return ff.open(folder)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Rows of one size, which need no index."""
    folder = tmp_path_factory.mktemp("fixed")
    with ff.DatasetWriter(folder, ff.Schema({"x": ff.Tensor("float32", (300,))}), shard_size="128KiB") as writer:
        for number in range(ROWS):
            writer.write({"x": np.full(300, number, np.float32)})
    return ff.open(folder)


def bytes_of_row(dataset: Dataset, row: int) -> tuple[int, int]:
    """Begin and end in the set's bytes of one physical row, from the shards themselves."""
    base = 0
    for shard in dataset.shards():
        if row < shard.first_row + shard.rows:
            local = row - shard.first_row
            if shard.row_index is None:
                stride = (shard.payload_end - 4096) // shard.rows
                return base + 4096 + local * stride, base + 4096 + (local + 1) * stride
            ends = [*(shard.row_index.astype(int) * 8).tolist(), shard.payload_end]
            return base + ends[local], base + ends[local + 1]
        base += -(-shard.bytes // CHUNK_BYTES) * CHUNK_BYTES
    raise AssertionError(row)


VIEWS: dict[str, tuple[list[dict[str, Any]], Callable[[Dataset], Dataset]]] = {
    "whole": ([], lambda dataset: dataset),
    "range": ([{"range": [100, 650, 1]}], lambda dataset: dataset.select(range(100, 650))),
    "every third": ([{"range": [1, 700, 3]}], lambda dataset: dataset.select(range(1, 700, 3))),
    "split": (
        [{"split": ["train", 7, 0, 1 << 62]}],
        lambda dataset: dataset.split({"train": 0.5, "rest": 0.5}, seed=7)["train"],
    ),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("kind", ["ragged", "fixed"])
def test_a_block_lies_where_its_rows_lie(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    dataset: Dataset = request.getfixturevalue(kind)
    steps, make = VIEWS[name]
    view = make(dataset)
    recipe = recipe_of(view, steps)
    order = shape_for(recipe, rows_of(dataset))
    keys = [bytes([number]) * 16 for number in range(len(dataset.shards()))]
    geometry = row_geometry(rows_of(dataset), keys, recipe, order)
    physical = view.physical_rows(np.arange(len(view)))
    assert len(geometry.starts) == -(-len(view) // 16)
    for block in range(len(geometry.starts)):
        rows = physical[block * 16 : (block + 1) * 16]
        assert geometry.starts[block] == bytes_of_row(dataset, int(rows[0]))[0]
        assert geometry.ends[block] == bytes_of_row(dataset, int(rows[-1]))[1]
        chunks = {(which, chunk) for which, first, count in geometry.chunks_of(block)
                  for chunk in range(first, first + count)}  # fmt: skip
        for row in rows.tolist():
            begin, end = bytes_of_row(dataset, row)
            assert {geometry.place(chunk) for chunk in range(begin // CHUNK_BYTES, -(-end // CHUNK_BYTES))} <= chunks


def test_windows_lie_where_their_tokens_lie(tmp_path: Path) -> None:
    with ff.TokenWriter(tmp_path, dtype="uint16", shard_size="128KiB") as writer:
        for _ in range(20):
            writer.write(np.arange(9000, dtype=np.uint16))
    dataset = ff.open(tmp_path)
    windows = dataset.windows(100, stride=90)
    recipe = recipe_of(windows, [{"windows": [100, 90]}])
    geometry = row_geometry(rows_of(dataset), [bytes(16)] * len(dataset.shards()), recipe,
                            shape_for(recipe, rows_of(dataset)))  # fmt: skip
    tokens = np.array([shard.tokens for shard in dataset.shards()])
    assert len(tokens) > 2
    bases = np.cumsum([-(-shard.bytes // CHUNK_BYTES) for shard in dataset.shards()]) * CHUNK_BYTES
    for block in range(len(geometry.starts)):
        for edge, token in ((geometry.starts[block], block * 16 * 90),
                            (geometry.ends[block] - np.uint64(2),
                             (min(len(windows), (block + 1) * 16) - 1) * 90 + 99)):  # fmt: skip
            shard = int(np.searchsorted(np.cumsum(tokens), token, "right"))
            base = int(bases[shard - 1]) if shard else 0
            assert edge == base + 4096 + (token - int(tokens[:shard].sum())) * 2


def test_deleted_rows_are_no_rows(ragged: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    with ff.DatasetWriter(folder, ff.Schema({"x": ff.Bytes()}), shard_size="256KiB") as writer:
        for number in range(100):
            writer.write({"x": bytes(1000 + number)})
    ff.delete(folder, list(range(0, 100, 2)))
    dataset = ff.open(folder)
    recipe = recipe_of(dataset, [])
    geometry = row_geometry(rows_of(dataset), [bytes(16)], recipe, shape_for(recipe, rows_of(dataset)))
    assert geometry.starts[0] == bytes_of_row(dataset, 1)[0]
    assert geometry.ends[-1] == bytes_of_row(dataset, 99)[1]


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ([{"filter": "x.bytes < 3"}], "needs more than manifest and index"),
        ([{"range": [700, 0, -1]}], "backwards"),
        ([{"range": [0, 0, 0]}], "is none"),
        ([{"split": ["train"]}], "is none"),
        ([{"range": [0, 600, 1]}], "counts 700 rows, the daemon 600"),
        ([{"windows": [10, 10]}], "rows"),
    ],
)
def test_views_that_cannot_be_followed_say_why(ragged: Dataset, view: list[dict[str, Any]], why: str) -> None:
    recipe = recipe_of(ragged, view)
    with pytest.raises(OpaqueError, match=why):
        row_geometry(rows_of(ragged), [bytes(16)] * len(ragged.shards()), recipe, shape_for(recipe, rows_of(ragged)))


def test_without_windows_blocks_are_those_of_the_dataset(ragged: Dataset) -> None:
    order = {"version": ORDER_VERSION, "shuffle": "none", "shuffle_window": 0, "block_rows": 0}
    shape = shape_for(recipe_of(ragged, [], order=order), rows_of(ragged))
    assert shape == OrderShape(ROWS, 0, ShuffleMode.NONE, 1, ragged.block_rows)
    assert view_steps([]) == (None, [])


def test_a_fingerprint_of_the_loaders_order_is_that_of_the_daemon(ragged: Dataset) -> None:
    order = Order(ROWS, seed=5, epoch=2, shuffle_window=4, block_rows=16)
    pairs = [(position, order[position]) for position in (0, 100, 699)]
    recipe = recipe_of(ragged, [], seed=5, epoch=2, fingerprint=pairs)
    assert shape_for(recipe, rows_of(ragged)).seed == 5


def test_where_samples_go_home_a_node_has_the_blocks_of_which_it_is_the_home(fixed: Dataset) -> None:
    nodes = ("a", "b", "b")
    keys = [bytes(16)] * len(fixed.shards())
    found = []
    for rank in (0, 1, 2):
        recipe = recipe_of(fixed, [], deal={"kind": "home"}, nodes=nodes, rank=rank, world_size=3)
        geometry = row_geometry(rows_of(fixed), keys, recipe, shape_for(recipe, rows_of(fixed)))
        found.append(geometry.ends > geometry.starts)
        assert all(list(geometry.chunks_of(block)) == [] for block in np.flatnonzero(~found[-1]).tolist())
    assert (found[0] != found[1]).all()
    assert (found[1] == found[2]).all()
    homes = Homes(["a", "b"], [(fixed.home_key, fixed.physical_block_rows)])
    assert (homes.of_rows(np.arange(0, ROWS, 16)) == found[1]).all()
