"""A snapshot without shards, of any size: for what opening costs. Its rows cannot be read.

The index file has its true size and a tail, and is sparse: opening reads nothing else of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastfeed.dataset.commit import block_rows_of, commit
from fastfeed.dataset.folder import INDEX_FOLDER
from fastfeed.dataset.index import IndexFile
from fastfeed.dataset.manifest import Manifest, ShardColumns
from fastfeed.format.arrow_tail import TAIL_BYTES, Tail
from fastfeed.format.layout import CHUNK_BYTES, HEADER_BYTES
from fastfeed.format.schema import Image, Scalar, Schema
from fastfeed.storage.local import LocalStorage

FRAME_BYTES = 1024


def write_snapshot(root: Path, shards: int, rows_per_shard: int) -> None:
    """One snapshot of `shards` shards of `rows_per_shard` rows of 1 KiB each."""
    storage = LocalStorage(root)
    payload_end = HEADER_BYTES + rows_per_shard * FRAME_BYTES
    chunks = -(-payload_end // CHUNK_BYTES)
    row_bytes, chunk_bytes = 4 * rows_per_shard, 4 * chunks
    start = 512  # past the Arrow file's own metadata
    file = _sparse_index(root, start + shards * (row_bytes + chunk_bytes))
    numbers = np.arange(shards, dtype=np.uint64)
    paths = [f"shards/{number:032x}.ffs".encode() for number in range(shards)]
    uids = np.zeros((shards, 16), np.uint8)
    uids[:, 8:] = numbers.astype(">u8").view(np.uint8).reshape(shards, 8)
    whole = np.ones(shards, np.uint64)
    columns = ShardColumns(
        path_offsets=np.cumsum([0, *map(len, paths)]).astype(np.int32),
        path_data=np.frombuffer(b"".join(paths), np.uint8),
        uids=uids,
        xxh3_128=uids,
        file_bytes=whole * np.uint64(payload_end + 4096),
        rows=whole * np.uint64(rows_per_shard),
        payload_ends=whole * np.uint64(payload_end),
        tokens=whole * np.uint64(0),
        index_file=np.zeros(shards, np.uint32),
        row_index_at=start + numbers * np.uint64(row_bytes),
        chunk_checksums_at=start + np.uint64(shards * row_bytes) + numbers * np.uint64(chunk_bytes),
        page_checksums_at=whole * np.uint64(0),
        dictionary_set=np.zeros(shards, np.uint32),
    )
    rows = shards * rows_per_shard

    def make(snapshot: int) -> bytes:
        return Manifest(
            snapshot=snapshot,
            parent=snapshot - 1,
            schema=Schema({"image": Image(), "label": Scalar("int64")}),
            rows=rows,
            tokens=0,
            block_rows=block_rows_of(rows, rows * FRAME_BYTES),
            index_files=[file],
            dictionary_sets=[{}],
            metadata={},
            provenance={"tool": "tests/helpers/synthetic.py"},
            shards=columns,
        ).encode()

    commit(storage, make)


def _sparse_index(root: Path, arrow_bytes: int) -> IndexFile:
    digest = bytes(range(16))
    path = root / INDEX_FOLDER / f"{digest.hex()}.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.seek(arrow_bytes)
        file.write(Tail(arrow_bytes, digest).pack())
    return IndexFile(path.name, arrow_bytes + TAIL_BYTES, digest)
