"""The native reader on small records, token windows and single rows, with the page cache warm.

    python -m pytest benchmarks/bench_feed.py --benchmark-only        prints rates; timing is off otherwise

Every case delivers whole batches of 512 in full random order. `FASTFEED_BENCH_ROWS` sets the number of records
(default 20,000 as a test; 1,000,000 for figures worth quoting).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.feed import OutputSpec, Reader
from tests.helpers.raw_shards import BYTES, SCALAR, Col, row_shards, stream_shards

ROWS = int(os.environ.get("FASTFEED_BENCH_ROWS", "20000"))
ROWS_A_SHARD = 100_000
BATCH = 512
AHEAD = 8  # batches submitted and not yet taken
WINDOW = 2049
COLUMNS = [Col("id", SCALAR, "int64"), Col("data", BYTES)]


def drain(reader: Reader, order: np.ndarray) -> int:
    """Deliver all whole batches of `order`; the rows delivered."""
    batches = [order[at : at + BATCH] for at in range(0, len(order) - BATCH + 1, BATCH)]
    for batch in batches[:AHEAD]:
        reader.submit(batch, batch, 0, 0)
    delivered = 0
    for at in range(len(batches)):
        delivered += len(reader.next(60).rows)
        if at + AHEAD < len(batches):
            reader.submit(batches[at + AHEAD], batches[at + AHEAD], 0, 0)
    return delivered


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Callable[..., Reader], np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.bytes(1 << 20)
    shards = []
    for first in range(0, ROWS, ROWS_A_SHARD):
        count = min(ROWS_A_SHARD, ROWS - first)
        starts, sizes = rng.integers(0, 1 << 19, count), rng.integers(200, 1001, count)
        shards.append([list(range(first, first + count)),
                       [noise[a : a + n] for a, n in zip(starts, sizes, strict=True)]])
    made = row_shards(tmp_path_factory.mktemp("records"), COLUMNS, shards)
    snapshot = made.snapshot()

    def reader(columns: list[int], **options: int) -> Reader:
        return Reader(snapshot, [COLUMNS[i].output(i) for i in columns], **options)

    return reader, rng.permutation(ROWS).astype(np.int64)


@pytest.mark.parametrize(("threads", "reader_threads"), [(1, 1), (2, 1), (2, 2)])
def test_small_records(benchmark, records, threads: int, reader_threads: int) -> None:
    make, order = records
    reader = make([1], threads=threads, reader_threads=reader_threads)
    benchmark.extra_info["rows"] = drain(reader, order)
    benchmark(drain, reader, order)
    reader.close()


def test_take_of_256(benchmark, records) -> None:
    make, order = records
    reader = make([0, 1])
    batch = benchmark(reader.take, order[:256].copy())
    assert batch.columns[0].tolist() == order[:256].tolist()


def test_sample(benchmark, records) -> None:
    make, order = records
    reader = make([0, 1])
    assert benchmark(reader.sample, int(order[0]))[0] == order[0]


def test_token_windows(benchmark, tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, max(ROWS * 50, 2 * BATCH * WINDOW), dtype=np.uint16)
    made = stream_shards(tmp_path, "uint16", [[half] for half in np.array_split(tokens, 2)])
    snapshot = made.snapshot(window=WINDOW, stride=WINDOW - 1)
    reader = Reader(snapshot, [OutputSpec(0, dtype="uint16", cast="int64")], threads=2)
    order = np.random.default_rng(1).permutation(len(snapshot)).astype(np.int64)
    benchmark.extra_info["rows"] = drain(reader, order)
    benchmark(drain, reader, order)
    reader.close()
