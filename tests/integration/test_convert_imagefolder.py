"""Image folders into datasets, read back by the reference reader."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastfeed.convert.encoding import encoded_pieces
from fastfeed.convert.imagefolder import ImageFolder
from fastfeed.convert.job import ConvertOptions, ConvertSummary, Silent, convert, require_space
from fastfeed.convert.source import Plan
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.reference import read_dataset
from fastfeed.format.schema import Scalar, Text
from tests.helpers.image_folders import class_files, encoded, write_files


def run(source: Path, target: Path, **options: Any) -> ConvertSummary:
    """Convert in this process."""
    return convert(ConvertOptions(source=str(source), destination=str(target), workers=1, **options))


def manifest(target: Path, snapshot: int = 1) -> Manifest:
    path = target / "_feed" / "manifests" / f"{snapshot:020}.arrow"
    return decode_manifest(memoryview(path.read_bytes()), str(path))


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_files(tmp_path / "photos", class_files())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "photos"


class TestClassFolders:
    def test_rows_are_the_files_in_bytewise_order_with_the_index_of_their_class(
        self, photos: Path, target: Path
    ) -> None:
        files = class_files()
        summary = run(photos, target)
        samples = read_dataset(target)
        assert [sample["path"] for sample in samples] == sorted(files)
        assert [sample["image"] for sample in samples] == [files[path] for path in sorted(files)]
        assert [sample["label"] for sample in samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert manifest(target).metadata == {"classes": ["cat", "coffee", "sky"]}
        assert (summary.rows, summary.snapshot, summary.converted) == (9, 1, True)
        assert list(manifest(target).schema) == ["image", "label", "path"]

    def test_order_is_that_of_the_bytes_of_the_whole_path(self, tmp_path: Path, target: Path) -> None:
        """'-' and '.' come before '/', 'Z' before 'a', and both before 'ä'."""
        picture = encoded("chelsea", 0, "JPEG")
        paths = ["a-b/1.jpg", "a.b/1.jpg", "a/1.jpg", "Z/1.jpg", "ä/1.jpg"]
        run(write_files(tmp_path / "photos", dict.fromkeys(paths, picture)), target)
        assert [sample["path"] for sample in read_dataset(target)] == sorted(paths, key=str.encode)
        assert manifest(target).metadata["classes"] == ["Z", "a", "a-b", "a.b", "ä"]

    def test_extensions_of_any_case_and_files_at_any_depth_are_found(self, tmp_path: Path, target: Path) -> None:
        picture = encoded("chelsea", 0, "JPEG")
        paths = ["cat/deep/er/1.JPG", "cat/2.Jpeg", "cat/3.jpg"]
        run(write_files(tmp_path / "photos", dict.fromkeys(paths, picture)), target)
        assert [sample["path"] for sample in read_dataset(target)] == sorted(paths)

    def test_hidden_names_are_skipped_and_other_files_are_noted(self, photos: Path, target: Path) -> None:
        write_files(
            photos,
            {
                ".cache/x.jpg": b"",
                "cat/.000.jpg": b"",
                "cat/notes.txt": b"",
                "README": b"",
                **{f"sky/{number}.TXT": b"" for number in range(4)},
            },
        )
        summary = run(photos, target)
        assert summary.rows == 9
        assert summary.notes == [
            "left out 1 extensionless file: README",
            "left out 5 .txt files: cat/notes.txt, sky/0.TXT, sky/1.TXT and 2 more",
        ]

    def test_a_class_without_images_keeps_its_index_and_is_noted(self, photos: Path, target: Path) -> None:
        (photos / "bird").mkdir()
        summary = run(photos, target)
        assert manifest(target).metadata["classes"] == ["bird", "cat", "coffee", "sky"]
        assert {sample["label"] for sample in read_dataset(target)} == {1, 2, 3}
        assert summary.notes == ["1 of 4 class folders hold no images, but keep their index: bird"]

    def test_links_to_files_and_folders_are_followed(self, photos: Path, tmp_path: Path, target: Path) -> None:
        elsewhere = write_files(tmp_path / "elsewhere", {"a.jpg": encoded("chelsea", 7, "JPEG")})
        (photos / "dog").symlink_to(elsewhere)
        (photos / "cat" / "linked.jpg").symlink_to(elsewhere / "a.jpg")
        run(photos, target)
        paths = [sample["path"] for sample in read_dataset(target)]
        assert "dog/a.jpg" in paths
        assert "cat/linked.jpg" in paths

    def test_limit_takes_the_first_rows_and_keeps_all_classes(self, photos: Path, target: Path) -> None:
        run(photos, target, limit_rows=2)
        assert [sample["path"] for sample in read_dataset(target)] == ["cat/000.jpg", "cat/001.jpg"]
        assert manifest(target).metadata["classes"] == ["cat", "coffee", "sky"]

    def test_many_shards_hold_the_rows_in_order(self, tmp_path: Path, target: Path) -> None:
        photos = write_files(tmp_path / "photos", class_files(per_class=12))
        summary = run(photos, target, shard_size="64KiB")
        assert summary.shards >= 3
        paths = [sample["path"] for sample in read_dataset(target)]
        assert paths == sorted(paths)
        assert len(paths) == 36


class TestLabelFiles:
    @pytest.fixture
    def scans(self, tmp_path: Path) -> Path:
        return write_files(
            tmp_path / "scans",
            {
                "a.jpg": encoded("chelsea", 0, "JPEG"),
                "sub/b.png": encoded("coffee", 1, "PNG"),
                "c.webp": encoded("rocket", 2, "WEBP"),
            },
        )

    def test_a_csv_in_the_folder_gives_labels_and_typed_columns(self, scans: Path, target: Path) -> None:
        (scans / "labels.csv").write_text(
            "file_name,label,age,score,site\nc.webp,sick,40,,north\na.jpg,well,31,0.5,\n./sub/b.png,sick,7,1,south\n"
        )
        summary = run(scans, target)
        assert summary.seen == "3 images with labels from labels.csv"
        assert summary.notes == []
        assert manifest(target).metadata == {"classes": ["sick", "well"]}
        assert dict(manifest(target).schema) | {"image": None} == {
            "image": None,
            "label": Scalar("int64"),
            "path": Text(),
            "age": Scalar("int64"),
            "score": Scalar("float64", nullable=True),
            "site": Text(nullable=True),
        }
        rows = [{name: value for name, value in sample.items() if name != "image"} for sample in read_dataset(target)]
        assert rows == [
            {"label": 1, "path": "a.jpg", "age": 31, "score": 0.5, "site": None},
            {"label": 0, "path": "c.webp", "age": 40, "score": None, "site": "north"},
            {"label": 0, "path": "sub/b.png", "age": 7, "score": 1.0, "site": "south"},
        ]

    def test_a_jsonl_elsewhere_gives_captions_json_and_no_label(
        self, scans: Path, tmp_path: Path, target: Path
    ) -> None:
        table = tmp_path / "captions.jsonl"
        table.write_text(
            '{"file": "a.jpg", "text": "eine Katze ä", "boxes": [[1, 2]]}\n'
            '{"file": "c.webp", "text": "a rocket", "boxes": null}\n{"file": "sub/b.png", "text": "coffee"}\n'
        )
        run(scans, target, labels=str(table))
        samples = read_dataset(target)
        assert [sample["text"] for sample in samples] == ["eine Katze ä", "a rocket", "coffee"]
        assert [sample["boxes"] for sample in samples] == [[[1, 2]], None, None]
        assert "label" not in manifest(target).schema
        assert manifest(target).metadata == {}

    def test_labels_that_are_numbers_stay_as_they_are(self, scans: Path, target: Path) -> None:
        (scans / "labels.csv").write_text("file,class\na.jpg,30\nc.webp,-1\nsub/b.png,7\n")
        run(scans, target)
        assert [sample["label"] for sample in read_dataset(target)] == [30, -1, 7]
        assert manifest(target).metadata == {}

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("file,label\na.jpg,1\nc.webp,1\n", "has no row for 1 of 3 images: sub/b.png"),
            ("file,label\na.jpg,1\nd.jpg,1\n", "row 1 names 'd.jpg', which is not an image"),
            ("file,label\na.jpg,1\n./a.jpg,1\n", "rows 0 and 1 both name './a.jpg'"),
            ("file,path\na.jpg,1\nc.webp,1\nsub/b.png,2\n", "the column 'path' has a name that fastfeed gives"),
        ],
    )
    def test_a_table_that_does_not_fit_the_folder_is_an_error(
        self, scans: Path, target: Path, text: str, says: str
    ) -> None:
        (scans / "labels.csv").write_text(text)
        with pytest.raises(ConfigError, match=says):
            run(scans, target)
        assert not target.exists()

    def test_two_label_files_need_a_choice(self, scans: Path, target: Path) -> None:
        for name in ("labels.csv", "metadata.jsonl"):
            (scans / name).touch()
        with pytest.raises(ConfigError, match=r"labels\.csv and metadata\.jsonl.*--labels"):
            run(scans, target)


class TestBadInput:
    @pytest.fixture(autouse=True)
    def nothing_remains(self, tmp_path: Path, target: Path) -> Iterator[None]:
        yield
        assert not target.exists()

    @pytest.mark.parametrize("cut", [0, 1, 100, -10])
    def test_a_truncated_image_stops_with_its_name(self, photos: Path, target: Path, cut: int) -> None:
        bad = photos / "coffee" / "001.png"
        bad.write_bytes(bad.read_bytes()[:cut])
        with pytest.raises(CorruptDataError, match=r"coffee/001\.png: "):
            run(photos, target)

    def test_a_file_that_is_no_image_stops_with_its_name(self, photos: Path, target: Path) -> None:
        (photos / "sky" / "page.jpg").write_bytes(b"<html>not found</html>" * 10)
        with pytest.raises(CorruptDataError, match=r"sky/page\.jpg: "):
            run(photos, target)

    def test_decoding_finds_what_the_structure_hides(self, photos: Path, target: Path) -> None:
        """Compressed data that is no zlib stream, under a right checksum of its chunk."""
        bad = photos / "coffee" / "001.png"
        content = bytearray(bad.read_bytes())
        at = content.index(b"IDAT")
        stop = at + 4 + int.from_bytes(content[at - 4 : at], "big")
        content[at + 4 : stop] = bytes(stop - at - 4)
        content[stop : stop + 4] = zlib.crc32(content[at:stop]).to_bytes(4, "big")
        bad.write_bytes(content)
        source = ImageFolder(root=photos)
        plan = source.plan(None)
        encoder = SampleEncoder(plan.schema)
        pieces = encoded_pieces(source, plan.items, encoder, check="structure", on_error="stop")
        assert [piece.rows for piece in pieces if isinstance(piece, EncodedRows)] == [9]
        with pytest.raises(CorruptDataError, match=r"coffee/001\.png: "):
            run(photos, target, check="decode")

    def test_a_folder_without_images(self, tmp_path: Path, target: Path) -> None:
        write_files(tmp_path / "texts", {"a/b.txt": b"x"})
        with pytest.raises(ConfigError, match="has no images"):
            run(tmp_path / "texts", target)

    @pytest.mark.parametrize(
        ("extra", "says"), [({}, "and no class folders"), (class_files(1), "and also class folders")]
    )
    def test_images_without_a_class_or_a_label(
        self, tmp_path: Path, target: Path, extra: dict[str, bytes], says: str
    ) -> None:
        write_files(tmp_path / "flat", {"1.jpg": encoded("chelsea", 0, "JPEG"), **extra})
        with pytest.raises(ConfigError, match=says):
            run(tmp_path / "flat", target)

    def test_a_name_that_is_not_utf8(self, photos: Path, target: Path) -> None:
        with open(os.fsencode(photos) + b"/cat/\xff.jpg", "wb"):
            pass
        with pytest.raises(ConfigError, match=r"not UTF-8: b'\\xff\.jpg'"):
            run(photos, target)

    def test_a_broken_link(self, photos: Path, target: Path) -> None:
        (photos / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
        with pytest.raises(FileNotFoundError, match=r"cat/gone\.jpg"):
            run(photos, target)

    def test_a_link_that_leads_back_up(self, photos: Path, target: Path) -> None:
        (photos / "cat" / "loop").symlink_to(photos)
        with pytest.raises(ConfigError, match="link to a folder above it"):
            run(photos, target)

    def test_a_pipe_that_is_named_like_an_image(self, photos: Path, target: Path) -> None:
        os.mkfifo(photos / "cat" / "pipe.jpg")
        with pytest.raises(ConfigError, match="no regular file"):
            run(photos, target)

    def test_a_source_that_is_a_file(self, photos: Path, target: Path) -> None:
        with pytest.raises(ConfigError, match=r"is no tar, Parquet or JSONL file.*no folder of images"):
            run(photos / "cat" / "000.jpg", target)
        with pytest.raises(ConfigError, match="imagefolder reads a folder"):
            run(photos / "cat" / "000.jpg", target, kind="imagefolder")

    def test_a_source_that_is_not_there(self, tmp_path: Path, target: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            run(tmp_path / "nowhere", target)

    @pytest.mark.parametrize(
        "options",
        [
            {"shard_size": "1KiB"},
            {"shard_size": "many"},
            {"shard_size": "1TiB"},
            {"check": "hope"},
            {"kind": "floppy"},
            {"limit_rows": 0},
        ],
    )
    def test_options_that_make_no_sense(self, photos: Path, target: Path, options: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=str(next(iter(options.values())))):
            run(photos, target, **options)

    @pytest.mark.parametrize("workers", [0, 257])
    def test_a_number_of_workers_that_makes_no_sense(self, workers: int) -> None:
        with pytest.raises(ConfigError, match="between 1 and 256"):
            ConvertOptions(source="a", destination="b", workers=workers)

    @pytest.mark.parametrize("change", [b"longer", b""])
    def test_a_file_that_changes_while_it_is_converted(self, photos: Path, change: bytes) -> None:
        source = ImageFolder(root=photos)
        plan = source.plan(None)
        file = photos / "cat" / "000.jpg"
        file.write_bytes(file.read_bytes() + change if change else b"")
        with pytest.raises(ConfigError, match="when the folder was scanned"):
            list(source.batches(plan.schema, plan.items))

    def test_a_disk_that_is_too_small_is_found_out_at_the_start(self, target: Path) -> None:
        with pytest.raises(OSError, match="needs about"):
            require_space(target, 1 << 60)

    def test_an_interruption_while_shards_are_written(self, photos: Path, target: Path) -> None:
        class Interrupting(Silent):
            def advanced(self, rows: int, size_bytes: int) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(ConvertOptions(source=str(photos), destination=str(target), workers=1), Interrupting())


class TestTheDestination:
    def test_the_same_command_again_does_nothing(self, photos: Path, target: Path) -> None:
        first = run(photos, target)
        before = files_in(target)
        again = run(photos, target)
        assert (again.converted, again.snapshot, again.rows) == (False, 1, first.rows)
        assert files_in(target) == before

    def test_another_check_is_still_the_same_conversion(self, photos: Path, target: Path) -> None:
        run(photos, target)
        assert not run(photos, target, check="decode").converted

    def test_other_options_are_an_error_that_names_them(self, photos: Path, target: Path) -> None:
        run(photos, target)
        with pytest.raises(ConfigError, match=r"limit was None and is 3 now.*--overwrite"):
            run(photos, target, limit_rows=3)

    def test_another_source_is_an_error_that_names_it(self, photos: Path, target: Path, tmp_path: Path) -> None:
        run(photos, target)
        other = write_files(tmp_path / "other", class_files())
        with pytest.raises(ConfigError, match=r"made from .*photos"):
            run(other, target)

    def test_a_source_that_has_changed_is_an_error(self, photos: Path, target: Path) -> None:
        run(photos, target)
        write_files(photos, {"cat/new.jpg": encoded("chelsea", 50, "JPEG")})
        with pytest.raises(ConfigError, match=r"9 items of this input, which has changed since \(10 now\)"):
            run(photos, target)

    def test_overwrite_gives_a_new_snapshot_with_the_new_shards_only(self, photos: Path, target: Path) -> None:
        run(photos, target)
        write_files(photos, {"cat/new.jpg": encoded("chelsea", 50, "JPEG")})
        summary = run(photos, target, overwrite=True)
        assert (summary.snapshot, summary.rows) == (2, 10)
        assert len(read_dataset(target)) == 10
        assert len(read_dataset(target, snapshot=1)) == 9

    def test_provenance_says_who_when_and_from_what(self, photos: Path, target: Path) -> None:
        noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
        convert(ConvertOptions(source=str(photos), destination=str(target), workers=1), clock=lambda: noon)
        found = manifest(target).provenance
        assert found["tool"].startswith("fastfeed ")
        assert found["source"] == str(photos)
        assert found["created"] == "2026-01-02T12:00:00+00:00"
        assert found["input"]["items"] == 9
        assert found["options"] == {
            "from": "imagefolder",
            "labels": None,
            "shard_size_bytes": 1 << 28,
            "limit": None,
            "on_error": "stop",
        }

    def test_a_place_inside_the_source_is_refused(self, photos: Path) -> None:
        before = files_in(photos)
        with pytest.raises(ConfigError, match="lies in the source"):
            run(photos, photos / "out")
        assert files_in(photos) == before

    def test_a_folder_of_other_things_is_refused(self, photos: Path, target: Path) -> None:
        write_files(target, {"thesis.tex": b"x"})
        with pytest.raises(ConfigError, match="not empty and holds no dataset"):
            run(photos, target)
        assert files_in(target) == ["thesis.tex"]

    def test_a_file_is_refused(self, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="is a file"):
            run(photos, tmp_path / "file")

    def test_a_failure_beside_an_older_snapshot_leaves_that_as_it_was(self, photos: Path, target: Path) -> None:
        run(photos, target)
        before = files_in(target)
        (photos / "cat" / "bad.jpg").write_bytes(b"no")
        with pytest.raises(CorruptDataError):
            run(photos, target, overwrite=True)
        assert files_in(target) == before

    def test_a_listener_hears_of_the_plan_and_of_every_row(self, photos: Path, target: Path) -> None:
        class Counting(Silent):
            rows = shards = items = 0

            def planned(self, plan: Plan, task_count: int) -> None:
                self.shards, self.items = task_count, len(plan.items)

            def advanced(self, rows: int, size_bytes: int) -> None:
                assert size_bytes > 0
                self.rows += rows

        heard = Counting()
        convert(ConvertOptions(source=str(photos), destination=str(target), workers=1), heard)
        assert (heard.items, heard.shards, heard.rows) == (9, 1, 9)
