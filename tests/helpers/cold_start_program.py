"""Many processes that start at once on the same data, each reading all of it through the node's cache. No torch.

    python -m tests.helpers.cold_start_program '{"url": ..., "socket": ..., "count": 64, "users": [0], "seeds": [1]}'

Process i runs as user users[i % len(users)], with the order of seeds[i % len(seeds)]. Each reads one epoch and compares
with `rows` (samples) and `sum` (of the labels, which each sample also holds in its bytes). Ends with 0 if all did well.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

import fastfeed as ff
import fastfeed.dataset.remote
import fastfeed.loader.announce
import fastfeed.loader.loader
import fastfeed.wire.sessions


def read_all(options: dict[str, Any], number: int) -> None:
    dataset = ff.open(options["url"], cache=options["socket"])
    seed = options["seeds"][number % len(options["seeds"])]
    rows = total = 0
    with ff.Loader(dataset, batch_size=32, seed=seed, last="short", threads=1, rank=0, world_size=1) as loader:
        for batch in loader:
            for value, label in zip(batch["data"], batch["label"].tolist(), strict=True):
                assert int.from_bytes(value[:8], "little") == label, f"row of label {label} has other bytes"
                total += label
            rows += len(batch)
    assert (rows, total) == (options["rows"], options["sum"]), f"{rows} rows, sum {total}"


def child(options: dict[str, Any], number: int, start: int) -> None:
    user = options["users"][number % len(options["users"])]
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.read(start, 1)  # at its end when all are here
    read_all(options, number)


def main(options: dict[str, Any]) -> int:
    # Imported once, before the forks: 64 interpreters that import numpy would be most of the time. No session is open.
    start, starter = os.pipe()
    children = []
    for number in range(options["count"]):
        pid = os.fork()
        if pid == 0:
            os.close(starter)
            status = 1
            try:
                child(options, number, start)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(pid)
    os.close(starter)
    failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
    print(f"{len(failed)} of {len(children)} processes failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
