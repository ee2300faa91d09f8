"""The shards of a snapshot one by one, for those who look at them: info, verify. Reading rows needs none of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.payload import Shards
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES, PAGE_BYTES, Digest
from fastfeed.format.shard_bytes import ShardBytes

Dictionary = bytes


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ShardEntry:
    """What a snapshot says of one shard. Arrays are views of the mapped index file."""

    number: int
    uid: Digest
    where: str  # an absolute path, or a URL
    bytes: int
    first_row: int  # in the snapshot
    rows: int
    payload_end: int
    tokens: int
    xxh3_128: Digest  # of the whole file
    row_index: npt.NDArray[np.uint32] | None  # in units of 8 bytes; streams: each document's first token
    chunk_checksums: npt.NDArray[np.uint32]
    page_checksums: npt.NDArray[np.uint32] | None
    dictionaries: Mapping[str, Dictionary]  # column -> the dictionary itself
    payload: Shards
    name: str  # in the manifest

    @property
    def path(self) -> Path:
        """The file of a shard on this machine."""
        return Path(self.where)

    def open(self) -> AbstractContextManager[ShardBytes]:
        """Read parts of the shard, wherever it is."""
        return self.payload.open(self.number, self.name)


class ShardList(Sequence[ShardEntry]):
    """The shards in row order, made when asked for."""

    def __init__(self, payload: Shards, manifest: Manifest, index_maps: Sequence[memoryview]) -> None:
        self._payload = payload
        self._manifest = manifest
        self._index_maps = index_maps
        self._row_ends = np.cumsum(manifest.shards.rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._manifest.shards)

    @overload
    def __getitem__(self, number: int) -> ShardEntry: ...
    @overload
    def __getitem__(self, number: slice) -> list[ShardEntry]: ...
    def __getitem__(self, number: int | slice) -> ShardEntry | list[ShardEntry]:
        if isinstance(number, slice):
            return [self._entry(each) for each in range(len(self))[number]]
        if not -len(self) <= number < len(self):
            raise IndexError(f"shard {number} of {len(self)}")
        return self._entry(number % len(self))

    def __iter__(self) -> Iterator[ShardEntry]:
        return (self._entry(number) for number in range(len(self)))

    def _entry(self, number: int) -> ShardEntry:
        shards = self._manifest.shards
        rows, payload_end = int(shards.rows[number]), int(shards.payload_ends[number])
        pages = (payload_end - HEADER_BYTES) // PAGE_BYTES if self._manifest.schema.layout == "stream" else 0
        index = self._index_maps[shards.index_file[number]]
        row_index_at = int(shards.row_index_at[number])
        return ShardEntry(
            number=number,
            uid=shards.uids[number].tobytes(),
            where=self._payload.where(shards.path(number)),
            payload=self._payload,
            name=shards.path(number),
            bytes=int(shards.file_bytes[number]),
            first_row=int(self._row_ends[number]) - rows,
            rows=rows,
            payload_end=payload_end,
            tokens=int(shards.tokens[number]),
            xxh3_128=shards.xxh3_128[number].tobytes(),
            row_index=np.frombuffer(index, "<u4", rows, row_index_at) if row_index_at else None,
            chunk_checksums=np.frombuffer(
                index, "<u4", -(-payload_end // CHUNK_BYTES), int(shards.chunk_checksums_at[number])
            ),
            page_checksums=np.frombuffer(index, "<u4", pages, int(shards.page_checksums_at[number])) if pages else None,
            dictionaries=dict(self._manifest.dictionary_sets[shards.dictionary_set[number]]),
        )
