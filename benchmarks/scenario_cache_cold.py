"""A cold cache beside the line, and beside reading the origin without a cache; and what a core of the daemon fetches.

    python benchmarks/scenario_cache_cold.py [--rounds 3] [--samples 20000] [--rate 200MB]

In turns, in one run: an epoch through an empty cache behind a line of --rate (line.py before nginx), one with
cache="off" behind the same line, and plain range requests, which measure the line. Then an epoch through an empty cache
from nginx without a line, for the CPU seconds of the daemon a byte. An epoch behind the line takes 10 s by default:
what it begins and ends with takes 0.2 s, whatever its length (5,000 samples: 0.93 of the line, 20,000: 0.97).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import statistics
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import cache_node
import http_origin
import machine

import fastfeed as ff

RANGE_BYTES = 8 << 20
CONNECTIONS = 8


def plain_ranges(url: str, files: list[tuple[str, int]]) -> float:
    """Bytes a second of range requests on a few connections, whose bytes nobody looks at."""
    parts = urllib.parse.urlsplit(url)
    ranges = [(path, start, min(start + RANGE_BYTES, size)) for path, size in files
              for start in range(0, size, RANGE_BYTES)]

    def read(number: int) -> int:
        connection, done = http.client.HTTPConnection(parts.netloc, timeout=60), 0
        for path, start, stop in ranges[number::CONNECTIONS]:
            connection.request("GET", path, headers={"Range": f"bytes={start}-{stop - 1}"})
            done += len(connection.getresponse().read())
        connection.close()
        return done

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        done = sum(pool.map(read, range(CONNECTIONS)))
    return done / (time.perf_counter() - started)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--sample-bytes", type=int, default=100_000)
    parser.add_argument("--rate", type=lambda text: float(text.removesuffix("MB")), default=200.0, help="MB/s")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.samples = 1, 300
    return options


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, list[float]]:
    size = cache_node.write(scratch / "www" / "data", options.samples, options.sample_bytes)
    limit = 2 * size + (64 << 20)
    files = [(f"/data/shards/{file.name}", file.stat().st_size)
             for file in (scratch / "www" / "data" / "shards").iterdir()]
    found: dict[str, list[float]] = {name: [] for name in ("line", "off", "cached", "cached, no line", "a core")}

    def cold(url: str, number: str) -> tuple[float, float]:
        with cache_node.daemon(scratch / f"cache{number}", limit) as daemon:
            machine.touch_memory(3 * size)  # for what nginx reads, what is cached, and what is on its way
            dataset, before = ff.open(f"{url}/data", cache=str(daemon.socket)), cache_node.cpu_s(daemon.pid)
            with cache_node.loader(dataset) as loader:
                seconds = cache_node.epoch(loader, options.samples)
            return size / seconds, size / max(0.01, cache_node.cpu_s(daemon.pid) - before)

    with http_origin.origin(scratch / "www", scratch / "nginx1", options.rate * 1e6) as url:
        for number in range(options.rounds):
            found["line"].append(plain_ranges(url, files))
            with cache_node.loader(ff.open(f"{url}/data", cache="off")) as loader:
                found["off"].append(size / cache_node.epoch(loader, options.samples))
            found["cached"].append(cold(url, f"line{number}")[0])
    with http_origin.origin(scratch / "www", scratch / "nginx2") as url:
        for number in range(options.rounds):
            rate, a_core = cold(url, f"free{number}")
            found["cached, no line"].append(rate)
            found["a core"].append(a_core)
    return found


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        found = measure(options, Path(scratch))
    if options.json:
        print(json.dumps(found))
        return 0
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(machine.describe("numpy"))
    print(f"a line of {options.rate:.0f} MB/s before nginx; {options.samples:,} samples, from an empty cache")
    for name, values in found.items():
        print(f"{name:16} {medians[name] / 1e6:8,.1f} MB/s   ({', '.join(f'{value / 1e6:,.1f}' for value in values)})")
    print(f"cold / line: {medians['cached'] / medians['line']:.3f}   (wanted: 0.95)")
    print(f"cold / without a cache: {medians['cached'] / medians['off']:.3f}   (wanted: 1.0)")
    print(f"fetched by a core of the daemon: {medians['a core'] / 1e6:,.0f} MB/s   (wanted: 600)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
