"""Index files whose values are not held in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastfeed.dataset.index import JOINED_BYTES_MAX, check_index_file, write_index
from fastfeed.format.seal import SealedShard


def shard(folder: Path, number: int, rows: int) -> SealedShard:
    return SealedShard(
        uid=bytes([number]) * 16,
        path=folder / f"{number}.ffs",
        bytes=1,
        rows=rows,
        payload_end=8 * rows,
        xxh3_128=bytes(16),
        row_index=np.arange(number, number + rows, dtype=np.uint32),
        chunk_checksums=np.array([number], np.uint32),
    )


def test_an_index_above_the_limit_holds_what_the_shards_say(tmp_path: Path) -> None:
    rows = JOINED_BYTES_MAX // 4 // 2 + 1
    shards = [shard(tmp_path, number, rows) for number in (1, 2)]
    written = write_index(tmp_path, shards)
    data = memoryview(written.path.read_bytes())
    check_index_file(data, written.file, "index")
    for at, each in zip(written.at["row_index"].tolist(), shards, strict=True):
        assert each.row_index is not None
        assert np.array_equal(np.frombuffer(data, "<u4", rows, at), each.row_index)
    assert [path.name for path in tmp_path.iterdir()] == [written.path.name]
