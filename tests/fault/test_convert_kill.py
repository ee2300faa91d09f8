"""Conversions that are killed, interrupted or out of space, as real processes, and go on by the same command.

A long run: python -m tests.fault.test_convert_kill COUNT [SEED]
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastfeed as ff
from tests.helpers.image_folders import class_files, fastfeed, write_files
from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT

PER_CLASS = 48
# A run is killed at most so long after it has begun to write; it takes about as long.
RANDOM_DELAY_MAX_S = 0.25
KILLS = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About fifteen tasks of 64 KiB."""
    return write_files(tmp_path_factory.mktemp("input") / "photos", class_files(per_class=PER_CLASS))


@pytest.fixture(scope="module")
def wanted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Shards and index of a conversion that nobody disturbed."""
    target = tmp_path_factory.mktemp("undisturbed") / "set"
    finish(photos, target)
    return data_files(target)


def data_files(target: Path) -> dict[str, bytes]:
    paths = [*target.glob("shards/*"), *target.glob("_feed/index/*")]
    return {str(path.relative_to(target)): path.read_bytes() for path in paths}


def start(photos: Path, target: Path, kind: str) -> subprocess.Popen[str]:
    """A conversion at the head of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.converting_program", str(photos), str(target), kind],
        cwd=ROOT,
        env=unmeasured_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    """Until the program says `wanted`, or ends."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return


def finish(photos: Path, target: Path) -> None:
    """The same conversion as a user's command."""
    done = fastfeed("convert", photos, target, "--shard-size", "64KiB", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr


def finished_shards(target: Path) -> dict[str, tuple[int, int, int]]:
    """Name -> inode, time of the last change, size of each finished shard, in staging or in its final place."""
    shards = {}
    for path in [*target.glob("_feed/staging/convert/*.ffs"), *target.glob("shards/*.ffs")]:
        status = path.stat()
        shards[path.name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return shards


def children_of(pid: int) -> list[int]:
    """The processes in the group of `pid` but itself."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != pid:
            try:
                if os.getpgid(int(folder.name)) == pid:
                    found.append(int(folder.name))
            except ProcessLookupError:
                continue
    return found


def kill(process: subprocess.Popen[str], victim: str) -> None:
    """kill -9 of the parent, of one worker, or of all; the parent has ended on return."""
    if victim == "parent":
        process.kill()
    elif victim == "worker":
        # The fork server and multiprocessing's tracker are in the group too, and as good a victim.
        for pid in children_of(process.pid)[-1:]:
            os.kill(pid, signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def check_that_it_goes_on(photos: Path, target: Path, wanted: dict[str, bytes], before: dict[str, object]) -> None:
    finish(photos, target)
    after = finished_shards(target)
    assert {name: after[name] for name in before} == before, "a finished shard was written again"
    assert data_files(target) == wanted
    assert not (target / "_feed" / "staging").exists()
    assert len(ff.open(target)) == 3 * PER_CLASS


def is_whole_or_nothing(target: Path) -> bool:
    """What a reader finds: all rows (True), or no dataset."""
    try:
        assert len(ff.open(target)) == 3 * PER_CLASS
    except ff.DatasetNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "victim", "moment"),
    [
        ("threads", "parent", "planned"),
        ("threads", "parent", "advanced 9"),
        ("processes", "parent", "advanced 5"),
        ("processes", "worker", "advanced 5"),
        ("processes", "all", "advanced 9"),
        ("threads", "parent", "done"),
    ],
)
def test_a_conversion_that_is_killed_is_finished_by_the_same_command(
    photos: Path, wanted: dict[str, bytes], tmp_path: Path, kind: str, victim: str, moment: str
) -> None:
    target = tmp_path / "set"
    process = start(photos, target, kind)
    wait_for_line(process, moment)
    kill(process, victim)
    assert is_whole_or_nothing(target) == (moment == "done")
    check_that_it_goes_on(photos, target, wanted, dict(finished_shards(target)))


def kill_until_done(photos: Path, target: Path, wanted: dict[str, bytes], draw: random.Random, kills: int) -> int:
    """Kill runs of one conversion at random moments, at most `kills`; then finish it. How many were killed."""
    before: dict[str, object] = {}
    killed = 0
    while killed < kills:
        killed += 1
        process = start(photos, target, draw.choice(["threads", "processes"]))
        wait_for_line(process, "planned")
        try:
            process.wait(timeout=draw.uniform(0, RANDOM_DELAY_MAX_S))
        except subprocess.TimeoutExpired:
            kill(process, draw.choice(["parent", "worker", "all"]))
        else:
            process.communicate()
        found = finished_shards(target)
        assert {name: found[name] for name in before} == before, "a finished shard was written again"
        before = dict(found)
        if is_whole_or_nothing(target):
            break
    check_that_it_goes_on(photos, target, wanted, before)
    return killed


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_random_moments_one_after_the_other(
    photos: Path, wanted: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    kill_until_done(photos, tmp_path / "set", wanted, random.Random(seed), KILLS // 2)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_control_c_keeps_what_is_finished(photos: Path, wanted: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    target = tmp_path / "set"
    process = start(photos, target, kind)
    wait_for_line(process, "advanced 8")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert not is_whole_or_nothing(target)
    check_that_it_goes_on(photos, target, wanted, dict(finished_shards(target)))


def test_a_second_conversion_into_the_same_place_is_told_of_the_first(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "set"
    process = start(photos, target, "threads")
    wait_for_line(process, "advanced 1")
    process.send_signal(signal.SIGSTOP)
    try:
        done = fastfeed("convert", photos, target, "--shard-size", "64KiB")
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert done.returncode == 2
    assert "another conversion into this place is running" in done.stderr
    assert is_whole_or_nothing(target)


@pytest.fixture
def small_disk(tmp_path: Path, photos: Path) -> Iterator[Path]:
    """A file system with room for the photos, and not for the dataset, which is a little larger."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    need_bytes = sum(path.stat().st_size for path in photos.rglob("*.*"))
    mount("-t", "tmpfs", "-o", f"size={need_bytes + (16 << 10)}", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_full_disk_is_named_and_when_there_is_room_the_same_command_goes_on(
    photos: Path, wanted: dict[str, bytes], small_disk: Path, kind: str
) -> None:
    target = small_disk / "set"
    process = start(photos, target, kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"No space left on device: '{target}" in errors
    assert not is_whole_or_nothing(target)
    before = finished_shards(target)
    assert before, "some shards had room"
    assert not list(target.glob("_feed/staging/convert/*.partial"))
    mount("-o", f"remount,size={64 << 20}", small_disk)
    check_that_it_goes_on(photos, target, wanted, dict(before))


def main(count: int, seed: int) -> None:
    """Kill `count` runs at random moments and say so."""
    draw = random.Random(seed)
    killed = conversions = 0
    with tempfile.TemporaryDirectory(prefix="fastfeed-kill-") as scratch:
        photos = write_files(Path(scratch) / "photos", class_files(per_class=PER_CLASS))
        finish(photos, Path(scratch) / "wanted")
        wanted = data_files(Path(scratch) / "wanted")
        while killed < count:
            target = Path(scratch) / "set"
            killed += kill_until_done(photos, target, wanted, draw, 4)
            conversions += 1
            shutil.rmtree(target)
    print(f"{killed} runs killed at random moments (seed {seed}), {conversions} conversions finished after them: each "
          "has the bytes of an undisturbed one, and no finished shard was written twice")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
