"""Manifests that lie about shards of another dataset: made with every checksum of their own right."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import xxhash

from fastfeed.dataset.folder import INDEX_FOLDER, MANIFEST_FOLDER, manifest_name, snapshot_numbers
from fastfeed.dataset.index import IndexFile
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.format.arrow_tail import TAIL_BYTES, Tail
from fastfeed.storage.local import LocalStorage

LIES = ("checksums", "size")


def forge(dataset: Path, forged: Path, lie: str) -> None:
    """Write a dataset at `forged` with the shards of `dataset`, its sibling, and a lie about checksums or size."""
    assert lie in LIES
    number = snapshot_numbers(LocalStorage(dataset))[-1]
    manifest = decode_manifest(memoryview((dataset / manifest_name(number)).read_bytes()), "good")
    (forged / MANIFEST_FOLDER).mkdir(parents=True)
    (forged / INDEX_FOLDER).mkdir(parents=True)
    indexes = [bytearray((dataset / INDEX_FOLDER / each.name).read_bytes()) for each in manifest.index_files]
    shards = manifest.shards
    if lie == "checksums":
        for shard in range(len(shards)):
            at = int(shards.chunk_checksums_at[shard])
            indexes[shards.index_file[shard]][at] ^= 0xFF
    else:
        shards = dataclasses.replace(shards, file_bytes=shards.file_bytes + np.uint64(4096))
    files = [_write_index(forged, bytes(data[:-TAIL_BYTES])) for data in indexes]
    paths = [f"s3://bucket/{dataset.name}/{path}" for path in shards.paths()]
    data = np.frombuffer("".join(paths).encode(), np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(path.encode()) for path in paths])]).astype(np.int32)
    shards = dataclasses.replace(shards, path_data=data, path_offsets=offsets)
    lying: Manifest = dataclasses.replace(manifest, shards=shards, index_files=files)
    (forged / manifest_name(number)).write_bytes(lying.encode())


def _write_index(forged: Path, arrow: bytes) -> IndexFile:
    digest = xxhash.xxh3_128_digest(arrow)
    name = f"{digest.hex()}.arrow"
    (forged / INDEX_FOLDER / name).write_bytes(arrow + Tail(len(arrow), digest).pack())
    return IndexFile(name, len(arrow) + TAIL_BYTES, digest)
