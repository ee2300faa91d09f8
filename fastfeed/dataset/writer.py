"""Writers: samples or token documents in, one committed snapshot out.

All or nothing: shards grow in a staging folder of the writer's own, get their names when the writer closes, and are
seen by readers when the manifest exists (`commit.py`). Whatever ends a writer before that (an error, Ctrl-C) leaves
no trace. The same rows in the same order give the same shards; where one shard ends does not depend on the calls.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastfeed import __version__
from fastfeed.dataset.commit import commit_shards, require_no_dataset
from fastfeed.dataset.pending import Rows, SampleBuffer, TrainingSet, slices
from fastfeed.dataset.staging import Staging
from fastfeed.errors import ConfigError
from fastfeed.format.columns import LaneValues
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.schema import AnySchema, Codec, Schema, StreamSchema
from fastfeed.format.seal import SealedShard
from fastfeed.format.sizes import parse_shard_size
from fastfeed.format.stream import TokenShardWriter
from fastfeed.format.writer import ShardWriter
from fastfeed.storage.location import storage_at

ZSTD_LEVELS = range(1, 23)


ShardT = TypeVar("ShardT", ShardWriter, TokenShardWriter)


class _Writer(ABC, Generic[ShardT]):
    """What both writers share: staging, sealed shards, and ending in exactly one way. Not thread-safe."""

    def __init__(
        self,
        url: str | os.PathLike[str],
        schema: AnySchema,
        shard_size: str | int,
        metadata: Mapping[str, Any] | None,
        overwrite: bool,
    ) -> None:
        self.schema = schema
        self.snapshot: int | None = None  # the number of the snapshot, once it is committed
        self._shard_bytes = parse_shard_size(shard_size)
        self._metadata = _checked_metadata(metadata)
        self._overwrite = overwrite
        self._storage = storage_at(url)
        if not overwrite:
            require_no_dataset(self._storage)
        self._staging = Staging(self._storage)
        self._sealed: list[SealedShard] = []
        self._shard: ShardT | None = None  # the one that grows
        self._ended = ""  # why nothing more can be written; "" while it can

    @property
    def url(self) -> str:
        return self._storage.url

    def close(self) -> None:
        """Commit what was written as one snapshot. Idempotent.

        If it fails, nothing is committed and the staging folder is removed; shards that had their final names by then
        stay, for another writer of the same content may have found them there."""
        if self._ended == "closed":
            return
        with self._all_or_nothing():
            self._flush()
            self.snapshot = commit_shards(
                self._storage,
                schema=self.schema,
                shards=self._sealed,
                dictionaries=self._dictionaries(),
                metadata=self._metadata,
                provenance={
                    "tool": f"fastfeed {__version__}",
                    "command": type(self).__name__,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                },
                replace=self._overwrite,
            )
        self._ended = "closed"
        self._staging.remove()

    def abort(self) -> None:
        """Throw everything away. Idempotent; nothing after close()."""
        self._ended = self._ended or "aborted"
        self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @abstractmethod
    def _flush(self) -> None:
        """Seal what is not sealed yet."""

    def _dictionaries(self) -> dict[str, bytes]:
        return {}

    def _seal_shard(self) -> None:
        if self._shard is not None:
            shard, self._shard = self._shard, None
            self._sealed.append(shard.finish(self._staging.folder))

    def _discard(self) -> None:
        if self._shard is not None and self._staging.ours:
            self._shard.abort()
        self._staging.remove()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """A block that fails ends the writer: half of a batch would be missing from what it commits."""
        if self._ended:
            raise ConfigError(f"this writer of {self.url} has {self._ended}: it writes nothing more. Make a new one.")
        if not self._staging.ours:
            raise ConfigError(f"this writer of {self.url} belongs to another process. Make one in each process.")
        self._ended = "failed"
        try:
            yield
            self._ended = ""
        finally:
            if self._ended:
                self._discard()


class DatasetWriter(_Writer[ShardWriter]):
    """Writes samples as one new dataset, committed when the `with` block is left without an exception.

    url: a path or file:// URL where no dataset is yet; with overwrite=True the new snapshot takes the place of what is
    there (older snapshots stay readable). shard_size: bytes of a shard, "256MiB" or an int. metadata: a JSON object for
    `ds.metadata`. zstd_level: for columns with codec="zstd"; their dictionaries are trained from the first samples.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        schema: Schema,
        shard_size: str | int = "256MiB",
        metadata: Mapping[str, Any] | None = None,
        *,
        zstd_level: int = 3,
        overwrite: bool = False,
    ) -> None:
        if not isinstance(schema, Schema):
            raise ConfigError(f"schema is a {type(schema).__name__}: give a fastfeed.Schema. (TokenWriter needs none.)")
        if zstd_level not in ZSTD_LEVELS:
            raise ConfigError(f"zstd_level={zstd_level!r}: choose {ZSTD_LEVELS[0]} to {ZSTD_LEVELS[-1]}.")
        super().__init__(url, schema, shard_size, metadata, overwrite)
        self._rows_schema = schema
        self._zstd_level = zstd_level
        self._buffer = SampleBuffer()
        self._trained: dict[str, bytes] = {}
        uses_zstd = any(column.storage is Codec.ZSTD for column in schema.values())
        self._training = TrainingSet(schema) if uses_zstd else None
        self._encoder = SampleEncoder(schema, {}, zstd_level)
        self._rows = 0

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one sample. Samples are encoded in batches: a ConfigError for one that does not fit the schema may come
        from a later call or from close(), names the sample, and ends the writer."""
        with self._all_or_nothing():
            if not isinstance(sample, Mapping):
                raise ConfigError(f"write takes a mapping from column names to values, not {type(sample).__name__}.")
            self._buffer.add(sample)
            if self._buffer.full:
                self._take(self._buffer.drain())

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a record batch, whose columns match the schema's by name."""
        with self._all_or_nothing():
            if not isinstance(batch, pa.RecordBatch):
                raise ConfigError(f"write_batch takes a pyarrow.RecordBatch, not {type(batch).__name__}. For a Table: "
                                  "for batch in table.to_batches(): writer.write_batch(batch)")  # fmt: skip
            self._take(self._buffer.drain())
            for part in slices(batch):
                self._take(part)

    def _flush(self) -> None:
        self._take(self._buffer.drain())
        self._end_training()
        self._seal_shard()

    def _dictionaries(self) -> dict[str, bytes]:
        return self._trained

    def _take(self, rows: Rows) -> None:
        if len(rows) == 0:
            return
        if self._training is None:
            self._encode(rows)
            return
        with self._named_rows(rows):
            self._training.add(rows)
        if self._training.complete:
            self._end_training()

    def _end_training(self) -> None:
        if self._training is None:
            return
        training, self._training = self._training, None
        self._trained = training.train(self._zstd_level, self._shard_bytes)
        self._encoder = SampleEncoder(self._rows_schema, self._trained, self._zstd_level)
        for rows in training.rows:
            self._encode(rows)

    def _encode(self, rows: Rows) -> None:
        with self._named_rows(rows):
            if isinstance(rows, pa.RecordBatch):
                encoded = self._encoder.encode_batch(rows)
            else:
                encoded = self._encoder.encode_samples(rows)
        self._store(encoded)
        self._rows += len(rows)

    @contextmanager
    def _named_rows(self, rows: Rows) -> Iterator[None]:
        """The encoder counts rows in its batch; the caller knows rows of the writer."""
        try:
            yield
        except ConfigError as error:
            before = self._rows + sum(map(len, self._training.rows) if self._training else ())
            raise ConfigError(f"among samples {before} to {before + len(rows) - 1} of this writer: {error}") from error

    def _store(self, encoded: EncodedRows) -> None:
        """Append rows to shards, each as full as whole frames make it."""
        ends = np.cumsum(encoded.sizes, dtype=np.int64)
        start = 0
        while start < encoded.rows:
            if self._shard is None:
                self._shard = ShardWriter(self._staging.folder, self._rows_schema, self._trained)
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + self._shard_bytes - self._shard.bytes, side="right"))
            if stop <= start and self._shard.rows:
                self._seal_shard()
                continue
            stop = max(stop, start + 1)  # a frame larger than a shard gets one of its own
            self._shard.add(_part(encoded, start, stop, before, int(ends[stop - 1])))
            start = stop


class TokenWriter(_Writer[TokenShardWriter]):
    """Writes documents of token ids as one new dataset in stream layout, committed like a DatasetWriter's.

    dtype: "uint16" or "uint32", what one id is stored as.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        dtype: str = "uint16",
        shard_size: str | int = "256MiB",
        metadata: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        schema = StreamSchema(dtype)
        super().__init__(url, schema, shard_size, metadata, overwrite)
        self._token_bytes = schema.token_bytes
        self._dtype = schema.dtype

    def write(self, tokens: npt.ArrayLike) -> None:
        """Add one document: a flat array (or sequence) of ids that fit the dtype. It may be empty."""
        with self._all_or_nothing():
            document = np.asarray(tokens)
            size_bytes = document.size * self._token_bytes
            if self._shard is not None and self._shard.bytes + size_bytes > self._shard_bytes:
                self._seal_shard()
            if self._shard is None:
                self._shard = TokenShardWriter(self._staging.folder, self._dtype)
            self._shard.add(document)

    def _flush(self) -> None:
        self._seal_shard()


def _part(encoded: EncodedRows, start: int, stop: int, first_byte: int, end_byte: int) -> EncodedRows:
    if start == 0 and stop == encoded.rows:
        return encoded
    lanes = [
        LaneValues(lane.values[start:stop], None if lane.nulls is None else lane.nulls[start:stop])
        for lane in encoded.lanes
    ]
    return EncodedRows(
        stop - start,
        encoded.frames[first_byte:end_byte],
        encoded.sizes[start:stop],
        encoded.body_crcs[start:stop],
        lanes,
    )


def _checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of what a reader will get."""
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False, ensure_ascii=False)
        value = json.loads(text.encode())  # a string that is not Unicode fails here
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata must be a JSON object: {error}") from error
    copied: dict[str, Any] = value
    return copied
