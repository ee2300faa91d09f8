"""Tars of samples: which members make which columns, and what is left of archives that are damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastfeed.convert.members import HEAD_BYTES
from fastfeed.convert.schema_file import given_type
from fastfeed.convert.wanted import Wanted
from fastfeed.convert.webdataset import SUFFIX_COUNT_MAX, WebDataset, split_name
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import Array, Bytes, ColumnType, Image, Json, Scalar, Tensor, Text
from tests.helpers.image_folders import encoded, write_files
from tests.helpers.sources import tar_of, tar_of_files, written


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


JPEG = encoded("chelsea", 0, "JPEG", (24, 16))
# As long as it was: numpy would allocate 80 TB for it.
LYING_NPY = npy(np.ones(8)).replace(b"(8,), }" + b" " * 12, b"(9999999999999,), }")
PNG = encoded("coffee", 0, "PNG", (8, 8))


def source_of_files(tmp_path: Path, *files: tuple[str, bytes], **options: Any) -> WebDataset:
    write_files(tmp_path, {"in/x.tar": tar_of_files(files)})
    return WebDataset(root=tmp_path / "in" / "x.tar", **options)


def columns_of(tmp_path: Path, suffix: str, *contents: bytes) -> ColumnType:
    files = [(f"{at}.{suffix}", content) for at, content in enumerate(contents)]
    return source_of_files(tmp_path, *files).plan(None).schema[suffix]


class TestNames:
    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("000.jpg", ("000", "jpg")),
            ("a.b/c.seg.PNG", ("a.b/c", "seg.png")),
            ("a/b", None),
            ("a/.hidden", ("a/", "hidden")),
            ("__meta__", None),
            ("__meta__/x.json", None),
            ("a/__b__.txt", ("a/__b__", "txt")),
            ("./a.txt", ("./a", "txt")),
            ("a.", ("a", "")),
        ],
    )
    def test_a_name_is_split_as_webdataset_splits_it(self, name: str, parts: tuple[str, str] | None) -> None:
        import re

        from webdataset.tariterators import base_plus_ext

        assert split_name(name) == parts
        key, suffix = base_plus_ext(name)
        skipped = re.match(r"__[^/]*__($|/)", name) is not None
        assert parts == (None if key is None or skipped else (key, suffix.lower()))

    def test_members_of_no_sample_are_counted(self, tmp_path: Path) -> None:
        source = source_of_files(tmp_path, ("README", b"x"), ("__meta__", b"x"), ("1.txt", b"one"))
        plan = source.plan(None)
        assert plan.notes == ["left out 2 members that belong to no sample"]
        assert written(source, tmp_path).samples == [{"__key__": "1", "txt": "one"}]

    def test_a_key_that_comes_again_later_is_another_sample(self, tmp_path: Path) -> None:
        source = source_of_files(tmp_path, ("1.txt", b"a"), ("2.txt", b"b"), ("1.txt", b"c"))
        assert [sample["__key__"] for sample in written(source, tmp_path).samples] == ["1", "2", "1"]

    def test_a_name_that_is_no_utf8_rejects_its_sample(self, tmp_path: Path) -> None:
        content = tar_of_files([("1.txt", b"a"), ("Z.txt", b"b")])
        broken = content.replace(b"Z.txt", b"\xff.txt")
        at = broken.index(b"\xff.txt")
        block = bytearray(broken[at : at + 512])
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        write_files(tmp_path, {"x.tar": broken[:at] + bytes(block) + broken[at + 512 :]})
        found = written(WebDataset(root=tmp_path / "x.tar"), tmp_path, on_error="skip")
        assert [sample["txt"] for sample in found.samples] == ["a"]
        assert "not valid Unicode" in found.rejected[0].why


class TestTypes:
    @pytest.mark.parametrize(
        ("suffix", "contents", "wanted"),
        [
            ("jpg", [JPEG], Image()),
            ("mask.png", [PNG], Image()),
            ("thumb", [JPEG, PNG], Image()),
            ("thumb", [JPEG, b"GIF89a"], Bytes()),
            ("cls", [b"1", b" -7\n"], Scalar("int64")),
            ("cls", [b"1", b"n01440764"], Text()),
            ("cls", [b"1", b"9223372036854775808"], Text()),
            ("cls", [b"1", b"1" * (HEAD_BYTES + 1)], Text()),
            ("index", [b"5"], Scalar("int64")),
            ("txt", ["ä".encode()], Text()),
            ("json", [b'{"a": 1}', b"null"], Json()),
            ("npy", [npy(np.ones((2, 3), np.float32))] * 2, Tensor("float32", (2, 3))),
            ("npy", [npy(np.ones((at, 3), np.int64)) for at in (1, 2)], Array("int64", (None, 3))),
            ("npy", [npy(np.ones((0, 3), np.uint8))], Array("uint8", (None, 3))),
            ("npy", [npy(np.ones((2, at))) for at in (1, 2)], Bytes()),
            ("npy", [npy(np.ones(2, dtype)) for dtype in (np.int8, np.int16)], Bytes()),
            ("npy", [npy(np.float32(1))], Bytes()),
            ("npy", [npy(np.array([{}], dtype=object))], Bytes()),
            ("npy", [npy(np.zeros(2, [("a", "i4")]))], Bytes()),
            ("pth", [b"x", b""], Bytes()),
        ],
    )
    def test_extension_and_content_give_the_type(
        self, tmp_path: Path, suffix: str, contents: list[bytes], wanted: ColumnType
    ) -> None:
        assert columns_of(tmp_path, suffix, *contents) == wanted
        assert len(written(WebDataset(root=tmp_path / "in" / "x.tar"), tmp_path).samples) == len(contents)

    def test_a_member_that_some_samples_lack_makes_a_column_nullable(self, tmp_path: Path) -> None:
        source = source_of_files(tmp_path, ("1.txt", b"a"), ("1.cls", b"1"), ("2.txt", b"b"))
        assert source.plan(None).schema["cls"] == Scalar("int64", nullable=True)
        assert [sample["cls"] for sample in written(source, tmp_path).samples] == [1, None]

    def test_arrays_of_other_byte_and_memory_orders_arrive_equal(self, tmp_path: Path) -> None:
        array = np.arange(6, dtype=">i4").reshape(2, 3)
        source = source_of_files(tmp_path, ("1.npy", npy(array)), ("2.npy", npy(np.asfortranarray(array))))
        assert [sample["npy"] for sample in written(source, tmp_path).samples] == [array.tolist()] * 2

    def test_pickles_are_kept_and_never_run(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return open, (str(tmp_path / "exploded"), "w")

        content = pickle.dumps(Bomb())
        source = source_of_files(tmp_path, ("1.pyd", content), ("1.npy", npy(np.array([Bomb()], dtype=object))))
        assert written(source, tmp_path).samples[0]["pyd"] == content
        assert not (tmp_path / "exploded").exists()

    def test_a_schema_overrides_what_extensions_say(self, tmp_path: Path) -> None:
        types = {
            "cls": given_type({"type": "text"}),
            "png": given_type({"type": "bytes"}),
            "ok": given_type({"type": "scalar", "dtype": "bool"}),
            "score": given_type({"type": "scalar", "dtype": "float32"}),
        }
        files = [("1.cls", b"7"), ("1.png", PNG), ("1.ok", b"True\n"), ("1.score", b"1e-3")]
        source = source_of_files(tmp_path, *files, wanted=Wanted(types=types))
        sample = written(source, tmp_path).samples[0]
        assert sample | {"score": 0} == {"__key__": "1", "cls": "7", "png": PNG, "ok": True, "score": 0}

    def test_an_archive_of_something_else_is_an_error(self, tmp_path: Path) -> None:
        files = [(f"x.v{at}", b"") for at in range(SUFFIX_COUNT_MAX + 1)]
        with pytest.raises(ConfigError, match="different suffixes"):
            source_of_files(tmp_path, *files).plan(None)
        with pytest.raises(ConfigError, match="holds no samples"):
            source_of_files(tmp_path, ("README", b"x")).plan(None)


class TestDamage:
    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            (("2.cls", b"x"), r"member 2\.cls: invalid literal"),
            (("2.txt", b"\xff"), r"member 2\.txt: is not UTF-8"),
            (("2.json", b"{"), r"member 2\.json"),
            (("2.json", b"[" * 100_000), r"member 2\.json: is nested too deeply"),
            (("2.npy", b"\x93NUMPY"), r"member 2\.npy"),
            (("2.npy", npy(np.ones(8))[:150]), r"member 2\.npy: EOF: reading array data"),
            (("2.npy", npy(np.ones(8)).replace(b"}", b" ")), r"member 2\.npy: has a damaged \.npy header"),
            (
                ("2.npy", LYING_NPY),
                r"member 2\.npy: has 192 bytes, and says that it is float64 of shape \(9999999999999,\)",
            ),
            (("2.npy", npy(np.ones(3, np.float32))), r"sample 2: column 'npy'.* shape \(3,\)"),
            (("2.jpg", JPEG[:-20]), "sample 2: column 'jpg'"),
            (("1.jpg", JPEG), r"member 1\.jpg: is a second 'jpg' of its sample"),
        ],
    )
    def test_a_bad_member_rejects_its_sample_alone(self, tmp_path: Path, bad: tuple[str, bytes], says: str) -> None:
        good = {"cls": b"1", "txt": b"t", "json": b"1", "npy": npy(np.ones(2, np.float32)), "jpg": JPEG}
        types = {"cls": given_type({"type": "scalar", "dtype": "int64"})}
        types["npy"] = given_type({"type": "tensor", "dtype": "float32", "shape": [2]})
        first = [(f"1.{suffix}", content) for suffix, content in good.items()]
        second = [(f"2.{suffix}", content) for suffix, content in good.items() if f"2.{suffix}" != bad[0]]
        files = [*first, bad, *second] if bad[0].startswith("1") else [*first, *second, bad]
        third = [(f"3.{suffix}", content) for suffix, content in good.items()]
        source = source_of_files(tmp_path, *files, *third, wanted=Wanted(types=types))
        with pytest.raises(CorruptDataError, match=rf"in/x\.tar: {says}"):
            written(source, tmp_path)
        found = written(source, tmp_path, on_error="skip")
        assert [sample["__key__"] for sample in found.samples] == ["2" if bad[0].startswith("1") else "1", "3"]
        assert len(found.rejected) == 1

    def test_of_an_archive_that_is_cut_off_the_whole_samples_are_left(self, tmp_path: Path) -> None:
        """The sample before the cut may lack members, so it goes too."""
        content = tar_of([{"__key__": f"{at}", "txt": f"{at}", "jpg": JPEG} for at in range(6)])
        write_files(tmp_path, {"in/a.tar": content[: content.index(b"4.txt")], "in/b.tar": content})
        for item_bytes in (1, 1 << 20):
            source = WebDataset(root=tmp_path / "in", item_bytes=item_bytes)
            plan = source.plan(None)
            assert plan.rejected is not None
            assert plan.rejected.name == "a.tar"
            with pytest.raises(CorruptDataError, match=r"in/a\.tar: is cut off in member the header after 4\.jpg"):
                written(source, tmp_path)
            found = written(source, tmp_path, on_error="skip")
            assert [sample["txt"] for sample in found.samples] == [*"0123", *"012345"]
            assert [tuple(rejected) for rejected in found.rejected] == [tuple(plan.rejected)]

    def test_an_archive_without_one_whole_sample_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"in/a.tar": b"<html>not found</html>" * 40})
        with pytest.raises(CorruptDataError, match=r"in/a\.tar: has no valid header at its beginning"):
            WebDataset(root=tmp_path / "in").plan(None)

    def test_a_pattern_takes_its_archives_in_its_order(self, tmp_path: Path) -> None:
        for part in (9, 10):
            write_files(tmp_path, {f"in/x-{part}.tar": tar_of([{"__key__": f"{part}", "txt": f"{part}"}])})
        source = WebDataset(root=tmp_path / "in" / "x-{9..10}.tar")
        assert [item.name for item in source.plan(None).items] == ["x-9.tar", "x-10.tar"]
        assert [sample["txt"] for sample in written(source, tmp_path).samples] == ["9", "10"]
        with pytest.raises(FileNotFoundError, match=r"x-11\.tar"):
            WebDataset(root=tmp_path / "in" / "x-{9..11}.tar").plan(None)
