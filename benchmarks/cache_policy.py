"""What policies of a cache make of futures that are known: the cases that decided which ones are built.

    python benchmarks/cache_policy.py                 the tables of docs/cache-policy.md
    python benchmarks/cache_policy.py --plots FOLDER  also draw the pictures; needs matplotlib

First, chunks that are read at once, in independent random orders: the cases for which figures are known from elsewhere.
Then jobs that read through sheared windows, by the real order: a chunk is in use for as long as its block is open.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastfeed._native.policy import WHOLE_PART, simulate
from fastfeed.cache.future import Course, Future, OrderShape, geometry_of
from fastfeed.cache.policy import Cost, Policy, choose
from fastfeed.order import ShuffleMode

MIB = 1 << 20
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """Chunks one after the other; expected: hit ratios that were measured elsewhere, by policy."""

    name: str
    share: float  # of the data, what the cache holds
    chunks: Callable[[np.random.Generator], I64]
    expected: dict[Policy, float]
    warm_up: float = 0.0  # of the sequence, what is not counted
    seeds: int = 1


# Chunks of a case. Half as many differ by less than 0.3 points.
CHUNKS = 16000


def one_job(epochs: int) -> Callable[[np.random.Generator], I64]:
    return lambda rng: np.concatenate([rng.permutation(CHUNKS) for _ in range(epochs)])


def one_node(nodes: int, epochs: int) -> Callable[[np.random.Generator], I64]:
    """What one of several nodes reads, where each epoch deals all chunks anew."""
    return lambda rng: np.concatenate([rng.permutation(CHUNKS)[: CHUNKS // nodes] for _ in range(epochs)])


def two_jobs(epochs: int, lag: float | None) -> Callable[[np.random.Generator], I64]:
    """Two jobs that take turns. lag: of an epoch, in the same order; None: in orders of their own."""

    def make(rng: np.random.Generator) -> I64:
        first = np.concatenate([rng.permutation(CHUNKS) for _ in range(epochs)])
        second = np.concatenate([rng.permutation(CHUNKS) for _ in range(epochs)]) if lag is None else first
        if lag is None:
            return np.stack([first, second], axis=1).reshape(-1)
        behind = int(lag * CHUNKS)
        both = np.stack([first[behind:], second[: len(second) - behind]], axis=1).reshape(-1)
        return np.concatenate([first[:behind], both])

    return make


R, M, L = Policy.RESIDENT, Policy.MIN, Policy.LRU
CASES = [
    Case("1 job", 0.25, one_job(8), {R: 0.250, M: 0.250, L: 0.033}, warm_up=0.25),
    Case("1 job", 0.50, one_job(8), {R: 0.500, M: 0.500, L: 0.154}, warm_up=0.25),
    Case("1 job", 0.75, one_job(8), {R: 0.750, M: 0.750, L: 0.405}, warm_up=0.25),
    Case("1 job", 0.90, one_job(8), {R: 0.900, M: 0.900, L: 0.672}, warm_up=0.25),
    Case("1 of 8 nodes, 10 epochs", 1 / 16, one_node(8, 10), {R: 0.055, M: 0.242, L: 0.014}, seeds=8),
    Case("1 of 8 nodes, 10 epochs", 1 / 8, one_node(8, 10), {R: 0.115, M: 0.323, L: 0.059}, seeds=8),
    Case("1 of 8 nodes, 40 epochs", 1 / 8, one_node(8, 40), {R: 0.121, M: 0.392, L: 0.063}, seeds=8),
    Case("2 jobs", 0.25, two_jobs(8, None), {R: 0.250, M: 0.500, L: 0.145}, warm_up=0.25),
    Case("2 jobs, same order, 10 % apart", 0.10, two_jobs(8, 0.1), {R: 0.100, M: 0.508, L: 0.006}, warm_up=0.25),
]


def run_case(case: Case) -> dict[Policy, tuple[float, float]]:
    """Hit ratio, and chunks written by chunk read, of each policy."""
    found: dict[Policy, list[tuple[float, float]]] = {policy: [] for policy in Policy}
    for seed in range(case.seeds):
        chunks = case.chunks(np.random.default_rng(seed))
        times = np.arange(len(chunks), dtype=np.int64)
        # Who came first is resident: nobody is ever replaced.
        ranks = np.empty(CHUNKS, np.uint64)
        _, first = np.unique(chunks, return_index=True)
        seen = chunks[np.sort(first)]
        unseen = np.setdiff1d(np.arange(CHUNKS), seen)
        ranks[np.concatenate([seen, unseen])] = np.arange(CHUNKS, dtype=np.uint64)
        for policy in Policy:
            made = simulate(policy, chunks.astype(np.uint32), times, times, np.full(len(chunks), WHOLE_PART, np.uint16),
                            np.ones(len(chunks), np.uint8), ranks, int(case.share * CHUNKS),
                            int(case.warm_up * len(chunks)))  # fmt: skip
            found[policy].append((made["hits"] / made["uses"], made["writes"] / made["uses"]))
    return {policy: (float(np.mean([hit for hit, _ in each])), float(np.mean([written for _, written in each])))
            for policy, each in found.items()}  # fmt: skip


def windowed(jobs: int, share: float, *, block_mib: int, window_share: float = 1 / 64, data_gib: int = 64,
             apart: float = 0.37, same_order: bool = False) -> dict[Policy, Cost]:
    """Jobs that read the same data through windows, each at its place of the epoch, in orders of their own or not."""
    blocks = data_gib * 1024 // block_mib
    block_rows = 40
    starts = 4096 + np.arange(blocks, dtype=np.uint64) * np.uint64(block_mib * MIB)
    size_bytes = 4096 + (data_gib << 30)
    geometry = geometry_of([bytes(16)], [size_bytes], starts, starts + np.uint64(block_mib * MIB))
    n = blocks * block_rows
    courses = []
    for job in range(jobs):
        order = OrderShape(n, 0 if same_order else job, ShuffleMode.WINDOW, max(1, int(blocks * window_share)),
                           block_rows)  # fmt: skip
        behind = int(apart * job * n)  # at the beginning of epoch 3, or so far before it
        epoch, position = divmod(3 * n - behind, n)
        courses.append(Course(f"job {job}", geometry, order, epoch, position))
    future = Future()
    future.set_courses(courses)
    return choose(future, courses, int(share * data_gib * 1024), list(Policy)).costs


def windowed_cases(quick: bool) -> list[tuple[str, dict[Policy, Cost]]]:
    size = 8 if quick else 64
    cases = [("1 job, a quarter, blocks of 16 MiB", windowed(1, 0.25, block_mib=16, data_gib=size))]
    cases += [(f"2 jobs, a quarter, blocks of {mib} MiB", windowed(2, 0.25, block_mib=mib, data_gib=size))
              for mib in (4, 8, 16, 32)]  # fmt: skip
    cases.append(("3 jobs, a quarter, blocks of 16 MiB", windowed(3, 0.25, block_mib=16, data_gib=size)))
    lagging = windowed(2, 0.10, block_mib=16, data_gib=size, apart=0.05, same_order=True)
    return [*cases, ("2 jobs, same order, 5 % apart, a tenth, blocks of 16 MiB", lagging)]


def print_cases(cases: Sequence[tuple[Case, dict[Policy, tuple[float, float]]]]) -> None:
    print("| case | cache | resident | MIN | LRU | S3-FIFO | MIN writes a read |")
    print("|---|---|---|---|---|---|---|")
    for case, found in cases:
        cells = [f"{found[policy][0]:.3f} ({case.expected[policy]:.3f})" for policy in (R, M, L)]
        print(f"| {case.name} | {case.share:.4g} | {' | '.join(cells)} | {found[Policy.S3FIFO][0]:.3f} | "
              f"{found[M][1]:.2f} |")  # fmt: skip


def print_windowed(cases: Sequence[tuple[str, dict[Policy, Cost]]]) -> None:
    print("| jobs, cache, blocks | resident | MIN | LRU | S3-FIFO | writes a byte read, resident | MIN |")
    print("|---|---|---|---|---|---|---|")
    for name, costs in cases:
        hits = " | ".join(f"{costs[policy].hit_ratio:.3f}" for policy in Policy)
        print(f"| {name} | {hits} | {costs[R].write_ratio:.2f} | {costs[M].write_ratio:.2f} |")


def draw(folder: Path, quick: bool) -> None:
    """Hit ratios over the size of the cache, for one job and for two; blocks of 16 MiB."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = 4 if quick else 32
    shares = np.linspace(0.05, 1.0, 6 if quick else 20)
    figure, places = pyplot.subplots(1, 2, figsize=(9, 3.4), sharey=True, constrained_layout=True)
    for jobs, place in zip((1, 2), places, strict=True):
        costs = [windowed(jobs, float(share), block_mib=16, data_gib=size) for share in shares]
        for policy, label in zip(Policy, ("resident", "MIN", "LRU", "S3-FIFO"), strict=True):
            place.plot(shares, [max(0.0, cost[policy].hit_ratio) for cost in costs], label=label)
        place.set_title("one job" if jobs == 1 else "two jobs, orders of their own")
        place.set_xlabel("cache, of the data")
        place.grid(alpha=0.3)
    places[0].set_ylabel("bytes that no origin gave")
    places[0].legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "cache-hits.png", dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less data: seconds")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw the picture; needs matplotlib")
    args = parser.parse_args()
    cases = [(case, run_case(case)) for case in CASES]
    windows = windowed_cases(args.quick)
    if args.json:
        told = [{"case": case.name, "share": case.share,
                 "hits": {policy.name: hit for policy, (hit, _) in found.items()},
                 "expected": {policy.name: hit for policy, hit in case.expected.items()}}
                for case, found in cases]  # fmt: skip
        jobs = {name: {policy.name: cost.hit_ratio for policy, cost in costs.items()} for name, costs in windows}
        print(json.dumps({"cases": told, "windows": jobs}))
    else:
        print("Chunks read at once: hit ratio (and what was measured elsewhere)\n")
        print_cases(cases)
        print("\nThrough windows of 1/64 of the data, by the real order: bytes that no origin gave\n")
        print_windowed(windows)
    if args.plots is not None:
        draw(args.plots, args.quick)


if __name__ == "__main__":
    main()
