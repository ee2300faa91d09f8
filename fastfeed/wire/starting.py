"""Starting this user's own daemon: one, however many processes start at once.

1. Connect; who is answered is done.   2. Take the start lock (flock; the system releases it with its holder).
3. Connect again: another process may have started one meanwhile.   4. Start the daemon.   5. Connect until it answers,
or has ended.   6. Release the lock.
"Connect" includes the handshake: a daemon that is just leaving may still have accepted. A daemon takes its own owner
lock before it listens and removes its socket before it releases that, so the socket is always that of the living one.

The daemon gets nothing of its starter: no descriptors but /dev/null, its log, and a pipe in which it says that it
listens (`tell_ready`) and whose end says that it has ended; a session of its own; no parent; "/" as its directory. So
whoever waits for the end of the starter's output gets it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from fastfeed.errors import ConfigError, DaemonUnavailableError
from fastfeed.wire.connection import ConnectionLost
from fastfeed.wire.places import make_private_directory

START_LOCK = "start.lock"
LOG_NAME = "cache.log"
# From the launch to the first answer. A cold file system and a busy machine take seconds to import Python.
START_TIMEOUT_S = 60.0
# How often a process looks whether the daemon answers that it, or another one, is starting.
START_POLL_S = 0.01
# A log that is longer is begun anew at the next start; the old one is kept beside it.
LOG_BYTES_MAX = 16 << 20
LOG_TAIL_BYTES = 2000
# A daemon that finds another one leaving waits for it; it gives up after its own deadline, and is started again. One
# that has listened does not count: it may have been found and left by others before its starter came.
FAILURES_MAX = 2
# Where the daemon finds its end of the pipe.
READY_VARIABLE = "FASTFEED_READY_FD"
_READY = b"."
# sys.path of this process may not be that of a new one: the folder of our package is named. "-P": not the directory it
# starts in.
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from fastfeed.cli.main import main; sys.exit(main())"

T = TypeVar("T")


class Launched(NamedTuple):
    """A daemon that was started. alive: our end of the pipe, which does not block."""

    alive: int
    log: Path
    child: subprocess.Popen[bytes] | None = None  # where it is a child of this process


def daemon_command(*options: str) -> list[str]:
    """The command of an embedded daemon, with the Python and the fastfeed of this process."""
    if not sys.executable:
        raise ConfigError("a cache daemon cannot be started: Python does not know its own program (sys.executable is "
                          "empty). Start `fastfeed cache serve --embedded` yourself.")  # fmt: skip
    package = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-P", "-c", _BOOT, package, "cache", "serve", "--embedded", *options]


def tell_ready(environ: MutableMapping[str, str]) -> None:
    """In a daemon, once it listens: tell its starter, if it has one. The pipe stays open, for its end means the end."""
    descriptor = environ.pop(READY_VARIABLE, "")
    if descriptor:
        os.set_inheritable(int(descriptor), False)
        with suppress(BrokenPipeError):  # the starter has found us already, or has gone
            os.write(int(descriptor), _READY)


def connect_or_start(
    runtime: Path, connect: Callable[[], T], launch: Callable[[Path], Launched], timeout_s: float = START_TIMEOUT_S
) -> T:
    """What `connect` returns once a daemon answers: the one there is, or the one that `launch` starts in `runtime`.

    connect: raises ConnectionLost where no daemon answers. DaemonUnavailableError with the end of the daemon's log
    where it ends at once or does not answer in time; ConfigError where `runtime` is not this user's alone.
    """
    deadline_s = time.monotonic() + timeout_s
    make_private_directory(runtime, os.geteuid())
    while True:
        lock = _take_lock(runtime / START_LOCK)
        try:
            try:
                return connect()  # also without the lock: who has it may be done any moment
            except ConnectionLost as error:
                if lock is not None:
                    return _start(runtime, connect, launch, deadline_s)
                if time.monotonic() > deadline_s:
                    raise DaemonUnavailableError(
                        f"{runtime}: for {timeout_s:.0f} s another process has held {START_LOCK} to start the cache "
                        f"daemon, and none answers. The end of {runtime / LOG_NAME}: {_tail(runtime / LOG_NAME)}"
                    ) from error
        finally:
            if lock is not None:
                os.close(lock)
        time.sleep(START_POLL_S)


def launch_detached(runtime: Path, command: Sequence[str], environ: Mapping[str, str]) -> Launched:
    """Start the daemon as nobody's child."""
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
    launched = launch_child(runtime, [*launcher, *command], environ)
    assert launched.child is not None
    launched.child.wait()  # the launcher, which goes at once
    return launched._replace(child=None)


def launch_child(runtime: Path, command: Sequence[str], environ: Mapping[str, str]) -> Launched:
    """Start the daemon as a child of this process, which collects it. It has a session of its own all the same: Ctrl-C
    at the terminal is for who trains, and who may want to read on until the work is saved."""
    log = runtime / LOG_NAME
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    alive, held = os.pipe()
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(held,), cwd="/",
            env={**_absolute_paths(environ), READY_VARIABLE: str(held)}, start_new_session=True, umask=0o077,
        )  # fmt: skip
    except BaseException:
        os.close(alive)
        raise
    finally:
        os.close(held)
        os.close(output)
    os.set_blocking(alive, False)
    return Launched(alive, log, child)


def _start(runtime: Path, connect: Callable[[], T], launch: Callable[[Path], Launched], deadline_s: float) -> T:
    """With the start lock held."""
    failures = 0
    while True:
        launched = launch(runtime)
        has_listened = has_ended = False
        try:
            while not has_ended:
                told = _read(launched.alive)  # asked first: before it ended it may have begun to answer
                has_listened, has_ended = has_listened or bool(told), told == b""
                failures += has_ended and not has_listened
                try:
                    return connect()
                except ConnectionLost as error:
                    if time.monotonic() > deadline_s or failures == FAILURES_MAX:
                        raise DaemonUnavailableError(
                            f"the cache daemon that was started in {runtime} "
                            f"{'has ended' if has_ended else 'does not answer'}. The end of its log, {launched.log}: "
                            f"{_tail(launched.log)}"
                        ) from error
                time.sleep(START_POLL_S)
        finally:
            os.close(launched.alive)


def _take_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _read(alive: int) -> bytes | None:
    """What the daemon said; b"" at its end, None where there is nothing yet."""
    try:
        return os.read(alive, 1)
    except BlockingIOError:
        return None


def _absolute_paths(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that starts in another directory."""
    path = environ.get("PYTHONPATH")
    if not path:
        return dict(environ)
    return {**environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep))}


def _tail(log: Path) -> str:
    """The end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip() or "(empty)"
    except OSError as error:
        return f"({error})"
