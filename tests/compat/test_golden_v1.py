"""Shards that format version 1 wrote are read today as they were meant, and today's writer makes the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

import fastfeed as ff
from fastfeed.dataset.folder import PRESENT_FOLDER, manifest_name
from fastfeed.format import reference
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.verify import verify_shard
from tests.compat.golden_cases import CASES, CHANGED, DELETED, GOLDEN, KINDS, Case, as_read, kinds
from tests.helpers.shards import same

RECORDED = json.loads((GOLDEN / "recorded.json").read_text())
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_the_golden_file_is_the_recorded_one(case: Case) -> None:
    data = case.path.read_bytes()
    recorded = RECORDED["shards"][case.name]
    assert len(data) == recorded["bytes"]
    assert xxhash.xxh3_128_hexdigest(data) == recorded["xxh3_128"]


@each_case
def test_the_reference_reader_reads_the_recorded_values(case: Case) -> None:
    shard = ReferenceShard(case.path)
    shard.check()
    assert shard.uid.hex() == RECORDED["shards"][case.name]["uid"]
    assert case.schema is None or shard.schema == case.schema
    assert len(shard) == len(case.samples)
    assert all(same(a, b) for a, b in zip(shard.samples(), case.samples, strict=True))
    assert list(verify_shard(case.path)) == []


@each_case
def test_todays_writer_makes_the_same_shard(case: Case, tmp_path: Path) -> None:
    sealed = case.write(tmp_path)
    if case.compressed and sealed.uid != ReferenceShard(case.path).uid:
        pytest.skip("another libzstd compresses otherwise; the values are compared above")
    written, golden = sealed.path.read_bytes(), case.path.read_bytes()
    assert written[: sealed.payload_end] == golden[: sealed.payload_end]
    if pa.__version__ != RECORDED["pyarrow"]:
        pytest.skip(
            "another pyarrow may lay the lanes' and the schema's Arrow bytes out otherwise; the payload is equal"
        )
    assert written == golden


def test_the_reference_reader_reads_the_golden_dataset() -> None:
    samples = reference.read_dataset(GOLDEN / "dataset")
    assert len(samples) == 4
    assert all(same(a, b) for a, b in zip(samples, as_read(KINDS, [kinds(i) for i in range(4)]), strict=True))
    assert samples[3]["text"] == "grüße grüße grüße "


@pytest.mark.parametrize("snapshot", [1, 2, 3])
def test_a_dataset_that_was_changed_is_read_as_it_was_meant(snapshot: int) -> None:
    first = as_read(KINDS, [kinds(i) for i in range(4)])
    rows = first if snapshot == 1 else first + first[:3]
    if snapshot == 3:
        rows = [sample for row, sample in enumerate(rows) if row not in DELETED]
    samples, dataset = reference.read_dataset(CHANGED, snapshot), ff.open(CHANGED, snapshot=snapshot)
    assert len(samples) == len(dataset) == len(rows)
    assert all(same(a, b) for a, b in zip(samples, rows, strict=True))
    assert all(same(a, b) for a, b in zip(dataset, rows, strict=True))


def test_a_deletion_makes_the_same_bitmap_today(tmp_path: Path) -> None:
    shutil.copytree(CHANGED, tmp_path / "set")
    (tmp_path / "set" / manifest_name(3)).unlink()
    golden = next((CHANGED / PRESENT_FOLDER).iterdir())
    (tmp_path / "set" / PRESENT_FOLDER / golden.name).unlink()
    ff.delete(tmp_path / "set", DELETED)
    assert (tmp_path / "set" / PRESENT_FOLDER / golden.name).read_bytes() == golden.read_bytes()
    assert golden.read_bytes()[:1] == b"\x5d"  # rows 0, 2, 3, 4, 6
