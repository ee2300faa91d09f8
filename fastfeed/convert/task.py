"""One task of a conversion: a run of items, written as shards by one worker from start to end.

Usually it gives one shard. Where the input turns out larger than its plan said, the rest goes on in the next shard:
each takes rows up to a limit that only sizes of frames decide, so what a task gives is a function of its items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastfeed.convert.encoding import encoded_pieces
from fastfeed.convert.rejects import RejectsFile, RejectsWriter
from fastfeed.convert.source import Item, Rejected, Source
from fastfeed.convert.task_record import TaskRecord
from fastfeed.dataset.staging import naming
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.layout import PAYLOAD_END_MAX, ROWS_MAX
from fastfeed.format.schema import Schema
from fastfeed.format.seal import SealedShard
from fastfeed.format.writer import ShardWriter

# Plans count payload only, and about: a quarter more than was asked for is still that shard, and saves the next
# one from being a crumb.
SLACK_DIVISOR = 4

# Called with (rows, bytes of frames) that were written since the last call.
OnAdvance = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TaskWork:
    """What every task of a conversion has in common; sent to each worker once. Pickles."""

    source: Source
    schema: Schema
    staging: Path  # the only folder that workers write to; shards are finished in it too
    shard_bytes: int
    check: str = "structure"  # how images are checked
    on_error: str = "stop"
    dictionaries: dict[str, bytes] = field(default_factory=dict)


class TaskWriter:
    """What one worker does with its tasks, one after the other. Not thread-safe. Ends with close().

    Sealing a shard waits for the disk: a thread of its own does it, while the next rows are encoded. It is never more
    than one shard behind.
    """

    def __init__(self, work: TaskWork) -> None:
        self._work = work
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self._pending: tuple[int, Future[None]] | None = None

    def write(self, number: int, items: Sequence[Item], on_advance: OnAdvance) -> int | None:
        """Write the shards of task `number`. Its record comes last, by the sealing thread: from then on it is finished.

        Return which earlier task is finished now, if that was not said yet."""
        work, sealer = self._work, self._sealer
        encoder = SampleEncoder(work.schema, work.dictionaries)
        shards = ShardRun(work.staging, work.schema, work.dictionaries, work.shard_bytes, sealer)
        rejects = RejectsWriter.of_task(work.staging, number)
        try:
            for piece in encoded_pieces(work.source, items, encoder, check=work.check, on_error=work.on_error):
                with naming(work.staging):
                    if isinstance(piece, Rejected):
                        rejects.add(piece)
                        continue
                    shards.add(piece)
                on_advance(piece.rows, piece.bytes)
            with naming(work.staging):
                sealed, rejected = shards.finish(), rejects.finish()
            before = self.flush()
            self._pending = number, sealer.submit(record_task, work.staging, number, sealed, rejected)
        finally:
            shards.abort()
            rejects.abort()
        return before

    def flush(self) -> int | None:
        """Wait until all that was written is recorded; return the last task where that was not said yet."""
        if self._pending is None:
            return None
        number, recorded = self._pending
        self._pending = None
        with naming(self._work.staging):
            recorded.result()
        return number

    def close(self) -> None:
        """Let the sealing thread come to its end: what it has in hand is finished, or has failed."""
        self._sealer.shutdown()


def record_task(staging: Path, number: int, sealed: Sequence[Future[SealedShard]], rejects: RejectsFile | None) -> None:
    """Say that a task is finished, all of whose shards are sealed; an error of one of them comes out here."""
    TaskRecord.of([shard.result() for shard in sealed], rejects).write(staging, number)


class ShardRun:
    """Rows into shards, one after the other, sealed by `sealer`. Not thread-safe. Ends with finish() or abort()."""

    def __init__(
        self,
        staging: Path,
        schema: Schema,
        dictionaries: dict[str, bytes],
        shard_bytes: int,
        sealer: Executor,
        rows_max: int = ROWS_MAX,
    ) -> None:
        self._schema = schema
        self._dictionaries = dictionaries
        self._staging = staging
        self._bytes_max = min(shard_bytes + shard_bytes // SLACK_DIVISOR, PAYLOAD_END_MAX)
        self._rows_max = rows_max
        self._shard: ShardWriter | None = None
        self._sealer = sealer
        self._sealed: list[Future[SealedShard]] = []

    def add(self, encoded: EncodedRows) -> None:
        """Append rows, each to the first shard that has room for it; a frame larger than a shard has one of its own."""
        ends = np.cumsum(encoded.sizes, dtype=np.int64)
        start = 0
        while start < encoded.rows:
            if self._shard is None:
                self._shard = ShardWriter(self._staging, self._schema, self._dictionaries)
            before = int(ends[start - 1]) if start else 0
            fits = int(np.searchsorted(ends, before + self._bytes_max - self._shard.bytes, side="right"))
            stop = min(fits, start + self._rows_max - self._shard.rows)
            if stop <= start and self._shard.rows:
                self._seal()
                continue
            stop = max(stop, start + 1)
            self._shard.add(encoded.part(start, stop, before, int(ends[stop - 1])))
            start = stop

    def finish(self) -> list[Future[SealedShard]]:
        """Give the last shard to the sealer; return all in order. None at all where no row came."""
        self._seal()
        return self._sealed

    def abort(self) -> None:
        """Throw the shard away that is not sealed yet. Idempotent; nothing after finish()."""
        if self._shard is not None:
            shard, self._shard = self._shard, None
            shard.abort()

    def _seal(self) -> None:
        if self._shard is not None:
            if self._sealed:
                self._sealed[-1].result()  # not more than one behind: it holds the rows' places in memory
            shard, self._shard = self._shard, None
            self._sealed.append(self._sealer.submit(shard.finish, self._staging))
