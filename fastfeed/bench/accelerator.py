"""An emulated accelerator: takes a batch, sleeps as long as a real one computes, and waits for the others. Each step.

One process is one accelerator. It knows the team (`team.py`) by a socket: a byte there when it has finished a step, a
byte back when all have (a barrier), and a line of JSON at the end. The first step, in which threads start and the
first batch comes, is not part of what is reported, but for `all_s` and `samples`.

Imports the standard library only: programs of other loaders, in environments of their own, are accelerators as well.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

ARRIVED, GO, STOP = b".", b"g", b"s"

BatchT = TypeVar("BatchT")


class Barrier:
    """Where an accelerator waits for the others. descriptor: of its socket, which the team passed on."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def wait(self) -> bool:
        """Wait until all have finished this step; whether there is another one. Exits where the team has gone."""
        self._socket.sendall(ARRIVED)
        answer = self._socket.recv(1)
        if not answer:
            sys.exit("the team of this accelerator has gone")
        return answer == GO

    def report(self, result: dict[str, Any]) -> None:
        """The last word."""
        self._socket.sendall(json.dumps(result).encode() + b"\n")


def work(
    batches: Iterable[BatchT], size_of: Callable[[BatchT], tuple[int, int]], step_s: float, barrier: Barrier
) -> dict[str, Any]:
    """Take batches until the team says stop; `batches` must not end before. size_of: samples and bytes of one.

    The result: steps, seconds (of them), waits_s (for each step's batch), cpu_s, and with the first step: samples,
    bytes, all_s.
    """
    waits_s: list[float] = []
    samples = size = 0
    began_s = asked_s = time.perf_counter()
    first_s, first_cpu_s = began_s, 0.0
    for batch in batches:
        waits_s.append(time.perf_counter() - asked_s)
        count, batch_bytes = size_of(batch)
        samples, size = samples + count, size + batch_bytes
        if step_s > 0:
            time.sleep(step_s)
        del batch  # as a training loop does before it asks for the next one
        goes_on = barrier.wait()
        asked_s = time.perf_counter()
        if len(waits_s) == 1:
            first_s, first_cpu_s = asked_s, _cpu_s()
        if not goes_on:
            return {
                "steps": len(waits_s) - 1,
                "seconds": asked_s - first_s,
                "waits_s": waits_s[1:],
                "cpu_s": _cpu_s() - first_cpu_s,
                "samples": samples,
                "bytes": size,
                "all_s": asked_s - began_s,
            }
    sys.exit(f"the loader ended after {len(waits_s)} steps; an accelerator needs one that does not end")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
