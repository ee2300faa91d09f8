"""`Dataset`: one snapshot, or a view of it, as a sequence of samples.

Opening maps the manifest and the index files and reads no payload. A dataset is immutable, may be used from many
threads, pickles as (place, snapshot, view), and works after a fork: what the native core made for one process is
made anew in another.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.feed import Reader, Snapshot
from fastfeed.dataset.batch import Batch, parse_json
from fastfeed.dataset.commit import snapshot_numbers
from fastfeed.dataset.outputs import checked_columns, kind_names, output_specs
from fastfeed.dataset.shards import ShardList
from fastfeed.dataset.snapshot import OpenSnapshot, not_found, open_snapshot
from fastfeed.dataset.windows import Window
from fastfeed.errors import ConfigError
from fastfeed.format.schema import AnySchema, StreamSchema
from fastfeed.format.specs import column_specs
from fastfeed.storage.location import storage_at

# Projections whose readers are kept, each with a few buffers. One more costs a new reader a call.
READERS_MAX = 8


def open(url: str | os.PathLike[str], snapshot: int | None = None, cache: str = "auto") -> Dataset:
    """Open the dataset at `url`: its newest snapshot, or the one that `snapshot` pins.

    cache: "auto" or "off"; data on this machine is read in place with either.
    DatasetNotFoundError where there is none, CorruptDataError where its manifest is damaged.
    """
    if cache not in ("auto", "off"):
        raise ConfigError(f"cache={cache!r}: choose 'auto' or 'off'. A cache daemon's socket comes in a later release.")
    storage = storage_at(url)
    numbers = snapshot_numbers(storage)
    wanted = (numbers[-1] if numbers else 0) if snapshot is None else operator.index(snapshot)
    if wanted not in numbers:
        raise not_found(storage.root, numbers, snapshot)
    return Dataset(open_snapshot(storage, wanted))


def as_dataset(dataset: Dataset | str | os.PathLike[str] | None, remote: str | None = None) -> Dataset:
    """The one dataset that an argument, or `remote` in its stead, means: itself, or what is at its place."""
    given = remote if dataset is None else dataset
    if given is None or (dataset is not None and remote is not None):
        raise ConfigError("give one dataset: a Dataset or its place, as the first argument or as remote=.")
    if isinstance(given, str | os.PathLike):
        return open(given)
    if not hasattr(given, "fingerprint"):
        raise ConfigError(f"{str(given)[:100]} is a {type(given).__name__}, and no dataset. Give what fastfeed.open() "
                          "returns, or the place of a dataset.")  # fmt: skip
    return given


class Dataset:
    """Samples by number. In rows layout a row is a sample; in stream layout a document, or a window (`windows`).

    Made by `fastfeed.open`.
    """

    def __init__(self, opened: OpenSnapshot, window: Window | None = None) -> None:
        self._opened = opened
        self._window = window
        self._native = _Native(os.getpid())
        manifest = opened.manifest
        self._rows = manifest.rows if window is None else window.count(manifest.tokens)
        self._names = tuple(manifest.schema)
        kinds = kind_names(manifest.schema, self._names)
        self._json_names = [name for name, kind in zip(self._names, kinds, strict=True) if kind == "json"]

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The place, as an absolute path."""
        return self._opened.storage.url

    @property
    def snapshot(self) -> int:
        """The number of the snapshot that this reads, from 1."""
        return self._opened.manifest.snapshot

    @property
    def schema(self) -> AnySchema:
        """Column names to their types; a `StreamSchema` for streams of tokens."""
        return self._opened.manifest.schema

    @property
    def layout(self) -> str:
        """ "rows" or "stream"."""
        return self.schema.layout

    @property
    def metadata(self) -> dict[str, Any]:
        """What the writer said about the data: class names and the like."""
        return dict(self._opened.manifest.metadata)

    @property
    def provenance(self) -> dict[str, Any]:
        """Who made this snapshot, when, from what."""
        return dict(self._opened.manifest.provenance)

    @property
    def tokens(self) -> int:
        """Tokens in the whole stream; 0 in rows layout."""
        return self._opened.manifest.tokens

    @property
    def window(self) -> Window | None:
        """The windows that are this view's rows, or None."""
        return self._window

    @property
    def block_rows(self) -> int:
        """Rows a block of the order: about 4 MiB, fixed when the dataset was created."""
        if self._window is None:
            return self._opened.manifest.block_rows
        return self._window.block_rows(self._stream_schema().token_bytes)

    @property
    def fingerprint(self) -> str:
        """32 hex digits that are equal where rows are: the same content in the same order, seen by the same view."""
        view = b"" if self._window is None else f"windows {self._window.length} {self._window.stride}".encode()
        digest: str = xxhash.xxh3_128_hexdigest(self._opened.content_hash + view)
        return digest

    @property
    def home_key(self) -> int:
        """64 bits that name the dataset where its blocks are dealt to nodes (docs/deal.md): of its first shard's uid,
        so that they stay when rows are appended. 0 without shards."""
        return int.from_bytes(self._opened.manifest.shards.uids[:1].tobytes()[:8], "little")

    def shards(self) -> ShardList:
        """The shards of the snapshot, in row order."""
        return ShardList(self._opened.storage.root, self._opened.manifest, self._opened.index_maps)

    def __repr__(self) -> str:
        rows = "rows" if self.layout == "rows" else "documents"
        view = "" if self._window is None else f" of windows({self._window.length}, stride={self._window.stride})"
        count = f"{len(self)} rows{view}" if self._window else f"{len(self)} {rows}"
        return f"Dataset({self.url!r}, snapshot {self.snapshot}, {count}, columns {self.schema.names})"

    # --- views --------------------------------------------------------------------------------------------------

    def windows(self, length: int, stride: int | None = None) -> Dataset:
        """A view of a token stream whose row i is tokens i * stride .. i * stride + length - 1.

        stride: `length` if not given. Windows cross documents and shards; a last one that is not whole is left out.
        """
        self._stream_schema()
        if self._window is not None:
            raise ConfigError(f"{self!r} is a view of windows already: take windows() of the dataset itself.")
        return Dataset(self._opened, Window.checked(length, stride))

    # --- samples ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int | np.integer[Any]) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, row: int | np.integer[Any] | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """One sample as a dict (negative rows count from the end), or the samples of a slice as a list.

        Values: bytes for bytes and encoded images, str, int, float, bool, parsed JSON, numpy arrays; None for nulls.
        """
        if isinstance(row, slice):
            return [self._sample(each) for each in range(len(self))[row]]
        return self._sample(self._checked_row(operator.index(row)))

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of `rows` (torch's DataLoader asks for a batch like this)."""
        return [self[row] for row in rows]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._sample(row) for row in range(len(self)))

    def take(self, rows: Sequence[int] | npt.ArrayLike, columns: Sequence[str] | None = None) -> Batch:
        """The samples of `rows`, in that order, as one Batch of `columns` (default: all)."""
        wanted = self._checked_rows(rows)
        names = checked_columns(self.schema, columns)
        native = self._reader(tuple(names)).take(wanted)
        return Batch.from_native(native, names, kind_names(self.schema, names))

    def native_snapshot(self, io: str = "pread") -> Snapshot:
        """What native readers read from: one object a process and `io`, made when first asked for."""
        snapshots = self._process_native().snapshots
        if io not in snapshots:
            snapshots[io] = self._make_snapshot(io)
        return snapshots[io]

    # --- inside -------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.url, self.snapshot, self._window)

    def _sample(self, row: int) -> dict[str, Any]:
        values = dict(zip(self._names, self._reader(self._names).sample(row), strict=True))
        for name in self._json_names:
            if values[name] is not None:
                values[name] = parse_json(values[name], f"{self.url}: row {row}, column {name!r}")
        return values

    def _checked_row(self, row: int) -> int:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} is outside {self!r}")
        return row + len(self) if row < 0 else row

    def _checked_rows(self, rows: Sequence[int] | npt.ArrayLike) -> npt.NDArray[np.int64]:
        given = np.asarray(rows)
        if given.size == 0:
            given = given.astype(np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise ConfigError(f"rows are a flat sequence of integers, not {given.dtype} of shape {given.shape}.")
        outside = (given < -len(self)) | (given >= len(self))
        if outside.any():
            raise IndexError(f"row {given[np.argmax(outside)]} is outside {self!r}")
        wanted = given.astype(np.int64)
        return np.where(wanted < 0, wanted + len(self), wanted)

    def _stream_schema(self) -> StreamSchema:
        if not isinstance(self.schema, StreamSchema):
            raise ConfigError(f"{self!r} is no token stream: windows() is for datasets that a TokenWriter made.")
        return self.schema

    def _process_native(self) -> _Native:
        # A forked child must not use its parent's; it makes its own. Two threads may both make one: either serves.
        if self._native.pid != os.getpid():
            self._native = _Native(os.getpid())
        return self._native

    def _reader(self, names: tuple[str, ...]) -> Reader:
        readers = self._process_native().readers
        reader = readers.get(names)
        if reader is None:
            reader = Reader(self.native_snapshot(), output_specs(self.schema, names))
            if len(readers) < READERS_MAX:
                readers[names] = reader
        return reader

    def _make_snapshot(self, io: str) -> Snapshot:
        table = self._opened.shard_table()
        if not isinstance(self.schema, StreamSchema):
            return Snapshot(table, column_specs(self.schema), io=io)
        window = self._window or Window(0, 0)
        return Snapshot(
            table, [], token_bytes=self.schema.token_bytes, window=window.length, stride=window.stride, io=io
        )


class _Native:
    """What the native core made for one process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.snapshots: dict[str, Snapshot] = {}
        self.readers: dict[tuple[str, ...], Reader] = {}


def _reopen(url: str, snapshot: int, window: Window | None) -> Dataset:
    dataset = open(url, snapshot=snapshot)
    return dataset if window is None else dataset.windows(window.length, window.stride)
