"""An opened snapshot: manifest and index files, copied or mapped, and what the native core is given of them.

Shared by a `Dataset` and its views. Immutable; safe for threads and after fork (the maps are read-only).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from fastfeed._native.feed import ShardTable
from fastfeed._native.selection import Selection
from fastfeed.dataset.folder import (
    INDEX_FOLDER,
    MANIFEST_FOLDER,
    PRESENT_FOLDER,
    manifest_name,
    read_manifest,
    snapshot_numbers,
)
from fastfeed.dataset.index import check_index_file, check_index_tail
from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.payload import LocalPayload, Payload, RemotePayload
from fastfeed.dataset.present import read_present
from fastfeed.dataset.remote import RemoteFiles
from fastfeed.dataset.urls import file_url, object_urls
from fastfeed.errors import CorruptDataError, DatasetNotFoundError
from fastfeed.format.arrow_tail import read_tail
from fastfeed.format.schema import StreamSchema
from fastfeed.format.wording import NAMES_SHOWN, few
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.protocol import Files
from fastfeed.wire.place import Place

# Of a snapshot's index files, so many bytes are copied when it is opened, as its manifest is: the rows of two million
# samples. Above it files are mapped, for all processes of a node share the pages of a map
# (docs/decisions/0027-small-files-are-copied.md).
INDEX_COPY_BYTES_MAX = 8 << 20


# A snapshot may be collected between our listing and our opening it; the newest one only if a newer was committed
# meanwhile too. So often in a row does not happen.
OPEN_ATTEMPTS_MAX = 3


@dataclass(frozen=True, eq=False)
class OpenSnapshot:
    """A manifest and its mapped index files (one for each of manifest.index_files).

    payload: where the shards are read. present: the rows of them that were not deleted; None: all of them.
    """

    storage: Files
    manifest: Manifest
    index_maps: Sequence[memoryview]
    payload: Payload
    present: Selection | None = None

    @cached_property
    def content_hash(self) -> bytes:
        """16 bytes that are equal where the same rows lie in the same order, wherever and whenever they were made."""
        manifest = self.manifest
        digest = xxhash.xxh3_128(b"fastfeed snapshot 1" + manifest.schema.fingerprint)
        digest.update(manifest.shards.uids.tobytes())
        digest.update(manifest.shards.rows.tobytes())
        digest.update(manifest.block_rows.to_bytes(8, "little"))
        if manifest.present is not None:
            digest.update(manifest.present.xxh3_128)
        return digest.digest()

    @cached_property
    def checked_index_maps(self) -> Sequence[memoryview]:
        """`index_maps` after all of their bytes were compared with their hashes: for who reads where documents end,
        which no checksum of the payload covers. CorruptDataError names the file."""
        for file, data in zip(self.manifest.index_files, self.index_maps, strict=True):
            check_index_file(data, file, f"{self.storage.url}/{INDEX_FOLDER}/{file.name}")
        return self.index_maps

    def shard_table(self, root: str) -> ShardTable:
        """The columns for the native core: views of the mapped files, and 8 bytes a shard for each running total.

        root: the folder of relative paths, or the dataset's URL where shards are read through the cache."""
        shards, schema = self.manifest.shards, self.manifest.schema
        column_numbers = {name: number for number, name in enumerate(schema)}
        stream = isinstance(schema, StreamSchema)
        return ShardTable(
            root=root,
            path_offsets=shards.path_offsets,
            path_data=shards.path_data,
            uids=shards.uids.reshape(-1),
            file_bytes=shards.file_bytes,
            row_ends=np.cumsum(shards.rows, dtype=np.int64),
            payload_ends=shards.payload_ends,
            index_file=shards.index_file,
            row_index_at=shards.row_index_at,
            page_checksums_at=shards.page_checksums_at,
            dictionary_set=shards.dictionary_set,
            index_maps=self.index_maps,
            dictionary_sets=[
                {column_numbers[name]: dictionary for name, dictionary in group.items()}
                for group in self.manifest.dictionary_sets
            ],
            token_ends=np.cumsum(shards.tokens, dtype=np.int64) if stream else None,
        )


def open_listed(
    storage: LocalStorage | RemoteFiles, snapshot: int | None, place: Callable[[], Place] | None = None
) -> OpenSnapshot:
    """Map the newest snapshot, or the one of this number. DatasetNotFoundError says what is there instead.

    place: gives that of the daemon, for shards at URLs that a dataset on this machine names."""
    for _ in range(OPEN_ATTEMPTS_MAX):
        numbers = snapshot_numbers(storage)
        wanted = (numbers[-1] if numbers else 0) if snapshot is None else snapshot
        if wanted not in numbers:
            break
        with suppress(FileNotFoundError):
            return open_snapshot(storage, wanted, place)
    if isinstance(storage, RemoteFiles):
        raise not_found_at(storage.url, numbers, snapshot)
    raise not_found(storage.root, numbers, snapshot)


def open_snapshot(
    storage: LocalStorage | RemoteFiles, number: int, place: Callable[[], Place] | None = None
) -> OpenSnapshot:
    """Map one snapshot. CorruptDataError names the file that is damaged; FileNotFoundError: there is no manifest."""
    where = f"{storage.url}/{manifest_name(number)}"
    manifest = read_manifest(storage, number)
    payload = _payload_of(storage, manifest, place)
    if isinstance(payload, RemotePayload) and len(manifest.index_files) > 1:
        # The daemon reads all index files of a set at once; asked for one by one, each waits for the origin.
        with suppress(FileNotFoundError):  # said below, by name
            payload.opened()
    return OpenSnapshot(
        storage=storage,
        manifest=manifest,
        index_maps=_map_index_files(storage, manifest, where),
        payload=payload,
        present=present_of(storage, manifest, where),
    )


def _payload_of(
    storage: LocalStorage | RemoteFiles, manifest: Manifest, place: Callable[[], Place] | None
) -> Payload:
    if isinstance(storage, RemoteFiles):
        daemon, url = storage.place, storage.url
    elif place is None or b"://" not in manifest.shards.path_data.tobytes():
        return LocalPayload(storage.root)
    else:
        daemon, url = place(), file_url(storage.root)
    object_urls(url, manifest.shards.paths())  # what cannot be reached from elsewhere is said here
    assert manifest.file is not None  # it was read from one
    manifest_hash = read_tail(manifest.file, storage.url).xxh3_128
    return RemotePayload(daemon, url, manifest.snapshot, manifest_hash, manifest.shards.file_bytes)


def present_of(storage: Files, manifest: Manifest, where: str) -> Selection | None:
    """The rows of a snapshot that were not deleted; None: all. `where` names the manifest in messages."""
    file = manifest.present
    if file is None:
        return None
    name = f"{PRESENT_FOLDER}/{file.name}"
    data = _map_named(storage, name, where, "bitmap file", file.bytes)
    return read_present(data, file, manifest.rows, f"{storage.url}/{name}")


def not_found(root: Path, numbers: Sequence[int], snapshot: int | None) -> DatasetNotFoundError:
    """The error for a dataset or snapshot that is not there, saying what is."""
    if numbers:
        shown = ", ".join(map(str, numbers[-NAMES_SHOWN:]))
        more = f" (of {len(numbers)}, the newest)" if len(numbers) > NAMES_SHOWN else ""
        return DatasetNotFoundError(f"{root}: there is no snapshot {snapshot}. Those that exist: {shown}{more}.")
    return DatasetNotFoundError(f"{root}: {_what_is_there(root)}")


def not_found_at(url: str, numbers: Sequence[int], snapshot: int | None) -> DatasetNotFoundError:
    """As `not_found`, of a place that is not on this machine."""
    if numbers:
        return DatasetNotFoundError(f"{url}: there is no snapshot {snapshot}. The newest is {numbers[-1]}, of "
                                    f"{len(numbers)}.")  # fmt: skip
    return DatasetNotFoundError(
        f"{url}: holds no snapshot (nothing in {MANIFEST_FOLDER}/). Is it the dataset's own folder? Of a web server "
        "that gives no listings, name the snapshot: fastfeed.open(url, snapshot=1)."
    )


def _what_is_there(root: Path) -> str:
    if not root.exists():
        return "no such folder." + _similar(root)
    if not root.is_dir():
        return "is a file; a dataset is a folder."
    names = sorted(os.listdir(root))
    if "_feed" in names:
        return "holds no snapshot yet: its writer has not committed, or was interrupted before it could."
    datasets = [name for name in names if (root / name / "_feed").is_dir()]
    if datasets:
        return f"is no dataset itself, but holds some: {few(datasets)}. Open one of them."
    if not names:
        return "is an empty folder, not a dataset."
    return (
        f"is a folder without a dataset (no _feed in it; it holds {few(names)}). If these are the files to read, "
        "convert them first: fastfeed convert SRC DST."
    )


def _similar(root: Path) -> str:
    if not root.parent.is_dir():
        return f" {root.parent} is not there either."
    close = difflib.get_close_matches(root.name, os.listdir(root.parent), n=3)
    return f" {root.parent} holds {few(close)}: is it one of these?" if close else ""


def _map_index_files(storage: Files, manifest: Manifest, where: str) -> list[memoryview]:
    maps = []
    left_bytes = INDEX_COPY_BYTES_MAX
    for file in manifest.index_files:
        name = f"{INDEX_FOLDER}/{file.name}"
        data = _map_named(storage, name, where, "index file", file.bytes, left_bytes)
        left_bytes -= len(data) if len(data) <= left_bytes else 0
        check_index_tail(data, file, f"{storage.url}/{name}")
        maps.append(data)
    return maps


def _map_named(
    storage: Files, name: str, where: str, kind: str, size_bytes: int, copy_bytes_max: int = 0
) -> memoryview:
    try:
        if isinstance(storage, RemoteFiles):
            return storage.map_sized(name, size_bytes, copy_bytes_max)
        # The manifest is held, and with it all that it names.
        return storage.map(name, copy_bytes_max, hold=False)
    except FileNotFoundError as error:
        raise CorruptDataError(
            f"{where}: names the {kind} {name}, which is missing. Copy the dataset's folder whole, or make the dataset "
            "again."
        ) from error
