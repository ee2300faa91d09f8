"""`fastfeed info`: what a dataset is, without reading its payload."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastfeed.cli.common import (
    add_command,
    add_snapshot_option,
    print_json,
    table_text,
)
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.dataset.folder import snapshot_numbers
from fastfeed.dataset.rejects import rejects_of
from fastfeed.dataset.shards import ShardEntry
from fastfeed.dataset.statistics import Statistics, statistics_of
from fastfeed.format.schema import ColumnType, Schema
from fastfeed.format.sizes import format_size
from fastfeed.format.wording import count_text, few

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

# How much of a long value one line of text shows; --json has all of it.
VALUE_CHARACTERS_SHOWN = 100


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "info",
        description="Say what a dataset is: rows, bytes, schema, shards, snapshots, statistics of its columns,\n"
        "metadata and where it came from. Reads no payload.",
        example="fastfeed info out/photos\nfastfeed info out/photos --json",
    )
    parser.add_argument("url", metavar="URL", help="the dataset: its folder or URL")
    add_snapshot_option(parser)


def run(args: argparse.Namespace) -> int:
    report = examine(open_dataset(args.url, snapshot=args.snapshot))
    if args.json:
        print_json(report)
    elif not args.quiet:
        print(report_text(report))
    return 0


def examine(dataset: Dataset) -> dict[str, Any]:
    """Everything that info knows, as values that JSON can hold."""
    shards = dataset.shards()
    sizes = [shard.bytes for shard in shards]
    schema = dataset.schema
    statistics = statistics_json(statistics_of(shards), schema) if isinstance(schema, Schema) else None
    return {
        "url": dataset.url,
        "snapshot": dataset.snapshot,
        "snapshots": snapshot_numbers(dataset.opened.storage),
        "layout": dataset.layout,
        "rows": len(dataset),
        "rows_deleted": dataset.opened.manifest.rows - dataset.opened.manifest.rows_present,
        "tokens": dataset.tokens,
        "bytes": sum(sizes),
        "shards": {
            "count": len(sizes),
            "bytes_min": min(sizes, default=0),
            "bytes_mean": sum(sizes) // max(1, len(sizes)),
            "bytes_max": max(sizes, default=0),
        },
        "block_rows": dataset.block_rows,
        "fingerprint": dataset.fingerprint,
        "schema": schema_json(dataset),
        "dictionary_bytes": dictionary_bytes(shards),
        "statistics": statistics,
        "rejects": None if (rejects := rejects_of(dataset.provenance)) is None else rejects.provenance(),
        "metadata": dataset.metadata,
        "provenance": dataset.provenance,
    }


def schema_json(dataset: Dataset) -> dict[str, Any]:
    """Column name to its type, as values that JSON can hold."""
    if not isinstance(dataset.schema, Schema):
        return {name: {"kind": "tokens", "dtype": dataset.schema.dtype} for name in dataset.schema.names}
    return {name: column_json(column) for name, column in dataset.schema.items()}


def column_json(column: ColumnType) -> dict[str, Any]:
    """A column's type as values that JSON can hold."""
    described: dict[str, Any] = {"kind": column.kind.name.lower()}
    if column.item_type is not None:
        described["dtype"] = column.item_type
    if column.dims is not None:
        described["shape"] = list(column.dims)
    described["codec"] = column.storage.name.lower()
    described["nullable"] = column.nullable
    return described


def dictionary_bytes(shards: Sequence[ShardEntry]) -> dict[str, int]:
    """Column -> bytes of the zstd dictionary that its last shard uses."""
    if not shards:
        return {}
    return {name: len(dictionary) for name, dictionary in shards[-1].dictionaries.items()}


def statistics_json(statistics: Statistics, schema: Schema) -> dict[str, Any]:
    """The lanes' statistics, and how many bytes the values would take as they are."""
    fixed_bytes = sum(column.fixed_bytes for column in schema.values()) * statistics.rows
    raw_bytes = fixed_bytes + sum(
        int(statistics.lanes[lane].total) for name in schema if (lane := f"{name}.bytes") in statistics.lanes
    )
    return {
        "shards": statistics.shards,
        "rows": statistics.rows,
        "payload_bytes": statistics.payload_bytes,
        "raw_bytes": raw_bytes,
        "lanes": {
            name: {"min": lane.minimum, "max": lane.maximum, "mean": lane.mean, "nulls": lane.nulls}
            for name, lane in statistics.lanes.items()
        },
    }


def report_text(report: dict[str, Any]) -> str:
    shards = report["shards"]
    rows = [
        ("dataset", report["url"]),
        ("snapshot", f"{report['snapshot']} of {few([str(number) for number in report['snapshots']])}"),
        ("rows", f"{report['rows']:,}" + (f" documents, {report['tokens']:,} tokens" if report["tokens"] else "")),
        *([("deleted", f"{report['rows_deleted']:,} rows of the shards")] if report["rows_deleted"] else []),
        ("bytes", f"{format_size(report['bytes'])} ({report['bytes']:,})"),
        (
            "shards",
            f"{shards['count']:,} of {format_size(shards['bytes_min'])} to {format_size(shards['bytes_max'])}",
        ),
        ("block", count_text(report["block_rows"], "row")),
    ]
    if report["rejects"]:
        rows.append(
            ("rejects", f"{count_text(report['rejects']['count'], 'sample')} left out, see {report['rejects']['file']}")
        )
    parts = [table_text(rows), "columns\n" + table_text(schema_rows(report), indent="  ")]
    if report["statistics"] is not None and report["statistics"]["lanes"]:
        parts.append(statistics_text(report["statistics"], shards["count"]))
    parts += [
        f"{title}\n" + table_text(value_rows(report[title]), indent="  ")
        for title in ("metadata", "provenance")
        if report[title]
    ]
    return "\n\n".join(parts)


def schema_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, column in report["schema"].items():
        words = [column["kind"], column.get("dtype", "")]
        if "shape" in column:
            words.append("x".join("?" if size is None else str(size) for size in column["shape"]))
        if column.get("codec", "raw") != "raw":
            size = report["dictionary_bytes"].get(name)
            words.append(column["codec"] + (f" with a dictionary of {format_size(size)}" if size else ""))
        if column.get("nullable"):
            words.append("nullable")
        rows.append((name, " ".join(word for word in words if word)))
    return rows


def statistics_text(statistics: dict[str, Any], shard_count: int) -> str:
    looked_at = (
        "all shards" if statistics["shards"] == shard_count else f"{statistics['shards']} of {shard_count:,} shards"
    )
    rows = []
    for name, lane in statistics["lanes"].items():
        text = f"{number_text(lane['min'])} to {number_text(lane['max'])}, mean {number_text(lane['mean'])}"
        rows.append((name, text + (f", {lane['nulls']:,} null" if lane["nulls"] else "")))
    raw_bytes, payload_bytes = statistics["raw_bytes"], statistics["payload_bytes"]
    rows.append(("stored", f"{payload_bytes / max(1, raw_bytes):.3f} of the values' {format_size(raw_bytes)}"))
    return f"statistics of {looked_at}\n" + table_text(rows, indent="  ")


def number_text(value: float | int | bool | None) -> str:
    """A number of a statistic: four digits of a fraction, all of a whole number."""
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def value_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value_text(value)) for name, value in values.items()]


def value_text(value: Any) -> str:
    """A value of the metadata on one line; long ones are cut."""
    if isinstance(value, list):
        return f"{len(value):,}: {few([str(item) for item in value])}" if value else "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_CHARACTERS_SHOWN else text[: VALUE_CHARACTERS_SHOWN - 3] + "..."
