"""Committing: how shards become a snapshot that readers see.

 0. The dataset's lock is taken, shared: `gc` removes nothing meanwhile.
 1. Shards get their final names.          2. The index file gets its name, which is its hash.
 3. Where rows were deleted, the bitmap file of those that are left; then the manifest with the next number is created:
    of several writers one succeeds.
Each step is durable before the next begins. A crash before 3 leaves files that no snapshot names, and readers see
what they saw before; after 3 the snapshot is complete. Who loses step 3 looks at the winner's snapshot and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from fastfeed._native.selection import Selection
from fastfeed.dataset.content import Content, content_of, joined
from fastfeed.dataset.folder import (
    INDEX_FOLDER,
    PRESENT_FOLDER,
    manifest_name,
    read_manifest,
    shard_name,
    snapshot_numbers,
)
from fastfeed.dataset.index import WrittenIndex, write_index
from fastfeed.dataset.manifest import BLOCK_BYTES, Manifest, ShardColumns
from fastfeed.dataset.present import PresentFile, pack_present
from fastfeed.dataset.snapshot import present_of
from fastfeed.errors import CommitConflictError, ConfigError
from fastfeed.format.layout import dictionary_hash
from fastfeed.format.schema import AnySchema
from fastfeed.format.seal import SealedShard
from fastfeed.storage.protocol import Storage

# Each attempt that is lost means that another writer's commit went through: 256 writers that end in the same moment
# all come through.
COMMIT_ATTEMPTS_MAX = 256


def block_rows_of(rows: int, payload_bytes: int) -> int:
    """Rows a block, from integer totals: what holds about BLOCK_BYTES, at least 1."""
    return max(1, BLOCK_BYTES * rows // payload_bytes) if payload_bytes else 1


def commit(storage: Storage, make: Callable[[int], bytes]) -> int:
    """Create the next snapshot and return its number.

    make: from the number that the snapshot will have to the manifest's bytes; called once an attempt, it may raise
    if it finds that it does not want to follow the snapshots that are there. CommitConflictError after
    COMMIT_ATTEMPTS_MAX lost races.
    """
    for _ in range(COMMIT_ATTEMPTS_MAX):
        snapshot = max(snapshot_numbers(storage), default=0) + 1
        try:
            storage.create(manifest_name(snapshot), make(snapshot))
        except FileExistsError:
            continue
        return snapshot
    raise CommitConflictError(
        f"{storage.url}: {COMMIT_ATTEMPTS_MAX} attempts to commit lost against other writers. Nothing was "
        "committed; try again when they are done."
    )


class Next(NamedTuple):
    """What the next snapshot is to be: `follows` is the one whose rows a block and metadata it keeps, if any."""

    schema: AnySchema
    content: Content
    follows: Manifest | None


def commit_content(
    storage: Storage,
    make: Callable[[int], Next],
    *,
    metadata: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any],
) -> int:
    """Create the next snapshot from a content; return its number. The caller holds the storage's lock.

    make: from the number of the newest snapshot (0: there is none) to what follows it; called once an attempt, as in
    `commit`. metadata is added to that of the snapshot that it follows.
    """

    def encode(snapshot: int) -> bytes:
        schema, content, follows = make(snapshot - 1)
        return Manifest(
            snapshot=snapshot,
            parent=snapshot - 1,
            schema=schema,
            rows=content.rows,
            tokens=content.tokens,
            block_rows=_block_rows(follows, content),
            index_files=content.index_files,
            dictionary_sets=content.dictionary_sets,
            metadata={**(follows.metadata if follows else {}), **(metadata or {})},
            provenance=provenance,
            shards=content.shards,
            present=_store_present(storage, content),
        ).encode()

    return commit(storage, encode)


def commit_shards(
    storage: Storage,
    *,
    schema: AnySchema,
    shards: Sequence[SealedShard],
    dictionaries: Mapping[str, bytes] | None = None,
    metadata: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    replace: bool = False,
    append: bool = False,
) -> int:
    """Publish `shards` (files in `storage.staging()`) in this order as one snapshot; return its number.

    dictionaries: those that the shards' zstd columns use, per column. Where a dataset exists, its newest snapshot
    becomes the parent: with replace none of its shards stay, with append all do and come first (ConfigError where its
    schema is another); with neither, ConfigError. The staged files remain.
    """

    def make(newest: int) -> Next:
        if newest == 0 or replace:
            return Next(schema, added, None)
        if not append:
            raise ConfigError(
                f"{storage.url}: another writer has made a dataset here meanwhile. Nothing was committed; "
                "choose another place, or overwrite."
            )
        manifest = read_manifest(storage, newest)
        require_schema(storage.url, manifest.schema, schema)
        return Next(schema, joined([existing_content(storage, manifest), added]), manifest)

    if not (replace or append):
        require_no_dataset(storage)
    # Written before anything has its name: a disk that is full here keeps no shards that no snapshot names.
    index = write_index(shards[0].path.parent, shards) if shards else None
    sets, set_of = _dictionary_sets(shards, dictionaries or {})
    added = Content(
        shards=_columns(shards, index, set_of), index_files=[index.file] if index else [], dictionary_sets=sets
    )
    with storage.lock(exclusive=False):
        try:
            storage.publish((shard.path, shard_name(shard.uid)) for shard in shards)
            if index is not None:
                storage.publish([(index.path, f"{INDEX_FOLDER}/{index.file.name}")])
        finally:
            if index is not None:
                index.path.unlink()
        return commit_content(storage, make, metadata=metadata, provenance=provenance or {})


def require_no_dataset(storage: Storage) -> None:
    """ConfigError where there is a dataset already."""
    if numbers := snapshot_numbers(storage):
        raise ConfigError(
            f"{storage.url}: there is a dataset already (snapshot {numbers[-1]}). Choose another place, give "
            "append=True to add rows to it, or overwrite=True to begin a new snapshot without its rows."
        )


def require_schema(url: str, present: AnySchema, given: AnySchema) -> None:
    """ConfigError that names the difference unless `given` is the schema of the dataset at `url`."""
    if present == given:
        return
    kinds = [f"{name!r} is {column!r} there" for name, column in present.items() if given.get(name) != column]
    news = [f"{name!r} is not there" for name in given if name not in present]
    order = [f"the columns' order there is {', '.join(present)}"]
    raise ConfigError(
        f"{url}: has another schema than what is to be added: {'; '.join([*kinds, *news] or order)}. Rows of one "
        "dataset have one schema: give the dataset's, or write to another place."
    )


def existing_content(storage: Storage, manifest: Manifest) -> Content:
    """The content of a snapshot of `storage`, its bitmap file read and checked."""
    return content_of(manifest, present_of(storage, manifest, f"{storage.url}/{manifest_name(manifest.snapshot)}"))


def _block_rows(follows: Manifest | None, content: Content) -> int:
    """K is fixed by the first snapshot that has shards, and kept by those that follow it."""
    if follows is not None and len(follows.shards):
        return follows.block_rows
    return block_rows_of(content.rows, content.payload_bytes)


def _store_present(storage: Storage, content: Content) -> PresentFile | None:
    """Write the bitmap file of a content that lacks rows. One that is there already has this name and is the same."""
    if content.bits is None:
        return None
    file, data = pack_present(Selection.from_bits(content.bits, content.rows))
    with suppress(FileExistsError):
        storage.create(f"{PRESENT_FOLDER}/{file.name}", data)
    return file


def _dictionary_sets(
    shards: Sequence[SealedShard], dictionaries: Mapping[str, bytes]
) -> tuple[list[dict[str, bytes]], list[int]]:
    """(the distinct sets, the number of each shard's)."""
    known = {dictionary_hash(each): each for each in dictionaries.values()}
    sets: list[dict[str, bytes]] = []
    numbers = []
    for shard in shards:
        missing = [column for column, digest in shard.dictionaries.items() if digest not in known]
        if missing:
            raise ConfigError(f"shard {shard.uid.hex()} uses dictionaries of {', '.join(missing)} that were not given")
        group = {column: known[digest] for column, digest in shard.dictionaries.items()}
        if group not in sets:
            sets.append(group)
        numbers.append(sets.index(group))
    return sets, numbers


def _columns(shards: Sequence[SealedShard], index: WrittenIndex | None, set_of: Sequence[int]) -> ShardColumns:
    paths = [shard_name(shard.uid).encode() for shard in shards]
    nothing = np.zeros(0, np.uint64)
    at = index.at if index else dict.fromkeys(("row_index", "chunk_checksums", "page_checksums"), nothing)
    return ShardColumns(
        path_offsets=np.cumsum([0, *map(len, paths)]).astype(np.int32),
        path_data=np.frombuffer(b"".join(paths), np.uint8),
        uids=_hashes([shard.uid for shard in shards]),
        xxh3_128=_hashes([shard.xxh3_128 for shard in shards]),
        file_bytes=np.array([shard.bytes for shard in shards], np.uint64),
        rows=np.array([shard.rows for shard in shards], np.uint64),
        payload_ends=np.array([shard.payload_end for shard in shards], np.uint64),
        tokens=np.array([shard.tokens for shard in shards], np.uint64),
        index_file=np.zeros(len(shards), np.uint32),
        row_index_at=at["row_index"],
        chunk_checksums_at=at["chunk_checksums"],
        page_checksums_at=at["page_checksums"],
        dictionary_set=np.array(set_of, np.uint32),
    )


def _hashes(values: Sequence[bytes]) -> Any:
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), 16)
