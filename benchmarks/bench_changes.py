"""What changing a dataset of 100,000 shards and 100 million rows costs, beside its payload: seconds for each change.

The snapshot is synthetic, as in bench_open.py: changes read and write manifests and bitmaps, and no payload. Merging
also copies the index file, and looks whether each shard is there: of such a snapshot none is, so it is not measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import fastfeed as ff  # noqa: E402
from tests.helpers.synthetic import write_snapshot  # noqa: E402

SHARDS, ROWS_PER_SHARD = 100_000, 1_000
QUICK_SHARDS = 1_000


def append(url: Path) -> None:
    with ff.DatasetWriter(url, append=True):
        pass


def changes(url: Path, rows: int) -> dict[str, Callable[[], Any]]:
    """In this order: later ones find what earlier ones left."""
    return {
        "open": lambda: len(ff.open(url)),
        "append nothing": lambda: append(url),
        "delete 1 % of the rows": lambda: ff.delete(url, np.arange(0, rows, 100)),
        "open with deletions": lambda: len(ff.open(url)),
        "append nothing to deletions": lambda: append(url),
        "delete 1 % of the shards": lambda: ff.delete(url, np.arange(0, rows // 100)),
        "collect, dry run": lambda: ff.gc(url),
    }


def seconds(url: Path, rows: int) -> dict[str, float]:
    found = {}
    for name, change in changes(url, rows).items():
        started_s = time.perf_counter()
        change()
        found[name] = time.perf_counter() - started_s
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SHARDS} shards")
    shards = QUICK_SHARDS if parser.parse_args().quick else SHARDS
    print(machine.describe("numpy", "pyarrow"))
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(Path(folder) / "set", shards, ROWS_PER_SHARD)
        for name, took_s in seconds(Path(folder) / "set", shards * ROWS_PER_SHARD).items():
            print(f"{name:<28} {took_s * 1000:8.1f} ms")


def test_changing_a_thousand_shards(benchmark, tmp_path) -> None:
    write_snapshot(tmp_path / "set", QUICK_SHARDS, ROWS_PER_SHARD)
    benchmark.pedantic(seconds, args=(tmp_path / "set", QUICK_SHARDS * ROWS_PER_SHARD), rounds=1)


if __name__ == "__main__":
    main()
