"""A team of emulated accelerators: real processes that take each step together.

What a step costs the slowest, it costs all: that is the barrier of an allreduce. The team decides when it is over. A
member that dies, or takes longer than `step_s_max` for a step, ends the run with an error that has its last words.
Every process is ended by its own number when the team is left.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Self

from fastfeed.bench.accelerator import ARRIVED, GO, STOP
from fastfeed.errors import FastfeedError

# A loader that needs longer for one batch of any workload is stuck.
STEP_S_MAX = 300.0
# In the first steps a loader's buffers are touched for the first time: with fewer than these, that is all that is seen.
STEPS_MIN = 8
# How long a member may take to end when it has reported, and when its team is given up.
END_S_MAX = 10.0
ABANDONED_S_MAX = 1.0
LAST_WORDS_BYTES = 2000

# (which of how many, descriptor of its socket) -> the command line of a member
Command = Callable[[int, int, int], Sequence[str]]


class Team:
    """`count` processes. Use it in a `with` block; not thread-safe."""

    def __init__(
        self, command: Command, count: int, environment: Mapping[str, str], step_s_max: float = STEP_S_MAX
    ) -> None:
        self._step_s_max = step_s_max
        self._sockets: list[socket.socket] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._said: list[IO[bytes]] = []
        try:
            for number in range(count):
                self._start(command, number, count, environment)
        except BaseException:
            self.close(ABANDONED_S_MAX)
            raise

    def run(self, seconds: float) -> list[dict[str, Any]]:
        """Take steps for `seconds` after the first one, at least STEPS_MIN; what each member reports."""
        taken, end_s = 0, 0.0
        while True:
            self._gather()
            taken += 1
            now_s = time.monotonic()
            if taken == 1:
                end_s = now_s + seconds
            goes_on = taken <= STEPS_MIN or now_s < end_s
            for number, each in enumerate(self._sockets):
                self._send(number, each, GO if goes_on else STOP)
            if not goes_on:
                return [self._report(number) for number in range(len(self._sockets))]

    def close(self, end_s_max: float = END_S_MAX) -> None:
        """Wait for all processes; kill those that take longer than `end_s_max`. Idempotent."""
        for each in self._sockets:
            each.close()  # a member that waits for the others sees this and exits
        for process in self._processes:
            try:
                process.wait(end_s_max)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for said in self._said:
            said.close()
        self._sockets, self._processes, self._said = [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(END_S_MAX if kind is None else ABANDONED_S_MAX)

    def _start(self, command: Command, number: int, count: int, environment: Mapping[str, str]) -> None:
        here, there = socket.socketpair()
        here.settimeout(self._step_s_max)
        self._sockets.append(here)
        # Output into a file: a pipe that nobody reads would stop a talkative member.
        self._said.append(tempfile.TemporaryFile())  # noqa: SIM115 (closed in close)
        with there:
            self._processes.append(subprocess.Popen(
                command(number, count, there.fileno()), env=dict(environment), pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL, stdout=self._said[-1], stderr=self._said[-1]))

    def _gather(self) -> None:
        """Wait until all have arrived. One after the other: the slowest decides."""
        for number, each in enumerate(self._sockets):
            if self._receive(number, each, 1) != ARRIVED:
                raise self._failed(number, "said something else than that it has finished a step")

    def _report(self, number: int) -> dict[str, Any]:
        said = bytearray()
        while not said.endswith(b"\n"):
            said += self._receive(number, self._sockets[number], 1 << 16)
        report: dict[str, Any] = json.loads(said)
        return report

    def _receive(self, number: int, member: socket.socket, size: int) -> bytes:
        try:
            received = member.recv(size)
        except TimeoutError:
            raise self._failed(number, f"took longer than {self._step_s_max:g} s for a step") from None
        except ConnectionResetError as error:
            raise self._failed(number, "has ended") from error
        if not received:
            raise self._failed(number, "has ended")
        return received

    def _send(self, number: int, member: socket.socket, word: bytes) -> None:
        try:
            member.sendall(word)
        except BrokenPipeError as error:
            raise self._failed(number, "has ended") from error

    def _failed(self, number: int, what: str) -> FastfeedError:
        said = self._said[number]
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - LAST_WORDS_BYTES))
        last = said.read().decode(errors="replace").strip()
        return FastfeedError(f"accelerator {number} of {len(self._sockets)} {what}. Its last words:\n"
                             f"{last or '(none)'}")
