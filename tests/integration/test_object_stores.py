"""Datasets in object stores, from the first sample to collection: written, appended to, converted, changed and read
back through the node's cache, on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.cli.main import main
from fastfeed.convert.job import ConvertOptions, convert
from fastfeed.dataset.folder import SHARD_FOLDER, snapshot_numbers
from fastfeed.storage.lease import LOCK_FOLDER
from fastfeed.storage.remote_storage import STAGING_VARIABLE, RemoteStorage
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.gcs_gateway import GcsGateway
from tests.helpers.programs import unmeasured_environment
from tests.helpers.servers import Azurite, FakeGcs, SeaweedFS

SCHEMA = ff.Schema({"id": ff.Scalar("int64"), "data": ff.Bytes()})
POLL_S = 0.005
WAIT_S_MAX = 60.0


class Place(NamedTuple):
    """A bucket: `url` of it, and the socket of a daemon that reads it."""

    url: str
    daemon: CacheDaemon
    staging: Path

    def storage(self, name: str) -> RemoteStorage:
        return RemoteStorage(f"{self.url}/{name}")

    def open(self, name: str) -> ff.Dataset:
        return ff.open(f"{self.url}/{name}", cache=str(self.daemon.socket))


@pytest.fixture(scope="module", params=["s3", "az", "gs"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The environment says how the bucket is reached, as it does for users; the daemon is in it too."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        server: SeaweedFS | Azurite | GcsGateway
        if request.param == "gs":
            server = stack.enter_context(GcsGateway(stack.enter_context(FakeGcs(folder))))
        else:
            server = stack.enter_context({"s3": SeaweedFS, "az": Azurite}[request.param](folder))
        for name, value in {**server.variables, STAGING_VARIABLE: str(folder / "staging")}.items():
            patch.setenv(name, value)
        daemon = stack.enter_context(CacheDaemon(folder / "cache", limit="64MiB", environment=server.variables))
        patch.setenv("FASTFEED_CACHE_SOCKET", str(daemon.socket))
        yield Place(f"{request.param}://{server.bucket}", daemon, folder / "staging")


def write(place: Place, name: str, ids: range, **options: object) -> None:
    with ff.DatasetWriter(f"{place.url}/{name}", SCHEMA, shard_size="64KiB", **options) as writer:  # type: ignore[arg-type]
        for number in ids:
            writer.write({"id": number, "data": bytes([number % 256]) * 4000})


def ids(dataset: ff.Dataset) -> list[int]:
    return [int(value) for value in dataset.take(range(len(dataset)))["id"]]


def staged(place: Place) -> list[Path]:
    return [path for path in place.staging.rglob("*") if path.is_file()] if place.staging.exists() else []


def test_what_is_written_is_read_through_the_cache(place: Place) -> None:
    write(place, "written", range(100))
    with closing(place.storage("written")) as storage:
        assert snapshot_numbers(storage) == [1]
        assert len(storage.files(SHARD_FOLDER)) > 4
        assert storage.list(LOCK_FOLDER) == []
    assert not staged(place)
    dataset = place.open("written")
    assert ids(dataset) == list(range(100))
    assert dataset[41]["data"] == bytes([41]) * 4000
    assert main(["info", dataset.url, "--quiet"]) == 0
    loader = ff.Loader(dataset, batch_size=10, seed=3)
    assert sorted(int(value) for batch in loader for value in batch["id"]) == list(range(100))


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_process_that_trains_never_loads_the_library_that_bears_no_fork(place: Place) -> None:
    write(place, "trained", range(30))
    program = (
        "import sys, fastfeed as ff\n"
        "loader = ff.Loader(ff.open(sys.argv[1]), batch_size=10)\n"
        "assert sum(len(batch) for batch in loader) == 30\n"
        "assert 'obstore' not in sys.modules\n"
        "loader.close()\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, f"{place.url}/trained"], check=True, env=unmeasured_environment(), timeout=60
    )


def test_writers_that_append_at_once_all_come_through(place: Place) -> None:
    write(place, "appended", range(10))
    failures: list[BaseException] = []

    def append(number: int) -> None:
        try:
            write(place, "appended", range(number, number + 5), append=True)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=append, args=(100 * number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    dataset = place.open("appended")
    assert dataset.snapshot == 7
    assert ids(dataset)[:10] == list(range(10))
    assert sorted(ids(dataset)[10:]) == [100 * number + each for number in range(1, 7) for each in range(5)]


def test_a_second_dataset_in_one_place_is_refused_and_a_writer_that_fails_commits_nothing(place: Place) -> None:
    write(place, "failed", range(3))
    with pytest.raises(ff.ConfigError, match="there is a dataset already"):
        write(place, "failed", range(3))

    def fail() -> None:
        with ff.DatasetWriter(f"{place.url}/failed", append=True, shard_size="64KiB") as writer:
            for number in range(50):
                writer.write({"id": number, "data": bytes([number]) * 4000})
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        fail()
    assert ids(place.open("failed")) == [0, 1, 2]
    assert not staged(place)


def test_tokens_are_written_and_read(place: Place) -> None:
    documents = [np.arange(start, start + 900, dtype=np.uint16) for start in range(0, 9000, 1000)]
    with ff.TokenWriter(f"{place.url}/tokens") as writer:
        for document in documents:
            writer.write(document)
    windows = place.open("tokens").windows(100)
    assert (windows[0]["tokens"] == documents[0][:100]).all()
    assert len(windows) == 81


def test_rows_are_deleted_datasets_merged_and_the_rest_collected(place: Place) -> None:
    write(place, "first", range(20))
    write(place, "second", range(100, 120))
    assert ff.delete(f"{place.url}/first", [0, 19]) == 2
    assert ids(place.open("first")) == list(range(1, 19))
    ff.merge(f"{place.url}/both", [f"{place.url}/first", f"{place.url}/second"])
    assert ids(place.open("both")) == [*range(1, 19), *range(100, 120)]

    # The second dataset begins anew: its old shards are named by the merged one, and stay.
    write(place, "second", range(200, 203), overwrite=True)
    url = f"{place.url}/second"
    assert ff.gc(url, keep_snapshots=1, delete=True).snapshots_held == [1]  # replaced a moment ago
    report = ff.gc(url, keep_snapshots=1, older_than=0, delete=True)
    assert report.snapshots_dropped == [1]
    assert report.referred > 0
    assert ids(place.open("both")) == [*range(1, 19), *range(100, 120)]
    assert ids(place.open("second")) == [200, 201, 202]
    with closing(place.storage("second")) as storage:
        assert storage.list(LOCK_FOLDER) == []


def test_a_merge_that_would_name_paths_of_this_machine_is_refused(place: Place, tmp_path: Path) -> None:
    with ff.DatasetWriter(tmp_path / "local", SCHEMA) as writer:
        writer.write({"id": 1, "data": b"x"})
    with pytest.raises(ff.ConfigError, match="which only this machine has"):
        ff.merge(f"{place.url}/mixed", [tmp_path / "local"])
    ff.merge(tmp_path / "here", [tmp_path / "local"])


class TestConvert:
    @pytest.fixture(scope="class")
    @staticmethod
    def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("lines")
        for part in range(6):
            records = ({"id": 1000 * part + row, "text": f"line {row} " * 40} for row in range(400))
            (folder / f"part{part}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
        return folder

    def test_gives_the_same_shards_as_into_a_folder(self, place: Place, lines: Path, tmp_path: Path) -> None:
        url = f"{place.url}/converted"
        convert(ConvertOptions(source=str(lines), destination=str(tmp_path / "local"), shard_size="64KiB"))
        assert _convert(lines, url).wait() == 0
        again = subprocess.run(_command(lines, url), capture_output=True, text=True, env=unmeasured_environment())
        assert again.returncode == 0, again.stderr
        assert "nothing to do" in again.stdout
        with closing(place.storage("converted")) as storage:
            assert storage.list(SHARD_FOLDER) == sorted(os.listdir(tmp_path / "local" / SHARD_FOLDER))
        assert ids(place.open("converted")) == [1000 * part + row for part in range(6) for row in range(400)]
        assert not staged(place)

    @pytest.mark.parametrize("place", ["s3"], indirect=True)
    def test_that_was_killed_goes_on_where_it_was(self, place: Place, lines: Path) -> None:
        url = f"{place.url}/killed"
        process = _convert(lines, url)
        try:
            deadline_s = time.monotonic() + WAIT_S_MAX
            while not list(place.staging.rglob("task-*.json")):
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < deadline_s
                time.sleep(POLL_S)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        done = subprocess.run([*_command(lines, url), "--json"], capture_output=True, text=True,
                              env=unmeasured_environment())  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["resumed_tasks"] >= 1
        assert len(place.open("killed")) == 2400
        assert not staged(place)

    @pytest.mark.parametrize("place", ["s3"], indirect=True)
    def test_refuses_a_folder_of_other_things(self, place: Place, lines: Path) -> None:
        with closing(place.storage("other")) as storage:
            storage.create("letter.txt", b"not a dataset")
        ended = subprocess.run(_command(lines, f"{place.url}/other"), capture_output=True, text=True,
                               env=unmeasured_environment())  # fmt: skip
        assert ended.returncode == 2
        assert "letter.txt" in ended.stderr


def _command(source: Path, destination: str) -> list[str]:
    options = ["--shard-size", "64KiB", "--workers", "1"]
    return [sys.executable, "-m", "fastfeed", "convert", str(source), destination, *options]


def _convert(source: Path, destination: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*_command(source, destination), "--quiet"], text=True, env=unmeasured_environment())


@pytest.mark.parametrize("command", ["info", "verify", "preview", "bench"])
def test_commands_that_look_at_a_dataset_look_at_remote_ones(
    place: Place, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"looked-at-by-{command}"
    write(place, name, range(60))
    options = ["--seconds", "0.2"] if command == "bench" else []
    assert main([command, f"{place.url}/{name}", *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    if command in ("info", "verify"):
        assert report["rows"] == 60
    if command == "verify":
        assert report["findings"] == []
