"""Lanes: fixed-width columns that shards hold beside their frames, for filters, weights and token budgets.

No payload is read: of each shard its trailer, its directory and one section. Each is checked by its crc, and against
what the manifest says of the shard; whatever contradicts is a CorruptDataError that names the file. A stream of tokens
has one lane, `tokens.count`: how many tokens a document has, from the shards' document index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed._native.checksum import crc32c
from fastfeed.dataset.row_map import RowMap
from fastfeed.dataset.shards import ShardEntry
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.arrow_file import read_batch
from fastfeed.format.layout import TRAILER_BYTES, Section, SectionId, Trailer, unpack_directory
from fastfeed.format.schema import AnySchema, StreamSchema
from fastfeed.format.shard_bytes import ShardBytes

TOKEN_COUNT_LANE = "tokens.count"
_STREAM_LANES = pa.schema([pa.field(TOKEN_COUNT_LANE, pa.uint32(), nullable=False)])

Lane = npt.NDArray[Any]


def lane_schema(schema: AnySchema) -> pa.Schema:
    """Names and types of the lanes that a dataset of `schema` has."""
    return _STREAM_LANES if isinstance(schema, StreamSchema) else schema.lanes


def checked_lane(schema: AnySchema, name: str) -> pa.Field:
    """The lane `name`. ConfigError says which there are."""
    lanes = lane_schema(schema)
    if name in lanes.names:
        return lanes.field(name)
    own = [lane for lane in lanes.names if lane.startswith(f"{name}.")]
    if name in schema:
        hint = f"column {name!r} itself is none, but it has {own}" if own else f"column {name!r} has none"
    else:
        hint = "no column has it"
    raise ConfigError(f"there is no lane {name!r}: {hint}. Lanes of this dataset: {lanes.names or 'none'}.")


def read_lanes(shard: ShardEntry, lanes: pa.Schema | None = None) -> pa.RecordBatch | None:
    """The lanes of one shard, one row a sample (or document); None where it has none.

    lanes: what `lane_schema` gives; where it is given, a shard with others is corrupt.
    """
    with shard.open() as file:
        try:
            batch = _read(file, shard)
            if lanes is not None and (batch is None or batch.schema != lanes) and len(lanes):
                raise CorruptDataError(f"the lanes are {batch and batch.schema.names}, not {lanes.names}")
            return batch
        except CorruptDataError as error:
            raise CorruptDataError(f"{shard.where}: {error}") from error


def read_lane(shards: Iterable[ShardEntry], schema: AnySchema, rows: RowMap, name: str) -> Lane:
    """The lane `name` of the rows of a view, in their order; masked where the lane is nullable.

    Memory: the result, and the lanes of one shard. Shards without a row of the view are not read.
    """
    field = checked_lane(schema, name)
    values: Lane = np.zeros(len(rows), field.type.to_pandas_dtype())
    nulls = np.zeros(len(rows) if field.nullable else 0, np.bool_)
    wanted = lane_schema(schema)
    for shard in shards:
        at, physical = rows.within(shard.first_row, shard.first_row + shard.rows)
        if len(physical) == 0:
            continue
        batch = read_lanes(shard, wanted)
        assert batch is not None  # read_lanes() saw to it
        column = batch.column(name)
        if field.nullable:
            nulls[at] = column.is_null().to_numpy(zero_copy_only=False)[physical - shard.first_row]
            column = column.fill_null(False if pa.types.is_boolean(field.type) else 0)
        values[at] = column.to_numpy(zero_copy_only=False)[physical - shard.first_row]
    return np.ma.MaskedArray(values, nulls) if field.nullable else values


def _read(file: ShardBytes, shard: ShardEntry) -> pa.RecordBatch | None:
    file_bytes = file.size_bytes
    if file_bytes != shard.bytes:
        raise CorruptDataError(f"has {file_bytes} bytes, the manifest says {shard.bytes}")
    trailer = Trailer.unpack(file.read_at(max(0, file_bytes - TRAILER_BYTES), TRAILER_BYTES), file_bytes, crc32c)
    if trailer.uid != shard.uid:
        raise CorruptDataError(f"is the shard {trailer.uid.hex()}, the manifest says {shard.uid.hex()}")
    directory = file.read_at(trailer.directory_offset, trailer.directory_bytes)
    if crc32c(directory) != trailer.directory_crc:
        raise CorruptDataError("the directory has another crc32c than the trailer says")
    sections = {section.id: section for section in unpack_directory(directory, trailer.directory_offset)}
    if SectionId.DOCUMENT_INDEX in sections:
        return _document_lanes(_section(file, sections[SectionId.DOCUMENT_INDEX]), shard)
    if SectionId.LANES not in sections:
        return None
    return _record_batch(_section(file, sections[SectionId.LANES]), shard.rows)


def _section(file: ShardBytes, section: Section) -> bytes:
    content = file.read_at(section.offset, section.bytes)
    if (actual := crc32c(content)) != section.crc:
        raise CorruptDataError(f"{section.name} has crc32c {actual:08x}, the directory says {section.crc:08x}")
    return content


def _record_batch(content: bytes, rows: int) -> pa.RecordBatch:
    batch = read_batch(pa.py_buffer(content), "the lanes")
    if batch.num_rows != rows:
        raise CorruptDataError(f"the lanes have {batch.num_rows} rows, the manifest says {rows}")
    return batch


def _document_lanes(content: bytes, shard: ShardEntry) -> pa.RecordBatch:
    if len(content) != 4 * shard.rows:
        raise CorruptDataError(f"the document index has {len(content)} bytes, {shard.rows} documents need 4 each")
    starts = np.frombuffer(content, "<u4").astype(np.int64)
    counts = np.diff(starts, append=shard.tokens)
    if starts[0] != 0 or (counts < 0).any():
        raise CorruptDataError(f"the document index does not ascend from 0 to at most {shard.tokens} tokens")
    return pa.RecordBatch.from_arrays([pa.array(counts, pa.uint32())], schema=_STREAM_LANES)
