"""A conversion in a process of its own that says on stdout how far it is, so that a test can end it there.

    python -m tests.helpers.converting_program SOURCE DESTINATION KIND-OF-WORKERS [WORKERS]

Lines: "planned" when nothing is written yet, "advanced N" after each batch, "done" after the commit.
"""

from __future__ import annotations

import sys

from fastfeed.convert.engine_local import WorkerKind
from fastfeed.convert.job import ConvertOptions, Silent, convert
from fastfeed.convert.source import Plan


class Telling(Silent):
    def __init__(self) -> None:
        self.batches = 0

    def planned(self, plan: Plan, task_count: int) -> None:
        print("planned", flush=True)

    def advanced(self, rows: int, size_bytes: int) -> None:
        self.batches += 1
        print(f"advanced {self.batches}", flush=True)


def main(source: str, destination: str, kind: str, workers: str = "2") -> None:
    options = ConvertOptions(
        source=source,
        destination=destination,
        workers=int(workers),
        shard_size="64KiB",
        worker_kind=WorkerKind(kind),
    )
    convert(options, Telling())
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
