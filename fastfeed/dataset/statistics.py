"""Statistics of a dataset's columns, from the shards' lanes: no payload is read.

A lane is a few bytes a row, but each shard costs two small reads. So of a dataset with many shards only some are
looked at, evenly spread over it; the result says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fastfeed.dataset.lanes import read_lanes
from fastfeed.dataset.shards import ShardEntry
from fastfeed.format.layout import HEADER_BYTES

# About a tenth of a second on a local disk.
SHARDS_MAX = 64


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """Of one lane, over the rows that were looked at. None where all of them are null."""

    minimum: float | int | bool | None
    maximum: float | int | bool | None
    mean: float | None
    total: float
    nulls: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Lanes of `shards` shards with `rows` rows together; `payload_bytes` is what their frames take."""

    shards: int
    rows: int
    payload_bytes: int
    lanes: dict[str, LaneStatistics]


def statistics_of(shards: Sequence[ShardEntry]) -> Statistics:
    """Look at the lanes of at most SHARDS_MAX of `shards`. CorruptDataError, OSError: a shard cannot be read."""
    chosen = [
        shards[number * len(shards) // min(len(shards), SHARDS_MAX)] for number in range(min(len(shards), SHARDS_MAX))
    ]
    batches = [batch for shard in chosen if (batch := read_lanes(shard)) is not None]
    lanes = {}
    if batches:
        table = pa.Table.from_batches(batches)
        lanes = {name: lane_statistics(table.column(name)) for name in table.schema.names}
    return Statistics(
        shards=len(chosen),
        rows=sum(shard.rows for shard in chosen),
        payload_bytes=sum(shard.payload_end - HEADER_BYTES for shard in chosen),
        lanes=lanes,
    )


def lane_statistics(lane: pa.ChunkedArray) -> LaneStatistics:
    """Extremes, mean and total of one lane over the values that are not null, and how many are."""
    values = lane.cast(pa.float32()) if pa.types.is_float16(lane.type) else lane
    extremes = pc.min_max(values).as_py()
    numbers = values.cast(pa.uint8()) if pa.types.is_boolean(values.type) else values
    total = pc.sum(numbers.cast(pa.float64())).as_py()
    present = len(lane) - lane.null_count
    return LaneStatistics(
        minimum=extremes["min"],
        maximum=extremes["max"],
        mean=total / present if present else None,
        total=total or 0.0,
        nulls=lane.null_count,
    )
