"""`fastfeed bench --shuffle-quality`: how well the order of a dataset shuffles, as numbers. Reads no samples.

For a dataset, or for one that is only described (--rows, --row-bytes). The numbers are defined in
docs/shuffle-quality.md.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import numpy as np

from fastfeed.cli.common import positive_int, table_text
from fastfeed.dataset.commit import block_rows_of
from fastfeed.dataset.dataset import Dataset
from fastfeed.errors import ConfigError
from fastfeed.loader.loader import mean_sample_bytes
from fastfeed.loader.shuffle_quality import (
    LabelClasses,
    SortedClasses,
    class_distance,
    neighbour_distance,
    storage_load,
)
from fastfeed.order import SHUFFLE_WINDOW_DEFAULT, Order, shuffle_mode

# Distances are means over so many epochs: those of single batches scatter by a quarter of themselves.
EPOCH_COUNT = 16
CLASS_COUNT_DEFAULT = 100
BATCH_SIZE_DEFAULT = 256
# Slots that the order mixes together (docs/order.md, section 4).
GROUP_SLOTS = 8
SHUFFLES: dict[str, str | bool] = {"window": "window", "full": "full", "none": False}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that only count with --shuffle-quality."""
    group = parser.add_argument_group("shuffle quality")
    group.add_argument("--shuffle-quality", action="store_true",
                       help="print how well the order shuffles, and what it asks of storage; nothing is fed")
    group.add_argument("--classes", type=positive_int, metavar="N",
                       help=f"classes that the rows are taken to be sorted by (default: {CLASS_COUNT_DEFAULT})")
    group.add_argument("--label", metavar="LANE", help="the column that tells a row's class, instead of --classes")
    group.add_argument("--shuffle", choices=tuple(SHUFFLES), help="which shuffle (default: window)")
    group.add_argument("--shuffle-window", type=positive_int, metavar="BLOCKS",
                       help=f"blocks of the window (default: {SHUFFLE_WINDOW_DEFAULT:,})")
    group.add_argument("--rows", type=positive_int, metavar="N", help="without a dataset: how many rows it would have")
    group.add_argument("--row-bytes", type=positive_int, metavar="N", help="without a dataset: bytes of a row")


def check_options(args: argparse.Namespace) -> None:
    """Raises ConfigError for options that mean nothing together."""
    described = args.rows is not None or args.row_bytes is not None
    if not args.shuffle_quality:
        given = [name for name in ("classes", "label", "shuffle", "shuffle_window", "rows", "row_bytes")
                 if getattr(args, name) is not None]
        if given:
            raise ConfigError(f"--{given[0].replace('_', '-')} belongs to --shuffle-quality; give both or neither.")
    elif args.label is not None and (args.classes is not None or args.url is None):
        raise ConfigError("--label tells the classes of the rows of a dataset: it needs its folder, and no --classes.")
    elif args.url is not None and described:
        raise ConfigError("--rows and --row-bytes describe a dataset that is not there; leave them out, or the folder.")
    elif args.url is None and (args.rows is None or args.row_bytes is None):
        raise ConfigError("give the folder of a dataset, or describe one by --rows and --row-bytes.")


def measure(view: Dataset | None, args: argparse.Namespace) -> dict[str, Any]:
    """The report. `view`: the dataset; None: the one that `args` describe."""
    if view is None:
        row_count, row_bytes = args.rows, args.row_bytes
        block_rows = block_rows_of(row_count, row_count * row_bytes)
    else:
        row_count, row_bytes, block_rows = len(view), round(mean_sample_bytes(view)), view.block_rows
    if row_count < 2:
        raise ConfigError("one row has no order; --shuffle-quality needs two.")
    shuffle = SHUFFLES[args.shuffle or "window"]
    window_blocks = args.shuffle_window or SHUFFLE_WINDOW_DEFAULT
    batch_size = min(args.batch_size or BATCH_SIZE_DEFAULT, row_count)
    orders = [Order(row_count, epoch=epoch, shuffle=shuffle, shuffle_window=window_blocks, block_rows=block_rows)
              for epoch in range(EPOCH_COUNT)]
    window_rows = min(window_blocks * block_rows, row_count)
    if shuffle == "full" or window_blocks >= row_count // block_rows:
        window_rows = row_count
    classes = classes_of(view, row_count, args)
    return {
        "rows": row_count,
        "row_bytes": row_bytes,
        "block_rows": block_rows,
        "shuffle": shuffle_mode(shuffle).name.lower(),
        "window_blocks": window_rows // block_rows,
        "batch_size": batch_size,
        "classes": classes.class_count,
        "label": args.label,
        "class_distance": asdict(class_distance([order.rows for order in orders], classes, batch_size)),
        "neighbours": asdict(neighbour_distance(orders[0].positions_of, row_count, batch_size)),
        "storage": asdict(storage_load(orders[0].positions_of, row_count, row_bytes, window_rows,
                                       GROUP_SLOTS * block_rows, batch_size)),
    }


def classes_of(view: Dataset | None, row_count: int, args: argparse.Namespace) -> SortedClasses | LabelClasses:
    """The classes of the rows: those of --label, else --classes that they are sorted by."""
    if view is None or args.label is None:
        return SortedClasses(row_count, min(args.classes or CLASS_COUNT_DEFAULT, row_count))
    labels = view.lane(args.label)
    if labels.dtype.kind not in "iub":
        raise ConfigError(f"--label {args.label}: its values are {labels.dtype}, and no classes; name a column of "
                          "whole numbers.")
    return LabelClasses(np.ma.getdata(labels))


def report_text(report: dict[str, Any]) -> str:
    distance, near, load = report["class_distance"], report["neighbours"], report["storage"]
    mean = "of a sample of chunks" if load["is_sample"] else f"of {load['chunk_count']:,}"
    classes = (f"{report['classes']:,} classes by {report['label']}" if report["label"] else
               f"sorted by {report['classes']:,} classes")
    peaks = [f"{load[name]:.2f} x the mean {what}" for name, what in
             (("window_peak", "in a window"),
              ("steady_peak", "in a step" if load["span_steps"] == 1 else f"in {load['span_steps']:,} steps"))
             if load[name] is not None]
    rows = [
        ("rows", f"{report['rows']:,} of {report['row_bytes']:,} bytes, {classes}"),
        ("shuffle", f"{report['shuffle']}, {report['window_blocks']:,} blocks of {report['block_rows']:,} rows"),
        ("batches", f"of {report['batch_size']:,}: an iid draw's classes are {distance['iid']:.3f} from the ideal"),
        ("distance", ", ".join(f"{name} {distance[name]:.2f} x" for name in ("first", "fifth", "median", "last"))),
        ("neighbours", f"{near['epoch_share']:.3f} of the epoch apart (1/3: a true shuffle), by the median "
                       f"{near['median_batches']:,.1f} batches; {near['same_batch']:.2%} in one batch"),
        ("chunks", f"needed in {load['windows_per_chunk']:.2f} windows an epoch, {mean}"),
    ]
    if peaks:
        rows.append(("peak", ", ".join(peaks)))
    return table_text(rows)
