"""One program in a session of its own: its answer, the peak of its memory, and nothing of it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

# How often memory is looked at: reading the maps of a process takes a millisecond of its time.
SAMPLE_S = 0.25
ERROR_LINES = 6


class RunFailedError(Exception):
    """The program ended without an answer."""


def run(command: Sequence[str], environment: dict[str, str], timeout_s: float) -> dict[str, Any]:
    """The last line of JSON that it said, with peak_pss_mb and, without mapped files, peak_own_mb."""
    # Files, not pipes: workers that outlive the program hold a pipe open, and waiting for its end would wait for them.
    # A folder for its temporary files: who is killed in the middle removes none.
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryFile("w+") as said,
        tempfile.TemporaryFile("w+") as errors,
    ):
        started = {**environment, "TMPDIR": scratch, "BENCH_STARTED_S": repr(time.time())}
        process = subprocess.Popen(command, env=started, stdin=subprocess.DEVNULL, stdout=said, stderr=errors,
                                   start_new_session=True)
        memory = MemoryWatch(process.pid)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"no answer after {timeout_s:.0f} s") from error
        finally:
            memory.stop()
            with contextlib.suppress(ProcessLookupError):  # it has ended, with all its workers
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = [*lines_of(errors), *lines_of(said)]
    answers = [line for line in lines if line.startswith("{")]
    if not answers or process.returncode:
        raise RunFailedError("\n".join(lines[-ERROR_LINES:]) or f"exit status {process.returncode}, and no word")
    return {**json.loads(answers[-1]), "peak_pss_mb": memory.pss_mb, "peak_own_mb": memory.own_mb}


def lines_of(file: IO[str]) -> list[str]:
    file.seek(0)
    return file.read().splitlines()


class MemoryWatch:
    """Peak of the proportional set sizes of all processes of a session, looked at by a thread."""

    def __init__(self, session: int) -> None:
        self.session, self.pss_mb, self.own_mb = session, 0.0, 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.ended.wait(SAMPLE_S):
            sizes = [sizes_mb(pid) for pid in processes_of(self.session)]
            self.pss_mb = max(self.pss_mb, sum(size.get("Pss", 0.0) for size in sizes))
            self.own_mb = max(self.own_mb, sum(size.get("Pss_Anon", 0.0) + size.get("Pss_Shmem", 0.0)
                                               for size in sizes))

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()


def processes_of(session: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if os.getsid(int(entry)) == session:
                    found.append(int(entry))
    return found


def sizes_mb(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return {}
    return {name: int(rest.split()[0]) * 1024 / 1e6 for name, _, rest in (line.partition(":") for line in lines)}
