"""Index files: where rows begin in the shards of one commit, and what their chunks and pages must hash to.

An index file costs 4 bytes a row, so a large one is neither built in memory twice nor read when a dataset is
opened: opening looks at its size and its tail, the frames' own checksums catch an index that lies (the crc is seeded
with the row), and `check_index_file` reads all of it (docs/decisions/0002-opening-without-reading-the-index.md).
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from fastfeed.errors import CorruptDataError
from fastfeed.format.arrow_tail import TAIL_BYTES, Tail, open_sealed, read_tail
from fastfeed.format.layout import Digest
from fastfeed.format.seal import SealedShard

# Indexes of a commit that are larger than this (4 M rows) are not held in memory.
JOINED_BYTES_MAX = 16 << 20
INDEX_COLUMNS = ("row_index", "chunk_checksums", "page_checksums")
_INDEX_SCHEMA = pa.schema([(column, pa.large_list(pa.uint32())) for column in INDEX_COLUMNS])


@dataclass(frozen=True, slots=True)
class IndexFile:
    """How a manifest names an index file: `name` in the index folder, its size, the hash of its Arrow part."""

    name: str
    bytes: int
    xxh3_128: Digest


@dataclass(frozen=True, slots=True)
class WrittenIndex:
    """An index file in staging. at: per column of INDEX_COLUMNS, each shard's byte offset in the file; uint64 [S]."""

    path: Path
    file: IndexFile
    at: dict[str, npt.NDArray[np.uint64]]


def write_index(folder: Path, shards: Sequence[SealedShard]) -> WrittenIndex:
    """Write the index file of `shards` (at least one) into `folder`. Not yet durable."""
    arrays: dict[str, list[npt.NDArray[np.uint32] | None]] = {
        "row_index": [shard.row_index for shard in shards],
        "chunk_checksums": [shard.chunk_checksums for shard in shards],
        "page_checksums": [shard.page_checksums for shard in shards],
    }
    path = folder / "index.arrow"
    # Encoded by us: Arrow takes a str for UTF-8, which a path need not be.
    with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, _INDEX_SCHEMA) as writer:
        writer.write_batch(_record_batch(folder, arrays))
    with open(path, "r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            starts = _value_starts(memoryview(mapped))
            size_bytes, digest = len(mapped), xxhash.xxh3_128_digest(mapped)
        file.seek(size_bytes)
        file.write(Tail(size_bytes, digest).pack())
    at = {column: _offsets(arrays[column], starts[column]) for column in INDEX_COLUMNS}
    return WrittenIndex(path, IndexFile(f"{digest.hex()}.arrow", size_bytes + TAIL_BYTES, digest), at)


def check_index_tail(data: memoryview, file: IndexFile, name: str) -> None:
    """CorruptDataError unless `data` has the size and the tail that the manifest says. Touches one page."""
    if len(data) != file.bytes:
        raise CorruptDataError(f"{name}: has {len(data)} bytes, the manifest says {file.bytes}")
    tail = read_tail(data, name)
    if tail.xxh3_128 != file.xxh3_128:
        raise CorruptDataError(
            f"{name}: its tail has the hash {tail.xxh3_128.hex()}, the manifest wants {file.xxh3_128.hex()}"
        )


def check_index_file(data: memoryview, file: IndexFile, name: str) -> None:
    """Read all of an index file. CorruptDataError where it is not the one that the manifest names."""
    check_index_tail(data, file, name)
    open_sealed(data, name)


def _record_batch(folder: Path, arrays: dict[str, list[npt.NDArray[np.uint32] | None]]) -> pa.RecordBatch:
    columns = []
    for column in INDEX_COLUMNS:
        parts = [each for each in arrays[column] if each is not None]
        values = _joined(folder, parts)
        offsets = pa.array([0, len(values)], pa.int64())
        items = pa.Array.from_buffers(pa.uint32(), len(values), [None, pa.py_buffer(values)])
        columns.append(pa.LargeListArray.from_arrays(offsets, items))
    return pa.RecordBatch.from_arrays(columns, schema=_INDEX_SCHEMA)


def _joined(folder: Path, parts: Sequence[npt.NDArray[np.uint32]]) -> npt.NDArray[np.uint32]:
    """The values one after the other: in memory if they are few, else mapped from a nameless file in `folder`."""
    if sum(part.nbytes for part in parts) <= JOINED_BYTES_MAX:
        return np.concatenate([np.zeros(0, np.uint32), *parts])
    with tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part, "<u4").data)
        return np.memmap(file, np.uint32, "r")


def _value_starts(data: memoryview) -> dict[str, int]:
    """The byte offset of each column's first value in an index file's Arrow part."""
    buffer = pa.py_buffer(data)
    batch = pa.ipc.open_file(buffer).get_batch(0)
    starts = {}
    for column in INDEX_COLUMNS:
        values: Any = batch.column(column).values.buffers()[1]
        starts[column] = values.address - buffer.address if values is not None and values.size else 0
    return starts


def _offsets(arrays: Sequence[npt.NDArray[np.uint32] | None], start: int) -> npt.NDArray[np.uint64]:
    """Where each array begins, `start` being the first's; 0 for those that are absent."""
    counts = np.array([0 if each is None else len(each) for each in arrays], np.int64)
    at = start + 4 * (np.cumsum(counts) - counts)
    return np.where(counts > 0, at, 0).astype(np.uint64)
