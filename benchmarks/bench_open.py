"""What opening 100,000 shards with 100 million rows costs a fresh process: seconds, and memory of its own.

Median of five, warm. The snapshot is synthetic: a real manifest, and an index file of its true size that is sparse,
since opening reads none of it. Imports are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.helpers.synthetic import write_snapshot  # noqa: E402

RUNS = 5
SHARDS, ROWS_PER_SHARD = 100_000, 1_000
QUICK_SHARDS = 1_000


def opening(url: Path) -> dict[str, float]:
    """Open it in a new process."""
    program = [sys.executable, "-m", "tests.helpers.opening", str(url)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SHARDS} shards, one run")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        url = Path(folder) / "set"
        write_snapshot(url, QUICK_SHARDS if quick else SHARDS, ROWS_PER_SHARD)
        opening(url)
        runs = [opening(url) for _ in range(1 if quick else RUNS)]
    print(machine.describe("numpy", "pyarrow"))
    total_s = statistics.median(run["open_s"] + run["native_s"] for run in runs)
    private_mb = statistics.median(run["private_bytes"] for run in runs) / 1e6
    print(
        f"open {runs[0]['rows']:,} rows: {total_s * 1000:.1f} ms, {private_mb:.1f} MB of private memory, "
        f"median of {len(runs)}"
    )


def test_opening_a_thousand_shards(benchmark, tmp_path) -> None:
    write_snapshot(tmp_path / "set", QUICK_SHARDS, ROWS_PER_SHARD)
    benchmark.pedantic(opening, args=(tmp_path / "set",), rounds=1)


if __name__ == "__main__":
    main()
