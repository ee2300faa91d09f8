"""What opening a dataset costs one process: run as a program, `python opening.py DATASET`, in a fresh interpreter.

Prints JSON: seconds of ff.open, of the first row's reader being made ready (native_snapshot), and the bytes of memory
that only this process holds (private clean and dirty pages) before and after.
"""

from __future__ import annotations

import json
import sys
import time


def private_bytes() -> int:
    """Pages that no other process maps: what the machine would get back if this process ended."""
    with open("/proc/self/smaps_rollup") as file:
        lines = dict(line.split(":", 1) for line in file if line.startswith("Private_"))
    return sum(1024 * int(lines[key].split()[0]) for key in ("Private_Clean", "Private_Dirty"))


def measure(url: str) -> dict[str, float]:
    # Imports are not what is measured: an empty open has them all done, numpy and Arrow included.
    import fastfeed
    from fastfeed.errors import DatasetNotFoundError

    try:
        fastfeed.open("/nowhere/at/all")
    except DatasetNotFoundError:
        before_bytes = private_bytes()
    started_s = time.perf_counter()
    dataset = fastfeed.open(url)
    opened_s = time.perf_counter()
    dataset.native_snapshot()
    ready_s = time.perf_counter()
    return {
        "rows": len(dataset),
        "open_s": opened_s - started_s,
        "native_s": ready_s - opened_s,
        "private_bytes": private_bytes() - before_bytes,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
