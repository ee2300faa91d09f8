"""`python -m fastfeed convert` as a user runs it: processes, exit codes, output, interruption."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastfeed.format.reference import read_dataset
from tests.helpers.image_folders import class_files, command_environment, encoded, fastfeed, write_files
from tests.helpers.programs import unmeasured_environment

# A conversion by the library in a process of its own; LISTENER is a class body of what it does when it hears.
PROGRAM = """
import multiprocessing, os, signal, sys
from fastfeed.convert.engine_local import WorkerKind
from fastfeed.convert.job import ConvertOptions, Silent, convert
class Listener(Silent):
{listener}
if __name__ == "__main__":
    options = ConvertOptions(
        source=sys.argv[1], destination=sys.argv[2], workers=2, shard_size="64KiB", worker_kind=WorkerKind(sys.argv[3])
    )
    convert(options, Listener())
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards of 64 KiB."""
    return write_files(tmp_path_factory.mktemp("input") / "photos", class_files(per_class=12))


def shard_and_index_files(target: Path) -> dict[str, bytes]:
    paths = [*target.glob("shards/*"), *target.glob("_feed/index/*")]
    return {str(path.relative_to(target)): path.read_bytes() for path in paths}


def run_program(
    listener: str, source: Path, target: Path, environment: dict[str, str] | None = None, kind: str = "processes"
) -> subprocess.CompletedProcess[str]:
    program = target.parent / "program.py"
    program.write_text(PROGRAM.format(listener=listener))
    return subprocess.run(
        [sys.executable, program, source, target, kind],
        env=environment or command_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


class TestWorkers:
    def test_any_number_of_workers_gives_the_same_bytes(self, photos: Path, tmp_path: Path) -> None:
        found = {}
        for workers in (1, 2, 3):
            target = tmp_path / str(workers)
            done = fastfeed("convert", photos, target, "--workers", str(workers), "--shard-size", "64KiB", "--json")
            assert done.returncode == 0, done.stderr
            summary = json.loads(done.stdout)
            assert summary["workers"] == workers
            assert summary["shards"] >= 3
            found[workers] = shard_and_index_files(target)
            assert not (target / "_feed" / "staging").exists()
        assert found[1] == found[2] == found[3]
        assert [sample["path"] for sample in read_dataset(tmp_path / "3")] == sorted(class_files(per_class=12))

    def test_a_damaged_file_met_by_a_worker_stops_all_and_is_named(self, photos: Path, tmp_path: Path) -> None:
        bad = write_files(tmp_path / "photos", {**class_files(per_class=12), "coffee/005.png": b"\x89PNG"})
        done = fastfeed("convert", bad, tmp_path / "out", "--workers", "2", "--shard-size", "64KiB", "--json")
        assert done.returncode == 3
        assert f"{bad}/coffee/005.png: " in done.stderr
        assert "Traceback" not in done.stderr
        assert json.loads(done.stdout)["error"]["type"] == "CorruptDataError"
        assert not (tmp_path / "out" / "_feed" / "manifests").exists()
        again = fastfeed("convert", bad, tmp_path / "out", "--workers", "2", "--shard-size", "64KiB", "--debug")
        assert "TaskWriter" in again.stderr or "encoded_pieces" in again.stderr, "the worker's traceback"

    def test_a_worker_that_is_killed_is_an_error_that_says_so(self, photos: Path, tmp_path: Path) -> None:
        done = run_program(
            "    def advanced(self, rows, size_bytes):\n        multiprocessing.active_children()[0].kill()\n",
            photos,
            tmp_path / "out",
        )
        assert "was killed by SIGKILL while it wrote task" in done.stderr
        assert "run with fewer --workers" in done.stderr
        assert not (tmp_path / "out" / "_feed" / "manifests").exists()

    @pytest.mark.parametrize("kind", ["threads", "processes"])
    def test_an_interruption_ends_the_workers_and_commits_nothing(
        self, photos: Path, tmp_path: Path, kind: str
    ) -> None:
        done = run_program(
            "    def advanced(self, rows, size_bytes):\n        os.kill(os.getpid(), signal.SIGINT)\n",
            photos,
            tmp_path / "out",
            unmeasured_environment(),
            kind,
        )
        assert done.stderr.rstrip().endswith("KeyboardInterrupt")
        assert not (tmp_path / "out" / "_feed" / "manifests").exists()
        again = fastfeed("convert", photos, tmp_path / "out", "--shard-size", "64KiB", "--quiet")
        assert again.returncode == 0, again.stderr
        assert not (tmp_path / "out" / "_feed" / "staging").exists()


class TestOutput:
    def test_a_summary_and_notes_for_people(self, tmp_path: Path) -> None:
        photos = write_files(tmp_path / "photos", {**class_files(), "cat/read.me": b""})
        done = fastfeed("convert", photos, tmp_path / "out")
        assert done.returncode == 0
        assert done.stderr.splitlines() == [
            f"9 images in 3 class folders, {sum(map(len, class_files().values())) / 1024:.1f} KiB, in 1 part",
            "note: left out 1 .me file: cat/read.me",
        ]
        first, second = done.stdout.splitlines()
        assert first.startswith(f"{tmp_path / 'out'}: 9 rows, ")
        assert first.endswith(" in 1 shard, snapshot 1")
        assert "with 1 worker: " in second
        assert second.endswith(" MB/s")
        again = fastfeed("convert", photos, tmp_path / "out")
        assert again.returncode == 0
        assert "nothing to do, the same command has made it" in again.stdout

    def test_json_is_one_object_and_nothing_else(self, photos: Path, tmp_path: Path) -> None:
        done = fastfeed("convert", photos, tmp_path / "out", "--json")
        summary = json.loads(done.stdout)
        assert done.stderr == ""
        assert (summary["rows"], summary["converted"], summary["snapshot"]) == (36, True, 1)
        assert summary["rows_per_s"] > 0
        assert json.loads(fastfeed("convert", photos, tmp_path / "out", "--json").stdout)["converted"] is False

    def test_quiet_says_nothing_but_errors(self, photos: Path, tmp_path: Path) -> None:
        done = fastfeed("convert", photos, tmp_path / "out", "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        done = fastfeed("convert", photos, tmp_path / "out", "--quiet", "--limit", "3")
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1

    def test_a_terminal_sees_progress(self, photos: Path, tmp_path: Path) -> None:
        ours, theirs = pty.openpty()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fastfeed", "convert", photos, tmp_path / "out"],
                env={**command_environment(), "TERM": "xterm"},
                stdout=subprocess.PIPE,
                stderr=theirs,
                check=True,
                timeout=120,
            )
            shown = os.read(ours, 1 << 16).decode()
        finally:
            os.close(ours)
            os.close(theirs)
        assert b"36 rows" in done.stdout
        assert "36 rows" in shown
        assert "━" in shown
        assert "KiB" in shown


class TestExitCodes:
    @pytest.mark.parametrize(
        ("source", "target", "code", "says"),
        [
            ("nowhere", "out", 4, "nowhere: No such file or directory"),
            ("photos", "photos/out", 2, "lies in the source"),
            ("photos", "http://127.0.0.1:9/photos", 2, "nothing can be written to a web server"),
            ("photos/cat", "out", 2, "no class folders"),
            ("", "out", 2, "is no source"),
            ("photos\udcff", "out", 2, "photos\\xff': is not UTF-8"),
        ],
    )
    def test_an_error_is_a_line_and_a_code(
        self, tmp_path: Path, source: str, target: str, code: int, says: str
    ) -> None:
        write_files(tmp_path / "photos", {"cat/1.jpg": encoded("chelsea", 0, "JPEG")})
        done = fastfeed("convert", source, target, cwd=tmp_path)
        assert done.returncode == code
        assert says in done.stderr
        assert done.stderr.startswith("fastfeed: error: ")
        assert len(done.stderr.splitlines()) <= 2
        assert os.listdir(tmp_path) == ["photos"]

    def test_ctrl_c_is_one_line_and_130(self, tmp_path: Path) -> None:
        """The label file is a pipe, so that the command certainly waits in it when the signal comes."""
        write_files(tmp_path / "photos", {"1.jpg": encoded("chelsea", 0, "JPEG")})
        os.mkfifo(tmp_path / "labels.csv")
        command = [sys.executable, "-m", "fastfeed", "convert", "photos", "out", "--labels", "labels.csv"]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=unmeasured_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            pipe = os.open(tmp_path / "labels.csv", os.O_WRONLY)  # returns when the command has opened it too
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            os.close(pipe)
        assert (process.returncode, out, err) == (130, "", "interrupted\n")
        assert not (tmp_path / "out").exists()

    def test_a_reader_of_the_output_that_goes_away_is_no_error(self, tmp_path: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fastfeed", "doctor"],
                env=command_environment(),
                stdout=writing,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            os.close(writing)
        assert (done.returncode, done.stderr) == (141, "")
