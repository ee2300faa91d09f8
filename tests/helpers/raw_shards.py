"""Small shard files and their tables, made by hand: what tests of the native reader read.

Only what the reader looks at is there: header, frames or pages, and the index beside them; the bytes behind the
payload are zeros. Whole files by the rules of docs/format.md are the writer's, in fastfeed/format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastfeed._native import checksum
from fastfeed._native.feed import OutputSpec, ShardTable, Snapshot
from fastfeed._native.frames import ColumnSpec, EncodedColumn, FrameLayout, ZstdEncoder, seal_crcs
from fastfeed.format.layout import HEADER_BYTES, PAGE_BYTES

TAIL_BYTES = 64  # behind the payload, where real shards have sections
SCALAR, TENSOR, ARRAY, BYTES, TEXT, JSON, IMAGE = range(7)


def uid_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def header(uid: bytes, layout: int = 0, *, major: int = 1, incompatible: int = 0, magic: bytes = b"FFSHARD1") -> bytes:
    body = bytearray(HEADER_BYTES - 4)
    body[0:8] = magic
    body[8:10] = major.to_bytes(2, "little")
    body[12:16] = HEADER_BYTES.to_bytes(4, "little")
    body[16:24] = incompatible.to_bytes(8, "little")
    body[40:56] = uid
    body[72:76] = layout.to_bytes(4, "little")
    return bytes(body) + checksum.crc32c(bytes(body)).to_bytes(4, "little")


@dataclass
class Col:
    """A column of a test dataset: `dtype` and `shape` as in OutputSpec, `codec` 0 raw or 1 zstd."""

    name: str
    kind: int
    dtype: str = "uint8"
    shape: tuple[int | None, ...] = ()
    codec: int = 0
    nullable: bool = False
    dictionary: bytes = b""

    def spec(self) -> ColumnSpec:
        items = int(np.prod([n for n in self.shape if n is not None], dtype=np.int64))
        item = np.dtype(self.dtype).itemsize
        step = items * item if self.kind == ARRAY else 1
        fixed = items * item if self.kind in (SCALAR, TENSOR) else 12 if self.kind == IMAGE else 4 * self.codec
        return ColumnSpec(self.name, self.kind, self.codec, self.nullable, item, step, fixed)

    def output(self, index: int, **changes: Any) -> OutputSpec:
        return OutputSpec(index, dtype=self.dtype, shape=self.shape)._replace(**changes)

    def encode(self, values: Sequence[Any]) -> EncodedColumn:
        nulls = np.array([value is None for value in values], dtype=np.uint8) if self.nullable else None
        if self.kind in (SCALAR, TENSOR):
            zero = np.zeros(self.shape, dtype=self.dtype)
            stacked = np.array([zero if value is None else value for value in values], dtype=self.dtype)
            return EncodedColumn(stacked.reshape(-1).view(np.uint8), None, None, nulls)
        raw = [self.raw(value) for value in values]
        offsets = np.concatenate([[0], np.cumsum([len(value) for value in raw])]).astype(np.int64)
        joined = b"".join(raw)
        fixed = None
        if self.kind == IMAGE:
            fixed = np.zeros(12 * len(values), dtype=np.uint8)
        if self.codec:
            lengths = np.diff(offsets).astype(np.uint32)
            stored, offsets = ZstdEncoder(3, self.dictionary).encode(joined, offsets)
            return EncodedColumn(lengths.view(np.uint8), stored, offsets, nulls)
        return EncodedColumn(fixed, joined, offsets, nulls)

    def raw(self, value: Any) -> bytes:
        if value is None:
            return b""
        if self.kind == ARRAY:
            return np.ascontiguousarray(value, dtype=self.dtype).tobytes()
        return value.encode() if isinstance(value, str) else bytes(value)


@dataclass
class Shards:
    """Shard files in a folder and what a Snapshot needs to know of them. To be hostile, change a field first."""

    root: Path
    specs: list[ColumnSpec] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    uids: list[bytes] = field(default_factory=list)
    file_bytes: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    payload_ends: list[int] = field(default_factory=list)
    index: bytearray = field(default_factory=lambda: bytearray(b"index map"[:8]))
    row_index_at: list[int] = field(default_factory=list)
    page_checksums_at: list[int] = field(default_factory=list)
    dictionary_sets: list[dict[int, bytes]] = field(default_factory=lambda: [{}])
    token_bytes: int = 0

    def path(self, shard: int) -> Path:
        return self.root / self.paths[shard]

    def add_index(self, values: np.ndarray) -> int:
        at = len(self.index)
        self.index += values.astype("<u4").tobytes()
        return at

    def add_file(self, uid: bytes, layout: int, payload: bytes) -> None:
        name = f"{uid.hex()}.ffs"
        content = header(uid, layout) + payload + bytes(TAIL_BYTES)
        (self.root / name).write_bytes(content)
        self.paths.append(name)
        self.uids.append(uid)
        self.file_bytes.append(len(content))
        self.payload_ends.append(HEADER_BYTES + len(payload))

    def table(self) -> ShardTable:
        count = len(self.paths)
        encoded = [path.encode() for path in self.paths]
        offsets = np.cumsum([0] + [len(path) for path in encoded])
        return ShardTable(
            root=str(self.root),
            path_offsets=offsets.astype(np.int32),
            path_data=b"".join(encoded),
            uids=np.frombuffer(b"".join(self.uids), dtype=np.uint8),
            file_bytes=np.array(self.file_bytes, dtype=np.uint64),
            row_ends=np.cumsum(self.rows, dtype=np.int64),
            payload_ends=np.array(self.payload_ends, dtype=np.uint64),
            index_file=np.zeros(count, dtype=np.uint32),
            row_index_at=np.array(self.row_index_at, dtype=np.uint64),
            page_checksums_at=np.array(self.page_checksums_at, dtype=np.uint64),
            dictionary_set=np.zeros(count, dtype=np.uint32),
            index_maps=[bytes(self.index)],
            dictionary_sets=self.dictionary_sets,
            token_ends=np.cumsum(self.tokens, dtype=np.int64) if self.token_bytes else None,
        )

    def snapshot(self, **options: Any) -> Snapshot:
        if self.token_bytes:
            options["token_bytes"] = self.token_bytes
        return Snapshot(self.table(), self.specs, **options)


def row_shards(root: Path, columns: Sequence[Col], shards: Sequence[Sequence[Sequence[Any]]]) -> Shards:
    """One shard for each of `shards`, which holds one sequence of values for each column."""
    made = Shards(root, [column.spec() for column in columns])
    layout = FrameLayout(made.specs)
    dictionaries = {i: column.dictionary for i, column in enumerate(columns) if column.dictionary}
    made.dictionary_sets = [dictionaries]
    for number, values in enumerate(shards):
        uid = uid_of(number + 1)
        rows = len(values[0])
        encoded = [column.encode(vals) for column, vals in zip(columns, values, strict=True)]
        frames, sizes, body_crcs = layout.encode(rows, encoded)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        crcs = seal_crcs(uid, 0, body_crcs, sizes)
        for row in range(rows):
            frames[starts[row] : starts[row] + 4] = crcs[row : row + 1].view(np.uint8)
        made.add_file(uid, 0, frames.tobytes())
        made.rows.append(rows)
        made.row_index_at.append(0 if layout.stride else made.add_index((HEADER_BYTES + starts[:-1]) // 8))
        made.page_checksums_at.append(0)
    return made


def stream_shards(root: Path, dtype: str, shards: Sequence[Sequence[Sequence[int]]]) -> Shards:
    """One shard of tokens for each of `shards`, which is a list of documents."""
    made = Shards(root, token_bytes=np.dtype(dtype).itemsize)
    for number, documents in enumerate(shards):
        uid = uid_of(number + 1)
        lengths = [len(document) for document in documents]
        tokens = np.concatenate([np.array(document, dtype=dtype) for document in [[], *documents]])
        payload = tokens.tobytes()
        payload += bytes(-len(payload) % PAGE_BYTES)
        made.add_file(uid, 1, payload)
        made.rows.append(len(documents))
        made.tokens.append(len(tokens))
        made.row_index_at.append(made.add_index(np.cumsum([0, *lengths])[:-1]))
        pages = checksum.crc32c_seeded_pages(payload, uid, 0) if payload else np.empty(0, np.uint32)
        made.page_checksums_at.append(made.add_index(pages))
    return made
