"""Two jobs with different orders on one cache of a quarter of their data: how many of their bytes the origin is spared.

    python benchmarks/scenario_cache_two_jobs.py [--epochs 2] [--samples 160000] [--block-rows 160]

The window is 1/64 of the data. Two processes read epoch after epoch at the same pace; the first epoch fills the cache
and is not counted. Keeping the same quarter for ever gives 0.25, LRU 0.15; knowing both futures gives up to 0.5.

The sizes matter. Windows begin and end with groups of eight blocks, which are in use with them, and neighbouring blocks
share a chunk of 1 MiB: of 1 GiB in blocks of 4 MiB a window is four blocks, the blocks in use fill half of the cache,
and the simulation gets no more than 0.41 itself; 0.47 of 16 GB in blocks of 16 MiB, the size by default: 20 GB of
disk, and ten minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cache_node
import http_origin
import machine

import fastfeed as ff

SAMPLE_BYTES = 100_000
WINDOWS = 64
CACHE_PARTS = 4
JOBS = 2
BATCH = 16


def job(url: str, socket: str, seed: int, epochs: int, block_rows: int, bytes_per_s: float) -> None:
    """One training: says when it begins each epoch, and goes on when it is told."""
    dataset = ff.open(url, cache=socket)
    blocks = -(-len(dataset) // block_rows)
    with cache_node.loader(dataset, batch_size=BATCH, seed=seed, threads=1, prefetch="8MiB", block_rows=block_rows,
                           shuffle_window=max(1, blocks // WINDOWS)) as loader:
        for number in range(epochs):
            print(number, flush=True)
            sys.stdin.readline()
            started, done = time.perf_counter(), 0
            for batch in loader:
                done += len(batch) * SAMPLE_BYTES
                time.sleep(max(0.0, started + done / bytes_per_s - time.perf_counter()))
    print(epochs, flush=True)
    sys.stdin.readline()


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=2, help="that are counted")
    parser.add_argument("--samples", type=int, default=160_000, help="of 100 KB each")
    parser.add_argument("--block-rows", type=int, default=160, help="samples of a block")
    parser.add_argument("--pace", type=float, default=100.0, help="MB/s that each job takes")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--job", nargs=2, metavar=("URL", "SOCKET"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.quick:
        options.epochs, options.samples, options.block_rows, options.pace = 1, 640, 40, 1000.0
    return options


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    # 64 shards or more, and not so many that they are small.
    shard_size = f"{max(32, options.samples * SAMPLE_BYTES // 64 >> 20)}MiB"
    size = cache_node.write(scratch / "www" / "data", options.samples, SAMPLE_BYTES, shard_size)
    fetched: list[int] = []
    with (http_origin.origin(scratch / "www", scratch / "nginx") as url,
          cache_node.daemon(scratch / "cache", size // CACHE_PARTS) as daemon):
        command = [sys.executable, __file__, "--job", f"{url}/data", str(daemon.socket), "--epochs",
                   str(options.epochs + 1), "--block-rows", str(options.block_rows), "--pace", str(options.pace)]
        jobs = [subprocess.Popen([*command, "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True) for seed in range(JOBS)]
        try:
            for _ in range(options.epochs + 2):
                for each in jobs:
                    if not each.stdout.readline():
                        raise SystemExit(f"a job ended with code {each.wait()}")
                fetched.append(cache_node.fetched_bytes(daemon.pool()))
                for each in jobs:
                    each.stdin.write("go\n")
                    each.stdin.flush()
            policy = daemon.pool()["policy"]
        finally:
            for each in jobs:
                each.kill()
                each.communicate()
    hits = [1 - (after - before) / (JOBS * size) for before, after in itertools.pairwise(fetched)]
    return {"hits": hits[1:], "first_epoch": hits[0], "policy": policy, "bytes": size}


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    if options.job:
        job(*options.job, options.seed, options.epochs, options.block_rows, options.pace * 1e6)
        return 0
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        found = measure(options, Path(scratch))
    if options.json:
        print(json.dumps(found))
        return 0
    print(machine.describe("numpy"))
    print(f"{JOBS} jobs with different orders, {found['bytes'] / 1e6:,.0f} MB of data, a cache of a quarter, "
          f"window 1/{WINDOWS}; policy {found['policy']}")
    hits = found["hits"]
    print(f"hits in origin bytes: {sum(hits) / len(hits):.3f}   (wanted: 0.45; epochs: "
          f"{', '.join(f'{value:.3f}' for value in hits)}; the first, which fills: {found['first_epoch']:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
