"""The first batch on a cold cache over a far origin, and the steps after it.

    python benchmarks/scenario_cache_first_batch.py [--rounds 3] [--samples 100000] [--delay-ms 50]

Samples of 10 KB, batches of 256, the default window shuffle: the first batch's rows lie in 256 places, and whoever
fetched their blocks whole would wait for 256 MiB. The origin is nginx behind a line that delays each request.
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

SAMPLE_BYTES = 10_000
BATCH = 256
STEPS = 100


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=50.0)
    parser.add_argument("--rate", type=lambda text: float(text.removesuffix("MB")), default=0.0, help="MB/s")
    parser.add_argument("--step-ms", type=float, default=20.0, help="what a training step takes")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.samples, options.step_ms = 1, 3000, 0.0
    return options


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, list[float]]:
    size = cache_node.write(scratch / "www" / "data", options.samples, SAMPLE_BYTES)
    found: dict[str, list[float]] = {"open_s": [], "first_s": [], "later_s": []}
    with http_origin.origin(scratch / "www", scratch / "nginx", options.rate * 1e6, options.delay_ms / 1e3) as url:
        for number in range(options.rounds):
            with cache_node.daemon(scratch / f"cache{number}", 2 * size + (64 << 20)) as daemon:
                started = time.perf_counter()
                dataset = ff.open(f"{url}/data", cache=str(daemon.socket))
                found["open_s"].append(time.perf_counter() - started)
                with cache_node.loader(dataset, batch_size=BATCH) as loader:
                    waits, asked = [], time.perf_counter()
                    for _, _ in zip(range(STEPS), loader, strict=False):
                        waits.append(time.perf_counter() - asked)
                        time.sleep(options.step_ms / 1e3)  # stands for the training step
                        asked = time.perf_counter()
            found["first_s"].append(waits[0])
            found["later_s"].append(max(waits[1:]))
    return found


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    with tempfile.TemporaryDirectory(prefix="fastfeed-bench-") as scratch:
        found = measure(options, Path(scratch))
    if options.json:
        print(json.dumps(found))
        return 0
    print(machine.describe("numpy"))
    print(f"{options.samples:,} samples of 10 KB, batches of {BATCH}, {options.delay_ms:.0f} ms to the origin, "
          f"steps of {options.step_ms:.0f} ms, an empty cache each time")
    for name, wanted in (("open_s", ""), ("first_s", "wanted: below 1.5"), ("later_s", "wanted: below first_s")):
        values = found[name]
        each = ", ".join(f"{value:.3f}" for value in values)
        print(f"{name:8} {statistics.median(values):6.3f} s   ({each})   {wanted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
