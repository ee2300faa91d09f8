"""A member of a team of accelerators that behaves as told: `team_member.py DESCRIPTOR BEHAVIOUR [FOLDER]`.

works: takes steps of 1 ms, keeps the number of the step that it is in as a file, and fails if another member is more
than one step away. dies: in its third step, with words. hangs: in its third step. ends: its loader does, after two
steps. lies: says that it has arrived in words of its own. chatters: a megabyte of output a step.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from fastfeed.bench.accelerator import Barrier, work

STEP_S = 0.001


def batches(behaviour: str, folder: Path) -> Iterator[int]:
    for step in itertools.count(1):
        if step == 3 and behaviour == "dies":
            sys.exit("this is why")
        if step == 3 and behaviour == "hangs":
            signal.pause()
        if step == 3 and behaviour == "ends":
            return
        if behaviour == "chatters":
            print("x" * (1 << 20), flush=True)
        if behaviour == "works":
            (folder / str(os.getpid())).write_text(str(step))
            others = [int(text) for file in folder.iterdir() if (text := file.read_text())]
            assert max(others) - min(others) <= 1, others
        yield step


def main(descriptor: int, behaviour: str, folder: Path) -> None:
    barrier = Barrier(descriptor)
    if behaviour == "lies":
        barrier.report({})
    barrier.report(work(batches(behaviour, folder), lambda batch: (1, 10), STEP_S, barrier))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
