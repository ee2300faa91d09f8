"""`Dataset`: one snapshot, or a view of it, as a sequence of samples.

Opening maps the manifest and the index files and reads no payload. A dataset is immutable, may be used from many
threads, pickles as (place, snapshot, steps of the view), and works after a fork: what the native core made for one
process is made anew in another.

A *view row* is what users see, 0 .. len(ds) - 1; a *physical row* is what the native core counts: rows of the snapshot,
or windows of its stream. `physical_rows` is the one way from the first to the second (row_map.py).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.feed import Reader, Snapshot
from fastfeed.dataset.batch import Batch, parse_json
from fastfeed.dataset.lanes import Lane, read_lane
from fastfeed.dataset.manifest import home_key
from fastfeed.dataset.outputs import checked_columns, kind_names, output_specs
from fastfeed.dataset.remote import RemoteFiles
from fastfeed.dataset.row_map import Everything, RowMap, Rows, of_selection
from fastfeed.dataset.shards import ShardList
from fastfeed.dataset.snapshot import OpenSnapshot, open_listed
from fastfeed.dataset.urls import dataset_url
from fastfeed.dataset.views import Filter, GivenRows, Source, Step, checked_rows, select_step, split_steps
from fastfeed.dataset.windows import Window
from fastfeed.errors import ConfigError
from fastfeed.format.machine import page_cache_limit_bytes
from fastfeed.format.schema import AnySchema, StreamSchema
from fastfeed.format.specs import column_specs
from fastfeed.storage.location import storage_at
from fastfeed.storage.places import is_remote
from fastfeed.wire.door import place_for
from fastfeed.wire.place import Place, Start, checked_cache

# Projections whose readers are kept, each with a few buffers. One more costs a new reader a call.
READERS_MAX = 8
# Shards that one dataset keeps open: those of a default window, many times over, and half of the usual limit a process.
OPEN_FILES_MAX = 512
# Of the memory that there may be for the page cache: the rest is for the process itself, its framework and its batches.
PAGE_CACHE_SHARE = 0.75


def open(url: str | os.PathLike[str], snapshot: int | None = None, cache: str | os.PathLike[str] = "auto") -> Dataset:
    """Open the dataset at `url`: its newest snapshot, or the one that `snapshot` pins.

    url: a path, or a URL of S3, GCS, Azure or a web server (docs/remote.md).
    cache: how data that is not on this machine is read. "auto": through the node's cache daemon, which is started for
    this user where none runs; "off": through a fetcher of this job alone, which keeps nothing; or a daemon's socket.
    Data on this machine is read in place.

    DatasetNotFoundError where there is none, CorruptDataError where its manifest is damaged, OriginError where the
    storage fails, DaemonUnavailableError where the daemon does.
    """
    number = None if snapshot is None else operator.index(snapshot)
    said = checked_cache(cache)
    if is_remote(url):
        return Dataset(open_listed(RemoteFiles(dataset_url(os.fspath(url)), place_for(said)), number))
    return Dataset(open_listed(storage_at(url), number, partial(place_for, said)))


def as_dataset(dataset: Dataset | str | os.PathLike[str] | None, remote: str | None = None) -> Dataset:
    """The one dataset that an argument, or `remote` in its stead, means: itself, or what is at its place."""
    given = remote if dataset is None else dataset
    if given is None or (dataset is not None and remote is not None):
        raise ConfigError("give one dataset: a Dataset or its place, as the first argument or as remote=.")
    if isinstance(given, str | os.PathLike):
        return open(given)
    if not hasattr(given, "block_rows"):  # what has some is a dataset, or stands in for one in tests
        raise ConfigError(f"{str(given)[:100]} is a {type(given).__name__}, and no dataset. Give what fastfeed.open() "
                          "returns, or the place of a dataset.")  # fmt: skip
    return given


class Dataset:
    """Samples by number. In rows layout a row is a sample; in stream layout a document, or a window (`windows`).

    Made by `fastfeed.open`.
    """

    def __init__(
        self,
        opened: OpenSnapshot,
        window: Window | None = None,
        steps: Sequence[Step] = (),
        parent: Dataset | None = None,
    ) -> None:
        """parent: the view without the last step, of the same windows, if it is at hand."""
        self._opened = opened
        self._window = window
        self._steps = tuple(steps)
        self._parent = parent
        self._made_map: RowMap | None = None
        self._made_count: int | None = None  # of rows: asked for with every sample
        self._native: _Native = _Native() if parent is None else parent._native
        self._names = tuple(opened.manifest.schema)
        kinds = kind_names(opened.manifest.schema, self._names)
        self._json_names = [name for name, kind in zip(self._names, kinds, strict=True) if kind == "json"]

    @property
    def _map(self) -> RowMap:
        """Which physical row each row is; made when first asked for, without a lock (a fork would inherit it): two
        threads may both make it, and make the same."""
        if self._made_map is None:
            self._made_map = self._make_map()
            self._parent = None  # its map may be large
        return self._made_map

    def _make_map(self) -> RowMap:
        parent, present = self._parent, self._opened.present
        if parent is not None:
            row_map, steps = parent._map, self._steps[-1:]
        else:
            row_map = Everything(self._physical_count) if present is None else of_selection(present)
            steps = self._steps
        if steps:
            source = Source(self.shards(), self.schema, self._window, self._physical_count)
            for step in steps:
                row_map = step.apply(row_map, source)
        return row_map

    @property
    def _physical_count(self) -> int:
        manifest = self._opened.manifest
        return manifest.rows if self._window is None else self._window.count(manifest.tokens)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The place: an absolute path, or a URL."""
        return self._opened.storage.url

    @property
    def snapshot(self) -> int:
        """The number of the snapshot that this reads, from 1."""
        return self._opened.manifest.snapshot

    @property
    def opened(self) -> OpenSnapshot:
        """The snapshot itself, without the view: for those who make new snapshots of it."""
        return self._opened

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
    def steps(self) -> Sequence[Step]:
        """What select, filter and split have made of the snapshot's rows, or windows, one after the other."""
        return self._steps

    @property
    def block_rows(self) -> int:
        """Rows a block of the order. About 4 MiB, fixed when the dataset was created; of a view those that lie in about
        4 MiB, on average."""
        block_rows = self.physical_block_rows
        # Of the snapshot's own rows the dataset's number, also where some were deleted.
        count = self._opened.manifest.rows_present if self._window is None else self._physical_count
        return max(1, min(block_rows, block_rows * len(self) // max(1, count))) if self._steps else block_rows

    @property
    def physical_block_rows(self) -> int:
        """Physical rows a block: what has a home, the same for every view of these rows."""
        if self._window is None:
            return self._opened.manifest.block_rows
        return self._window.block_rows(self._stream_schema().token_bytes)

    @property
    def is_view(self) -> bool:
        """Whether rows are not simply those of the shards, or their windows: by select, filter, split or deletion."""
        return not isinstance(self._map, Everything)

    @property
    def fingerprint(self) -> str:
        """32 hex digits that are equal where rows are: the same content in the same order, seen by the same view."""
        windows = b"" if self._window is None else f"windows {self._window.length} {self._window.stride}".encode()
        digest: str = xxhash.xxh3_128_hexdigest(self._opened.content_hash + windows + self._map.digest())
        return digest

    @property
    def home_key(self) -> int:
        """64 bits that name the dataset where its blocks are dealt to nodes."""
        return home_key(self._opened.manifest)

    def shards(self) -> ShardList:
        """The shards of the snapshot, in row order."""
        return ShardList(self._opened.payload, self._opened.manifest, self._opened.index_maps)

    def __repr__(self) -> str:
        rows = "documents" if self.layout == "stream" and self._window is None else "rows"
        steps = [f"windows({self._window.length}, stride={self._window.stride})"] if self._window else []
        view = "".join(f".{each}" for each in [*steps, *self._steps])
        count = f"{len(self)} {rows}" + (f" of {view[1:]}" if view else "")
        return f"Dataset({self.url!r}, snapshot {self.snapshot}, {count}, columns {self.schema.names})"

    # --- views --------------------------------------------------------------------------------------------------

    def windows(self, length: int, stride: int | None = None) -> Dataset:
        """A view of a token stream whose row i is tokens i * stride .. i * stride + length - 1.

        stride: `length` if not given. Windows cross documents and shards; a last one that is not whole is left out.
        """
        self._stream_schema()
        if self._opened.present is not None:
            raise ConfigError(f"{self!r}: documents of this snapshot were deleted, and windows cross documents. Write "
                              "the documents that are left into a new dataset.")  # fmt: skip
        if self._window is not None or self.is_view:
            raise ConfigError(f"{self!r} is a view already: take windows() of the dataset itself, and select or split "
                              "the windows.")  # fmt: skip
        return Dataset(self._opened, Window.checked(length, stride))

    def select(self, rows: GivenRows) -> Dataset:
        """A view of some rows: numbers in any order (also repeated), a slice or range, or a mask of len(self).

        Row i of the view is the i-th number given. Memory: nothing for a slice or range; else a bitmap or 8 bytes a
        row, whichever is less, and 8 bytes a row where the numbers do not ascend.
        """
        return self._view(select_step(rows, len(self), self))

    def filter(self, expression: str) -> Dataset:
        """A view of the rows for which `expression` over lanes is true, like "label < 10 and image.width >= 256".

        Reads the lanes of the shards that this view has rows in, no payload. ConfigError says what is wrong with the
        expression. docs/views.md has its language.
        """
        return self._view(Filter(expression))

    def split(self, fractions: Mapping[str, float], seed: int = 0) -> dict[str, Dataset]:
        """Disjoint views that cover all rows, like {"train": 0.9, "val": 0.1}, by a hash of each row's shard and place.

        A row keeps its part when rows are appended, merged or deleted, and whatever else a view selects. Sizes are near
        the fractions, not exactly those.
        """
        return {name: self._view(step) for name, step in split_steps(fractions, seed).items()}

    def lane(self, name: str) -> Lane:
        """The values of a lane for all rows, in their order: a scalar column, "image.width", "caption.bytes", and
        "tokens.count" for the documents of a stream. Masked where the column is nullable.

        Reads the lanes of the shards that this view has rows in, no payload. Memory: the array. ConfigError names the
        lanes there are; CorruptDataError where a shard contradicts itself or the manifest.
        """
        if self._window is not None:
            raise ConfigError(f"lane({name!r}) of {self!r}: windows have none; every window has "
                              f"{self._window.length} tokens.")  # fmt: skip
        return read_lane(self.shards(), self.schema, self._map, name)

    def _view(self, step: Step) -> Dataset:
        view = Dataset(self._opened, self._window, (*self._steps, step), self)
        len(view)  # what is wrong with the step is said here
        return view

    # --- samples ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self._made_count is None:
            self._made_count = len(self._map)
        return self._made_count

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
        wanted = checked_rows(rows, len(self), self)
        names = checked_columns(self.schema, columns)
        native = self._reader(tuple(names)).take(self.physical_rows(wanted), wanted)
        batch = Batch.from_native(native, names, kind_names(self.schema, names))
        batch.rows = wanted
        return batch

    def physical_rows(self, rows: Rows) -> Rows:
        """What the native core calls `rows`, int64 and all in [0, len(self)); they themselves unless this is a view."""
        return self._map.physical(rows)

    def native_snapshot(
        self, io: str = "auto", open_files_max: int = OPEN_FILES_MAX, bytes_beside: int = 0
    ) -> Snapshot:
        """What native readers read from: one object a process and arguments, made when first asked for. It keeps at
        most `open_files_max` shards open. `io`: "auto", "pread", "uring" or "fault:<script>"; io_uring reads past the
        page cache what could not stay there, with `bytes_beside` of other datasets that are read in the same turn."""
        snapshots = self._native.here().snapshots
        key = io, open_files_max, bytes_beside
        if key not in snapshots:
            snapshots[key] = self._make_snapshot(*key)
        return snapshots[key]

    def bytes_in_place(self) -> int:
        """Bytes of the shards that are read where they lie; 0 where the node's cache is between."""
        return 0 if self._opened.payload.place is not None else int(self._opened.manifest.shards.file_bytes.sum())

    # --- inside -------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        place = self._opened.payload.place
        # A fetcher of this job alone is shared with the processes of the job; another daemon is found anew, for the
        # other process may be on another machine.
        cache = "auto" if place is None else place if place.start is Start.CHILD else place.said
        return _reopen, (self.url, self.snapshot, self._window, self._steps, cache)

    def _sample(self, row: int) -> dict[str, Any]:
        physical = int(self.physical_rows(np.array([row], np.int64))[0]) if self.is_view else row
        values = dict(zip(self._names, self._reader(self._names).sample(physical), strict=True))
        for name in self._json_names:
            if values[name] is not None:
                values[name] = parse_json(values[name], f"{self.url}: row {row}, column {name!r}")
        return values

    def _checked_row(self, row: int) -> int:
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"row {row} is outside {self!r}")
        return row + count if row < 0 else row

    def _stream_schema(self) -> StreamSchema:
        if not isinstance(self.schema, StreamSchema):
            raise ConfigError(f"{self!r} is no token stream: windows() is for datasets that a TokenWriter made.")
        return self.schema

    def _reader(self, names: tuple[str, ...]) -> Reader:
        readers = self._native.here().readers
        reader = readers.get(names)
        if reader is None:
            reader = Reader(self.native_snapshot(), output_specs(self.schema, names))
            if len(readers) < READERS_MAX:
                readers[names] = reader
        return reader

    def _make_snapshot(self, io: str, open_files_max: int, bytes_beside: int) -> Snapshot:
        root, cache = self._opened.payload.native()
        table = self._opened.shard_table(root)
        in_place = self.bytes_in_place()
        direct = in_place > 0 and in_place + bytes_beside > PAGE_CACHE_SHARE * page_cache_limit_bytes()
        if not isinstance(self.schema, StreamSchema):
            return Snapshot(table, column_specs(self.schema), open_files_max=open_files_max, io=io, direct=direct,
                            cache=cache)
        if self._window is None:
            _ = self._opened.checked_index_maps  # where documents end is in the index, and no page's crc covers it
        window = self._window or Window(0, 0)
        return Snapshot(table, [], token_bytes=self.schema.token_bytes, window=window.length, stride=window.stride,
                        open_files_max=open_files_max, io=io, direct=direct, cache=cache)  # fmt: skip


class _Native:
    """What the native core made for one process; views of the same rows share it."""

    def __init__(self) -> None:
        self._made = _Made(os.getpid())

    def here(self) -> _Made:
        """What belongs to this process. A forked child must not use its parent's: it makes its own. Two threads may
        both make one: either serves."""
        if self._made.pid != os.getpid():
            self._made = _Made(os.getpid())
        return self._made


class _Made:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.snapshots: dict[tuple[str, int, int], Snapshot] = {}
        self.readers: dict[tuple[str, ...], Reader] = {}


def _reopen(
    url: str, snapshot: int, window: Window | None, steps: Sequence[Step] = (), cache: str | Place = "auto"
) -> Dataset:
    if not isinstance(cache, Place):
        return Dataset(open(url, snapshot, cache)._opened, window, steps)
    storage = RemoteFiles(url, cache) if is_remote(url) else storage_at(url)
    return Dataset(open_listed(storage, snapshot, lambda: cache), window, steps)
