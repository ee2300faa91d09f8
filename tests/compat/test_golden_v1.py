"""Shards that format version 1 wrote are read today as they were meant, and today's writer makes the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash

from fastfeed.format import reference
from fastfeed.format.reference import ReferenceShard
from fastfeed.format.verify import verify_shard
from tests.compat.golden_cases import CASES, GOLDEN, KINDS, Case, as_read, kinds
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
