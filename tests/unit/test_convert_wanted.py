"""--columns, --rename, --schema, and which files an input has and what they are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from fastfeed.convert.detect import detect, source_of
from fastfeed.convert.files import PATTERN_NAMES_MAX, expand, find_files
from fastfeed.convert.schema_file import SCHEMA_FILE_BYTES_MAX, read_schema_file
from fastfeed.convert.wanted import GivenType, Wanted, parse_names, parse_renames
from fastfeed.errors import ConfigError
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Schema, Tensor, Text
from tests.helpers.image_folders import write_files
from tests.helpers.sources import tar_of_files

FOUND: dict[str, ColumnType] = {"a": Scalar("int64", nullable=True), "b": Text(), "c": Bytes()}


class TestWanted:
    def test_nothing_asked_for_is_everything_as_it_was_found(self) -> None:
        assert Wanted().schema(FOUND) == Schema(FOUND)
        assert Wanted().options() == {}

    def test_columns_rename_and_types_together(self) -> None:
        types = {"x": GivenType(column=Scalar("float32")), "b": GivenType(column=Text(codec="zstd"), nullable=True)}
        wanted = Wanted(columns=("b", "a"), rename=(("a", "x"),), types=types)
        schema = wanted.schema(FOUND)
        assert list(schema.items()) == [
            ("b", Text(codec="zstd", nullable=True)),
            ("x", Scalar("float32", nullable=True)),
        ]
        assert (wanted.source_name("x"), wanted.source_name("b")) == ("a", "b")

    def test_names_can_change_places(self) -> None:
        wanted = Wanted(rename=(("a", "b"), ("b", "a")))
        assert wanted.source_names(list(FOUND)) == {"b": "a", "a": "b", "c": "c"}

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"columns": ("a", "x")}, "--columns: there is no column 'x' in the source. It has 'a', 'b', 'c'"),
            ({"rename": (("x", "y"),)}, "--rename: there is no column 'x'"),
            ({"columns": ("a",), "rename": (("b", "y"),)}, "--rename: 'b' is not among --columns a"),
            ({"rename": (("a", "b"),)}, "'a' and 'b' would both be 'b'"),
            ({"types": {"x": GivenType(column=Text())}}, "--schema: there is no column 'x' in the dataset"),
            ({"image_size": 10}, "--image-size: there is no column of images"),
        ],
    )
    def test_what_the_source_does_not_have_is_an_error(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            Wanted(**options).schema(FOUND)

    @pytest.mark.parametrize("options", [{"columns": ("a", "a")}, {"rename": (("a", "x"), ("a", "y"))}])
    def test_a_name_given_twice_is_an_error(self, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="names 'a' twice"):
            Wanted(**options)

    def test_lists_are_parsed_with_commas_and_repetition(self) -> None:
        assert parse_names(["a, b", "c"]) == ("a", "b", "c")
        assert parse_renames(["a=b, c=d", "seg.png=mask"]) == (("a", "b"), ("c", "d"), ("seg.png", "mask"))
        for text in ("a=", "=b", "a", "a=b,"):
            with pytest.raises(ConfigError, match="OLD=NEW"):
                parse_renames([text])
        with pytest.raises(ConfigError, match="empty name"):
            parse_names(["a,,b"])


class TestSchemaFile:
    def read(self, tmp_path: Path, content: Any) -> dict[str, GivenType]:
        path = tmp_path / "types.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_schema_file(path)

    def test_every_type_can_be_given(self, tmp_path: Path) -> None:
        given = self.read(
            tmp_path,
            {
                "s": {"type": "scalar", "dtype": "int16", "nullable": True},
                "t": {"type": "tensor", "dtype": "float16", "shape": [2, 3]},
                "a": {"type": "array", "dtype": "float32", "shape": [None, 4], "codec": "zstd"},
                "b": {"type": "bytes", "nullable": False},
                "x": {"type": "text", "codec": "zstd"},
                "j": {"type": "json"},
                "i": {"type": "image"},
            },
        )
        assert {name: each.column for name, each in given.items()} == {
            "s": Scalar("int16"),
            "t": Tensor("float16", (2, 3)),
            "a": Array("float32", (None, 4), codec="zstd"),
            "b": Bytes(),
            "x": Text(codec="zstd"),
            "j": Json(),
            "i": Image(),
        }
        assert [each.nullable for each in given.values()] == [True, None, None, False, None, None, None]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("{", "is not JSON"),
            ("[]", "must be an object"),
            ({"a": "text"}, "column 'a': .*gives no known"),
            ({"a": {"type": "float"}}, 'gives no known "type". Known: scalar, tensor'),
            ({"a": {"type": "scalar"}}, "type scalar needs 'dtype'"),
            ({"a": {"type": "text", "shape": [1]}}, "type text has no 'shape'. It takes type, nullable, codec"),
            ({"a": {"type": "scalar", "dtype": "complex64"}}, "complex64 is no item type"),
            ({"a": {"type": "tensor", "dtype": "int8", "shape": [None]}}, "no free dimension"),
            ({"a": {"type": "tensor", "dtype": "int8", "shape": "x"}}, "column 'a': "),
            ({"a": {"type": "text", "codec": "lz4"}}, "codec='lz4' is not available"),
            ({"a": {"type": "text", "nullable": "no"}}, '"nullable" is true or false'),
            (" " * (SCHEMA_FILE_BYTES_MAX + 1), "too many for a schema"),
        ],
    )
    def test_what_does_not_make_sense_is_named(self, tmp_path: Path, content: Any, says: str) -> None:
        with pytest.raises(ConfigError, match=rf"types\.json: .*{says}"):
            self.read(tmp_path, content)


class TestFiles:
    def test_patterns_stand_for_ranges_and_lists(self) -> None:
        assert expand("a-{08..10}.{x,y}") == [f"a-{number}.{end}" for number in ("08", "09", "10") for end in "xy"]
        assert expand("a-{8..10}") == ["a-8", "a-9", "a-10"]
        assert expand("plain") == ["plain"]

    def test_a_file_with_braces_in_its_name_stands_for_itself(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"{1..2}.jsonl": b'{"a": 1}'})
        assert expand(f"{tmp_path}/{{1..2}}.jsonl") == [f"{tmp_path}/{{1..2}}.jsonl"]
        assert source_of("auto", tmp_path / "{1..2}.jsonl").plan(None).seen == "1 line in 1 JSONL file"

    @pytest.mark.parametrize("pattern", ["{5..4}", f"{{0..{PATTERN_NAMES_MAX}}}", "{0..9999}{0..9999}"])
    def test_patterns_that_stand_for_nothing_or_too_much_are_errors(self, pattern: str) -> None:
        with pytest.raises(ConfigError):
            expand(pattern)

    def test_a_folder_gives_its_files_in_bytewise_order_at_any_depth(self, tmp_path: Path) -> None:
        names = ["b.tar", "a/2.TAR", "a-b/1.tar", "a/1.tar", "_SUCCESS", ".x.tar", "_tmp/1.tar", "README"]
        write_files(tmp_path, dict.fromkeys(names, b"x"))
        found = find_files(tmp_path, (".tar",))
        assert [file.name for file in found.files] == ["a-b/1.tar", "a/1.tar", "a/2.TAR", "b.tar"]
        assert found.notes == ["left out 1 file of other kinds: README"]

    def test_a_pattern_over_folders_keeps_their_names(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"p1/x.tar": b"", "p2/x.tar": b""})
        found = find_files(tmp_path / "p{1..2}" / "x.tar", (".tar",))
        assert found.folder == tmp_path
        assert [file.name for file in found.files] == ["p1/x.tar", "p2/x.tar"]


class TestDetect:
    @pytest.mark.parametrize(
        ("files", "kind"),
        [
            (["a/x.tar"], "webdataset"),
            (["x.tar.gz", "y.tgz", "z.tar.zst"], "webdataset"),
            (["data/train-0.parquet", "README.md"], "parquet"),
            (["x.jsonl.gz", "y.ndjson"], "jsonl"),
            (["cat/1.jpg"], "imagefolder"),
            (["1.jpg", "metadata.jsonl"], "imagefolder"),
            ([], "imagefolder"),
        ],
    )
    def test_a_folder_is_what_its_files_are(self, tmp_path: Path, files: list[str], kind: str) -> None:
        assert detect(write_files(tmp_path, dict.fromkeys(files, b""))) == kind

    def test_a_folder_of_two_kinds_needs_a_choice(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"x.tar": b"", "y.parquet": b"", "z.parquet": b""})
        with pytest.raises(ConfigError, match=r"1 files for webdataset and 2 files for parquet.*--from webdataset"):
            detect(tmp_path)

    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("x.tar", b"", "webdataset"),
            ("x.pq", b"", "parquet"),
            ("x.jsonl.zst", b"", "jsonl"),
            ("x", tar_of_files([("1.txt", b"")]), "webdataset"),
            ("x", b"PAR1....", "parquet"),
            ("x.json", b'\xef\xbb\xbf\n {"a": 1}', "jsonl"),
        ],
    )
    def test_a_file_is_what_its_name_or_its_first_bytes_say(
        self, tmp_path: Path, name: str, content: bytes, kind: str
    ) -> None:
        assert detect(write_files(tmp_path, {name: content}) / name) == kind

    def test_what_is_none_of_them_is_an_error(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"x.csv": b"a,b", "y.gz": gzip.compress(b"x")})
        for name in ("x.csv", "y.gz"):
            with pytest.raises(ConfigError, match="is no tar, Parquet or JSONL file"):
                detect(tmp_path / name)

    def test_labels_are_for_images_only(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"x.tar": b""})
        with pytest.raises(ConfigError, match=r"--labels .*webdataset has its labels in columns"):
            source_of("webdataset", tmp_path, labels=tmp_path / "l.csv")
        with pytest.raises(ConfigError, match="there is no such source"):
            source_of("csv", tmp_path)
