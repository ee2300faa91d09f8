"""A reader over several snapshots: what they must have in common, and whose errors are whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.feed import OutputSpec, Reader, Snapshot
from fastfeed.errors import ConfigError, CorruptDataError
from tests.helpers.raw_shards import ARRAY, BYTES, SCALAR, TENSOR, Col, row_shards, stream_shards

LABELS = [Col("label", SCALAR, "int64"), Col("data", BYTES)]


def labels(root: Path, first: int, count: int) -> Snapshot:
    root.mkdir()
    values = list(range(first, first + count))
    return row_shards(root, LABELS, [[values, [str(value).encode() for value in values]]]).snapshot()


def one_column(root: Path, column: Col, value: object) -> Snapshot:
    root.mkdir()
    return row_shards(root, [column], [[[value]]]).snapshot()


def outputs(columns: list[Col]) -> list[OutputSpec]:
    return [column.output(index) for index, column in enumerate(columns)]


def of(*numbers: int, dtype: type = np.int64) -> np.ndarray:
    return np.array(numbers, dtype=dtype)


@pytest.fixture
def pair(tmp_path: Path) -> list[Snapshot]:
    return [labels(tmp_path / "a", 0, 10), labels(tmp_path / "b", 100, 4)]


def test_each_row_is_of_the_source_that_is_named(pair: list[Snapshot]) -> None:
    reader = Reader(pair, [outputs(LABELS)] * 2)
    batch = reader.take(of(3, 3, -1, 0), sources=of(0, 1, 1, 1, dtype=np.int32))
    assert batch.columns[0].tolist() == [3, 103, 0, 100]
    assert batch.rows.tolist() == [3, 3, -1, 0]
    assert batch.valid.tolist() == [True, True, False, True]
    assert reader.sample(2, 1) == (102, b"102")
    assert reader.sample(2) == (2, b"2")


def test_without_sources_all_rows_are_of_the_first(pair: list[Snapshot]) -> None:
    reader = Reader(pair, [outputs(LABELS)] * 2)
    assert reader.take(of(9, 0)).columns[0].tolist() == [9, 0]


def test_a_row_is_checked_against_its_own_snapshot(pair: list[Snapshot]) -> None:
    reader = Reader(pair, [outputs(LABELS)] * 2)
    with pytest.raises(ConfigError, match="row 4 is not one of the 4 rows"):
        reader.submit(of(4), of(0), 0, 0, sources=of(1, dtype=np.int32))
    with pytest.raises(ConfigError, match="source 2 is not one of the 2 sources"):
        reader.take(of(0), sources=of(2, dtype=np.int32))
    with pytest.raises(ConfigError, match="1 sources for 2 rows"):
        reader.take(of(0, 1), sources=of(0, dtype=np.int32))


@pytest.mark.parametrize(
    ("other", "value", "difference"),
    [
        (Col("x", TENSOR, "float32", (3,)), np.zeros(3), r"'x' is float32 of shape \(3\) in source 1.* shape \(2\)"),
        (Col("y", TENSOR, "int8", (2,)), np.zeros(2), r"'y' is int8 of shape \(2\) in source 1, and 'x' of source 0"),
        (Col("x", ARRAY, "float32", (None,)), np.zeros(2), r"'x' is float32 of shape \(any\) in source 1"),
        (Col("x", BYTES), b"", "'x' is uint8 of any length in source 1"),
        (Col("x", SCALAR, "float32"), 0, "'x' is float32 in source 1"),
    ],
)  # fmt: skip
def test_outputs_that_differ_are_refused_by_name(tmp_path: Path, other: Col, value: object, difference: str) -> None:
    first = Col("x", TENSOR, "float32", (2,))
    snapshots = [one_column(tmp_path / "a", first, np.zeros(2)), one_column(tmp_path / "b", other, value)]
    with pytest.raises(ConfigError, match=difference):
        Reader(snapshots, [[first.output(0)], [other.output(0)]])


def test_a_cast_makes_types_agree(tmp_path: Path) -> None:
    first, other = Col("x", TENSOR, "float32", (2,)), Col("y", TENSOR, "int8", (2,))
    snapshots = [one_column(tmp_path / "a", first, np.ones(2)), one_column(tmp_path / "b", other, np.full(2, 5))]
    reader = Reader(snapshots, [[first.output(0)], [other.output(0, cast="float32")]])
    batch = reader.take(of(0, 0), sources=of(1, 0, dtype=np.int32))
    assert batch.columns[0].tolist() == [[5, 5], [1, 1]]


def test_a_stream_of_windows_mixes_with_rows_of_tensors(tmp_path: Path) -> None:
    """What a row is stored as is each source's own affair."""
    column = Col("tokens", TENSOR, "uint16", (4,))
    (tmp_path / "stream").mkdir()
    stream = stream_shards(tmp_path / "stream", "uint16", [[range(10)]]).snapshot(window=4, stride=3)
    reader = Reader([stream, one_column(tmp_path / "rows", column, np.full(4, 9))],
                    [[OutputSpec(0, dtype="uint16")], [column.output(0)]])  # fmt: skip
    batch = reader.take(of(1, 0, 2), sources=of(0, 1, 0, dtype=np.int32))
    assert batch.columns[0].tolist() == [[3, 4, 5, 6], [9, 9, 9, 9], [6, 7, 8, 9]]


def test_nulls_of_one_source_make_the_column_nullable(tmp_path: Path) -> None:
    sure, nullable = Col("x", SCALAR, "int32"), Col("x", SCALAR, "int32", nullable=True)
    snapshots = [one_column(tmp_path / "a", sure, 7), one_column(tmp_path / "b", nullable, None)]
    batch = Reader(snapshots, [[sure.output(0)], [nullable.output(0)]]).take(
        of(0, 0, 0), sources=of(1, 0, 1, dtype=np.int32))  # fmt: skip
    assert batch.nulls[0] is not None
    assert batch.nulls[0].tolist() == [True, False, True]
    assert batch.columns[0].tolist() == [0, 7, 0]


def test_an_error_names_the_file_of_its_source(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(row_shards(tmp_path / name, LABELS, [[[1, 2], [b"x", b"y"]]]))
    snapshots = [each.snapshot() for each in made]
    content = bytearray(made[1].path(0).read_bytes())
    content[made[1].payload_ends[0] - 8] ^= 1
    made[1].path(0).write_bytes(bytes(content))
    reader = Reader(snapshots, [outputs(LABELS)] * 2)
    assert reader.take(of(0, 1, 0), sources=of(0, 0, 1, dtype=np.int32)).columns[0].tolist() == [1, 2, 1]
    with pytest.raises(CorruptDataError, match=rf"{tmp_path}/b/.*row 1 of the dataset"):
        reader.take(of(1, 1), sources=of(0, 1, dtype=np.int32))


def test_a_reader_has_as_many_outputs_as_snapshots(pair: list[Snapshot]) -> None:
    with pytest.raises(ConfigError, match="2 snapshots with outputs for 1"):
        Reader(pair, [outputs(LABELS)])
    with pytest.raises(ConfigError, match="source 1 has 1 outputs, source 0 has 2"):
        Reader(pair, [outputs(LABELS), outputs(LABELS)[:1]])
    with pytest.raises(ConfigError, match="reads Snapshots, not str"):
        Reader([pair[0], "b"], [outputs(LABELS)] * 2)  # type: ignore[list-item]
