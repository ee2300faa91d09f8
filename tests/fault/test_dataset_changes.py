"""Datasets that several processes change, and that lose processes at any moment.

By default every third crash point and a few rounds of writers that commit at once. All points, and more rounds:
FASTFEED_CRASH_EVERY=1 FASTFEED_APPEND_ROUNDS=200 python -m pytest --timeout=0 tests/fault/test_dataset_changes.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fastfeed as ff
from fastfeed.dataset.folder import snapshot_numbers
from fastfeed.dataset.verify import Severity, read_shards, survey
from fastfeed.format import reference
from fastfeed.storage.local import LocalStorage
from tests.helpers.changing_program import ROWS_A_ROUND
from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT

EVERY = int(os.environ.get("FASTFEED_CRASH_EVERY", "3"))
ROUNDS = int(os.environ.get("FASTFEED_APPEND_ROUNDS", "10"))
SCHEMA = ff.Schema({"id": ff.Scalar("int64"), "blob": ff.Bytes()})


def write(place: Path, *numbers: int, **options: Any) -> None:
    with ff.DatasetWriter(place, SCHEMA, **options) as writer:
        for number in numbers:
            writer.write({"id": number, "blob": b"x"})


def ids(place: Path, snapshot: int | None = None) -> list[int]:
    found = [one["id"] for one in ff.open(place, snapshot=snapshot)]
    assert [one["id"] for one in reference.read_dataset(place, snapshot)] == found
    return found


def require_whole(place: Path) -> None:
    found = survey(LocalStorage(place))
    findings = [*found.findings, *(each for _, some in read_shards(found, 1) for each in some)]
    assert [each for each in findings if each.severity is Severity.ERROR] == []


@contextmanager
def program(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.helpers.changing_program", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, env=unmeasured_environment(), text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        yield process
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def heard(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_of_processes_that_append_at_the_same_moment_all_succeed(tmp_path: Path) -> None:
    write(tmp_path, 0)
    committed = {}
    with program("append", tmp_path, 1_000) as first, program("append", tmp_path, 2_000) as second:
        for number in range(ROUNDS):
            for process in (first, second):
                tell(process)
            assert [heard(process) for process in (first, second)] == ["ready", "ready"]
            for process in (first, second):  # both are told to commit before either is listened to
                tell(process)
            for process, start in ((first, 1_000), (second, 2_000)):
                at = start + number * ROWS_A_ROUND
                committed[heard(process)] = list(range(at, at + ROWS_A_ROUND))
    assert sorted(committed) == list(range(2, 2 + 2 * ROUNDS))
    rows = [0]
    for snapshot in sorted(committed):
        rows += committed[snapshot]
        assert [one["id"] for one in ff.open(tmp_path, snapshot=snapshot)] == rows
    assert ids(tmp_path) == rows
    require_whole(tmp_path)
    assert ff.gc(tmp_path, older_than=0).removed == []


def test_a_reader_in_another_process_is_not_disturbed(tmp_path: Path) -> None:
    write(tmp_path, *range(5))
    ff.delete(tmp_path, [1])
    with program("hold", tmp_path) as reader:
        assert heard(reader) == "ready"
        write(tmp_path, 7, overwrite=True)
        ff.delete(tmp_path, [0])
        report = ff.gc(tmp_path, older_than=0, keep_snapshots=1, delete=True)
        assert (report.snapshots_held, report.snapshots_dropped) == ([2], [1, 3])
        tell(reader)
        assert heard(reader) == [[0, 2, 3, 4], [0, 2, 3, 4]]
    assert ff.gc(tmp_path, older_than=0, keep_snapshots=1, delete=True).snapshots_dropped == [2]
    assert ids(tmp_path) == []


def crashed(tmp_path: Path, change: str) -> list[Path]:
    """The folders that are left where `change` was killed, one a crash point."""
    before = tmp_path / "before"
    write(before / "a", 77)
    write(before / "a", *range(4), overwrite=True)
    write(before / "a", 10, append=True)
    ff.delete(before / "a", [1])
    write(before / "b", 30, 31)
    command = [sys.executable, "-m", "tests.helpers.crash_points", change, before, tmp_path / "after", EVERY]
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=unmeasured_environment(), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tmp_path / "after" / point for point in done.stdout.split()]


OLD = [0, 2, 3, 10]


@pytest.mark.parametrize(("change", "new"), [("append", [*OLD, 20, 21, 22]), ("delete", [2, 10])])
def test_a_change_that_is_killed_is_whole_or_nothing_and_in_nobodys_way(
    tmp_path: Path, change: str, new: list[int]
) -> None:
    seen = set()
    for place in crashed(tmp_path, change):
        found = ids(place / "a")
        seen.add(tuple(found))
        assert ids(place / "a", 4) == OLD
        require_whole(place / "a")
        write(place / "a", 50, append=True)
        ff.gc(place / "a", older_than=0, delete=True)
        assert ids(place / "a") == [*found, 50]
        assert survey(LocalStorage(place / "a")).findings == []
        assert not (place / "a" / "_feed" / "staging").exists()
    assert seen <= {tuple(OLD), tuple(new)}
    assert tuple(OLD) in seen


def test_a_merge_that_is_killed_is_whole_or_nothing_and_in_no_sources_way(tmp_path: Path) -> None:
    for place in crashed(tmp_path, "merge"):
        committed = bool(snapshot_numbers(LocalStorage(place / "c")))
        if committed:
            assert ids(place / "c") == [*OLD, 30, 31]
        write(place / "a", 99, overwrite=True)
        report = ff.gc(place / "a", older_than=0, keep_snapshots=1, delete=True)
        assert (report.referred > 0) == committed
        assert ids(place / "a") == [99]
        assert ff.merge(place / "c", [place / "b"]) == 1 + committed
        assert ids(place / "c") == [*([*OLD, 30, 31] if committed else []), 30, 31]
        ff.gc(place / "c", older_than=0, delete=True)
        require_whole(place / "c")


def test_a_collection_that_is_killed_leaves_what_is_listed_readable(tmp_path: Path) -> None:
    for place in crashed(tmp_path, "gc"):
        numbers = snapshot_numbers(LocalStorage(place / "a"))
        assert numbers == [1, 2, 3, 4][-len(numbers) :]
        assert [len(ids(place / "a", number)) for number in numbers] == [1, 4, 5, 4][-len(numbers) :]
        require_whole(place / "a")
        ff.gc(place / "a", older_than=0, keep_snapshots=1, delete=True)
        assert ids(place / "a") == OLD
        assert survey(LocalStorage(place / "a")).findings == []
