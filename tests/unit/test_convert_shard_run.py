"""Where one shard of a task ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from fastfeed.convert.task import ShardRun
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.schema import Bytes, Scalar, Schema

SCHEMA = Schema({"id": Scalar("int64"), "data": Bytes()})


@pytest.fixture
def sealer() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def batch(ids: range, value_bytes: int) -> pa.RecordBatch:
    return pa.record_batch({"id": list(ids), "data": [bytes([row % 251]) * value_bytes for row in ids]})


def shards_of(run: ShardRun, batches: list[pa.RecordBatch]) -> list[list[int]]:
    encoder = SampleEncoder(SCHEMA)
    for each in batches:
        run.add(encoder.encode_batch(each))
    return [[sample["id"] for sample in ReferenceShard(each.result().path).samples()] for each in run.finish()]


def test_a_shard_ends_at_the_limit_of_rows(tmp_path: Path, sealer: ThreadPoolExecutor) -> None:
    run = ShardRun(tmp_path, SCHEMA, {}, 1 << 20, sealer, rows_max=10)
    found = shards_of(run, [batch(range(7), 5), batch(range(7, 25), 5)])
    assert found == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


def test_where_shards_end_does_not_depend_on_the_batches(tmp_path: Path, sealer: ThreadPoolExecutor) -> None:
    rows = range(300)
    cuts = {}
    for step in (1, 7, 300):
        folder = tmp_path / str(step)
        folder.mkdir()
        run = ShardRun(folder, SCHEMA, {}, 64 << 10, sealer)
        cuts[step] = shards_of(run, [batch(rows[start : start + step], 900) for start in range(0, 300, step)])
        assert all(path.stat().st_size < (64 << 10) * 5 // 4 + (8 << 10) for path in folder.iterdir())
    assert cuts[1] == cuts[7] == cuts[300]
    assert [row for shard in cuts[1] for row in shard] == list(rows)
    assert len(cuts[1]) > 2


def test_a_frame_larger_than_a_shard_has_one_of_its_own(tmp_path: Path, sealer: ThreadPoolExecutor) -> None:
    run = ShardRun(tmp_path, SCHEMA, {}, 64 << 10, sealer)
    found = shards_of(run, [batch(range(2), 10), batch(range(2, 3), 200_000), batch(range(3, 5), 10)])
    assert found == [[0, 1], [2], [3, 4]]


def test_no_rows_give_no_shard(tmp_path: Path, sealer: ThreadPoolExecutor) -> None:
    run = ShardRun(tmp_path, SCHEMA, {}, 64 << 10, sealer)
    assert run.finish() == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_aborted_leaves_nothing(tmp_path: Path, sealer: ThreadPoolExecutor) -> None:
    run = ShardRun(tmp_path, SCHEMA, {}, 64 << 10, sealer)
    run.add(SampleEncoder(SCHEMA).encode_batch(batch(range(3), 10)))
    run.abort()
    run.abort()
    assert list(tmp_path.iterdir()) == []
