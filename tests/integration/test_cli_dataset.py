"""`info`, `verify`, `preview`, `bench` and `doctor` on real datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.cli.main import main
from fastfeed.convert.job import ConvertOptions, convert
from tests.helpers.damage import flip
from tests.helpers.image_folders import class_files, write_files


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 images in some shards of 64 KiB."""
    folder = tmp_path_factory.mktemp("datasets")
    photos = write_files(folder / "photos", class_files(per_class=6))
    convert(ConvertOptions(source=str(photos), destination=str(folder / "out"), workers=1, shard_size="64KiB"))
    return folder / "out"


@pytest.fixture
def dataset(original: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "dataset"))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One column of most kinds, with nulls and a zstd column."""
    folder = tmp_path_factory.mktemp("mixed") / "out"
    schema = ff.Schema(
        {
            "text": ff.Text(codec="zstd"),
            "score": ff.Scalar("float16", nullable=True),
            "ok": ff.Scalar("bool"),
            "vector": ff.Tensor("float32", (2, 3)),
            "boxes": ff.Array("int16", (None, 4)),
            "meta": ff.Json(),
            "sound": ff.Bytes(),
        }
    )
    with ff.DatasetWriter(folder, schema) as writer:
        for row in range(20):
            writer.write(
                {
                    "text": f"row {row} says the same as all others do",
                    "score": None if row == 3 else row / 2,
                    "ok": row % 2 == 0,
                    "vector": np.full((2, 3), row, np.float32),
                    "boxes": np.ones((row, 4), np.int16),
                    "meta": {"row": row},
                    "sound": bytes([row]),
                }
            )
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "out"
    with ff.TokenWriter(folder, dtype="uint16") as writer:
        for length in (100, 0, 900):
            writer.write(np.arange(length, dtype=np.uint16))
    return folder


def run_json(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> Any:
    assert main([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


class TestInfo:
    def test_says_what_was_written(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        report = run_json(capsys, "info", original)
        assert (report["rows"], report["snapshot"], report["snapshots"], report["layout"]) == (18, 1, [1], "rows")
        assert report["bytes"] == sum(path.stat().st_size for path in (original / "shards").iterdir())
        assert report["metadata"] == {"classes": ["cat", "coffee", "sky"]}
        assert report["provenance"]["command"] == "convert"
        assert report["schema"]["label"] == {"kind": "scalar", "dtype": "int64", "codec": "raw", "nullable": False}
        assert report["statistics"]["lanes"]["label"] == {"min": 0, "max": 2, "mean": 1.0, "nulls": 0}
        assert report["statistics"]["lanes"]["image.width"]["max"] == 96

    def test_shows_every_kind_of_column_to_people(self, mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(mixed)]) == 0
        out = capsys.readouterr().out
        for line in (
            "vector  tensor float32 2x3",
            "boxes   array int16 ?x4",
            "score   scalar float16 nullable",
            "1 null",
        ):
            assert line in out
        assert "text    text zstd" in out

    def test_of_a_token_stream(self, tokens: Path, capsys: pytest.CaptureFixture[str]) -> None:
        report = run_json(capsys, "info", tokens)
        assert (report["layout"], report["rows"], report["tokens"], report["statistics"]) == ("stream", 3, 1000, None)
        assert main(["info", str(tokens)]) == 0
        assert "3 documents, 1,000 tokens" in capsys.readouterr().out

    def test_of_nothing_is_not_found(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_json(capsys, "info", tmp_path / "none", code=4)["error"]["type"] == "DatasetNotFoundError"

    def test_of_a_snapshot_that_is_not_there(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(original), "--snapshot", "9"]) == 4
        assert "no snapshot 9" in capsys.readouterr().err

    def test_quiet_says_nothing(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info", str(original), "--quiet"]) == 0
        assert capsys.readouterr().out == ""

    def test_damaged_lanes_are_corrupt_data(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shard = shards_of(dataset)[0]
        content = bytearray(shard.read_bytes())
        content[content.index(b"ARROW1") + 64] ^= 1
        shard.write_bytes(content)
        assert main(["info", str(dataset)]) == 3
        assert str(shard) in capsys.readouterr().err


def shards_of(dataset: Path) -> list[Path]:
    return sorted((dataset / "shards").iterdir())


class TestVerify:
    def test_a_whole_dataset_has_no_findings(
        self, original: Path, mixed: Path, tokens: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = run_json(capsys, "verify", original, "--strict", "--workers", "2")
        assert report["findings"] == []
        assert (report["rows"], report["snapshots"]) == (18, [1])
        assert report["bytes"] == sum(path.stat().st_size for path in shards_of(original))
        for other in (mixed, tokens):
            assert main(["verify", str(other)]) == 0
            assert capsys.readouterr().out.rstrip().endswith("all checksums fit")

    def test_a_flipped_bit_is_found_with_file_shard_and_row(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shard = shards_of(dataset)[0]
        flip(shard, 4096 + 40)
        report = run_json(capsys, "verify", dataset, code=3)
        rows = [finding for finding in report["findings"] if finding["row"] == 0]
        assert rows
        assert (rows[0]["file"], rows[0]["shard"], rows[0]["severity"]) == (str(shard), shard.stem, "error")
        assert main(["verify", str(dataset), "--quiet"]) == 3
        assert f"error: {shard}: row 0: " in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("pattern", "at"), [("_feed/manifests/*", 300), ("_feed/index/*", 300), ("shards/*", 10), ("shards/*", -70)]
    )
    def test_a_flipped_bit_anywhere_is_found(
        self, dataset: Path, pattern: str, at: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = min(dataset.glob(pattern))
        flip(file, at)
        report = run_json(capsys, "verify", dataset, code=3)
        assert any(finding["file"].endswith(file.name) for finding in report["findings"])

    def test_missing_and_truncated_files_are_errors(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = shards_of(dataset)[:2]
        first.unlink()
        second.write_bytes(second.read_bytes()[:-1000])
        findings = run_json(capsys, "verify", dataset, code=3)["findings"]
        assert [finding["what"] for finding in findings if finding["file"] == str(first)] == [
            "is missing; a snapshot names it"
        ]
        assert [finding for finding in findings if finding["file"] == str(second)]

    def test_a_missing_index_file_is_an_error(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        index = min((dataset / "_feed" / "index").iterdir())
        index.unlink()
        findings = run_json(capsys, "verify", dataset, code=3)["findings"]
        assert "is missing; snapshot 1 names it" in findings[0]["what"]

    def test_an_unreadable_shard_does_not_end_the_search(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first, second = shards_of(dataset)[:2]
        first.unlink()
        first.mkdir()
        flip(second, 5000)
        findings = run_json(capsys, "verify", dataset, code=3)["findings"]
        assert any(finding["file"] == str(first) and "cannot be read" in finding["what"] for finding in findings)
        assert any(finding["file"] == str(second) for finding in findings)

    def test_files_that_no_snapshot_names_are_warnings_and_errors_when_strict(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_files(
            dataset,
            {f"shards/{'0' * 32}.ffs": b"x", f"_feed/index/{'0' * 32}.arrow": b"x", "_feed/staging/1-2/s": b"x"},
        )
        report = run_json(capsys, "verify", dataset)
        assert [finding["severity"] for finding in report["findings"]] == ["warning"] * 3
        assert (report["errors"], report["warnings"]) == (0, 3)
        assert main(["verify", str(dataset), "--strict"]) == 3
        out = capsys.readouterr().out
        assert f"warning: shards/{'0' * 32}.ffs: no snapshot names this file" in out
        assert out.rstrip().endswith("0 errors, 3 warnings")

    def test_a_manifest_under_another_number_is_an_error(
        self, dataset: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifests = dataset / "_feed" / "manifests"
        shutil.copy(manifests / f"{1:020}.arrow", manifests / f"{2:020}.arrow")
        findings = run_json(capsys, "verify", dataset, code=3)["findings"]
        assert findings[0]["what"] == "says that it is snapshot 1"

    def test_one_snapshot_can_be_verified_alone(self, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_json(capsys, "verify", dataset, "--snapshot", "1")["snapshots"] == [1]
        assert main(["verify", str(dataset), "--snapshot", "2"]) == 4


class TestPreview:
    def test_shows_rows_with_class_names(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["preview", str(original), "0", "-1"]) == 0
        out = capsys.readouterr().out
        assert "row 0" in out
        assert "row 17" in out
        assert "JPEG 96 x 72" in out
        assert "2 (sky)" in out

    def test_shows_rows_also_when_quiet(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["preview", str(original), "0", "--quiet"]) == 0
        assert "row 0" in capsys.readouterr().out

    def test_json_describes_images_and_arrays(
        self, original: Path, mixed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (sample,) = run_json(capsys, "preview", original, "3", "--columns", "image,label")["samples"]
        assert sample["row"] == 3
        assert sample["values"]["label"] == 0
        assert sample["values"]["image"]["encoding"] == "JPEG"
        samples = run_json(capsys, "preview", mixed)["samples"]
        assert [sample["row"] for sample in samples] == [0, 1, 2, 3]
        assert samples[3]["values"]["score"] is None
        assert samples[3]["values"]["meta"] == {"row": 3}
        assert samples[3]["values"]["boxes"]["shape"] == [3, 4]

    def test_json_is_json_whatever_the_columns_hold(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        schema = ff.Schema({"row": ff.Scalar("float64"), "x": ff.Tensor("float32", (2,))})
        with ff.DatasetWriter(tmp_path / "odd", schema) as writer:
            writer.write({"row": float("nan"), "x": [float("inf"), 1]})
        for command in ("preview", "info"):
            assert main([command, str(tmp_path / "odd"), "--json"]) == 0
            text = capsys.readouterr().out
            assert "NaN" not in text
            assert "Infinity" not in text
        (sample,) = run_json(capsys, "preview", tmp_path / "odd")["samples"]
        assert sample["row"] == 0
        assert sample["values"]["row"] is None
        assert sample["values"]["x"]["begins"] == [None, 1]

    def test_of_a_token_stream_shows_documents(self, tokens: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["preview", str(tokens)]) == 0
        assert "uint16 [900]: 0, 1, 2" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["18"], ["-19"], ["--columns", "picture"]])
    def test_what_is_not_there_is_a_usage_error(
        self, original: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["preview", str(original), *arguments]) == 2
        assert capsys.readouterr().err.startswith("fastfeed: error: ")


class TestBench:
    def test_measures_images(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ("bench", original, "--seconds", "0.2", "--batch-size", "6", "--threads", "1", "--image-size", "32")
        report = run_json(capsys, *arguments)
        assert report["samples_per_s"] > 0
        assert (report["batch_size"], report["threads"], report["image_size"]) == (6, 1, 32)
        assert "decode" in {each["stage"] for each in report["stages"]}
        assert [(rung["rung"], rung["threads"]) for rung in report["ladder"]] == [("stored bytes", 1), ("samples", 1)]
        assert report["step_ms"] == pytest.approx(6000 / report["samples_per_s"], rel=0.01)
        assert report["in_memory"] is None or report["in_memory"] > 0.9  # None: not every file system tells
        assert report["bound_by"]
        assert report["changes"]

    def test_measures_several_numbers_of_threads_and_a_cold_start_and_draws_them(
        self, original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        picture = tmp_path / "bench.png"
        report = run_json(capsys, "bench", original, "--seconds", "0.1", "--batch-size", "6", "--threads", "2,1",
                          "--cold", "--plot", picture)
        assert [rung["threads"] for rung in report["ladder"]] == [1, 2, 1]
        assert (report["threads"], report["cold"]) == (1, True)
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert main(["bench", str(original), "--seconds", "0.1", "--plot", str(tmp_path / "no" / "a.png")]) == 2
        assert "there is no folder" in capsys.readouterr().err

    def test_measures_other_data_and_tokens(
        self, mixed: Path, tokens: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", str(mixed), "--seconds", "0.1"]) == 0
        said = capsys.readouterr().out
        assert "every training step that takes longer than" in said
        assert "what helps" in said
        report = run_json(capsys, "bench", tokens, "--seconds", "0.1", "--window", "100")
        assert (report["batch_size"], report["image_size"]) == (10, None)

    def test_tells_how_well_a_dataset_is_shuffled(self, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
        report = run_json(capsys, "bench", original, "--shuffle-quality", "--batch-size", "4", "--classes", "3")
        assert (report["shuffle"], report["batch_size"], report["classes"]) == ("window", 4, 3)
        assert 0.5 < report["class_distance"]["median"] < 1.5
        assert report["storage"]["windows_per_chunk"] == 1.0

    def test_takes_the_classes_of_a_label(
        self, original: Path, mixed: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        quality = ("bench", str(original), "--shuffle-quality", "--batch-size", "6", "--label")
        labels = run_json(capsys, *quality, "label")
        assert labels["classes"] == len(set(ff.open(original).lane("label").tolist()))
        assert 0.5 < labels["class_distance"]["median"] < 1.5
        assert main([*quality, "label"]) == 0
        assert "classes by label" in capsys.readouterr().out
        assert main(["bench", str(mixed), "--shuffle-quality", "--label", "score"]) == 2
        assert "its values are float16, and no classes" in capsys.readouterr().err
        assert run_json(capsys, "bench", mixed, "--shuffle-quality", "--label", "ok")["classes"] == 2

    def test_tells_how_well_a_dataset_that_is_described_would_be_shuffled(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        described = ["bench", "--shuffle-quality", "--rows", "100000", "--row-bytes", "100000"]
        assert main(described) == 0
        said = capsys.readouterr().out
        assert "100,000 of 100,000 bytes, sorted by 100 classes" in said
        assert "window, 1,024 blocks of 41 rows" in said
        assert " x the mean in 2 steps" in said
        full = run_json(capsys, *described, "--shuffle", "full")
        assert (full["shuffle"], full["storage"]["steady_peak"]) == ("full", None)
        sorted_rows = run_json(capsys, *described, "--shuffle", "none", "--shuffle-window", "1")
        assert sorted_rows["class_distance"]["median"] > 3
        assert main([*described, "--quiet"]) == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "give the folder of the dataset to feed"),
            (["a", "--threads", "1,0"], "'0' is not a whole number"),
            (["--shuffle-quality", "--rows", "9", "--row-bytes", "9", "--plot", "a.png"], "measures nothing"),
            (["--classes", "3"], "--classes belongs to --shuffle-quality"),
            (["--shuffle-window", "3"], "--shuffle-window belongs to --shuffle-quality"),
            (["--shuffle-quality", "--label", "label", "--rows", "9"], "--label tells the classes"),
            (["somewhere", "--shuffle-quality", "--label", "a", "--classes", "2"], "--label tells the classes"),
            (["--shuffle-quality"], "or describe one by --rows and --row-bytes"),
            (["--shuffle-quality", "--rows", "9"], "or describe one by --rows and --row-bytes"),
            (["--shuffle-quality", "--rows", "1", "--row-bytes", "9"], "one row has no order"),
            (["somewhere", "--shuffle-quality", "--rows", "9"], "leave them out, or the folder"),
        ],
    )
    def test_options_that_mean_nothing_together_are_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_of_nothing_to_feed_is_an_error(self, tokens: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", str(tokens), "--window", "5000"]) == 2
        assert "no samples" in capsys.readouterr().err


class TestDoctor:
    def test_reports_this_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        report = run_json(capsys, "doctor")
        assert report["cores"]["usable"] >= 1
        assert set(report["codecs"].values()) == {"works"}
        assert report["crc32c"]
        assert report["libraries"]["pyarrow"] != "missing"
        assert {disk["role"] for disk in report["disks"]} == {"cache", "working folder"}

    def test_speaks_to_people_and_is_quiet_when_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor"]) == 0
        out = capsys.readouterr().out
        assert "io_uring" in out
        assert "lacks" in out
        assert main(["doctor", "--quiet"]) == 0
        assert capsys.readouterr().out == ""
