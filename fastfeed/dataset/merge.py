"""Merging: a snapshot that names the shards of other datasets, where they are.

 1. The lock of the destination is taken, then those of the datasets that own the shards, all shared: no collector
    runs in any of them until the merge has ended.
 2. Each owner gets a record that the destination refers to it (`referrers.py`).
 3. The shards are looked at: each is there, with its size.
 4. Copies of the index files get their names in the destination.      5. The manifest is committed.
A crash before 5 leaves records of a dataset that names nothing yet, and index files that no snapshot names; `gc`
removes both. No payload is read or written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fastfeed import __version__
from fastfeed._native.selection import Selection
from fastfeed.dataset.commit import Next, commit_content, existing_content, require_schema
from fastfeed.dataset.content import Content, content_of, elsewhere, joined, keeping
from fastfeed.dataset.dataset import Dataset, as_dataset
from fastfeed.dataset.folder import INDEX_FOLDER, newest_manifest, read_manifest, snapshot_numbers
from fastfeed.dataset.index import check_index_file
from fastfeed.dataset.referrers import register
from fastfeed.dataset.staging import Staging
from fastfeed.errors import ConfigError, CorruptDataError, OriginError
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.location import storage_to_write
from fastfeed.storage.protocol import Storage


def merge(
    destination: str | os.PathLike[str],
    sources: Sequence[Dataset | str | os.PathLike[str]],
    *,
    metadata: Mapping[str, Any] | None = None,
    register_sources: bool = True,
) -> int:
    """Make a dataset of the rows of `sources`, in that order, or append them to the one at `destination`.

    Returns the number of the snapshot. Shards stay where they are: the sources must stay too, and `fastfeed gc` of
    them keeps what the destination names, because each is told. Rows deleted from a source, or left out by a view of it
    (`select`, `filter`, `split`), are left out here. metadata: as for an appending DatasetWriter; a new dataset has the
    first source's otherwise.
    register_sources=False: go on where a source cannot be written to; its `gc` will then not know of this dataset.
    ConfigError: no sources, schemas that differ, a source that cannot be told. CorruptDataError: a shard is missing.
    """
    if isinstance(sources, str | os.PathLike | Dataset) or not sources:
        raise ConfigError("merge(destination, [a, b, ...]) takes a list of at least one dataset or place of one.")
    datasets = [as_dataset(each) for each in sources]
    with closing(storage_to_write(destination)) as storage:
        return _merge(storage, datasets, metadata, register_sources)


def _merge(
    storage: Storage, datasets: Sequence[Dataset], metadata: Mapping[str, Any] | None, register_sources: bool
) -> int:
    _require_utf8([storage.url, *(each.url for each in datasets)])
    present = newest_manifest(storage)
    schema = datasets[0].schema if present is None else present.schema
    for dataset in datasets:
        require_schema(storage.url if present is not None else datasets[0].url, schema, dataset.schema)
    contents = [elsewhere(_content(each), each.url, storage.url) for each in datasets]
    _require_reachable(storage, contents)
    if present is None:
        metadata = {**datasets[0].metadata, **(metadata or {})}

    def make(newest: int) -> Next:
        if newest == 0:
            return Next(schema, joined(contents), None)
        manifest = read_manifest(storage, newest)
        require_schema(storage.url, manifest.schema, schema)
        return Next(schema, joined([existing_content(storage, manifest), *contents]), manifest)

    staging = Staging(storage)
    try:
        index_files = _copied_index_files(datasets, contents, staging.folder)
        with ExitStack() as held:
            held.enter_context(storage.lock(exclusive=False))
            if register_sources:
                for owner in _owners(contents):
                    _register(held, owner, storage.url)
            for content in contents:
                _require_shards(content, storage)
            storage.publish((path, f"{INDEX_FOLDER}/{path.name}") for path in index_files)
            return commit_content(storage, make, metadata=metadata, provenance=_provenance(datasets))
    finally:
        staging.remove()


def _content(dataset: Dataset) -> Content:
    """The content of a dataset, or of a view that keeps the order of its rows."""
    opened = dataset.opened
    content = content_of(opened.manifest, opened.present)
    if dataset.window is not None:
        raise ConfigError(f"{dataset!r} is a view of windows: merge the dataset itself.")
    if not dataset.is_view:
        return content
    physical = dataset.physical_rows(np.arange(len(dataset)))
    if not (physical[1:] > physical[:-1]).all():
        raise ConfigError(f"{dataset!r}: rows are merged in the order of their dataset, each once, and this view has "
                          "another. Select them in ascending order.")  # fmt: skip
    return keeping(content, np.frombuffer(Selection.from_rows(physical, content.rows).bits(), np.uint8))


def _copied_index_files(datasets: Sequence[Dataset], contents: Sequence[Content], folder: Path) -> list[Path]:
    """Copies in `folder` of the index files that `contents` need, each read whole and checked."""
    copies = {}
    for dataset, content in zip(datasets, contents, strict=True):
        with closing(storage_to_write(dataset.url)) as source:
            for file in content.index_files:
                if file.name not in copies:
                    copies[file.name] = folder / file.name
                    data = source.map(f"{INDEX_FOLDER}/{file.name}", hold=False)
                    check_index_file(data, file, f"{source.url}/{INDEX_FOLDER}/{file.name}")
                    copies[file.name].write_bytes(data)
    return list(copies.values())


def _owners(contents: Sequence[Content]) -> list[str]:
    """The places of the datasets whose shards `contents` name by absolute paths or URLs, each once, in order."""
    absolute = (path for content in contents for path in content.shards.paths() if _is_absolute(path))
    folders = dict.fromkeys(path.rpartition("/")[0] for path in absolute)
    return list(dict.fromkeys(folder.rpartition("/")[0] for folder in folders))


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or "://" in path


def _require_reachable(storage: Storage, contents: Sequence[Content]) -> None:
    """A dataset in an object store is read from anywhere: it names no path of this machine."""
    if isinstance(storage, LocalStorage):
        return
    for content in contents:
        for path in content.shards.paths():
            if path.startswith("/"):
                raise ConfigError(f"{storage.url}: would name the shard {path}, which only this machine has. Upload "
                                  "that dataset too, and merge from there.")  # fmt: skip


def _register(held: ExitStack, owner: str, destination: str) -> None:
    storage = held.enter_context(closing(storage_to_write(owner)))
    if not (Path(owner) / "_feed").is_dir() if isinstance(storage, LocalStorage) else not snapshot_numbers(storage):
        raise ConfigError(f"{owner}: holds shards and no dataset, so it cannot be told that {destination} refers to "
                          "them. With register_sources=False they are merged all the same.")  # fmt: skip
    try:
        held.enter_context(storage.lock(exclusive=False))
        register(storage, destination)
    except (OSError, OriginError) as error:
        raise ConfigError(
            f"{owner}: cannot be told that {destination} refers to its shards ({_why(error)}), so a later "
            "`fastfeed gc` of it could remove them. Make it writable, or give register_sources=False and never collect "
            "it."
        ) from error


def _why(error: OSError | OriginError) -> str:
    return str((error.strerror if isinstance(error, OSError) else None) or error)


def _require_shards(content: Content, storage: Storage) -> None:
    sizes: dict[str, dict[str, int]] = {}  # folder -> file -> bytes, of object stores

    def size_of(path: str) -> int:
        if "://" not in path:
            return Path(path).stat().st_size if Path(path).is_file() else 0
        folder, _, name = path.rpartition("/")
        if folder not in sizes:
            with closing(storage_to_write(folder)) as there:
                sizes[folder] = {file.name: file.bytes for file in there.files("")}
        return sizes[folder].get(name, 0)

    for name, wanted_bytes in zip(content.shards.paths(), content.shards.file_bytes.tolist(), strict=True):
        path = name if _is_absolute(name) else f"{storage.url}/{name}"
        found_bytes = size_of(path)
        if found_bytes != wanted_bytes:
            raise CorruptDataError(f"{path}: has {found_bytes} bytes, its manifest says {wanted_bytes}. Nothing was "
                                   "merged; run fastfeed verify on its dataset.")  # fmt: skip


def _require_utf8(urls: Sequence[str]) -> None:
    for url in urls:
        try:
            url.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{os.fsencode(url)!r}: a manifest names other datasets' shards by paths in UTF-8, and "
                              "this is none. Rename the folder.") from error  # fmt: skip


def _provenance(datasets: Sequence[Dataset]) -> dict[str, Any]:
    return {
        "tool": f"fastfeed {__version__}",
        "command": "merge",
        "sources": [{"url": each.url, "snapshot": each.snapshot} for each in datasets],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
