"""Reading row groups forwards, and going on where the last reading ended.

Parquet cannot skip rows inside a row group: what comes before them must be decoded. A large row group becomes several
tasks, so each thread keeps the place where its last task ended, and the next one of the same row group goes on from
there. So a thread decodes a row group once, not once a task.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

# Pages are read through a buffer of this size: without one, parquet loads the columns of a whole row group.
READ_BUFFER_BYTES = 1 << 20


class GroupKey(NamedTuple):
    """What a cursor reads, and how."""

    path: Path
    digest: object  # of the file's footer
    group: int
    columns: tuple[str, ...]
    batch_rows: int


def open_file(path: Path) -> pq.ParquetFile:
    """Open for streaming. Pages that have checksums are checked."""
    return pq.ParquetFile(path, buffer_size=READ_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)


class Cursor:
    """One row group, from its first row on. Not thread-safe; `close` it, or leave it to `Cursors`."""

    def __init__(self, key: GroupKey) -> None:
        """Raises ArrowException or OSError where the file is damaged."""
        self.key = key
        self._file = open_file(key.path)
        self.row = 0  # of the group, the next one
        groups = [self._file.metadata.row_group(group).num_rows for group in range(key.group)]
        self.first_row = sum(groups)  # of the group, in the file
        self.names: Sequence[str] = [name for name in key.columns if name in self._file.schema_arrow.names]
        self._batches = self._file.iter_batches(
            key.batch_rows, row_groups=[key.group], columns=self.names, use_threads=False
        )

    def next(self) -> pa.RecordBatch:
        """The next rows. ArrowException or OSError where they are damaged, StopIteration where there are none."""
        batch = next(self._batches)
        self.row += batch.num_rows
        return batch

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Cursors:
    """At most one cursor a thread, left by it for itself. Pickles, without cursors."""

    def __init__(self) -> None:
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[Cursors], tuple[()]]:
        return Cursors, ()

    def take(self, key: GroupKey, row: int) -> Cursor:
        """A cursor at `row` of a row group, or before it: the one that was left, or a new one."""
        left: Cursor | None = getattr(self._own, "cursor", None)
        self._own.cursor = None
        if left is not None:
            if left.key == key and left.row <= row:
                return left
            left.close()
        return Cursor(key)

    def leave(self, cursor: Cursor) -> None:
        """Keep a cursor for this thread's next `take`."""
        self._own.cursor = cursor
