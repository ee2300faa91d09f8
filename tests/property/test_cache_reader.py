"""A reader over a cached set gives what a reader over local shards gives: any schema, slots and way of answering."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native import cache
from fastfeed._native.feed import NativeBatch, OutputSpec, RaggedArrays, Reader
from tests.helpers.fake_node import BY_RING, FakeNode, Get
from tests.helpers.raw_shards import BYTES, Col, Shards, row_shards, stream_shards
from tests.property.test_feed_equals_reference import datasets

SET = 5


def answering(script: str) -> Any:
    """Answer each GET by the next letter: s slot, r ring, l a slot that is another chunk's when the client comes to it,
    b a slot whose bytes are damaged."""
    turns = iter(range(1 << 30))

    def answer(node: FakeNode, get: Get) -> bool:
        letter = script[next(turns) % len(script)]
        if letter == "s" or get.flags & BY_RING:
            return False
        if letter == "r":
            node.answer_ring(get)
            return True
        chunk = get.offset // cache.CHUNK_BYTES
        entry = node.fill(get.object, chunk)
        slot = entry >> 38
        if letter == "l":
            node.fill(get.object, chunk, slot=slot)  # the same chunk again: another generation
        else:
            at = slot * cache.SLOT_BYTES + get.offset % cache.CHUNK_BYTES + get.length // 2
            node.damage(at)
        node.answer_slot(get, entry)
        return True

    return answer


def assert_same(left: NativeBatch, right: NativeBatch) -> None:
    for ours, theirs in zip([*left.columns, *left.nulls], [*right.columns, *right.nulls], strict=True):
        if isinstance(ours, RaggedArrays):
            assert isinstance(theirs, RaggedArrays)
            for a, b in zip(ours, theirs, strict=True):
                assert np.array_equal(a, b) if a is not None else b is None
        else:
            assert ours is None if theirs is None else ours.tobytes() == theirs.tobytes()
    assert left.valid.tolist() == right.valid.tolist()


def assert_cached_equals_local(
    made: Shards, outputs: list[OutputSpec], rows: np.ndarray[Any, Any], script: str, slots: int, **options: Any
) -> cache.CacheClient:
    """Read `rows` both ways, twice, in every way there is. The client is closed, its counts can be looked at."""
    objects = [made.path(number).read_bytes() for number in range(len(made.uids))]
    node = FakeNode(made.root, objects, slots=slots, answering=answering(script))
    client = cache.CacheClient(deadline_s=30)
    try:
        node.connect(client, SET)
        local = Reader(made.snapshot(**options), outputs)
        cached = Reader(made.snapshot(cache=(client, SET), **options), outputs, threads=2, reader_threads=2)
        wanted = local.take(rows)
        for _ in range(2):
            cached.submit(rows, rows, 0, 0)
            assert_same(cached.next(60), wanted)
        assert_same(cached.take(rows), wanted)
        for row in {row for row in rows.tolist() if row >= 0}:
            for ours, theirs in zip(cached.sample(row), local.sample(row), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        for number, data in enumerate(objects):
            assert client.read(SET, number, 0, len(data)) == data
        cached.close()
        assert not node.ring_in_use or node.counts["releases"] < node.counts["gets"]
        assert node.ring_high <= 4 << 20
    finally:
        client.close()
        node.close()
    return client


SCRIPTS = st.text("srlb", min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(datasets(), st.data())
def test_any_schema_reads_the_same_through_the_cache(dataset: Any, data: st.DataObject) -> None:
    cols, values, sizes = dataset
    shards = [[column[a:b] for column in values] for a, b in pairwise(np.cumsum([0, *sizes]))]
    rows = np.array(data.draw(st.lists(st.integers(-1, sum(sizes) - 1), max_size=20)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        made = row_shards(Path(folder), cols, shards)
        outputs = [column.output(i) for i, column in enumerate(cols)]
        assert_cached_equals_local(made, outputs, rows, data.draw(SCRIPTS), data.draw(st.integers(1, 4)))


EDGES = [0, 1, 4000, cache.CHUNK_BYTES - 5000, cache.CHUNK_BYTES, cache.CHUNK_BYTES + 1, 3 * cache.CHUNK_BYTES + 77]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(EDGES), min_size=1, max_size=4), SCRIPTS, st.integers(1, 12), st.data())
def test_frames_across_chunks_read_the_same_whatever_the_slots(
    lengths: list[int], script: str, slots: int, data: st.DataObject
) -> None:
    column = Col("data", BYTES)
    random = np.random.default_rng(len(lengths))
    values = [random.integers(0, 256, length, dtype=np.uint8).tobytes() for length in lengths]
    rows = np.array(data.draw(st.permutations(range(len(values)))), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        made = row_shards(Path(folder), [column], [[values]])
        assert_cached_equals_local(made, [column.output(0)], rows, script, slots)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3000), max_size=4), min_size=1, max_size=3), SCRIPTS, st.integers(1, 3000))
def test_windows_of_tokens_read_the_same_through_the_cache(lengths: list[list[int]], script: str, window: int) -> None:
    shards = [[np.arange(length) % 60000 for length in documents] for documents in lengths]
    total = sum(map(sum, lengths))
    windows = max(0, (total - window) // window + 1) if total >= window else 0
    with tempfile.TemporaryDirectory() as folder:
        made = stream_shards(Path(folder), "uint16", [[list(map(int, d)) for d in shard] for shard in shards])
        output = OutputSpec(0, dtype="uint16", shape=())
        rows = np.arange(windows, dtype=np.int64)
        assert_cached_equals_local(made, [output], rows, script, 2, token_bytes=2, window=window, stride=window)
