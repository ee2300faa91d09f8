"""The daemon that a job starts for itself: where it may live, who shares it, what is left of it. Real daemons, real
processes; each in runtime and cache folders of its own test.

The long run of the race (64 processes, 100 rounds):
FASTFEED_START_ROUNDS=100 pytest -k rounds tests/integration/test_cache_start.py
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import fastfeed as ff
from fastfeed.wire.attach import place_of
from fastfeed.wire.place import Place, Start
from fastfeed.wire.private import PrivateDaemons
from fastfeed.wire.session import Session
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT

ROUNDS = int(os.environ.get("FASTFEED_START_ROUNDS", "2"))
PROCESSES = 64
DEADLINE_S = 60.0
ROWS = 300
# Reads some of a dataset, and says what it read and from whom. argv: URL, cache.
PROGRAM = """
import json, os, sys
import fastfeed as ff
from fastfeed.wire.sessions import session_at
dataset = ff.open(sys.argv[1], cache=sys.argv[2])
rows = [sample["id"] for sample in dataset]
place = dataset.opened.payload.place
print(json.dumps({"rows": rows, "socket": str(place.socket), "pid": session_at(place).welcome.daemon_pid}))
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("www")
    with ff.DatasetWriter(root / "data", ff.Schema({"id": ff.Scalar("int64"), "b": ff.Bytes()})) as writer:
        for row in range(ROWS):
            writer.write({"id": row, "b": bytes(2000)})
    with FaultyHttp(root) as server:
        yield f"{server.url}/data"


class Node:
    """Runtime and cache folders, and programs that run there."""

    def __init__(self, folder: Path, in_ram: Path) -> None:
        self.folder, self.in_ram = folder, in_ram
        # In RAM, so that the slot words lie there too, and go with it.
        self.runtime, self.cache = in_ram / "run", folder / "cache"
        self.environment = {
            **{name: value for name, value in unmeasured_environment().items() if not name.startswith("FASTFEED")},
            "FASTFEED_RUNTIME_DIR": str(self.runtime), "FASTFEED_CACHE_DIR": str(self.cache),
            "FASTFEED_CACHE_LIMIT": "64MiB", "FASTFEED_CACHE_IDLE_EXIT": "0s", "FASTFEED_CACHE_HTTP": "off",
        }  # fmt: skip

    def run(self, url: str, cache: str = "auto", before: Sequence[str] = (), **changes: str | None) -> dict[str, Any]:
        """What PROGRAM says. before: a command that runs it. changes: of the environment; None removes."""
        done = subprocess.run(
            [*before, sys.executable, "-c", PROGRAM, url, cache], env=self.with_changes(changes), text=True,
            capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE_S, cwd="/", check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["rows"] == list(range(ROWS))
        return found

    def with_changes(self, changes: dict[str, str | None]) -> dict[str, str]:
        return {name: value for name, value in {**self.environment, **changes}.items() if value is not None}

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.runtime.rglob("cache.log*")))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="fastfeed-test-", dir="/dev/shm") as in_ram:
        node = Node(tmp_path, Path(in_ram))
        yield node
        for pid in daemons_in(node.runtime):
            wait_until(lambda pid=pid: not is_alive(pid), f"daemon {pid} leaves")  # type: ignore[misc]


def daemons_in(folder: Path) -> list[int]:
    """Processes that were started with `folder` as their runtime folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
            command = (path.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"FASTFEED_RUNTIME_DIR={folder}".encode() in environment and b"serve" in command.split(b"\0"):
            found.append(int(path.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(happens: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


class TestOneForAUser:
    def test_a_script_that_starts_one_ends_for_who_captures_its_output(self, node: Node, origin: str) -> None:
        """The daemon lives on, and holds neither pipe."""
        found = node.run(origin, FASTFEED_CACHE_IDLE_EXIT="30s")
        try:
            assert is_alive(found["pid"])
            assert found["socket"] == str(node.runtime / "cache.sock")
            assert node.run(origin, FASTFEED_CACHE_IDLE_EXIT="30s")["pid"] == found["pid"]
        finally:
            os.kill(found["pid"], signal.SIGTERM)

    def test_processes_that_start_at_once_over_many_rounds_have_one_at_a_time(self, node: Node) -> None:
        """Each daemon leaves with its last client, while others of the round are still on their way. Processes without
        torch, forked, so that they really start at once."""
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(node.environment)
        try:
            for number in range(ROUNDS):
                children = [os.fork() or attach_and_leave(node.runtime) for _ in range(PROCESSES)]
                codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
                assert codes == [0] * PROCESSES, f"round {number}\n{node.log()}"
        finally:
            os.environ.clear()
            os.environ.update(before)
        wait_until(lambda: not daemons_in(node.runtime), "the last one leaves")
        events = re.findall(r"serving at|has left", node.log())
        assert len(events) >= 2 * ROUNDS
        assert events == ["serving at", "has left"] * (len(events) // 2)

    def test_two_jobs_of_a_user_share_it(self, node: Node, origin: str) -> None:
        programs = [
            subprocess.Popen([sys.executable, "-c", PROGRAM + "\nsys.stdout.flush(); sys.stdin.read()", origin, "auto"],
                             env=node.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
            for _ in range(2)
        ]  # fmt: skip
        try:
            told = [json.loads(program.stdout.readline()) for program in programs if program.stdout is not None]
            assert told[0]["pid"] == told[1]["pid"]
        finally:
            for program in programs:
                program.communicate(timeout=DEADLINE_S)


def attach_and_leave(runtime: Path) -> int:
    """In a forked child."""
    try:
        session = Session(Place(runtime / "cache.sock", Start.DETACHED, "auto"), PrivateDaemons())
        assert session.welcome.daemon_pid > 0
        session.close()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


class TestOff:
    def test_it_is_collected_and_its_directory_removed_when_the_process_ends(self, node: Node, origin: str) -> None:
        private = PrivateDaemons()
        place = place_of("off", node.environment, private)
        session = Session(place, private)
        try:
            opened = session.open_url(f"{origin}/_feed/manifests/{1:020d}.arrow")
            assert opened.read(0, 0, 6) == b"ARROW1"
            pid = session.welcome.daemon_pid
            assert is_alive(pid)
        finally:
            session.close()
            private.close()
        assert not Path(f"/proc/{pid}").exists()
        assert not place.socket.parent.exists()

    def test_the_fetcher_is_a_child_keeps_nothing_and_ends_with_the_job(self, node: Node, origin: str) -> None:
        found = node.run(origin, "off")
        assert Path(found["socket"]).parent.name.startswith("off-")
        assert not is_alive(found["pid"])
        assert list(node.runtime.iterdir()) == []
        assert not node.cache.exists() or not any(path.is_file() for path in node.cache.rglob("*"))

    def test_it_ends_with_a_job_that_is_killed_and_the_next_job_cleans_up(self, node: Node, origin: str) -> None:
        job = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + "\nsys.stdout.flush(); sys.stdin.read()", origin, "off"],
            env=node.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip
        assert job.stdout is not None
        found = json.loads(job.stdout.readline())
        assert is_alive(found["pid"])
        job.kill()
        job.communicate()
        wait_until(lambda: not is_alive(found["pid"]), "the fetcher ends")
        node.run(origin, "off")
        assert list(node.runtime.iterdir()) == []

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_workers_share_their_parents(self, node: Node, origin: str, method: str) -> None:
        program = node.folder / "job.py"
        program.write_text(
            "import multiprocessing, os, sys\nimport fastfeed as ff\nfrom fastfeed.wire.sessions import session_at\n"
            "def pid_of(dataset):\n"
            "    assert dataset[7]['id'] == 7\n"
            "    return session_at(dataset.opened.payload.place).welcome.daemon_pid\n"
            "if __name__ == '__main__':\n"
            "    dataset = ff.open(sys.argv[1], cache='off')\n"
            "    with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:\n"
            "        print({pid_of(dataset), *pool.map(pid_of, [dataset] * 6, chunksize=1)})\n"
        )
        done = subprocess.run([sys.executable, str(program), origin, method], env=node.environment, capture_output=True,
                              text=True, timeout=DEADLINE_S, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"\{\d+\}\n", done.stdout)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes mount namespaces and changes the user")


@needs_root
class TestContainers:
    def test_a_container_needs_the_socket_and_nothing_else(self, node: Node, origin: str) -> None:
        """Another mount namespace, in which runtime and cache folders are empty, and no network at all."""
        held = Session(Place(node.runtime / "cache.sock", Start.DETACHED), PrivateDaemons())
        before = dict(os.environ)
        os.environ.update(node.environment)
        try:
            epoch = held.welcome.daemon_epoch
            inside = node.folder / "inside"
            inside.mkdir()
            script = (
                f"touch {inside}/cache.sock && mount --bind {node.runtime}/cache.sock {inside}/cache.sock && "
                f"mount -t tmpfs none {node.runtime} && mount -t tmpfs none {node.cache} && exec \"$@\""
            )
            namespaced = ["unshare", "--mount", "--net", "sh", "-c", script, "sh"]
            found = node.run(origin, f"{inside}/cache.sock", namespaced)
            assert found["pid"] == held.welcome.daemon_pid
            assert held.welcome.daemon_epoch == epoch
        finally:
            held.close()
            os.environ.clear()
            os.environ.update(before)

    def test_forty_open_files_are_enough(self, node: Node, origin: str) -> None:
        """Also for the daemon, which inherits the limit."""
        node.run(origin, "auto", ["prlimit", "--nofile=40:40"])

    def test_a_user_who_is_not_root_has_a_daemon_of_its_own(self, node: Node, origin: str) -> None:
        """With the right to read all files, since root's Python lies in root's home; with none to write any."""
        for folder in (node.folder, node.in_ram):
            folder.chmod(0o777)
        user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search"]  # fmt: skip
        found = node.run(origin, "auto", user)
        wait_until(lambda: not is_alive(found["pid"]), "it leaves when it is idle")
        assert not (node.runtime / "cache.sock").exists()
        assert {path.stat().st_uid for path in (node.runtime, node.cache)} == {12345}
        assert node.runtime.stat().st_mode & 0o777 == 0o700

    def test_a_home_that_cannot_be_written_is_left_alone(self, node: Node, origin: str) -> None:
        """The cache goes to /var/tmp instead; here one of the namespace's own."""
        home = node.folder / "home"
        home.mkdir()
        script = f'mount -t tmpfs -o ro none {home} && mount -t tmpfs none /var/tmp && exec "$@"'
        namespaced = ["unshare", "--mount", "sh", "-c", script, "sh"]
        node.run(origin, "auto", namespaced, HOME=str(home), FASTFEED_CACHE_DIR=None, FASTFEED_CACHE_LIMIT="32MiB")
        assert "/var/tmp/fastfeed-0" not in {str(path) for path in Path("/var/tmp").iterdir()}
        assert "warning" not in node.log().lower()


def test_the_runtime_folder_of_somebody_else_is_refused(node: Node, origin: str) -> None:
    node.runtime.mkdir(mode=0o755)
    done = subprocess.run([sys.executable, "-c", PROGRAM, origin, "auto"], env=node.environment, capture_output=True,
                          text=True, timeout=DEADLINE_S, cwd="/", check=False)  # fmt: skip
    assert done.returncode != 0
    assert "it must be of user" in done.stderr


def test_a_daemon_that_cannot_start_says_why_in_the_error(node: Node, origin: str) -> None:
    environment = {**node.environment, "FASTFEED_CACHE_LIMIT": "a lot"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, origin, "auto"], env=environment, capture_output=True,
                          text=True, timeout=DEADLINE_S, cwd="/", check=False)  # fmt: skip
    assert done.returncode != 0
    assert "DaemonUnavailableError" in done.stderr
    assert "FASTFEED_CACHE_LIMIT" in done.stderr


def test_the_starter_may_have_any_python_path(node: Node, origin: str) -> None:
    """A path that is relative to the starter's folder means nothing in the daemon's."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, origin, "auto"], cwd=ROOT, text=True, capture_output=True,
                          env={**node.environment, "PYTHONPATH": "."}, timeout=DEADLINE_S, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr

