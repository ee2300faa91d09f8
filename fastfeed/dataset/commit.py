"""Committing: how shards become a snapshot that readers see.

 1. Shards get their final names.          2. The index file gets its name, which is its hash.
 3. The manifest with the next number is created; of several writers one succeeds.
Each step is durable before the next begins. A crash before 3 leaves files that no snapshot names, and readers see
what they saw before; after 3 the snapshot is complete. Who loses step 3 looks at the winner's snapshot and tries again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastfeed.dataset.index import WrittenIndex, write_index
from fastfeed.dataset.manifest import Manifest, ShardColumns
from fastfeed.errors import CommitConflictError, ConfigError
from fastfeed.format.layout import HEADER_BYTES, dictionary_hash
from fastfeed.format.schema import AnySchema
from fastfeed.format.seal import SealedShard
from fastfeed.storage.protocol import Storage

MANIFEST_FOLDER = "_feed/manifests"
INDEX_FOLDER = "_feed/index"
SHARD_FOLDER = "shards"

# Blocks of about 4 MiB: large enough for one efficient read of any storage, small enough that 1,024 of them mix well.
BLOCK_BYTES = 4 << 20
# Each attempt that is lost means that another writer's commit went through; 16 in a row is a queue, not a race.
COMMIT_ATTEMPTS_MAX = 16

_MANIFEST_NAME = re.compile(r"([0-9]{20})\.arrow", re.ASCII)


def manifest_name(snapshot: int) -> str:
    """The manifest's file, relative to the dataset's folder."""
    return f"{MANIFEST_FOLDER}/{snapshot:020d}.arrow"


def snapshot_numbers(storage: Storage) -> list[int]:
    """The snapshots that exist, ascending."""
    matches = (_MANIFEST_NAME.fullmatch(name) for name in storage.list(MANIFEST_FOLDER))
    return sorted(int(match[1]) for match in matches if match is not None)


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


def commit_shards(
    storage: Storage,
    *,
    schema: AnySchema,
    shards: Sequence[SealedShard],
    dictionaries: Mapping[str, bytes] | None = None,
    metadata: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> int:
    """Publish `shards` (files in `storage.staging()`) in this order as one snapshot; return its number.

    dictionaries: those that the shards' zstd columns use, per column. replace: where a dataset exists, its newest
    snapshot becomes the parent and none of its shards stay; without it, ConfigError. The staged files remain.
    """

    def make(snapshot: int) -> bytes:
        if snapshot > 1 and not replace:
            raise ConfigError(
                f"{storage.url}: another writer has made a dataset here meanwhile. Nothing was committed; "
                "choose another place, or overwrite."
            )
        return _manifest(snapshot, schema, shards, index, dictionaries or {}, metadata or {}, provenance or {}).encode()

    if not replace:
        require_no_dataset(storage)
    # Written before anything has its name: a disk that is full here keeps no shards that no snapshot names.
    index = write_index(shards[0].path.parent, shards) if shards else None
    try:
        storage.publish((shard.path, f"{SHARD_FOLDER}/{shard.uid.hex()}.ffs") for shard in shards)
        if index is not None:
            storage.publish([(index.path, f"{INDEX_FOLDER}/{index.file.name}")])
    finally:
        if index is not None:
            index.path.unlink()
    return commit(storage, make)


def require_no_dataset(storage: Storage) -> None:
    """ConfigError where there is a dataset already."""
    if numbers := snapshot_numbers(storage):
        raise ConfigError(
            f"{storage.url}: there is a dataset already (snapshot {numbers[-1]}). Choose another place, or give "
            "overwrite=True to begin a new snapshot without its rows."
        )


def _manifest(
    snapshot: int,
    schema: AnySchema,
    shards: Sequence[SealedShard],
    index: WrittenIndex | None,
    dictionaries: Mapping[str, bytes],
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Manifest:
    sets, set_of = _dictionary_sets(shards, dictionaries)
    rows = sum(shard.rows for shard in shards)
    return Manifest(
        snapshot=snapshot,
        parent=snapshot - 1,
        schema=schema,
        rows=rows,
        tokens=sum(shard.tokens for shard in shards),
        block_rows=block_rows_of(rows, sum(shard.payload_end - HEADER_BYTES for shard in shards)),
        index_files=[index.file] if index else [],
        dictionary_sets=sets,
        metadata=metadata,
        provenance=provenance,
        shards=_columns(shards, index, set_of),
    )


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
    paths = [f"{SHARD_FOLDER}/{shard.uid.hex()}.ffs".encode() for shard in shards]
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
