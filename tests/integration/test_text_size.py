"""The size of small text: the figure of the benchmark, held by a test."""

from __future__ import annotations

import pytest

from benchmarks import bench_text_size
from fastfeed.format import dictionary

# Enough text that the dictionary reaches its full size, and its cost in the shard is what it is in practice.
CORPUS_BYTES_MIN = 64_000_000


def test_text_of_1_kb_with_a_dictionary_is_at_most_0_70_of_zstd_per_record() -> None:
    pieces = bench_text_size.records(80_000_000)
    if len(pieces) * bench_text_size.RECORD_BYTES < CORPUS_BYTES_MIN:
        pytest.skip(f"this machine has {len(pieces)} KB of text; the figure is of {CORPUS_BYTES_MIN // 1000}")
    trained = bench_text_size.train(pieces, 3, dictionary.DICTIONARY_BYTES)
    held_out = pieces[-bench_text_size.HELD_OUT_COUNT :]
    values = [bench_text_size.values_bytes(held_out, 3, each) for each in (trained, b"")]
    file = [bench_text_size.shard_bytes(pieces, 3, each) for each in (trained, b"")]
    assert values[0] <= 0.70 * values[1]
    assert file[0] <= 0.70 * file[1]
