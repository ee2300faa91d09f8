"""How well fastfeed and other loaders shuffle: the tables and plots of docs/shuffle-quality.md.

    python benchmarks/shuffle_quality.py                   # tables; two minutes
    python benchmarks/shuffle_quality.py --plots docs/images
    python benchmarks/shuffle_quality.py --small           # sets of a few blocks, 60 epochs
    python benchmarks/shuffle_quality.py --quick           # small sets, for tests

Others are simulated from their published definitions (`peer_shuffles.py`). Storage is the same for all: rows of 10 KB,
sorted by 100 classes, in shards of 64 MiB.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from peer_shuffles import PEERS, Rows

from fastfeed.dataset.commit import block_rows_of
from fastfeed.loader.shuffle_quality import (
    SortedClasses,
    chunk_needs,
    class_distance,
    iid_distance,
    neighbour_distance,
    storage_load,
)
from fastfeed.order import Order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS, ROW_BYTES, CLASSES, BATCH = 1_000_000, 10_000, 100, 256
IID = iid_distance(SortedClasses(ROWS, CLASSES).shares, BATCH)
SHARD_BYTES = 64 << 20
EPOCHS = 3
WINDOW_BLOCKS, GROUP_SLOTS = 1024, 8
# Rows and their bytes: 10 MB to 10 TB.
SIZES = tuple((rows, row_bytes) for row_bytes in (1_000, 100_000, 1_000_000) for rows in (10**4, 10**5, 10**6, 10**7))
SMALL = ((8_000, 4096), (10_000, 4096), (20_000, 4096), (100_000, 4096))


class Contender(NamedTuple):
    name: str
    epochs: list[Rows]  # the rows of each


def contenders(row_count: int) -> list[Contender]:
    """Ourselves, the others, and a true shuffle."""
    block_rows = block_rows_of(row_count, row_count * ROW_BYTES)
    shard_rows = SHARD_BYTES // ROW_BYTES
    found = [Contender("fastfeed, window", [Order(row_count, epoch=epoch, block_rows=block_rows).rows(0, row_count)
                                            for epoch in range(EPOCHS)])]
    for name, simulate in PEERS.items():
        found.append(Contender(name, [simulate(row_count, shard_rows, BATCH, epoch) for epoch in range(EPOCHS)]))
    found.append(Contender("a true shuffle", [np.random.default_rng(epoch).permutation(row_count)
                                              for epoch in range(EPOCHS)]))
    return found


def slices(rows: Rows) -> Callable[[int, int], Rows]:
    return lambda start, stop: rows[start:stop]


def inverse(rows: Rows) -> Callable[[Rows], Rows]:
    positions = np.empty_like(rows)
    positions[rows] = np.arange(len(rows))
    return lambda wanted: positions[wanted]


def print_contenders(found: list[Contender]) -> None:
    row_count = len(found[0].epochs[0])
    print(f"{row_count:,} rows of {ROW_BYTES:,} bytes, sorted by {CLASSES} classes; batches of {BATCH}; "
          f"{EPOCHS} epochs; an iid draw: {IID:.3f}")
    print("| | first batch | fifth | median | last | neighbours apart, of the epoch | neighbours in one batch |")
    print("|---|---|---|---|---|---|---|")
    for name, epochs in found:
        distance = class_distance([slices(rows) for rows in epochs], SortedClasses(row_count, CLASSES), BATCH)
        near = neighbour_distance(inverse(epochs[0]), row_count, BATCH)
        print(f"| {name} | {distance.first:.2f} | {distance.fifth:.2f} | {distance.median:.2f} | {distance.last:.2f} "
              f"| {near.epoch_share:.3f} | {near.same_batch:.2%} |")


def print_sizes(sizes: tuple[tuple[int, int], ...]) -> None:
    print("| rows | bytes a row | blocks | first batch | fifth | median | last | windows a chunk | peak in a window | "
          "peak in a step or group |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row_count, row_bytes in sizes:
        block_rows = block_rows_of(row_count, row_count * row_bytes)
        blocks = row_count // block_rows
        orders = [Order(row_count, epoch=epoch, block_rows=block_rows) for epoch in range(16)]
        distance = class_distance([order.rows for order in orders], SortedClasses(row_count, CLASSES), BATCH)
        window_rows = WINDOW_BLOCKS * block_rows if blocks > WINDOW_BLOCKS else row_count
        load = storage_load(orders[0].positions_of, row_count, row_bytes, window_rows, GROUP_SLOTS * block_rows, BATCH)
        steady = "–" if load.steady_peak is None else f"{load.steady_peak:.2f}"
        print(f"| {row_count:,} | {row_bytes:,} | {blocks:,} | {distance.first:.2f} | {distance.fifth:.2f} "
              f"| {distance.median:.2f} | {distance.last:.2f} | {load.windows_per_chunk:.2f} | {load.window_peak:.2f} "
              f"| {steady} |")


def print_small() -> None:
    print("10 classes, batches of 256, 60 epochs")
    print("| rows x K | first batch | fifth | median | last |")
    print("|---|---|---|---|---|")
    for row_count, block_rows in SMALL:
        orders = [Order(row_count, epoch=epoch, block_rows=block_rows) for epoch in range(60)]
        distance = class_distance([order.rows for order in orders], SortedClasses(row_count, 10), BATCH)
        print(f"| {row_count:,} x {block_rows:,} | {distance.first:.2f} | {distance.fifth:.2f} | {distance.median:.2f} "
              f"| {distance.last:.2f} |")


def plot(found: list[Contender], folder: Path) -> None:
    """Three pictures, each below 200 KB."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(2, 3, figsize=(9, 6), sharex=True, sharey=True, layout="constrained")
    for axis, (name, epochs) in zip(axes.flat, found, strict=True):
        plot_rows(axis, name, epochs[0])
    figure.supxlabel("when: position in the epoch")
    figure.supylabel("which: row in storage")
    figure.savefig(folder / "shuffle-rows.png", dpi=80)
    pyplot.close(figure)
    figure, axis = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for name, epochs in found:
        plot_distances(axis, name, epochs[0])
    axis.set(xlabel="position in the epoch", ylabel="class distance of a batch,\nover an iid draw's", ylim=(0, 4.5))
    axis.legend(ncols=2, fontsize="small", loc="center right")
    figure.savefig(folder / "shuffle-distance.png", dpi=80)
    pyplot.close(figure)
    figure, axis = pyplot.subplots(figsize=(9, 3), layout="constrained")
    plot_load(axis)
    figure.savefig(folder / "shuffle-load.png", dpi=80)
    pyplot.close(figure)


def plot_rows(axis: Axes, name: str, rows: Rows) -> None:
    """Runs of 25 consecutive positions, evenly spread: short lines where a batch comes from few places."""
    starts = np.linspace(0, len(rows) - 25, 80).astype(np.int64)
    at = (starts[:, None] + np.arange(25)).ravel()
    axis.scatter(at / len(rows), rows[at] / len(rows), s=1.5, linewidths=0)
    axis.set_title(name, fontsize="medium")


def plot_distances(axis: Axes, name: str, rows: Rows) -> None:
    batch_count = len(rows) // BATCH
    batches = np.unique(np.linspace(0, batch_count - 1, 300).astype(np.int64))
    classes = rows * CLASSES // len(rows)
    shares = np.array([np.bincount(classes[batch * BATCH:(batch + 1) * BATCH], minlength=CLASSES) for batch in batches])
    distances = np.abs(shares / BATCH - 1 / CLASSES).sum(axis=1) / 2
    axis.plot(batches / batch_count, distances / IID, label=name, linewidth=1)


def plot_load(axis: Axes) -> None:
    """Chunks that were needed up to a position, of ten million rows: a line where storage is asked evenly."""
    row_count = 10 * ROWS
    block_rows = block_rows_of(row_count, row_count * ROW_BYTES)
    for name, order in (("window", Order(row_count, block_rows=block_rows)),
                        ("full", Order(row_count, shuffle="full"))):
        window_rows = WINDOW_BLOCKS * block_rows if name == "window" else row_count
        needs = chunk_needs(order.positions_of, row_count, ROW_BYTES, window_rows)
        at = np.linspace(0, row_count, 400)
        axis.plot(at / row_count, np.searchsorted(needs, at), label=f'shuffle="{name}"')
    axis.set(xlabel="position in the epoch", ylabel="chunks of 1 MiB\nneeded so far")
    axis.legend(fontsize="small")


def main() -> None:
    parser = argparse.ArgumentParser(description="Print how well fastfeed and others shuffle.")
    parser.add_argument("--quick", action="store_true", help="small sets: for tests")
    parser.add_argument("--small", action="store_true", help="only sets of a few blocks")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw the pictures; needs matplotlib")
    args = parser.parse_args()
    if args.small:
        print_small()
        return
    found = contenders(ROWS // (50 if args.quick else 1))
    print_contenders(found)
    print_sizes(SIZES[:2] if args.quick else SIZES)
    if args.plots is not None:
        plot(found, args.plots)


if __name__ == "__main__":
    main()
