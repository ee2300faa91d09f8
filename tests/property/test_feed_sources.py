"""A reader over several snapshots gives each row as a reader of its snapshot alone does, however they are stored."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.feed import NativeBatch, OutputSpec, RaggedArrays, Reader, Snapshot
from tests.helpers.raw_shards import ARRAY, BYTES, SCALAR, TENSOR, TEXT, Col, row_shards, stream_shards

DTYPES = ["bool", "int16", "int64", "uint8", "float16", "float32"]
DICTIONARY = (Path(__file__).parents[1] / "compat" / "golden" / "v1" / "dictionary.zdict").read_bytes()


@st.composite
def common_columns(draw: st.DrawFn) -> list[Col]:
    """The outputs of every source, as one source may store them."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([SCALAR, TENSOR, ARRAY, BYTES, TEXT]))
        shapes = {TENSOR: [(3,), (2, 2)], ARRAY: [(None,), (None, 2)]}
        shape = draw(st.sampled_from(shapes[kind])) if kind in shapes else ()
        dtype = draw(st.sampled_from(DTYPES)) if kind in (SCALAR, TENSOR, ARRAY) else "uint8"
        made.append(Col(f"c{number}", kind, dtype, shape))
    return made


def stored_by_a_source(draw: st.DrawFn, column: Col) -> tuple[Col, str | None]:
    """The same column as another source has it, and the cast that gives the common type."""
    codec = draw(st.integers(0, 1)) if column.kind in (ARRAY, BYTES, TEXT) else 0
    dictionary = DICTIONARY if codec and draw(st.booleans()) else b""
    stored = draw(st.sampled_from(DTYPES)) if column.kind in (SCALAR, TENSOR, ARRAY) else "uint8"
    cast = column.dtype if stored != column.dtype else None
    changed = replace(column, codec=codec, dictionary=dictionary, nullable=draw(st.booleans()), dtype=stored)
    return changed, cast


def value_of(draw: st.DrawFn, column: Col) -> Any:
    if column.nullable and draw(st.integers(0, 3)) == 0:
        return None
    if column.kind == BYTES:
        return draw(st.binary(max_size=40))
    if column.kind == TEXT:
        return draw(st.text(max_size=15))
    free = draw(st.integers(0, 3))
    shape = tuple(free if extent is None else extent for extent in column.shape)
    return np.full(shape, draw(st.integers(0, 1))).astype(column.dtype)  # what every type holds


@st.composite
def sources(draw: st.DrawFn, folder: Path) -> tuple[list[Snapshot], list[list[OutputSpec]]]:
    """Up to four snapshots whose columns lie in an order of their own, beside others that nobody reads."""
    columns = draw(common_columns())
    snapshots, outputs = [], []
    for number in range(draw(st.integers(1, 4))):
        stored = [stored_by_a_source(draw, column) for column in columns]
        stored += [(Col("other", SCALAR, "int32"), None)] * draw(st.integers(0, 1))
        places = draw(st.permutations(range(len(stored))))
        mine = [stored[place][0] for place in places]
        sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
        values = [[value_of(draw, column) for _ in range(sum(sizes))] for column in mine]
        ends = np.cumsum([0, *sizes])
        root = folder / str(number)
        root.mkdir()
        made = row_shards(root, mine, [[column[a:b] for column in values] for a, b in pairwise(ends)])
        snapshots.append(made.snapshot(open_files_max=2))
        where = [places.index(i) for i in range(len(columns))]
        outputs.append([mine[at].output(at, cast=stored[i][1]) for i, at in enumerate(where)])
    return snapshots, outputs


def value_at(batch: NativeBatch, output: int, at: int) -> tuple[Any, ...]:
    """Everything that a batch says of one value, comparable."""
    column, nulls = batch.columns[output], batch.nulls[output]
    null = bool(nulls[at]) if nulls is not None else False
    if not isinstance(column, RaggedArrays):
        return column[at].dtype, column[at].tobytes(), null
    item = column.values[column.offsets[at] : column.offsets[at + 1]]
    return item.dtype, item.tobytes(), None if column.shapes is None else column.shapes[at].tolist(), null


def drawn_request(data: st.DataObject, snapshots: list[Snapshot]) -> tuple[np.ndarray, np.ndarray]:
    numbers = data.draw(st.lists(st.integers(0, len(snapshots) - 1), max_size=30))
    rows = [data.draw(st.integers(-1, len(snapshots[number]) - 1)) for number in numbers]
    return np.array(rows, dtype=np.int64), np.array(numbers, dtype=np.int32)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_mixed_batch_has_what_readers_of_single_snapshots_give(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        snapshots, outputs = data.draw(sources(Path(folder)))
        alone = [Reader(each, specs) for each, specs in zip(snapshots, outputs, strict=True)]
        mixed = Reader(snapshots, outputs, threads=data.draw(st.integers(1, 3)))
        rows, numbers = drawn_request(data, snapshots)
        mixed.submit(rows, rows, 3, 1, sources=numbers)
        for batch in (mixed.take(rows, sources=numbers), mixed.next(60)):
            assert batch.valid.tolist() == (rows >= 0).tolist()
            assert batch.rows.tolist() == rows.tolist()
            for at, (row, number) in enumerate(zip(rows, numbers, strict=True)):
                single = alone[number].take(np.array([row]))
                for output in range(len(outputs[0])):
                    assert value_at(batch, output, at) == value_at(single, output, 0)
        for row, number in {(row, number) for row, number in zip(rows, numbers, strict=True) if row >= 0}:
            for got, expected in zip(mixed.sample(row, number), alone[number].sample(row), strict=True):
                np.testing.assert_array_equal(got, expected)
        mixed.close()


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 9), st.integers(1, 12))
def test_windows_of_several_corpora_come_in_one_batch(data: st.DataObject, length: int, stride: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        snapshots, outputs, corpora = [], [], []
        dtypes = data.draw(st.lists(st.sampled_from(["uint16", "uint32"]), min_size=1, max_size=3))
        for number, dtype in enumerate(dtypes):
            sizes = data.draw(st.lists(st.integers(0, 4000), min_size=1, max_size=4))
            corpus = (np.arange(sum(sizes) + length) * (number + 3) % 65_000).astype(dtype)
            root = Path(folder) / str(number)
            root.mkdir()
            made = stream_shards(root, dtype, [[part] for part in np.split(corpus, np.cumsum(sizes))])
            snapshots.append(made.snapshot(window=length, stride=stride))
            outputs.append([OutputSpec(0, dtype=dtype, cast="int64")])
            corpora.append(corpus)
        reader = Reader(snapshots, outputs, threads=2)
        rows, numbers = drawn_request(data, snapshots)
        batch = reader.take(rows, sources=numbers)
        for at, (row, number) in enumerate(zip(rows, numbers, strict=True)):
            expected = corpora[number][row * stride : row * stride + length] if row >= 0 else np.zeros(length)
            assert batch.columns[0][at].tolist() == expected.tolist()
        reader.close()
