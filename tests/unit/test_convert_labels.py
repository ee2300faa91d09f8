"""Label files: what is read, how types are inferred, what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastfeed.convert.labels import LabelTable, read_labels
from fastfeed.errors import ConfigError
from fastfeed.format.schema import Json, Scalar, Text


def table(folder: Path, name: str, text: str) -> LabelTable:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_labels(path)


class TestCsv:
    def test_the_first_line_names_the_columns_and_types_come_from_all_values(self, tmp_path: Path) -> None:
        found = table(tmp_path, "labels.csv", "file_name,label,age,score,site\na.jpg,cat,3,1.5,x\nb.jpg,dog,40,2,y\n")
        assert found.files == ["a.jpg", "b.jpg"]
        assert found.columns == {
            "label": ["cat", "dog"],
            "age": [3, 40],
            "score": [1.5, 2.0],
            "site": ["x", "y"],
        }
        assert found.types == {
            "label": Text(),
            "age": Scalar("int64"),
            "score": Scalar("float64"),
            "site": Text(),
        }

    def test_an_empty_cell_is_a_missing_value_and_makes_the_column_nullable(self, tmp_path: Path) -> None:
        found = table(tmp_path, "labels.csv", "file,age,note\na.jpg,,\nb.jpg,4,\n")
        assert found.columns == {"age": [None, 4], "note": [None, None]}
        assert found.types == {"age": Scalar("int64", nullable=True), "note": Text(nullable=True)}

    @pytest.mark.parametrize("cell", ["007", "1_000", "٣", "9223372036854775808x", "", "0x10", "1e"])
    def test_what_would_not_come_back_as_it_was_written_stays_text(self, tmp_path: Path, cell: str) -> None:
        found = table(tmp_path, "labels.csv", f"file,code\na.jpg,{cell}\nb.jpg,q\n")
        assert isinstance(found.types["code"], Text)

    def test_numbers_with_leading_zeros_are_names(self, tmp_path: Path) -> None:
        assert table(tmp_path, "labels.csv", "file,code\na.jpg,007\n").columns == {"code": ["007"]}

    @pytest.mark.parametrize("other", ["1", "0.5"])
    @pytest.mark.parametrize("cell", ["9223372036854775808", "9" * 5000, "-9223372036854775809"])
    def test_a_whole_number_beyond_int64_is_a_name_and_keeps_its_digits(
        self, tmp_path: Path, cell: str, other: str
    ) -> None:
        found = table(tmp_path, "labels.csv", f"file,big\na.jpg,{cell}\nb.jpg,{other}\n")
        assert found.columns == {"big": [cell, other]}

    def test_a_number_beyond_float64_stays_text(self, tmp_path: Path) -> None:
        assert table(tmp_path, "labels.csv", "file,big\na.jpg,1e999\n").columns == {"big": ["1e999"]}
        infinite = table(tmp_path, "labels.csv", "file,big\na.jpg,inf\nb.jpg,-Inf\nc.jpg,1\n")
        assert infinite.columns == {"big": [math.inf, -math.inf, 1.0]}

    def test_a_byte_order_mark_and_quoted_cells_are_read(self, tmp_path: Path) -> None:
        found = table(tmp_path, "labels.csv", '\ufefffile,text\na.jpg,"one, ""two""\nthree"\n')
        assert found.columns == {"text": ['one, "two"\nthree']}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "is empty"),
            ("name,label\na.jpg,1\n", "none that names the file"),
            ("file,label\na.jpg\n", "line 2 has 1 cells"),
            ("file,label,label\na.jpg,1,2\n", "name each column, once"),
            ("file,label\n,1\n", "row 0 has no file name"),
            ('file,label\n"a.jpg" x,1\n', "line"),
        ],
    )
    def test_a_file_that_makes_no_sense_is_an_error_that_says_where(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            table(tmp_path, "labels.csv", text)

    def test_a_file_that_is_not_utf8_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "labels.csv").write_bytes(b"file,label\na.jpg,\xff\n")
        with pytest.raises(ConfigError, match="not UTF-8"):
            read_labels(tmp_path / "labels.csv")


class TestJsonl:
    def test_values_keep_their_json_types(self, tmp_path: Path) -> None:
        found = table(
            tmp_path,
            "metadata.jsonl",
            '{"file_name": "a.jpg", "text": "x", "n": 1, "f": 2, "ok": true, "box": [1, 2]}\n\n'
            '{"file_name": "b.jpg", "text": null, "n": 2, "f": 0.5, "ok": false, "box": {"w": 1}}\n',
        )
        assert found.types == {
            "text": Text(nullable=True),
            "n": Scalar("int64"),
            "f": Scalar("float64"),
            "ok": Scalar("bool"),
            "box": Json(),
        }
        assert found.columns["f"] == [2.0, 0.5]
        assert found.columns["box"] == ["[1,2]", '{"w":1}']

    def test_a_key_that_only_some_lines_have_is_nullable(self, tmp_path: Path) -> None:
        found = table(tmp_path, "x.jsonl", '{"file": "a", "n": 1}\n{"file": "b"}\n')
        assert found.types == {"n": Scalar("int64", nullable=True)}
        assert found.columns == {"n": [1, None]}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ('{"file": "a"}\nnonsense\n', "line 2 is not JSON"),
            ('{"file": "a"}\n[1]\n', "line 2 is not an object"),
            ('{"file": "a", "x": 1}\n{"file": "b", "x": "1"}\n', "column 'x' mixes int, str"),
            ('{"file": 3}\n', "row 0 has no file name"),
            (
                '{"file": "a", "x": 1.5}\n{"file": "b", "x": 9223372036854775808}\n',
                "'x' has a whole number of more than",
            ),
            ('{"file": "a", "x": ' + "9" * 5000 + "}\n", "line 1 is not JSON: Exceeds the limit"),
            ('{"file": "a", "x": ' + "[" * 100_000 + "}\n", "line 1 is not JSON: maximum recursion depth"),
        ],
    )
    def test_a_line_that_makes_no_sense_is_an_error_that_says_which(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            table(tmp_path, "labels.jsonl", text)

    def test_a_file_that_is_not_utf8_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "labels.jsonl").write_bytes(b'{"file": "\xff"}\n')
        with pytest.raises(ConfigError, match="not UTF-8"):
            read_labels(tmp_path / "labels.jsonl")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a \.csv or a \.jsonl"):
        read_labels(tmp_path / "labels.xlsx")
