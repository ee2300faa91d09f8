"""Writers: samples or token documents in, one committed snapshot out.

A new dataset, rows added to one (append), or a new snapshot without the old rows (overwrite).
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
from fastfeed.dataset.commit import commit_shards, require_no_dataset, require_schema
from fastfeed.dataset.folder import newest_manifest, shard_name
from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.pending import Rows, SampleBuffer, TrainingSet, slices
from fastfeed.dataset.staging import Staging, naming
from fastfeed.errors import ConfigError, DatasetNotFoundError
from fastfeed.format.encode import EncodedRows, SampleEncoder
from fastfeed.format.schema import AnySchema, Codec, Schema, StreamSchema
from fastfeed.format.seal import SealedShard
from fastfeed.format.sizes import parse_shard_size
from fastfeed.format.stream import TokenShardWriter
from fastfeed.format.writer import ShardWriter
from fastfeed.storage.location import storage_to_write
from fastfeed.storage.protocol import Storage

ZSTD_LEVELS = range(1, 23)
DEFAULT_TOKEN_DTYPE = "uint16"

ShardT = TypeVar("ShardT", ShardWriter, TokenShardWriter)


class _Writer(ABC, Generic[ShardT]):
    """What both writers share: staging, sealed shards, and ending in exactly one way. Not thread-safe."""

    def __init__(
        self,
        storage: Storage,
        schema: AnySchema,
        shard_size: str | int,
        metadata: Mapping[str, Any] | None,
        overwrite: bool,
        append: bool,
    ) -> None:
        self.schema = schema
        self.snapshot: int | None = None  # the number of the snapshot, once it is committed
        self._shard_bytes = parse_shard_size(shard_size)
        self._metadata = _checked_metadata(metadata)
        self._overwrite = overwrite
        self._append = append
        self._storage = storage
        if not (overwrite or append):
            require_no_dataset(storage)
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
                append=self._append,
            )
        self._ended = "closed"
        self._staging.remove()
        self._storage.close()

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
            sealed = shard.finish(self._staging.folder)
            self._sealed.append(sealed)
            self._storage.hand_over(sealed.path, shard_name(sealed.uid))

    def _discard(self) -> None:
        if self._shard is not None and self._staging.ours:
            self._shard.abort()
        self._storage.close()  # uploads that go on read what is in staging
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
            with naming(self._staging.folder):
                yield
            self._ended = ""
        finally:
            if self._ended:
                self._discard()


class DatasetWriter(_Writer[ShardWriter]):
    """Writes samples as one new dataset, committed when the `with` block is left without an exception.

    url: a path or URL (file, s3, gs, az) where no dataset is yet. append=True adds the samples to the dataset that is
    there, after its rows and those of writers that commit first; schema may then be None: the dataset's. overwrite=True
    begins a new snapshot without the rows that are there. Older snapshots stay readable with both. shard_size: bytes of
    a shard, "256MiB" or an int. metadata: a JSON object for `ds.metadata`; appending adds its keys to what is there.
    zstd_level: for columns with codec="zstd"; their dictionaries are the dataset's, or trained from the first samples.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        schema: Schema | None = None,
        shard_size: str | int = "256MiB",
        metadata: Mapping[str, Any] | None = None,
        *,
        zstd_level: int = 3,
        overwrite: bool = False,
        append: bool = False,
    ) -> None:
        if not isinstance(schema, Schema) and not (append and schema is None):
            raise ConfigError(f"schema is a {type(schema).__name__}: give a fastfeed.Schema. (TokenWriter needs none, "
                              "nor does append=True.)")  # fmt: skip
        if zstd_level not in ZSTD_LEVELS:
            raise ConfigError(f"zstd_level={zstd_level!r}: choose {ZSTD_LEVELS[0]} to {ZSTD_LEVELS[-1]}.")
        storage = storage_to_write(url)
        present = _present_manifest(storage, overwrite, append)
        rows_schema = _rows_schema(storage, present, schema)
        super().__init__(storage, rows_schema, shard_size, metadata, overwrite, append)
        self._rows_schema = rows_schema
        self._zstd_level = zstd_level
        self._buffer = SampleBuffer()
        # Rows that are added to a dataset are like those that are there: its dictionaries serve them.
        self._trained = {} if present is None else _latest_dictionaries(present)
        trains = bool(_zstd_columns(rows_schema)) and not self._trained
        self._training = TrainingSet(rows_schema) if trains else None
        self._encoder = SampleEncoder(rows_schema, self._trained, zstd_level)
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
            self._shard.add(encoded.part(start, stop, before, int(ends[stop - 1])))
            start = stop


class TokenWriter(_Writer[TokenShardWriter]):
    """Writes documents of token ids as one new dataset in stream layout, committed like a DatasetWriter's.

    dtype: "uint16" or "uint32", what one id is stored as; not given, that of the dataset it appends to, else "uint16".
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        dtype: str | None = None,
        shard_size: str | int = "256MiB",
        metadata: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        append: bool = False,
    ) -> None:
        given = None if dtype is None else StreamSchema(dtype)
        storage = storage_to_write(url)
        present = _present_manifest(storage, overwrite, append)
        schema = _stream_schema(storage, present, given)
        super().__init__(storage, schema, shard_size, metadata, overwrite, append)
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


def _present_manifest(storage: Storage, overwrite: bool, append: bool) -> Manifest | None:
    """The snapshot that a writer appends to; None where it begins a dataset."""
    if overwrite and append:
        raise ConfigError("overwrite=True begins without the rows that are there, append=True keeps them: give one.")
    return newest_manifest(storage) if append else None


def _rows_schema(storage: Storage, present: Manifest | None, given: Schema | None) -> Schema:
    """The schema to write: the one given, or that of the dataset that is there. ConfigError where they differ."""
    if present is None:
        if given is None:
            raise DatasetNotFoundError(f"{storage.url}: there is no dataset to append to. Give a schema to begin one.")
        return given
    if given is not None:
        require_schema(storage.url, present.schema, given)
    if not isinstance(present.schema, Schema):
        raise ConfigError(f"{storage.url}: is a stream of tokens. Append to it with a TokenWriter.")
    return present.schema


def _stream_schema(storage: Storage, present: Manifest | None, given: StreamSchema | None) -> StreamSchema:
    if present is None:
        return given or StreamSchema(DEFAULT_TOKEN_DTYPE)
    if not isinstance(present.schema, StreamSchema):
        raise ConfigError(f"{storage.url}: is no stream of tokens. Append to it with a DatasetWriter.")
    require_schema(storage.url, present.schema, given or present.schema)
    return present.schema


def _latest_dictionaries(manifest: Manifest) -> dict[str, bytes]:
    """Column -> the dictionary that the last shard with one uses."""
    found: dict[str, bytes] = {}
    for number in dict.fromkeys(manifest.shards.dictionary_set[::-1].tolist()):
        found = {**manifest.dictionary_sets[number], **found}
    return found


def _zstd_columns(schema: AnySchema) -> list[str]:
    return [] if isinstance(schema, StreamSchema) else [
        name for name, column in schema.items() if column.storage is Codec.ZSTD
    ]  # fmt: skip


def _checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of what a reader will get."""
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=False, ensure_ascii=False)
        value = json.loads(text.encode())  # a string that is not Unicode fails here
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"metadata must be a JSON object: {error}") from error
    copied: dict[str, Any] = value
    return copied
