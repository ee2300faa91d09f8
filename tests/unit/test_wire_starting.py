"""Starting a daemon: one however many ask, nothing of the starter in it, and what is said when it does not come up.

The daemon is a little one that only welcomes. tests/integration/test_cache_start.py does the same with the real one.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fastfeed.errors import ConfigError, DaemonUnavailableError
from fastfeed.wire.connection import Connection, ConnectionLost
from fastfeed.wire.messages import Hello, Kind, Welcome
from fastfeed.wire.starting import (
    LOG_BYTES_MAX,
    Launched,
    connect_or_start,
    launch_child,
    launch_detached,
)
from tests.helpers.programs import unmeasured_environment

LITTLE = Path(__file__).resolve().parents[1] / "helpers" / "little_daemon.py"
DEADLINE_S = 30.0
# Rounds of 64 processes; the long run: FASTFEED_START_ROUNDS=100 pytest tests/unit/test_wire_starting.py -k rounds
ROUNDS = int(os.environ.get("FASTFEED_START_ROUNDS", "3"))
PROCESSES = 64


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    runtime = tmp_path / "run"
    yield runtime
    for pid in starts(runtime):
        wait_until(lambda pid=pid: not is_alive(pid), f"daemon {pid} leaves")  # type: ignore[misc]


def starts(runtime: Path) -> list[int]:
    path = runtime / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(happens: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def command(runtime: Path, mode: str = "serve") -> list[str]:
    return [sys.executable, str(LITTLE), str(runtime), mode]


def launch(runtime: Path, mode: str = "serve") -> Launched:
    return launch_detached(runtime, command(runtime, mode), unmeasured_environment())


def welcome(runtime: Path) -> tuple[Connection, Welcome]:
    connection = Connection(runtime / "cache.sock", time.monotonic() + DEADLINE_S)
    try:
        answer = connection.ask(Hello(version_min=1, version_max=1, kind=Kind.CONTROL), DEADLINE_S).message
    except BaseException:
        connection.close()
        raise
    assert isinstance(answer, Welcome)
    return connection, answer


class TestOneDaemon:
    def test_it_is_started_where_none_answers_and_found_where_one_does(self, runtime: Path) -> None:
        first, told = connect_or_start(runtime, partial(welcome, runtime), launch)
        second, told_again = connect_or_start(runtime, partial(welcome, runtime), launch)
        assert starts(runtime) == [told.daemon_pid] == [told_again.daemon_pid]
        first.close()
        second.close()

    def test_threads_that_ask_at_once_get_the_same(self, runtime: Path) -> None:
        found: list[tuple[Connection, Welcome]] = []
        threads = [
            threading.Thread(target=lambda: found.append(connect_or_start(runtime, partial(welcome, runtime), launch)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(starts(runtime)) == 1
        assert {told.daemon_pid for _, told in found} == set(starts(runtime))
        for connection, _ in found:
            connection.close()

    def test_processes_that_start_at_once_over_many_rounds_give_one_each_and_no_error(self, runtime: Path) -> None:
        """Each round's daemon leaves with its last client, while others of the round may still be on their way."""
        for number in range(ROUNDS):
            before = len(starts(runtime))
            children = [os.fork() or ask_and_leave(runtime) for _ in range(PROCESSES)]
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            assert codes == [0] * PROCESSES, f"round {number}"
            assert len(starts(runtime)) > before

    def test_one_that_is_slow_is_waited_for_by_all(self, runtime: Path) -> None:
        runtime.mkdir(mode=0o700)
        late = partial(launch, mode="late")
        found: list[tuple[Connection, Welcome]] = []
        threads = [
            threading.Thread(target=lambda: found.append(connect_or_start(runtime, partial(welcome, runtime), late)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert not found
        (runtime / "go").touch()
        for thread in threads:
            thread.join()
        assert len(starts(runtime)) == 1
        for connection, _ in found:
            connection.close()

    def test_a_socket_file_that_was_left_behind_is_no_daemon(self, runtime: Path) -> None:
        runtime.mkdir(mode=0o700)
        dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dead.bind(str(runtime / "cache.sock"))
        dead.close()
        connection, _ = connect_or_start(runtime, partial(welcome, runtime), launch)
        connection.close()
        assert len(starts(runtime)) == 1


def ask_and_leave(runtime: Path) -> int:
    """In a forked child."""
    try:
        connection, _ = connect_or_start(runtime, partial(welcome, runtime), launch)
        connection.close()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)


class TestWhatDoesNotComeUp:
    def test_one_that_ends_at_once_is_an_error_with_the_end_of_its_log(self, runtime: Path) -> None:
        with pytest.raises(DaemonUnavailableError, match=r"has ended(?s:.*)the cache disk is on fire"):
            connect_or_start(runtime, partial(welcome, runtime), partial(launch, mode="die"))

    def test_one_that_never_listens_is_an_error_at_the_deadline(self, runtime: Path) -> None:
        with pytest.raises(DaemonUnavailableError, match="does not answer"):
            connect_or_start(runtime, partial(welcome, runtime), partial(launch, mode="late"), timeout_s=0.5)
        connections = []
        (runtime / "go").touch()
        wait_until(lambda: is_welcomed(runtime, connections), "the late one listens")
        connections[0].close()

    def test_another_one_that_holds_the_lock_for_ever_is_an_error_at_the_deadline(self, runtime: Path) -> None:
        runtime.mkdir(mode=0o700)
        holder = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
             "print('held', flush=True); input()", str(runtime / "start.lock")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=unmeasured_environment(),
        )  # fmt: skip
        with holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            holder.stdout.readline()
            with pytest.raises(DaemonUnavailableError, match=r"another process has held start\.lock"):
                connect_or_start(runtime, partial(welcome, runtime), launch, timeout_s=0.3)
            holder.stdin.close()
        assert starts(runtime) == []

    @pytest.mark.parametrize("mode", [0o755, 0o770])
    def test_a_directory_that_others_may_enter_is_refused(self, runtime: Path, mode: int) -> None:
        runtime.mkdir()
        runtime.chmod(mode)
        with pytest.raises(ConfigError, match=f"mode {mode:04o}; it must be of user"):
            connect_or_start(runtime, partial(welcome, runtime), launch)

    def test_a_link_in_its_place_is_refused(self, runtime: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        runtime.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match="is no directory"):
            connect_or_start(runtime, partial(welcome, runtime), launch)


def is_welcomed(runtime: Path, connections: list[Connection]) -> bool:
    try:
        connections.append(welcome(runtime)[0])
    except ConnectionLost:
        return False
    return True


class TestWhatTheDaemonGets:
    def test_nothing_of_its_starter(self, runtime: Path) -> None:
        """No terminal, no parent, no descriptors, no working directory; a log that only its user can read."""
        inherited = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(inherited, True)
        connection, told = connect_or_start(runtime, partial(welcome, runtime), launch)
        os.close(inherited)
        process = Path(f"/proc/{told.daemon_pid}")
        fields = process.joinpath("stat").read_text().rpartition(")")[2].split()
        assert fields[1] != str(os.getpid())  # its parent
        assert fields[3] not in (str(os.getsid(0)), str(told.daemon_pid))  # another session, which it does not lead
        assert os.readlink(process / "cwd") == "/"
        targets = {os.readlink(each) for each in process.joinpath("fd").iterdir()}
        log = runtime / "cache.log"
        kinds = {target for target in targets if not target.startswith(("socket:", "pipe:", "anon_inode:"))}
        assert kinds == {"/dev/null", str(log), str(runtime / "owner.lock")}
        assert os.readlink(process / "fd" / "0") == "/dev/null"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        connection.close()

    def test_the_starters_output_ends_with_the_starter(self, runtime: Path) -> None:
        """subprocess.run(capture_output=True) waits for the end of both pipes, not only for the process."""
        program = (
            "import sys; from functools import partial; from pathlib import Path\n"
            "from tests.unit.test_wire_starting import *\n"
            "runtime = Path(sys.argv[1])\n"
            "print(connect_or_start(runtime, partial(welcome, runtime), launch)[1].daemon_pid)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(runtime)], capture_output=True, text=True, timeout=60,
                              env=unmeasured_environment(), check=True)  # fmt: skip
        assert int(done.stdout) == starts(runtime)[0]

    def test_a_long_log_is_begun_anew(self, runtime: Path) -> None:
        runtime.mkdir(mode=0o700)
        with (runtime / "cache.log").open("wb") as log:
            log.truncate(LOG_BYTES_MAX + 1)
        connect_or_start(runtime, partial(welcome, runtime), launch)[0].close()
        assert (runtime / "cache.log.1").stat().st_size == LOG_BYTES_MAX + 1
        assert (runtime / "cache.log").stat().st_size < 1000


class TestAChild:
    def test_it_is_collected_by_its_starter_and_has_a_session_of_its_own(self, runtime: Path) -> None:
        launched: list[Launched] = []

        def launch_one(at: Path) -> Launched:
            launched.append(launch_child(at, command(at), unmeasured_environment()))
            return launched[-1]

        connection, told = connect_or_start(runtime, partial(welcome, runtime), launch_one)
        child = launched[0].child
        assert child is not None
        assert child.pid == told.daemon_pid == os.getsid(told.daemon_pid)
        connection.close()
        assert child.wait(DEADLINE_S) == 0

    def test_ctrl_c_at_the_starters_terminal_does_not_reach_it(self, runtime: Path) -> None:
        runtime.mkdir(mode=0o700)
        launched = launch_child(runtime, command(runtime, "late"), unmeasured_environment())
        assert launched.child is not None
        assert os.getpgid(launched.child.pid) != os.getpgid(0)
        os.close(launched.alive)
        launched.child.send_signal(signal.SIGKILL)
        launched.child.wait()
