"""Statistics of a dataset's columns, from the shards' lanes: no payload is read.

A lane is a few bytes a row, but each shard costs two small reads. So of a dataset with many shards only some are
looked at, evenly spread over it; the result says how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fastfeed._native.checksum import crc32c
from fastfeed.dataset.shards import ShardEntry
from fastfeed.errors import CorruptDataError
from fastfeed.format.layout import HEADER_BYTES, TRAILER_BYTES, SectionId, Trailer, unpack_directory

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
    batches = [batch for shard in chosen if (batch := read_lanes(shard.path)) is not None]
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


def read_lanes(path: Path) -> pa.RecordBatch | None:
    """The lanes of one shard, with their checksum checked; None where it has none."""
    with path.open("rb") as file:
        file_bytes = file.seek(0, 2)
        file.seek(max(0, file_bytes - TRAILER_BYTES))
        try:
            trailer = Trailer.unpack(file.read(TRAILER_BYTES), file_bytes, crc32c)
            file.seek(trailer.directory_offset)
            directory = file.read(trailer.directory_bytes)
            sections = {section.id: section for section in unpack_directory(directory, trailer.directory_offset)}
            lanes = sections.get(SectionId.LANES)
            if lanes is None:
                return None
            file.seek(lanes.offset)
            content = file.read(lanes.bytes)
            if crc32c(directory) != trailer.directory_crc or crc32c(content) != lanes.crc:
                raise CorruptDataError("the lanes' checksum does not fit")
            return pa.ipc.open_file(pa.py_buffer(content)).get_batch(0)
        except CorruptDataError as error:
            raise CorruptDataError(f"{path}: {error}") from error
        except pa.ArrowInvalid as error:
            raise CorruptDataError(f"{path}: the lanes are no Arrow file: {error}") from error
