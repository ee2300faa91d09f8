"""Whatever reads the files, batches are the same: every engine, past the page cache or not, cold or warm."""

from __future__ import annotations

import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.feed import OutputSpec, Reader
from tests.helpers.raw_shards import BYTES, SCALAR, Col, Shards, row_shards, stream_shards

COLUMNS = [Col("label", SCALAR, "int64"), Col("data", BYTES)]
ENGINES = [("pread", False), ("uring", False), ("uring", True), ("auto", False), ("auto", True)]
# Frames that share a page, that cross pages, and that are many.
LENGTHS = st.sampled_from([0, 1, 40, 600, 4_000, 4_096, 9_001, 70_000])


def leave_page_cache(shards: Shards, count: int) -> None:
    for shard in range(count):
        with open(shards.path(shard), "rb") as file:
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def value_of(row: int, length: int) -> bytes:
    return np.random.default_rng(row).bytes(length)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=40),
    cut=st.integers(0, 40),
    engine=st.sampled_from(ENGINES),
    is_cold=st.booleans(),
    threads=st.integers(1, 3),
    data=st.data(),
)
def test_batches_of_frames_are_what_was_written(
    lengths: list[int], cut: int, engine: tuple[str, bool], is_cold: bool, threads: int, data: st.DataObject
) -> None:
    rows = [(row, value_of(row, length)) for row, length in enumerate(lengths)]
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    wanted = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=60)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        columns = [[list(column) for column in zip(*part, strict=True)] for part in parts]
        made = row_shards(Path(folder), COLUMNS, columns)
        if is_cold:
            leave_page_cache(made, len(parts))
        snapshot = made.snapshot(io=engine[0], direct=engine[1])
        reader = Reader(snapshot, [column.output(i) for i, column in enumerate(COLUMNS)], threads=threads)
        reader.submit(wanted, wanted, 0, 0)
        for batch in (reader.next(60), reader.take(wanted)):
            label, content = batch.columns
            assert label.tolist() == wanted.tolist()
            values = [content.values[a:b].tobytes() for a, b in pairwise(content.offsets)]
            assert values == [rows[row][1] for row in wanted.tolist()]
        reader.close()


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(ENGINES), st.booleans(), st.integers(1, 6_000), st.data())
def test_windows_of_tokens_are_what_was_written(
    engine: tuple[str, bool], is_cold: bool, window: int, data: st.DataObject
) -> None:
    tokens = np.arange(30_000, dtype=np.uint16)
    documents = [tokens[:12_345], tokens[12_345:]]
    with tempfile.TemporaryDirectory() as folder:
        made = stream_shards(Path(folder), "uint16", [[document.tolist()] for document in documents])
        if is_cold:
            leave_page_cache(made, 2)
        snapshot = made.snapshot(io=engine[0], direct=engine[1], window=window, stride=window)
        rows = np.array(data.draw(st.lists(st.integers(0, len(snapshot) - 1), max_size=30)), dtype=np.int64)
        reader = Reader(snapshot, [OutputSpec(0, dtype="uint16")], threads=2)
        reader.submit(rows, rows, 0, 0)
        batch = reader.next(60)
        for at, row in enumerate(rows.tolist()):
            assert np.array_equal(batch.columns[0][at], tokens[row * window : (row + 1) * window])
        reader.close()
