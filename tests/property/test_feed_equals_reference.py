"""The native reader gives what was written, for any schema, cut into shards, order, and number of threads."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastfeed._native.feed import RaggedArrays, Reader
from tests.helpers.raw_shards import ARRAY, BYTES, JSON, SCALAR, TENSOR, TEXT, Col, row_shards

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64"]
# Small enough that every type but bool holds them: casts between any two agree with numpy's.
NUMBERS = st.integers(0, 100)


@st.composite
def columns(draw: st.DrawFn) -> list[Col]:
    made = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from([SCALAR, TENSOR, ARRAY, BYTES, TEXT, JSON]))
        shape: tuple[int | None, ...] = ()
        if kind == TENSOR:
            shape = draw(st.sampled_from([(3,), (2, 2), (1, 2, 3)]))
        if kind == ARRAY:
            shape = draw(st.sampled_from([(None,), (None, 2), (3, None)]))
        dtype = draw(st.sampled_from(DTYPES)) if kind in (SCALAR, TENSOR, ARRAY) else "uint8"
        codec = draw(st.integers(0, 1)) if kind in (ARRAY, BYTES, TEXT, JSON) else 0
        made.append(Col(f"c{number}", kind, dtype, shape, codec, draw(st.booleans())))
    return made


def value_of(draw: st.DrawFn, column: Col) -> Any:
    if column.nullable and draw(st.integers(0, 3)) == 0:
        return None
    if column.kind == BYTES:
        return draw(st.binary(max_size=60))
    if column.kind in (TEXT, JSON):
        return draw(st.text(max_size=20))
    free = draw(st.integers(0, 4))
    shape = tuple(free if extent is None else extent for extent in column.shape)
    return np.full(shape, draw(NUMBERS)).astype(column.dtype)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[list[Col], list[list[Any]], list[int]]:
    cols = draw(columns())
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    values = [[value_of(draw, column) for _ in range(sum(sizes))] for column in cols]
    return cols, values, sizes


def expected(column: Col, value: Any) -> Any:
    """What sample() gives."""
    if value is None:
        return None
    if column.kind in (BYTES, TEXT, JSON):
        return value
    return value.item() if column.kind == SCALAR else value


def same(column: Col, got: Any, wanted: Any, cast: str | None) -> bool:
    """Whether `got`, from a batch, is `wanted`, as it was written."""
    if column.kind in (BYTES, TEXT, JSON):
        return got.tobytes() == column.raw(wanted)
    if wanted is None:
        wanted = np.zeros([0 if extent is None else extent for extent in column.shape], column.dtype)
    wanted = wanted.astype(cast or column.dtype)
    return got.dtype == wanted.dtype and np.array_equal(np.reshape(got, -1), np.reshape(wanted, -1))


@settings(max_examples=25, deadline=None)
@given(datasets(), st.data())
def test_take_next_and_sample_give_what_was_written(
    dataset: tuple[list[Col], list[list[Any]], list[int]], data: st.DataObject
) -> None:
    cols, values, sizes = dataset
    ends = np.cumsum([0, *sizes])
    shards = [[column[a:b] for column in values] for a, b in pairwise(ends)]
    total = int(ends[-1])
    chosen = data.draw(st.permutations(range(len(cols))))[: data.draw(st.integers(1, len(cols)))]
    casts = [data.draw(st.none() | st.sampled_from(DTYPES)) if cols[i].kind in (SCALAR, TENSOR, ARRAY) else None
             for i in chosen]
    rows = np.array(data.draw(st.lists(st.integers(-1, total - 1), max_size=20)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        made = row_shards(Path(folder), cols, [s if s[0] else [[] for _ in cols] for s in shards])
        snapshot = made.snapshot(open_files_max=2)
        reader = Reader(snapshot, [cols[i].output(i, cast=cast) for i, cast in zip(chosen, casts, strict=True)],
                        threads=data.draw(st.integers(1, 3)))
        reader.submit(rows, rows, 0, 0)
        for batch in (reader.take(rows), reader.next(60)):
            assert batch.valid.tolist() == (rows >= 0).tolist()
            for output, (i, cast) in enumerate(zip(chosen, casts, strict=True)):
                got, nulls = batch.columns[output], batch.nulls[output]
                for at, row in enumerate(rows.tolist()):
                    wanted = values[i][row] if row >= 0 else None
                    if isinstance(got, RaggedArrays):
                        item = got.values[got.offsets[at] : got.offsets[at + 1]]
                        if got.shapes is not None:
                            assert int(np.prod(got.shapes[at])) == len(item)
                            assert wanted is None or tuple(got.shapes[at]) == wanted.shape
                    else:
                        item = got[at]
                    assert same(cols[i], item, wanted, cast)
                    assert nulls is None or nulls[at] == (row >= 0 and wanted is None)
        for row in {row for row in rows.tolist() if row >= 0}:
            for i, value in zip(chosen, reader.sample(row), strict=True):
                np.testing.assert_array_equal(value, expected(cols[i], values[i][row]))
        reader.close()
