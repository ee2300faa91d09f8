"""Changes of a dataset by processes that are killed at each step in turn: `python -m tests.helpers.crash_points ...`.

Arguments: CHANGE, a folder with what it changes (`before/`), the folder for the results, EVERY. For n = 0, EVERY,
2 EVERY, ... `before/` is copied to `<results>/<n>/`, and a forked child makes the change there; it kills itself with
SIGKILL right before the n-th file that it would open for writing, link, rename, remove, or folder that it would make
or remove. Says each n at which a child was killed, and ends when one comes to its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import fastfeed as ff

CHANGING_EVENTS = {"os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.truncate"}
POINTS_MAX = 1000


def append(place: Path) -> None:
    with ff.DatasetWriter(place / "a", append=True) as writer:
        for number in (20, 21, 22):
            writer.write({"id": number, "blob": b"new"})


def delete(place: Path) -> None:
    ff.delete(place / "a", [0, 2])


def merge(place: Path) -> None:
    ff.merge(place / "c", [place / "a", place / "b"])


def gc(place: Path) -> None:
    ff.gc(place / "a", older_than=0, keep_snapshots=1, delete=True)


CHANGES: dict[str, Callable[[Path], None]] = {"append": append, "delete": delete, "merge": merge, "gc": gc}


def die_at(point: int) -> None:
    """Kill this process right before its change number `point` of the file system."""
    left = point

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGING_EVENTS:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.addaudithook(hook)


def main(change: str, before: Path, results: Path, every: int) -> None:
    # Everything that is imported late is imported here, so that a child changes no other files than the dataset's.
    warm = results / "warm"
    shutil.copytree(before, warm)
    CHANGES[change](warm)
    for point in range(0, POINTS_MAX, every):
        place = results / str(point)
        shutil.copytree(before, place)
        child = os.fork()
        if child == 0:
            die_at(point)
            CHANGES[change](place)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            shutil.rmtree(place)
            return
        print(point)
    raise AssertionError(f"more than {POINTS_MAX} steps")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
