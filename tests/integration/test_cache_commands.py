"""`fastfeed cache ...` against a daemon, as an operator types it, and what the daemon keeps of it over a restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from fastfeed.cli.main import main
from fastfeed.daemon.catalog import Entry
from fastfeed.daemon.commands import DaemonCommands
from fastfeed.daemon.metrics import exposition
from fastfeed.errors import ConfigError
from fastfeed.wire.messages import Command
from fastfeed.wire.sessions import close_sessions
from tests.helpers.programs import unmeasured_environment
from tests.helpers.running_daemon import ROOT_URL, RunningDaemon

DATASET, FILE = f"{ROOT_URL}/set", f"{ROOT_URL}/file.bin"
MIB = 1 << 20
# 3 MiB and a bit: four chunks, the last one short.
FILE_BYTES = 3 * MIB + 4096


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A dataset of about 6 MiB in shards of 2, and a file."""
    folder = tmp_path_factory.mktemp("origin")
    random = np.random.default_rng(0)
    schema = ff.Schema({"data": ff.Bytes(), "number": ff.Scalar("int64")})
    with ff.DatasetWriter(str(folder / "set"), schema, shard_size="2MiB") as writer:
        for number in range(600):
            writer.write({"data": random.bytes(10_000), "number": number})
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {**files, "file.bin": random.bytes(FILE_BYTES)}


class Operator:
    """Types commands at a daemon."""

    def __init__(self, daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        self.daemon, self._capsys = daemon, capsys

    def types(self, *words: str, code: int = 0) -> str:
        """What a command prints, on either stream."""
        self._capsys.readouterr()
        assert main(["cache", *words, "--socket", str(self.daemon.socket)]) == code
        out, err = self._capsys.readouterr()
        return (out + err).rstrip("\n")

    def gets(self, *words: str, code: int = 0) -> dict[str, Any]:
        """The same as JSON."""
        told: dict[str, Any] = json.loads(self.types(*words, "--json", code=code).partition("\nfastfeed: error")[0])
        return told


@pytest.fixture
def daemon(tmp_path: Path, objects: dict[str, bytes]) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, objects) as running:
        yield running


@pytest.fixture
def operator(daemon: RunningDaemon, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(daemon, capsys)


class TestWarm:
    def test_a_dataset_and_a_file_are_here_afterwards_and_a_second_time_fetches_nothing(
        self, operator: Operator
    ) -> None:
        first = operator.gets("warm", DATASET)
        assert first["cached_bytes"] == first["bytes"] == first["fetched_bytes"] > 5 * MIB
        assert (first["running"], first["error"], first["snapshot"]) == (False, "", 1)
        again = operator.types("warm", DATASET)
        assert "(100.0 %), 0 B fetched" in again
        told = operator.gets("warm", FILE)
        assert (told["chunks"], told["cached_chunks"], told["bytes"], told["snapshot"]) == (4, 4, FILE_BYTES, None)

    def test_what_it_says_is_counted_in_the_cache(self, operator: Operator) -> None:
        operator.gets("warm", FILE)
        pool = operator.daemon.service.pool
        key = operator.daemon.call(lambda: pool.held_keys()[0])
        operator.daemon.call(lambda: pool.evict(key, 2))
        listed = operator.gets("ls")["sets"]
        assert [(each["cached_chunks"], each["chunks"]) for each in listed] == [(3, 4)]
        assert (
            "(66.6 %)" in operator.types("ls")
            or "3 of 4" in operator.types("ls")
            or listed[0]["cached_bytes"] < FILE_BYTES
        )

    def test_what_does_not_fit_is_said_with_exit_code_6_and_not_fetched(
        self, tmp_path: Path, objects: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with RunningDaemon(tmp_path, objects, limit="3MiB") as small:
            operator = Operator(small, capsys)
            told = operator.gets("warm", DATASET, code=6)
            assert 0 < told["cached_chunks"] < told["chunks"]
            assert told["fetched_bytes"] == told["cached_bytes"]
            text = operator.types("warm", DATASET, code=6)
            assert "are not here: the pool has no room" in text

    def test_an_origin_that_fails_ends_it_with_its_words_and_exit_code_5(
        self, tmp_path: Path, objects: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        scripts, options = {"get_range": "e" * 1000}, {"retries_max": 0}
        with RunningDaemon(tmp_path, objects, scripts=scripts, options=options) as broken:
            told = Operator(broken, capsys).gets("warm", FILE, code=5)
            assert "503 Service Unavailable" in told["error"]
            assert told["cached_chunks"] == 0

    def test_what_failed_once_is_tried_once_more(
        self, tmp_path: Path, objects: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        scripts, options = {"get_range": "e"}, {"retries_max": 0}
        with RunningDaemon(tmp_path, objects, scripts=scripts, options=options) as broken:
            told = Operator(broken, capsys).gets("warm", FILE)
            assert (told["cached_chunks"], told["error"]) == (4, "")

    def test_detached_it_returns_at_once_and_the_same_command_watches_it(self, operator: Operator) -> None:
        told = operator.gets("warm", FILE, "--detach")
        assert told["chunks"] == 4
        assert operator.gets("warm", FILE)["cached_chunks"] == 4

    def test_a_place_where_nothing_is_is_not_found(self, operator: Operator) -> None:
        operator.types("warm", f"{ROOT_URL}/nothing", code=4)
        text = operator.types("warm", DATASET, "--snapshot", "7", code=4)
        assert "there is no snapshot 7. Those that exist: 1." in text


class TestPins:
    def test_what_is_pinned_stays_when_everything_is_evicted_and_over_a_restart(self, operator: Operator) -> None:
        operator.types("warm", FILE, "--pin")
        operator.types("warm", DATASET)
        assert "pinned" in operator.types("ls")
        told = operator.gets("evict", "--all")
        assert told["pinned_bytes"] == FILE_BYTES
        assert told["evicted_bytes"] > 5 * MIB
        operator.daemon.stop()
        operator.daemon.start()
        (kept,) = operator.gets("ls")["sets"]
        assert (kept["url"], kept["pinned"], kept["cached_bytes"]) == (FILE, True, FILE_BYTES)
        assert operator.gets("evict", "--all") == {"evicted_bytes": 0, "pinned_bytes": FILE_BYTES}

    def test_unpinned_it_goes_with_the_rest(self, operator: Operator) -> None:
        operator.types("warm", FILE, "--pin")
        assert "not pinned any more" in operator.types("unpin", FILE)
        assert operator.gets("evict", FILE) == {"evicted_bytes": FILE_BYTES, "pinned_bytes": 0}
        assert operator.types("ls") == "nothing is here"

    def test_more_than_fits_is_refused_with_exit_code_6(
        self, tmp_path: Path, objects: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with RunningDaemon(tmp_path, objects, limit="6MiB") as small:
            operator = Operator(small, capsys)
            operator.types("pin", FILE)
            assert "would be pinned, and pool default holds" in operator.types("pin", DATASET, code=6)
            (kept,) = [each for each in operator.gets("ls")["sets"] if each["pinned"]]
            assert kept["url"] == FILE

    def test_what_is_not_pinned_cannot_be_unpinned(self, operator: Operator) -> None:
        assert "is not pinned" in operator.types("unpin", FILE, code=4)


class TestEvict:
    def test_a_dataset_goes_and_a_file_stays(self, operator: Operator) -> None:
        operator.types("warm", FILE)
        told = operator.gets("warm", DATASET)
        assert operator.gets("evict", DATASET)["evicted_bytes"] == told["bytes"]
        assert [each["url"] for each in operator.gets("ls")["sets"]] == [FILE]
        assert operator.types("ls", DATASET) == "nothing is here"

    def test_what_is_not_known_is_not_found_and_what_is_meant_must_be_said(self, operator: Operator) -> None:
        assert "nothing of it is known here" in operator.types("evict", FILE, code=4)
        assert "name what to evict" in operator.types("evict", code=2)
        assert "name what to evict" in operator.types("evict", FILE, "--all", code=2)


class TestExplain:
    def test_a_row_that_is_here_one_that_is_not_and_one_that_was(self, operator: Operator) -> None:
        assert "is not here" in operator.types("explain", DATASET, "--row", "300")
        operator.types("warm", DATASET)
        told = operator.gets("explain", DATASET, "--row", "300")
        assert told["end"] - told["offset"] >= 10_000
        assert all(chunk["here"] and chunk["disk"] == "default" for chunk in told["chunks"])
        assert "is here\n  in slot" in told["text"]
        operator.types("evict", DATASET)
        assert "was here, and left" in operator.types("explain", DATASET, "--row", "300")

    def test_a_place_in_a_file_and_a_pin(self, operator: Operator) -> None:
        operator.types("warm", FILE, "--pin")
        told = operator.gets("explain", FILE, "--offset", str(2 * MIB))
        assert (told["chunks"][0]["chunk"], told["chunks"][0]["pinned"]) == (2, True)
        assert "stays: it is pinned" in told["text"]

    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            ((DATASET, "--row", "600"), 2, "there is no row 600"),
            ((FILE, "--offset", str(FILE_BYTES)), 2, "there is no byte"),
            ((FILE, "--row", "0"), 2, "has no rows"),
            ((DATASET, "--offset", "0"), 2, "is a dataset"),
            ((DATASET,), 2, "say what to explain"),
        ],
    )
    def test_what_cannot_be_explained(self, operator: Operator, words: tuple[str, ...], code: int, says: str) -> None:
        assert says in operator.types("explain", *words, code=code)


class TestStatusAndConfig:
    def test_status_tells_of_pools_disks_and_origins(self, operator: Operator) -> None:
        operator.types("warm", FILE)
        text = operator.types("status")
        for line in ("serving", "pool default, 1 client", "3.0 MiB from the origin", "disk default    ok", "origin "):
            assert line in text, text
        assert operator.types("status", "--quiet") == ""

    def test_the_running_configuration_and_one_of_flags(self, operator: Operator) -> None:
        text = operator.types("config", "--running", "--long")
        assert "pools.default.limit" in text
        assert "--set pools.default.limit" in text
        assert "Taken on SIGHUP." in text
        told = operator.gets("config", "--set", "limits.ring=1MiB")
        (ring,) = [each for each in told["settings"] if each["key"] == "limits.ring"]
        assert (ring["text"], ring["source"]) == ("1048576 (1.0 MiB)", "--set limits.ring=1MiB")
        assert "write KEY=VALUE" in operator.types("config", "--set", "limits.ring", code=2)

    def test_a_daemon_that_is_not_there_is_exit_code_5_and_says_where_it_was_looked_for(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["cache", "status", "--socket", str(tmp_path / "none.sock")]) == 5
        assert f"no cache daemon runs at {tmp_path / 'none.sock'}" in capsys.readouterr().err


class TestWhoMay:
    """A user of the pool who does not run the daemon: what the kernel would say of their connection is made up."""

    def tell(self, daemon: RunningDaemon, command: Command, **arguments: object) -> Any:
        assert daemon.daemon is not None
        session = SimpleNamespace(peer=SimpleNamespace(uid=12_345), service=daemon.service)
        commands = DaemonCommands(daemon.daemon)
        return daemon.run(commands.tell(session, command, json.dumps(arguments).encode()))  # type: ignore[arg-type]

    def test_they_may_look_and_warm(self, daemon: RunningDaemon) -> None:
        assert self.tell(daemon, Command.WARM, url=FILE)["chunks"] == 4
        assert self.tell(daemon, Command.LS)["sets"][0]["url"] == FILE
        assert "chunk 0" in self.tell(daemon, Command.EXPLAIN, url=FILE, offset=0)["text"]
        assert [pool["name"] for pool in self.tell(daemon, Command.STATUS)["pools"]] == ["default"]

    @pytest.mark.parametrize(
        ("command", "arguments"),
        [
            (Command.PIN, {"url": FILE}),
            (Command.UNPIN, {"url": FILE}),
            (Command.EVICT, {"all": True}),
            (Command.DRAIN, {}),
            (Command.CONFIG, {}),
            (Command.LS, {"pool": "other"}),
        ],
    )
    def test_they_may_not_decide_for_others_nor_see_other_pools(
        self, daemon: RunningDaemon, command: Command, arguments: dict[str, object]
    ) -> None:
        with pytest.raises(PermissionError, match="user 12345 may not"):
            self.tell(daemon, command, **arguments)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (b"[]", "no JSON object"),
            (b"{", "no JSON"),
            (b"{}", "names no URL"),
            (b'{"url": 7}', "names no URL"),
            (b'{"url": "s3://bucket/file.bin", "snapshot": -1}', "no whole number"),
            (b'{"url": "s3://bucket/file.bin", "snapshot": true}', "no whole number"),
            (b'{"url": "s3://bucket/file.bin", "pool": "none"}', "there is no pool 'none'"),
        ],
    )
    def test_arguments_that_make_no_sense_are_answered(
        self, daemon: RunningDaemon, arguments: bytes, says: str
    ) -> None:
        assert daemon.daemon is not None
        session = SimpleNamespace(peer=SimpleNamespace(uid=os.geteuid()), service=daemon.service)
        with pytest.raises(ConfigError, match=says):
            daemon.run(DaemonCommands(daemon.daemon).tell(session, Command.WARM, arguments))  # type: ignore[arg-type]


class TestDrain:
    def test_the_daemon_leaves_and_what_is_cached_stays(self, operator: Operator) -> None:
        operator.types("warm", FILE)
        assert operator.types("drain") == "the daemon has left"
        operator.daemon.join()
        operator.daemon.start()
        assert operator.gets("ls")["sets"][0]["cached_bytes"] == FILE_BYTES

    def test_detached_it_says_who_is_still_connected(self, operator: Operator) -> None:
        assert operator.types("drain", "--detach") == "the daemon is leaving; it has 1 client"
        operator.daemon.join()


class TestNames:
    def test_names_of_evicted_sets_are_forgotten_and_damaged_ones_reported(self, operator: Operator) -> None:
        operator.types("warm", FILE)
        operator.types("warm", DATASET)
        operator.types("evict", DATASET)
        assert len(operator.gets("ls")["sets"]) == 1
        folder = operator.daemon.folder / "disk" / "default" / "sets"
        operator.daemon.stop()
        (kept,) = folder.glob("*.set")
        data = kept.read_bytes()
        kept.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        (folder / "left.partial").write_bytes(b"half")
        operator.daemon.start()
        assert list(folder.iterdir()) == []
        (nameless,) = operator.gets("ls")["sets"]
        assert (nameless["cached_bytes"], nameless["url"]) == (
            FILE_BYTES,
            "(in pool default, of sets that nobody opened lately)",
        )
        assert "is damaged, and was removed" in operator.types("status")

    def test_an_answer_that_is_too_long_for_a_message_arrives_whole(self, operator: Operator) -> None:
        """600 names are more than 100 KB of JSON; a message has 64."""
        catalog, sizes = operator.daemon.service.catalog, np.array([MIB], np.uint64)
        for number in range(600):
            entry = Entry(
                f"{ROOT_URL}/{'x' * 80}/{number}", None, number.to_bytes(16, "big"), sizes, True, float(number)
            )
            operator.daemon.call(lambda entry=entry: catalog.note(entry))
        assert len(operator.gets("ls")["sets"]) == 600
        assert operator.types("ls").endswith("600 entries, 0 B")

    def test_a_replaced_file_is_another_version_under_the_same_name(self, operator: Operator) -> None:
        operator.types("warm", FILE, "--pin")
        operator.daemon.put("file.bin", b"y" * MIB)
        told = operator.gets("warm", FILE)
        assert (told["bytes"], told["cached_bytes"]) == (MIB, MIB)
        named = [each for each in operator.gets("ls")["sets"] if each["url"] == FILE]
        assert [(each["bytes"], each["pinned"]) for each in named] == [(MIB, True)]


def test_a_reload_takes_limits_and_refuses_what_needs_a_restart(tmp_path: Path) -> None:
    """With a real process, its real file, and SIGHUP."""
    runtime = Path(f"/dev/shm/ff-reload-{os.getpid()}")
    file = tmp_path / "cache.toml"
    text = (
        f'runtime = "{runtime}"\nhttp = "off"\n[disks.default]\npath = "{tmp_path / "disk"}"\n'
        '[pools.default]\nlimit = "LIMIT"\n'
    )
    file.write_text(text.replace("LIMIT", "8MiB"))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastfeed", "cache", "serve", "--config", str(file)],
            stdout=out, stderr=out, env=unmeasured_environment(),
        )  # fmt: skip
    try:
        wait_for(log, "serving at", process)
        file.write_text(text.replace("LIMIT", "4MiB"))
        process.send_signal(signal.SIGHUP)
        wait_for(log, "pools.default.limit: 8388608 (8.0 MiB) -> 4194304 (4.0 MiB)", process)
        file.write_text(text.replace("LIMIT", "4MiB").replace('"off"', '"127.0.0.1:0"'))
        process.send_signal(signal.SIGHUP)
        wait_for(log, "http: none -> 127.0.0.1:0 needs a restart of the daemon; nothing was changed", process)
        file.write_text("limit = 1\n")
        process.send_signal(signal.SIGHUP)
        wait_for(log, "there is no setting limit", process)
        assert main(["cache", "status", "--quiet", "--socket", str(runtime / "cache.sock")]) == 0
    finally:
        process.terminate()
        assert process.wait(30) == 0
        subprocess.run(["rm", "-r", str(runtime)], check=True)


def test_warming_where_no_daemon_runs_starts_one_and_a_named_one_is_not_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Path(tempfile.mkdtemp(prefix="ff-warm-", dir="/dev/shm"))
    (tmp_path / "file.bin").write_bytes(bytes(2 * MIB))
    environment = {
        **unmeasured_environment(), "FASTFEED_RUNTIME_DIR": str(runtime), "FASTFEED_CACHE_DIR": str(tmp_path / "disk"),
        "FASTFEED_CACHE_LIMIT": "16MiB", "FASTFEED_CACHE_HTTP": "off",
    }  # fmt: skip
    environment.pop("FASTFEED_CACHE_SOCKET", None)

    def types(*words: str) -> str:
        command = [sys.executable, "-m", "fastfeed", "cache", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    try:
        assert "2.0 MiB of 2.0 MiB (100.0 %)" in types("warm", f"file://{tmp_path}/file.bin")
        assert "2.0 MiB of 2.0 MiB" in types("ls")
        types("drain")
    finally:
        shutil.rmtree(runtime)
    assert main(["cache", "warm", FILE, "--socket", str(tmp_path / "none.sock")]) == 5
    assert "no cache daemon runs at" in capsys.readouterr().err


def wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    """Until the log has `words`."""
    deadline_s = time.monotonic() + 30
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, f"{words!r} is not in the log:\n{log.read_text()}"
        threading.Event().wait(0.02)


class TestDoctor:
    def report(self, variables: dict[str, str]) -> dict[str, Any]:
        """`fastfeed doctor --json` with these variables."""
        done = subprocess.run(
            [sys.executable, "-m", "fastfeed", "doctor", "--json"],
            env={**os.environ, **variables}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def test_it_finds_the_daemon_its_pools_and_disks(self, daemon: RunningDaemon) -> None:
        said = self.report({"FASTFEED_CACHE_SOCKET": str(daemon.socket)})["cache"]["daemon"]
        assert (said["state"], said["pid"], said["error"]) == ("serving", os.getpid(), None)
        assert [disk["state"] for pool in said["pools"] for disk in pool["disks"]] == ["ok"]

    def test_a_socket_that_nobody_answers_and_a_wrong_setting_are_lacks(self, tmp_path: Path) -> None:
        (tmp_path / "dead.sock").write_bytes(b"")
        told = self.report({"FASTFEED_CACHE_SOCKET": str(tmp_path / "dead.sock"), "FASTFEED_CACHE_LIMTS": "1"})
        assert told["cache"]["daemon"]["state"] == "does not answer"
        said = " ".join(lack["what"] for lack in told["lacks"])
        assert "the cache daemon: " in said
        assert "there is no setting limts" in said


class TestWhileTraining:
    """A loader of this process reads through the daemon while the operator types."""

    @pytest.fixture
    def dataset(self, daemon: RunningDaemon) -> Iterator[ff.Dataset]:
        yield ff.open(DATASET, cache=str(daemon.socket))
        close_sessions()

    def test_every_command_works_and_no_sample_is_lost(self, operator: Operator, dataset: ff.Dataset) -> None:
        numbers: list[int] = []
        with ff.Loader(dataset, batch_size=50, shuffle_window=2, prefetch="64KiB", seed=1) as loader:
            for step, batch in enumerate(loader):
                numbers += batch["number"].tolist()
                if step == 2:
                    assert f"{DATASET}, rank 0 of 1, epoch 0" in operator.types("status")
                    last_row = str(loader.order.rows(599, 600)[0])
                    told = operator.gets("explain", DATASET, "--row", last_row)
                    assert any(chunk["needed_by"] for chunk in told["chunks"])
                    assert "needed by " in told["text"]
                elif step == 3:
                    assert operator.gets("evict", DATASET)["pinned_bytes"] == 0
                elif step == 5:
                    assert operator.gets("warm", DATASET, "--pin")["cached_bytes"] > 5 * MIB
                elif step == 7:
                    (listed,) = operator.gets("ls")["sets"]
                    assert (listed["pinned"], listed["open"]) == (True, True)
                    operator.types("unpin", DATASET)
            stats = loader.stats()["bytes"]
        assert sorted(numbers) == list(range(600))
        assert stats["slab"] + stats["ring"] >= stats["frames"] > 0
        assert stats["local"] == 0

    def test_the_report_has_the_job_and_its_metrics(self, daemon: RunningDaemon, dataset: ff.Dataset) -> None:
        with ff.Loader(dataset, batch_size=50, prefetch="64KiB") as loader:
            batches = iter(loader)
            for _ in range(3):
                next(batches)
            assert daemon.daemon is not None
            say = daemon.daemon.report
            daemon.wait(lambda: say().pools[0].jobs[0].steps == 3, "the page is looked at every second, and")
            report = daemon.call(say)
        (job,) = report.pools[0].jobs
        assert (job.url, job.kind, job.position, job.steps, job.rows) == (DATASET, "order", 150, 3, 600)
        assert job.forecast["text"]
        text = exposition(report).decode()
        assert f'dataset="{DATASET}"' in next(line for line in text.splitlines() if "job_progress_ratio{" in line)
