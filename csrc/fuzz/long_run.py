"""Fuzzes the native core for long, under the address and the undefined-behaviour sanitizer, and says how much was run.

    python csrc/fuzz/long_run.py [--executions N] [--only NAME] [--seed S] [--coverage-guided]

Each target of csrc/fuzz runs its share of N inputs over its corpus (csrc/fuzz/driver.cpp; the tests run some thousand
of the same). With --coverage-guided the same targets are built by clang with libFuzzer, which begins with the same
corpus and goes where new branches are; what it found is kept below build/ and used again. One process at a time. A line
a target with its executions, then the total. The first finding ends its target: its input is kept, and the exit code
is 1. Put the input into the corpus when it is fixed.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import run as native

EXECUTION_COUNT = 10_000_000
# Inputs of one process: a finding is found again by running this many.
BATCH_COUNT = 250_000
# Targets whose one input costs ten times another's get fewer of them, so that their time is of the same order.
SLOW_TARGETS = ("fuzz_cache", "fuzz_image", "fuzz_jpeg", "fuzz_shard")
SLOW_SHARE = 0.3
INPUT_BYTES_MAX = 64 * 1024
INPUT_TIMEOUT_S = 20
RSS_MB_MAX = 1024
CLANGS = ("clang++", "clang++-19", "clang++-16", "clang++-15", "clang++-14")
GUIDED = [*native.SANITIZE, "-fsanitize=fuzzer-no-link"]
EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


class Finding(Exception):
    """A target ended with an error; its message is what the target said."""


def find_clang() -> str:
    found = next((path for name in CLANGS if (path := shutil.which(name))), None)
    if found is None:
        sys.exit(f"--coverage-guided needs one of {', '.join(CLANGS)} with libFuzzer. "
                 "On Debian or Ubuntu: apt-get install clang-16 libclang-rt-16-dev")
    return found


def build(folder: Path, targets: list[native.Program], *, guided: bool) -> None:
    """The core and the targets, under sanitizers."""
    builder = native.Builder(folder, GUIDED if guided else native.SANITIZE)
    core = native.core_sources(native.isa_flags())
    sources = sorted({path for target in targets for path in target.sources})
    if not builder.compile_all([*core, *((path, []) for path in sources)]):
        sys.exit("the core does not compile")
    if guided:
        builder.compiler += ["-fsanitize=fuzzer"]
    if not builder.link_all(targets, [path for path, _ in core]):
        sys.exit("the targets do not link")


def run_target(folder: Path, target: native.Program, arguments: list[str]) -> str:
    """What one process said. Finding where it did not end well."""
    work = folder / f"work-{target.name}"
    work.mkdir(exist_ok=True)
    done = subprocess.run([str(folder / target.name), *arguments], cwd=work, check=False, env=target.environment,
                          capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise Finding(f"exit code {done.returncode}; the input is in {work}\n{(done.stdout + done.stderr)[-8000:]}")
    return done.stdout + done.stderr


def run_driver(folder: Path, target: native.Program, count: int, seed: int) -> int:
    """`count` mutations of the corpus, in processes of BATCH_COUNT with a seed each. The executions."""
    corpus = target.arguments[0]
    for batch, start in enumerate(range(0, count, BATCH_COUNT)):
        mutations = min(BATCH_COUNT, count - start)
        run_target(folder, target, [corpus, "--mutate", str(mutations), "--seed", str(seed + batch)])
    return count


def run_guided(folder: Path, target: native.Program, count: int, seed: int) -> int:
    """libFuzzer until `count` executions. The executions."""
    found = folder / f"found-{target.name}"
    found.mkdir(exist_ok=True)
    said = run_target(folder, target, [
        f"-runs={count}", f"-seed={seed + 1}", f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_TIMEOUT_S}",
        f"-malloc_limit_mb={native.ALLOCATION_MB_MAX}", f"-rss_limit_mb={RSS_MB_MAX}", "-print_final_stats=1",
        "-artifact_prefix=crash-", str(found), target.arguments[0],
    ])
    executed = EXECUTED.search(said)
    return int(executed[1]) if executed else 0


def shares(targets: list[native.Program], executions: int) -> list[int]:
    """How many of the executions each target gets."""
    weights = [SLOW_SHARE if target.name in SLOW_TARGETS else 1.0 for target in targets]
    return [math.ceil(executions * weight / sum(weights)) for weight in weights]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the native core for long, under sanitizers.")
    parser.add_argument("--executions", type=int, default=EXECUTION_COUNT, metavar="N", help="of all targets together")
    parser.add_argument("--only", default="", metavar="NAME", help="only targets whose name contains NAME")
    parser.add_argument("--seed", type=int, default=int(time.time()), metavar="S", help="default: the time")
    parser.add_argument("--coverage-guided", action="store_true", help="with clang and libFuzzer")
    options = parser.parse_args()
    guided: bool = options.coverage_guided
    if guided:
        os.environ["CXX"] = find_clang()
    targets = [each for each in native.programs(0, 0) if each.name.startswith("fuzz_") and options.only in each.name]
    if guided:  # libFuzzer brings a main of its own
        targets = [native.Program(each.name, each.sources[:1], each.arguments) for each in targets]
    if not targets:
        sys.exit(f"no fuzz target's name contains {options.only!r}")
    folder = native.ROOT / "build" / ("native-fuzz-guided" if guided else "native-tests-sanitize")
    build(folder, targets, guided=guided)
    print(f"seed {options.seed}, {'libFuzzer' if guided else 'driver.cpp'}, ASan and UBSan", flush=True)
    total, failed = 0, 0
    for target, share in zip(targets, shares(targets, options.executions), strict=True):
        started_s = time.monotonic()
        try:
            count = (run_guided if guided else run_driver)(folder, target, share, options.seed)
        except Finding as finding:
            failed += 1
            print(f"FINDING {target.name}: {finding}", flush=True)
            continue
        total += count
        seconds = time.monotonic() - started_s
        print(f"{target.name:12} {count:>10,} executions, {count / seconds:>8,.0f} a second, no finding", flush=True)
    print(f"total {total:,} executions, {failed} targets with a finding", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
