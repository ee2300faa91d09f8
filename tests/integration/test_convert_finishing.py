"""Conversions that come to their end, whatever was in the way: the same bytes from any number of workers and runs,
what goes on and what may not, and samples that are left out.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import fastfeed as ff
from fastfeed.cli.info import examine, report_text
from fastfeed.convert.engine_local import WorkerKind
from fastfeed.convert.job import ConvertOptions, ConvertSummary, Silent, convert, may_be_smaller
from fastfeed.dataset.staging import FolderLock, is_live
from fastfeed.dataset.verify import survey
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.schema import Codec, ColumnType, Schema
from fastfeed.storage.local import LocalStorage
from tests.helpers.conversions import KINDS, all_but_provenance, data_files, manifest_of, write_input
from tests.helpers.image_folders import class_files, encoded, fastfeed, write_files

SCHEMA = {"caption": {"type": "text", "codec": "zstd", "nullable": True}}


def run(source: Path, target: Path, listener: Silent | None = None, **options: Any) -> ConvertSummary:
    options = {"workers": 1, "shard_size": "64KiB", **options}
    return convert(ConvertOptions(source=str(source), destination=str(target), **options), listener)


class InterruptAfter(Silent):
    """Ctrl-C when so many tasks are recorded."""

    def __init__(self, target: Path, tasks: int) -> None:
        self._folder = target / "_feed" / "staging" / "convert"
        self._tasks = tasks
        self.kept_tasks = 0

    def advanced(self, rows: int, size_bytes: int) -> None:
        if len(list(self._folder.glob("task-*.json"))) >= self._tasks:
            raise KeyboardInterrupt

    def kept(self, tasks: int) -> None:
        self.kept_tasks = tasks


def interrupted(source: Path, target: Path, tasks: int = 2, **options: Any) -> None:
    """Leave a conversion unfinished."""
    listener = InterruptAfter(target, tasks)
    with pytest.raises(KeyboardInterrupt):
        run(source, target, listener, **options)
    assert listener.kept_tasks >= tasks


def inodes(target: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in [*target.glob("_feed/staging/convert/*.ffs"), *target.glob("shards/*.ffs")]:
        found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestTheSameBytes:
    def test_from_any_number_of_workers_into_any_place_and_with_an_interruption(
        self, kind: str, tmp_path: Path
    ) -> None:
        source = write_input(kind, tmp_path / "input")
        options: dict[str, Any] = {}
        if kind == "jsonl":
            (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
            options["schema"] = str(tmp_path / "schema.json")
        alone = tmp_path / "one"
        run(source, alone, **options)
        others = [tmp_path / "deep" / "er" / "two", tmp_path / "three", tmp_path / "four"]
        run(source, others[0], workers=2, worker_kind=WorkerKind.THREADS, **options)
        run(source, others[1], workers=3, worker_kind=WorkerKind.PROCESSES, **options)
        interrupted(source, others[2], **options)
        run(source, others[2], workers=3, **options)
        assert len(data_files(alone)) > 3
        if kind == "jsonl":
            schema = ff.open(alone).schema
            assert isinstance(schema, Schema)
            assert schema["caption"].storage is Codec.ZSTD
            assert len(manifest_of(alone).dictionary_sets[0]["caption"]) > 0
        for other in others:
            assert data_files(other) == data_files(alone)
            assert all_but_provenance(manifest_of(other)) == all_but_provenance(manifest_of(alone))

    def test_a_finished_shard_is_not_written_again(self, kind: str, tmp_path: Path) -> None:
        source, target = write_input(kind, tmp_path / "input"), tmp_path / "out"
        interrupted(source, target)
        before = inodes(target)
        assert before
        summary = run(source, target)
        assert summary.resumed_tasks >= 2
        assert {name: inodes(target)[name] for name in before} == before


class TestGoingOn:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        return write_input("parquet", tmp_path / "input")

    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        return tmp_path / "out"

    def test_resume_is_accepted_where_there_is_nothing_to_resume(self, source: Path, target: Path) -> None:
        assert run(source, target, resume=True).converted
        again = run(source, target, resume=True)
        assert (again.converted, again.snapshot) == (False, 1)

    def test_resume_and_overwrite_are_a_contradiction(self, source: Path, target: Path) -> None:
        with pytest.raises(ConfigError, match="choose one"):
            run(source, target, resume=True, overwrite=True)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"limit_rows": 90}, "limit was None and is 90 now"),
            ({"shard_size": "128KiB"}, "shard_size_bytes was 65536 and is 131072 now"),
            ({"check": "decode"}, "check was 'structure' and is 'decode' now"),
            ({"columns": ["id"]}, "columns was"),
        ],
    )
    def test_other_options_into_an_unfinished_conversion_are_an_error_that_names_them(
        self, source: Path, target: Path, options: dict[str, Any], says: str
    ) -> None:
        interrupted(source, target)
        before = inodes(target)
        with pytest.raises(ConfigError, match=rf"holds an unfinished conversion, .*{says}.*--overwrite"):
            run(source, target, **options)
        assert inodes(target) == before

    def test_another_source_is_an_error_that_names_the_first(self, source: Path, target: Path, tmp_path: Path) -> None:
        interrupted(source, target)
        other = write_input("parquet", tmp_path / "other")
        with pytest.raises(ConfigError, match=f"unfinished conversion, made from {source}"):
            run(other, target)

    def test_a_source_that_has_changed_in_between_is_an_error(self, source: Path, target: Path) -> None:
        """The file has the same size: its time says that it is another."""
        interrupted(source, target)
        file = sorted(source.iterdir())[-1]
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        with pytest.raises(ConfigError, match="which has changed since"):
            run(source, target)
        with pytest.raises(ff.DatasetNotFoundError):
            ff.open(target)

    def test_overwrite_throws_the_unfinished_rest_away(self, source: Path, target: Path) -> None:
        interrupted(source, target)
        assert run(source, target, overwrite=True, limit_rows=90).rows == 90
        assert not (target / "_feed" / "staging").exists()

    def test_an_overwriting_conversion_goes_on_with_resume(self, source: Path, target: Path) -> None:
        run(source, target, limit_rows=90)
        listener = InterruptAfter(target, 2)
        with pytest.raises(KeyboardInterrupt):
            run(source, target, listener, overwrite=True)
        summary = run(source, target, resume=True)
        assert summary.resumed_tasks >= 2
        assert (summary.snapshot, summary.rows) == (2, 200)
        assert len(ff.open(target, snapshot=1)) == 90

    def test_a_damaged_shard_or_a_torn_record_is_done_again(self, source: Path, target: Path, tmp_path: Path) -> None:
        run(source, tmp_path / "whole")
        interrupted(source, target, tasks=3)
        staging = target / "_feed" / "staging" / "convert"
        records = sorted(staging.glob("task-*.json"))
        records[0].write_text(records[0].read_text()[:-9])
        shard = staging / f"{json.loads(records[1].read_text().splitlines()[0])['shards'][0][0]}.ffs"
        content = bytearray(shard.read_bytes())
        content[-10] ^= 1
        shard.write_bytes(content)
        summary = run(source, target)
        assert summary.resumed_tasks == len(records) - 2
        assert data_files(target) == data_files(tmp_path / "whole")

    def test_a_torn_identity_means_that_nothing_can_be_used(self, source: Path, target: Path) -> None:
        interrupted(source, target)
        (target / "_feed" / "staging" / "convert" / "conversion.json").write_text('{"identity"')
        assert run(source, target).resumed_tasks == 0

    def test_what_a_killed_run_has_left_after_its_commit_is_cleared_away(self, source: Path, target: Path) -> None:
        interrupted(source, target)
        rest = target / "_feed" / "staging" / "convert"
        shutil.copytree(rest, target.parent / "rest")
        run(source, target)
        shutil.copytree(target.parent / "rest", rest)
        assert not run(source, target).converted
        assert not rest.exists()

    def test_a_running_conversion_is_named_and_verify_tells_it_from_a_dead_one(
        self, source: Path, target: Path
    ) -> None:
        run(source, target)
        staging = target / "_feed" / "staging" / "convert"
        lock = FolderLock.take(staging)
        assert lock is not None
        assert is_live(staging)
        with pytest.raises(ConfigError, match="another conversion into this place is running"):
            run(source, target, overwrite=True)
        assert "that is running" in survey(LocalStorage(target)).findings[0].what
        lock.release()
        assert not is_live(staging)
        assert "killed or interrupted" in survey(LocalStorage(target)).findings[0].what

    def test_a_run_that_ends_before_it_has_finished_anything_leaves_nothing(self, tmp_path: Path) -> None:
        source = write_files(tmp_path / "photos", {"cat/1.jpg": b"no picture"})
        with pytest.raises(CorruptDataError):
            run(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestRejects:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        files = class_files(per_class=30)
        files["cat/005.jpg"] = files["cat/005.jpg"][:-40]
        files["sky/011.webp"] = b"<html>"
        return write_files(tmp_path / "photos", files)

    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        return tmp_path / "out"

    @pytest.fixture
    def converted(self, photos: Path, target: Path) -> Path:
        summary = run(photos, target, on_error="skip", workers=2)
        assert (summary.rows, summary.rejects) == (88, 2)
        return target

    def rejects_file(self, target: Path) -> Path:
        return next((target / "_feed" / "rejects").iterdir())

    def test_they_are_listed_in_row_order_with_name_and_reason(self, converted: Path) -> None:
        lines = [json.loads(line) for line in self.rejects_file(converted).read_text().splitlines()]
        assert [line["name"] for line in lines] == ["cat/005.jpg", "sky/011.webp"]
        assert all(line["why"] for line in lines)
        named = ff.open(converted).metadata and manifest_of(converted).provenance["rejects"]
        assert named["count"] == 2
        assert named["file"] == f"_feed/rejects/{named['xxh3_128']}.jsonl"
        assert named["bytes"] == self.rejects_file(converted).stat().st_size

    def test_any_number_of_workers_lists_the_same(self, photos: Path, converted: Path, tmp_path: Path) -> None:
        run(photos, tmp_path / "one", on_error="skip")
        assert self.rejects_file(tmp_path / "one").read_bytes() == self.rejects_file(converted).read_bytes()
        assert data_files(tmp_path / "one") == data_files(converted)

    def test_info_mentions_them(self, converted: Path) -> None:
        report = examine(ff.open(converted))
        assert report["rejects"]["count"] == 2
        assert "2 samples left out, see _feed/rejects/" in report_text(report)

    def test_verify_misses_a_list_that_is_gone_and_finds_a_changed_one(self, converted: Path) -> None:
        assert survey(LocalStorage(converted)).findings == []
        file = self.rejects_file(converted)
        content = file.read_bytes()
        file.write_bytes(content[:-2] + b"!\n")
        assert "has the hash" in survey(LocalStorage(converted)).findings[0].what
        file.write_bytes(content[:-1])
        assert f"has {len(content) - 1} bytes" in survey(LocalStorage(converted)).findings[0].what
        file.rename(file.with_name("other.jsonl"))
        errors = [finding.what for finding in survey(LocalStorage(converted)).findings]
        assert errors == ["is missing; snapshot 1 names it", "no snapshot names this file"]

    def test_after_a_stop_skip_goes_on_with_what_is_finished(self, photos: Path, target: Path) -> None:
        with pytest.raises(CorruptDataError, match=r"sky/011\.webp|cat/005\.jpg"):
            run(photos, target, workers=1, check="structure", limit_rows=None)
        before = inodes(target)
        summary = run(photos, target, on_error="skip")
        assert summary.rejects == 2
        assert {name: inodes(target)[name] for name in before} == before

    def test_after_skipping_stop_may_not_go_on(self, photos: Path, target: Path) -> None:
        interrupted(photos, target, on_error="skip")
        with pytest.raises(ConfigError, match="on_error was 'skip' and is 'stop' now"):
            run(photos, target)

    def test_an_input_that_was_mended_after_a_stop_is_converted_anew(self, target: Path, tmp_path: Path) -> None:
        files = class_files(per_class=30)
        good = files["sky/011.webp"]
        photos = write_files(tmp_path / "photos", {**files, "sky/011.webp": good[:-9]})
        with pytest.raises(CorruptDataError, match=r"sky/011\.webp"):
            run(photos, target)
        assert (target / "_feed" / "staging" / "convert").exists(), "what is finished waits for --on-error skip"
        write_files(photos, {"sky/011.webp": good})
        assert run(photos, target).rows == 90

    def test_nothing_but_rejects_is_an_error(self, tmp_path: Path, target: Path) -> None:
        photos = write_files(tmp_path / "photos", {"cat/1.jpg": b"no", "cat/2.jpg": b"picture"})
        with pytest.raises(CorruptDataError, match="all 2 samples were rejected"):
            run(photos, target, on_error="skip")

    def test_the_command_says_how_many(self, photos: Path, target: Path) -> None:
        done = fastfeed("convert", photos, target, "--on-error", "skip", "--resume")
        assert done.returncode == 0, done.stderr
        assert "2 samples rejected" in done.stdout


def test_rows_go_into_the_next_shard_where_a_task_is_larger_than_its_plan(tmp_path: Path) -> None:
    """A compressed file is one item, planned by less than it holds."""
    (tmp_path / "in").mkdir()
    lines = "".join(json.dumps({"id": row, "text": f"{row:07}" * 100}) + "\n" for row in range(2000))
    (tmp_path / "in" / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    summary = run(tmp_path / "in", tmp_path / "out", shard_size="128KiB")
    sizes = manifest_of(tmp_path / "out").shards.file_bytes.tolist()
    assert summary.shards > 5
    assert max(sizes) < (128 << 10) * 5 // 4 + (16 << 10)
    assert [sample["id"] for sample in ff.open(tmp_path / "out")] == list(range(2000))


def test_one_image_alone_is_a_dataset(tmp_path: Path) -> None:
    photos = write_files(tmp_path / "photos", {"cat/1.jpg": encoded("chelsea", 0, "JPEG")})
    assert run(photos, tmp_path / "out").rows == 1


@pytest.mark.parametrize(
    ("options", "column", "smaller"),
    [
        ({}, ff.Text(), False),
        ({"image_size": 16}, ff.Image(), True),
        ({}, ff.Text(codec="zstd"), True),
    ],
)
def test_only_what_is_about_as_large_as_its_input_must_find_room_for_it(
    options: dict[str, Any], column: ColumnType, smaller: bool
) -> None:
    wanted = ConvertOptions(source="in", destination="out", **options)
    assert may_be_smaller(wanted, Schema({"value": column})) is smaller
