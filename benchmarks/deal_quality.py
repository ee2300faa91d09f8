"""What the home deal brings and what it costs: the tables of docs/deal.md.

    python benchmarks/deal_quality.py            # a minute
    python benchmarks/deal_quality.py --quick

A billion rows in blocks of 4,096, sorted by 1,000 classes; one rank a node. Printed for a number of nodes and samples a
node and step: the share of samples that are dealt to their home, and the classes that a node meets in a step.
"""

from __future__ import annotations

import argparse
import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastfeed._native.deal import deal_to_homes
from fastfeed.loader.home_deal import ACTIVE_BLOCKS_MIN, HomeDeal
from fastfeed.loader.sampler import Picks
from fastfeed.order import Order

ROWS, BLOCK_ROWS, CLASSES = 10**9, 4096, 1000
NODE_COUNTS = (8, 64, 512)
NODE_SAMPLES = (8, 32, 256)
# Samples a figure is a mean over, and steps at most.
SAMPLES_MEASURED, STEPS_MAX = 1 << 19, 200


class Dealt(NamedTuple):
    """Means over steps and nodes."""

    local: float  # share of samples at home
    classes_home: float  # distinct classes of a node's share
    classes_fixed: float


def arithmetic_local(samples: int) -> float:
    """Of a node whose home samples are Poisson distributed around its `samples` places: E min(X, s) / s."""
    return 1 - math.exp(samples * math.log(samples) - samples - math.lgamma(samples + 1))


def measure(order: Order, node_count: int, node_samples: int, samples_measured: int = SAMPLES_MEASURED) -> Dealt:
    """Deal steps from all over the epoch."""
    nodes = [f"node{i:04d}" for i in range(node_count)]
    deal = HomeDeal(0, nodes, [_dataset()])
    of_rank = np.arange(node_count, dtype=np.int32)
    global_batch = node_count * node_samples
    step_count = min(STEPS_MAX, max(2, samples_measured // global_batch))
    found = []
    for step in range(step_count):
        start = order.n // step_count * step
        rows = order.rows(start, start + global_batch)
        homes = deal.homes(Picks(rows))
        dealt = deal_to_homes(homes, of_rank, node_count)
        classes = rows * CLASSES // ROWS
        by_node = np.repeat(of_rank, node_samples)
        found.append(((homes[dealt] == by_node).mean(), _distinct(classes[dealt], node_count),
                      _distinct(classes, node_count)))
    return Dealt(*np.mean(found, axis=0).tolist())


def _distinct(classes: npt.NDArray[np.int64], node_count: int) -> float:
    shares = np.sort(classes.reshape(node_count, -1), axis=1)
    return float((1 + (np.diff(shares, axis=1) != 0).sum(axis=1)).mean())


def _dataset() -> Any:
    return SimpleNamespace(home_key=5, physical_block_rows=BLOCK_ROWS, is_view=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the tables of docs/deal.md.")
    parser.add_argument("--quick", action="store_true", help="few steps: for tests")
    measured = SAMPLES_MEASURED // (16 if parser.parse_args().quick else 1)
    full = Order(ROWS, shuffle="full", block_rows=BLOCK_ROWS)
    default = Order(ROWS, block_rows=BLOCK_ROWS)
    print("| nodes | samples a node | at home, by arithmetic | full shuffle | window of 64 blocks a node | "
          "default window | classes a node: fixed | home, 64 blocks a node | home, default window |")
    print("|---|---|---|---|---|---|---|---|---|")
    for node_count in NODE_COUNTS:
        wide = Order(ROWS, shuffle_window=ACTIVE_BLOCKS_MIN * node_count, block_rows=BLOCK_ROWS)
        for samples in NODE_SAMPLES:
            of_full, of_wide, of_default = (measure(order, node_count, samples, measured)
                                            for order in (full, wide, default))
            print(f"| {node_count} | {samples} | {arithmetic_local(samples):.3f} | {of_full.local:.3f} | "
                  f"{of_wide.local:.3f} | {of_default.local:.3f} | {of_full.classes_fixed:.0f} | "
                  f"{of_wide.classes_home:.0f} | {of_default.classes_home:.0f} |")


if __name__ == "__main__":
    main()
