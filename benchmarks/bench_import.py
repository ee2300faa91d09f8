"""How long `import fastfeed` takes in a fresh interpreter, torch not imported: the median of five, warm."""

from __future__ import annotations

import statistics
import subprocess
import sys

import machine

RUNS = 5
PROGRAM = "import time; t = time.perf_counter(); import fastfeed; print(time.perf_counter() - t)"


def import_time_s() -> float:
    """One import, timed inside a new interpreter: its own start is not ours to answer for."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_import_of_fastfeed(benchmark) -> None:
    benchmark.pedantic(import_time_s, rounds=RUNS, warmup_rounds=1)


if __name__ == "__main__":
    import_time_s()
    times = [import_time_s() for _ in range(RUNS)]
    print(machine.describe("fastfeed"))
    print(f"import fastfeed: {statistics.median(times):.3f} s, median of {RUNS}")
