"""A warm cache beside local shards: the same samples, loader and order, in turns, in one run.

    python benchmarks/scenario_cache_warm.py [--rounds 5] [--samples 5000] [--sample-bytes 100000]

Everything is in the page cache on both sides, so this is what the cache's own reader costs. Printed: the ratio of the
medians, the messages that the daemon got while all reads were hits, and its CPU in that time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cache_node
import http_origin
import machine

import fastfeed as ff


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--sample-bytes", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.samples = 1, 300
    return options


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    size = cache_node.write(scratch / "www" / "data", options.samples, options.sample_bytes)
    rates: dict[str, list[float]] = {"local": [], "cached": []}
    with (http_origin.origin(scratch / "www", scratch / "nginx") as url,
          cache_node.daemon(scratch / "cache", 2 * size + (64 << 20)) as daemon):
        local = cache_node.loader(ff.open(scratch / "www" / "data"))
        cached = cache_node.loader(ff.open(f"{url}/data", cache=str(daemon.socket)))
        with local, cached:
            for _ in range(2):  # fills the cache, and the page cache of both
                cache_node.epoch(local, options.samples)
                cache_node.epoch(cached, options.samples)
            time.sleep(1)  # what was read ahead for the next epoch is done
            before, cpu_before, started = daemon.pool(), cache_node.cpu_s(daemon.pid), time.perf_counter()
            for _ in range(options.rounds):
                rates["local"].append(size / cache_node.epoch(local, options.samples))
                rates["cached"].append(size / cache_node.epoch(cached, options.samples))
            elapsed_s, cpu = time.perf_counter() - started, cache_node.cpu_s(daemon.pid) - cpu_before
            after = daemon.pool()
    reads = after["readers"]["slab_reads"] - before["readers"]["slab_reads"]
    return {"rates": rates, "slab_reads": reads, "messages": after["fetch"]["requests"] - before["fetch"]["requests"],
            "daemon_cpu_share": cpu / elapsed_s}


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        found = measure(options, Path(scratch))
    if options.json:
        print(json.dumps(found))
        return 0
    medians = {name: statistics.median(values) for name, values in found["rates"].items()}
    print(machine.describe("numpy"))
    for name, values in found["rates"].items():
        print(f"{name:7} {medians[name] / 1e6:8,.0f} MB/s   ({', '.join(f'{value / 1e6:,.0f}' for value in values)})")
    print(f"warm cache / local shards: {medians['cached'] / medians['local']:.3f}   (wanted: 0.95)")
    print(f"messages in {found['slab_reads']:,} slab reads: {found['messages']}   (wanted: 0)")
    print(f"the daemon's CPU while reads hit: {100 * found['daemon_cpu_share']:.2f} % of a core   (wanted: below 1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
