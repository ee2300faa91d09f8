"""JSON lines: types from all values, and lines that are broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed.convert.json_types import JsonColumn
from fastfeed.convert.jsonl import LINE_BYTES_MAX, Jsonl
from fastfeed.convert.schema_file import given_type
from fastfeed.convert.wanted import Wanted
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.schema import Array, ColumnType, Json, Scalar, Schema, Text
from tests.helpers.sources import compressed, written


def source_of_lines(tmp_path: Path, *lines: str | bytes, **options: Any) -> Jsonl:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return Jsonl(root=path, **options)


def type_of(*values: Any) -> ColumnType:
    column = JsonColumn()
    for at, value in enumerate(values):
        column.add(value, "x.jsonl", at + 1)
    return column.column("a", nullable=False)


class TestTypes:
    @pytest.mark.parametrize(
        ("values", "wanted"),
        [
            ([1, -2], Scalar("int64")),
            ([1, 2.5], Scalar("float64")),
            ([2.5, 1], Scalar("float64")),
            ([2**63 - 1, -(2**63)], Scalar("int64")),
            ([2**63, 0], Scalar("uint64")),
            ([2**64, 0.5], Scalar("float64")),
            ([True, False], Scalar("bool")),
            (["a", None], Text()),
            ([None], Text()),
            ([[1, 2], []], Array("int64", (None,))),
            ([[1], [0.5]], Array("float64", (None,))),
            ([[2**63]], Array("uint64", (None,))),
            ([[2**63, -1]], Json()),
            ([[True]], Array("bool", (None,))),
            ([[[1, 2], [3, 4]], [[5, 6]]], Array("int64", (None, 2))),
            ([[[[1], [2]]], [[[3], [4.5]]]], Array("float64", (None, 2, 1))),
            ([[[1, 2], [3]]], Json()),
            ([[[1, 2]], [[1]]], Json()),
            ([[[]]], Json()),
            ([[]], Json()),
            ([[1], ["a"]], Json()),
            ([[1, None]], Json()),
            ([[True, 1]], Json()),
            ([[True], [1]], Json()),
            ([{"a": 1}, [1]], Json()),
        ],
    )
    def test_the_type_holds_all_values(self, values: list[Any], wanted: ColumnType) -> None:
        assert type_of(*values) == wanted

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ([1, "a"], r"numbers \(x.jsonl, line 1\) and text \(x.jsonl, line 2\).*--schema"),
            ([True, 1], "true or false .* and numbers"),
            (["a", [1]], "text .* and lists"),
            ([2**64], "more than 64 bits"),
            ([2**63, -1], "more than 64 bits"),
        ],
    )
    def test_what_no_type_holds_is_an_error_with_a_line_of_each(self, values: list[Any], says: str) -> None:
        with pytest.raises(ConfigError, match=f"column 'a': has .*{says}"):
            type_of(*values)

    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
    nested = st.recursive(numbers | st.text(max_size=3) | st.none(), lambda inner: st.lists(inner, max_size=3))

    @given(st.lists(nested, min_size=1, max_size=4))
    def test_every_value_of_a_column_encodes_into_its_type(self, values: list[Any]) -> None:
        """Whatever the values are: there is a type for all, or an error."""
        try:
            column = type_of(*values)
        except ConfigError:
            return
        present = [{"a": value} for value in values if value is not None]
        assert SampleEncoder(Schema({"a": column})).encode_samples(present).rows == len(present)


class TestLines:
    def test_empty_lines_a_byte_order_mark_and_windows_line_ends_are_no_harm(self, tmp_path: Path) -> None:
        source = source_of_lines(tmp_path, b'\xef\xbb\xbf{"a": 1}\r', "", " \t\r", '{"a": 2}')
        assert written(source, tmp_path).samples == [{"a": 1}, {"a": 2}]

    def test_an_absent_key_is_a_missing_value(self, tmp_path: Path) -> None:
        source = source_of_lines(tmp_path, '{"a": 1, "b": "x"}', '{"b": null, "c": [1]}')
        assert written(source, tmp_path).samples == [
            {"a": 1, "b": "x", "c": None},
            {"a": None, "b": None, "c": [1]},
        ]
        assert source.plan(None).schema.names == ["a", "b", "c"]

    def test_a_type_that_only_the_last_line_needs_is_found(self, tmp_path: Path) -> None:
        lines = [f'{{"a": {at}}}' for at in range(1000)]
        source = source_of_lines(tmp_path, *lines, '{"a": 0.5}', item_bytes=100)
        assert source.plan(None).schema == Schema({"a": Scalar("float64")})
        assert len(written(source, tmp_path).samples) == 1001

    def test_nan_and_infinity_are_numbers(self, tmp_path: Path) -> None:
        found = written(source_of_lines(tmp_path, '{"a": NaN}', '{"a": -Infinity}'), tmp_path).samples
        assert math.isnan(found[0]["a"])
        assert found[1]["a"] == -math.inf

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ('{"a": 1, "a": 2}', "names the key 'a' twice"),
            ('{"a": 1, "b": {"k": 1, "k": 1}}', "names the key 'k' twice"),
            ('{"a": 1', "is not JSON: Expecting ',' delimiter at character 8"),
            ('{"a": 1} {"a": 2}', "is not JSON: Extra data at character 10"),
            ("[1]", r"is not an object, but '\[1\]'"),
            (b'{"a": "\xff"}', "is not UTF-8: invalid start byte at byte 8"),
            ('{"a": 1e400}', "has the number 1e400, which no float64 holds"),
            ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
            ("[" * 100_000, "is nested too deeply"),
            ('{"b": "\\ud800"}', "column 'b': text that is not valid Unicode"),
            ('{"c": {"x": NaN}}', "column 'c'.*no JSON"),
            ('{"d": [1.5, ' + "9" * 400 + "]}", "has a whole number in a list of fractions that no float64 holds"),
        ],
    )
    def test_a_broken_line_is_named_and_the_others_are_kept(self, tmp_path: Path, line: str | bytes, says: str) -> None:
        source = source_of_lines(tmp_path, '{"a": 1, "b": "x", "c": {}}', "", line, '{"a": 2}', "")
        with pytest.raises(CorruptDataError, match=rf"x\.jsonl: line 3: .*{says}"):
            written(source, tmp_path)
        found = written(source, tmp_path, on_error="skip")
        assert [sample["a"] for sample in found.samples] == [1, 2]
        assert [(rejected.name, rejected.where) for rejected in found.rejected] == [("x.jsonl", "line 3")]

    def test_a_line_that_never_ends_is_an_error_before_memory_is_full(self, tmp_path: Path) -> None:
        """Compressed, as nobody would send it otherwise."""
        path = tmp_path / "x.jsonl.zst"
        path.write_bytes(compressed(b'{"a": 1}\n{"a": "' + b"x" * (LINE_BYTES_MAX + (8 << 20)), ".zst"))
        source = Jsonl(root=path)
        assert source.plan(None).rejected is not None
        found = written(source, tmp_path, on_error="skip")
        assert found.samples == [{"a": 1}]
        assert "has a line of more than" in found.rejected[0].why

    @pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
    def test_a_compressed_file_that_is_cut_off_keeps_its_whole_lines(self, tmp_path: Path, suffix: str) -> None:
        lines = "".join(
            f'{{"a": {at}, "b": "{at * 7919 % 10007}-{at * 104729 % 99991}"}}\n' for at in range(8_000)
        ).encode()
        path = tmp_path / f"x{suffix}"
        path.write_bytes(compressed(lines, suffix)[:-100])
        source = Jsonl(root=path, item_bytes=10_000)
        with pytest.raises(CorruptDataError, match=rf"x\{suffix}: is no whole (gzip|zstd) stream"):
            written(source, tmp_path)
        found = written(source, tmp_path, on_error="skip")
        assert len(found.rejected) == 1
        assert [sample["a"] for sample in found.samples] == list(range(len(found.samples)))
        assert len(found.samples) > 1_000

    @pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
    def test_a_compressed_file_without_a_byte_was_cut_off(self, tmp_path: Path, suffix: str) -> None:
        """A plain one is an input without lines."""
        (tmp_path / "0.jsonl").write_bytes(b"")
        (tmp_path / f"1{suffix}").write_bytes(b"")
        (tmp_path / "2.jsonl").write_bytes(b'{"a": 1}')
        with pytest.raises(CorruptDataError, match=rf"1\{suffix}: is no whole (gzip|zstd) stream: the file is empty"):
            written(Jsonl(root=tmp_path), tmp_path)

    def test_lines_longer_than_an_item_are_whole(self, tmp_path: Path) -> None:
        texts = ["x" * length for length in (1, 500, 50, 3000, 2)]
        lines = [json.dumps({"a": text}) for text in texts]
        for item_bytes in (1, 7, 100, 1 << 20):
            source = source_of_lines(tmp_path, *lines, item_bytes=item_bytes)
            assert [sample["a"] for sample in written(source, tmp_path).samples] == texts

    def test_files_without_columns_are_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="holds no JSON objects with columns"):
            source_of_lines(tmp_path, "{}", "").plan(None)
        with pytest.raises(CorruptDataError, match=r"x\.jsonl: line 1: is not JSON"):
            source_of_lines(tmp_path, "a,b", "1,2").plan(None)


class TestGivenTypes:
    def test_a_given_type_is_taken_and_a_value_that_does_not_fit_is_named(self, tmp_path: Path) -> None:
        types = {
            "a": given_type({"type": "scalar", "dtype": "int8"}),
            "t": given_type({"type": "tensor", "dtype": "float32", "shape": [2]}),
            "mixed": given_type({"type": "json"}),
            "raw": given_type({"type": "bytes"}),
        }
        lines = [
            {"a": 1, "t": [1, 2], "mixed": 1, "raw": "AAE="},
            {"a": 300, "t": [1, 2], "mixed": "x", "raw": ""},
            {"a": 1, "t": [1], "mixed": [], "raw": ""},
            {"a": 1, "t": [1, 2], "mixed": {}, "raw": "?"},
            {"a": 1, "t": [3, 4], "mixed": None, "raw": ""},
        ]
        source = source_of_lines(tmp_path, *map(json.dumps, lines), wanted=Wanted(types=types))
        found = written(source, tmp_path, on_error="skip")
        assert [sample["raw"] for sample in found.samples] == [b"\0\1", b""]
        assert [sample["t"] for sample in found.samples] == [[1, 2], [3, 4]]
        assert sorted((rejected.where, rejected.why.split(":")[0]) for rejected in found.rejected) == [
            ("line 2", "column 'a'"),
            ("line 3", "column 't'"),
            ("line 4", "has no base64 in a column of bytes"),
        ]
