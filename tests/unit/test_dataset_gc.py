"""Collecting: what goes and what stays, what is refused, and that a crash in between leaves a whole dataset."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash

import fastfeed as ff
from fastfeed.cli.main import main
from fastfeed.dataset.folder import REFERRER_FOLDER, manifest_name, snapshot_numbers
from fastfeed.dataset.gc import Collection, GcReport
from fastfeed.dataset.referrers import read_record, record_of
from fastfeed.dataset.staging import Staging
from fastfeed.dataset.verify import survey
from fastfeed.errors import ConfigError, CorruptDataError, DatasetNotFoundError, ExitCode
from fastfeed.format.durations import parse_duration_s
from fastfeed.storage.faulty import FaultyStorage
from fastfeed.storage.local import LocalStorage

NUMBERS = ff.Schema({"id": ff.Scalar("int64"), "blob": ff.Bytes()})
DAY_S = 86_400


def write(place: Path, *numbers: int, **options: Any) -> ff.Dataset:
    """One shard of these rows."""
    with ff.DatasetWriter(place, NUMBERS, **options) as writer:
        for number in numbers:
            writer.write({"id": number, "blob": b"x"})
    return ff.open(place)


def ids(place: Path, snapshot: int | None = None) -> list[int]:
    return [one["id"] for one in ff.open(place, snapshot=snapshot)]


def three_snapshots(place: Path) -> None:
    """Two of them name a shard that the newest does not."""
    write(place, 1, 2)
    write(place, 3, append=True)
    write(place, 4, overwrite=True)


def collect(place: Path, **options: Any) -> GcReport:
    return ff.gc(place, older_than=0, delete=True, **options)


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def names(report: GcReport) -> list[str]:
    return [each.name for each in report.removed]


def make_older(place: Path, seconds: float) -> None:
    for path in [place, *place.rglob("*")]:
        os.utime(path, (time.time() - seconds,) * 2)


class TestWhatGoes:
    def test_nothing_goes_while_snapshots_stay(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        before = files(tmp_path)
        report = collect(tmp_path)
        assert (report.removed, report.snapshots_kept) == ([], [1, 2, 3])
        assert files(tmp_path) == before

    def test_a_dry_run_says_what_would_go_and_changes_nothing(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        before = files(tmp_path)
        dry = ff.gc(tmp_path, older_than=0, keep_snapshots=1)
        assert files(tmp_path) == before
        assert (dry.snapshots_dropped, dry.snapshots_kept, dry.deleted) == ([1, 2], [3], False)
        assert sorted(name.split("/")[0] for name in names(dry)) == ["_feed", "_feed", "shards", "shards"]
        done = collect(tmp_path, keep_snapshots=1)
        assert names(done) == names(dry)
        assert done.bytes == dry.bytes > 8000
        assert files(tmp_path) == sorted({*before} - {*names(done), manifest_name(1), manifest_name(2)})
        assert ids(tmp_path) == [4]
        assert survey(LocalStorage(tmp_path)).findings == []

    def test_snapshots_that_stay_keep_what_they_name(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        collect(tmp_path, keep_snapshots=2)
        assert ids(tmp_path, 2) == [1, 2, 3]
        write(tmp_path, 5, append=True)
        assert snapshot_numbers(LocalStorage(tmp_path)) == [2, 3, 4]

    def test_bitmaps_of_snapshots_that_went_go_too(self, tmp_path: Path) -> None:
        write(tmp_path, 1, 2, 3)
        ff.delete(tmp_path, [0])
        ff.delete(tmp_path, [0])
        assert len(names(collect(tmp_path, keep_snapshots=1))) == 1
        assert ids(tmp_path) == [3]

    def test_what_killed_writers_left_goes_and_what_living_ones_have_stays(self, tmp_path: Path) -> None:
        write(tmp_path, 1)
        storage = LocalStorage(tmp_path)
        living = Staging(storage)
        dead = tmp_path / "_feed" / "staging" / "123-dead"
        dead.mkdir()
        (dead / "shard-000.partial").write_bytes(bytes(1000))
        temporary = tmp_path / "_feed" / "manifests" / f".{2:020d}.arrow.77-0123abcd"
        temporary.write_bytes(b"half")
        unnamed = tmp_path / "shards" / f"{'ab' * 16}.ffs"
        unnamed.write_bytes(b"whole, and never committed")
        somebodys = tmp_path / "shards" / "notes.txt"
        somebodys.write_text("not ours to remove")
        report = collect(tmp_path)
        assert sorted(Path(name).name for name in names(report)) == sorted([dead.name, temporary.name, unnamed.name])
        assert report.bytes == 1000 + 4 + 26
        assert (living.folder.exists(), dead.exists(), somebodys.exists()) == (True, False, True)
        living.remove()

    def test_what_is_younger_stays(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        report = ff.gc(tmp_path, delete=True, keep_snapshots=1)
        assert (report.removed, len(report.young)) == ([], 4)
        make_older(tmp_path, 2 * DAY_S)
        assert ff.gc(tmp_path, older_than="3d").removed == []
        assert len(ff.gc(tmp_path, delete=True).removed) == 4

    def test_rejects_go_with_the_snapshot_whose_provenance_names_them(self, tmp_path: Path) -> None:
        write(tmp_path, 1)
        stray = tmp_path / "_feed" / "rejects" / f"{'cd' * 16}.jsonl"
        stray.parent.mkdir()
        stray.write_text("{}\n")
        assert names(collect(tmp_path)) == [str(stray.relative_to(tmp_path))]

    def test_a_snapshot_that_a_reader_holds_stays_until_it_lets_go(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        held = ff.open(tmp_path, snapshot=1)
        for report in (ff.gc(tmp_path, older_than=0, keep_snapshots=1), collect(tmp_path, keep_snapshots=1)):
            assert (report.snapshots_held, report.snapshots_dropped, report.snapshots_kept) == ([1], [2], [1, 3])
        assert [one["id"] for one in held] == [1, 2]
        del held
        assert collect(tmp_path, keep_snapshots=1).snapshots_dropped == [1]
        assert ids(tmp_path) == [4]

    def test_a_snapshot_without_rows_is_held_like_any_other(self, tmp_path: Path) -> None:
        held = write(tmp_path)
        write(tmp_path, 1, append=True)
        assert collect(tmp_path, keep_snapshots=1).snapshots_held == [1]
        del held
        assert collect(tmp_path, keep_snapshots=1).snapshots_dropped == [1]


class TestReferrers:
    def test_shards_that_a_merged_dataset_names_stay(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        write(tmp_path / "a", 9, overwrite=True)
        report = collect(tmp_path / "a", keep_snapshots=1)
        assert (report.referred, [name for name in names(report) if name.startswith("shards")]) == (1, [])
        assert ids(tmp_path / "c") == [1, 2]
        warnings = [finding.what for finding in survey(LocalStorage(tmp_path / "a")).findings]
        assert [what.partition(";")[2] for what in warnings] == [
            " datasets that were merged from this one may (`fastfeed gc` asks them)"
        ]
        # The merged dataset gives them up: they go, and then the record.
        write(tmp_path / "c", 7, overwrite=True)
        collect(tmp_path / "c", keep_snapshots=1)
        assert [name.split("/")[0] for name in names(collect(tmp_path / "a"))] == ["shards", "_feed"]
        assert list((tmp_path / "a" / REFERRER_FOLDER).iterdir()) == []

    def test_a_referrer_that_cannot_be_asked_stops_everything(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        write(tmp_path / "a", 9, overwrite=True)
        before = files(tmp_path / "a")
        (tmp_path / "c").rename(tmp_path / "moved")
        for delete in (False, True):
            with pytest.raises(ConfigError, match=rf"{tmp_path}/c refers to.*--forget {tmp_path}/c"):
                ff.gc(tmp_path / "a", older_than=0, keep_snapshots=1, delete=delete)
        assert files(tmp_path / "a") == before
        (tmp_path / "c").symlink_to(tmp_path / "moved")  # the remedy that the message names
        assert collect(tmp_path / "a", keep_snapshots=1).referred == 1
        (tmp_path / "c").unlink()
        shutil.rmtree(tmp_path / "moved")
        assert len(names(collect(tmp_path / "a", forget=[tmp_path / "c"]))) == 2
        assert list((tmp_path / "a" / REFERRER_FOLDER).iterdir()) == []

    def test_a_damaged_manifest_of_a_referrer_stops_everything(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        write(tmp_path / "a", 9, overwrite=True)
        (tmp_path / "c" / manifest_name(1)).write_bytes(b"damaged")
        with pytest.raises(ConfigError, match=r"cannot be asked which.*too short"):
            collect(tmp_path / "a", keep_snapshots=1)
        assert ids(tmp_path / "a", 1) == [1, 2]

    def test_a_record_of_a_merge_that_never_committed_is_no_obstacle(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        storage = LocalStorage(tmp_path / "c")
        staging = Staging(storage)  # what a merge has made before it tells its sources
        (tmp_path / "a" / REFERRER_FOLDER).mkdir()
        name, data = record_of(str(tmp_path / "c"))
        (tmp_path / "a" / REFERRER_FOLDER / name).write_bytes(data)
        write(tmp_path / "a", 9, overwrite=True)
        assert len(names(collect(tmp_path / "a", keep_snapshots=1))) == 3  # shard, index file, record
        staging.remove()

    def test_a_damaged_record_is_named(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        write(tmp_path / "a", 9, overwrite=True)
        record = next((tmp_path / "a" / REFERRER_FOLDER).iterdir())
        record.write_bytes(record.read_bytes().replace(b"/c", b"/d"))
        with pytest.raises(CorruptDataError, match=record.name):
            collect(tmp_path / "a", keep_snapshots=1)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "dataset": "x"}', '{"format": 1, "dataset": 3}'])
    def test_what_is_no_record_is_corrupt(self, text: str) -> None:
        name = f"{xxhash.xxh3_128_hexdigest(text.encode())}.json"
        with pytest.raises(CorruptDataError, match="is no record"):
            read_record(memoryview(text.encode()), name)

    def test_nobody_is_asked_where_no_shard_could_go(self, tmp_path: Path) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        shutil.rmtree(tmp_path / "c")
        assert collect(tmp_path / "a").removed == []


class TestFailures:
    @pytest.mark.parametrize("how", ["b", "a"])
    @pytest.mark.parametrize("at", range(6))
    def test_a_crash_at_any_removal_leaves_a_whole_dataset(self, tmp_path: Path, at: int, how: str) -> None:
        three_snapshots(tmp_path)
        storage = LocalStorage(tmp_path)
        faulty = FaultyStorage(storage, {"remove": "." * at + how})
        with pytest.raises(OSError, match="Input/output error"):
            Collection(faulty, time.time() + 1, set(), delete=True).run(1)
        for number in snapshot_numbers(storage):  # whatever is listed can be read
            assert ids(tmp_path, number) in ([1, 2], [1, 2, 3], [4])
        removed = [name for operation, name in faulty.calls if operation == "remove"]
        assert removed[:2] == [manifest_name(1), manifest_name(2)][: at + 1]
        assert collect(tmp_path, keep_snapshots=1).snapshots_kept == [3]
        assert ids(tmp_path) == [4]
        assert survey(storage).findings == []

    def test_a_manifest_that_stays_and_cannot_be_read_stops_everything(self, tmp_path: Path) -> None:
        three_snapshots(tmp_path)
        before = files(tmp_path)
        for number in (3, 2):
            path = tmp_path / manifest_name(number)
            whole = path.read_bytes()
            path.write_bytes(whole[:-1])
            with pytest.raises(CorruptDataError, match=path.name):
                collect(tmp_path, keep_snapshots=2)
            assert files(tmp_path) == before
            path.write_bytes(whole)
        (tmp_path / manifest_name(1)).write_bytes(b"damaged")  # one that goes need not be read
        assert collect(tmp_path, keep_snapshots=2).snapshots_dropped == [1]

    def test_arguments_that_make_no_sense_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetNotFoundError):
            ff.gc(tmp_path)
        write(tmp_path, 1)
        with pytest.raises(ConfigError, match="at least the newest stays"):
            ff.gc(tmp_path, keep_snapshots=0)
        for span in ("a week", "-1h", -1, float("nan"), True):
            with pytest.raises(ConfigError, match="older_than"):
                ff.gc(tmp_path, older_than=span)
        assert [parse_duration_s(span, "x") for span in ("90", "1.5m", "2 h", "1d", 7)] == [90, 90, 7200, 86400, 7]


class TestCommand:
    def test_it_shows_first_and_removes_when_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        three_snapshots(tmp_path)
        options = [str(tmp_path), "--keep-snapshots", "1", "--older-than", "0"]
        assert main(["gc", *options]) == 0
        shown = capsys.readouterr().out
        assert "would remove shards/" in shown
        assert "would remove 1, 2" in shown
        assert "nothing was changed; --delete removes" in shown
        assert main(["gc", *options, "--delete", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["deleted"], report["snapshots_dropped"], len(report["removed"])) == (True, [1, 2], 4)
        assert report["bytes"] == sum(each["bytes"] for each in report["removed"])
        assert main(["gc", *options, "--quiet"]) == 0
        assert capsys.readouterr().out == ""

    def test_it_says_what_stays_and_why(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        held = write(tmp_path / "a", 9, overwrite=True)
        write(tmp_path / "a", 8, overwrite=True)
        assert main(["gc", str(tmp_path / "a"), "--keep-snapshots", "1"]) == 0
        shown = capsys.readouterr().out
        why = {
            "held": "snapshots kept, readers have them or may have: 2",
            "young": "1 file kept",
            "referred": "1 shard kept",
        }
        for word, text in why.items():
            assert f"{word:<9}  {text}" in shown
        assert held.snapshot == 2

    def test_a_referrer_that_is_gone_is_a_usage_error(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(tmp_path / "a", 1, 2)
        ff.merge(tmp_path / "c", [tmp_path / "a"])
        write(tmp_path / "a", 9, overwrite=True)
        shutil.rmtree(tmp_path / "c")
        assert main(["gc", str(tmp_path / "a"), "--keep-snapshots", "1"]) == ExitCode.USAGE
        assert "--forget" in capsys.readouterr().err
        assert main(["gc", str(tmp_path / "a"), "--keep-snapshots", "1", "--forget", str(tmp_path / "c")]) == 0
