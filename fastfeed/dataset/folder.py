"""A dataset's folder: what its files are called, which snapshots it has, what one says (docs/format.md, section 1)."""

from __future__ import annotations

import re

from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.errors import CorruptDataError
from fastfeed.storage.protocol import Files

MANIFEST_FOLDER = "_feed/manifests"
INDEX_FOLDER = "_feed/index"
PRESENT_FOLDER = "_feed/present"
REFERRER_FOLDER = "_feed/referrers"
REJECTS_FOLDER = "_feed/rejects"
SHARD_FOLDER = "shards"

# Up to this size a manifest is copied into memory when it is opened: then nobody can cut it or change it under a
# reader, which in a mapped file would be SIGBUS. 16 MiB are 100,000 shards, copied in 3 ms by each process.
MANIFEST_COPY_BYTES_MAX = 16 << 20

_MANIFEST_NAME = re.compile(r"([0-9]{20})\.arrow", re.ASCII)


def manifest_name(snapshot: int) -> str:
    """The manifest's file, relative to the dataset's folder."""
    return f"{MANIFEST_FOLDER}/{snapshot:020d}.arrow"


def manifest_number(name: str) -> int | None:
    """The snapshot whose manifest has this file name; None: no manifest has it."""
    match = _MANIFEST_NAME.fullmatch(name)
    return None if match is None else int(match[1])


def shard_name(uid: bytes) -> str:
    """A shard's file, relative to the folder of the dataset that wrote it."""
    return f"{SHARD_FOLDER}/{uid.hex()}.ffs"


def snapshot_numbers(storage: Files) -> list[int]:
    """The snapshots that exist, ascending."""
    numbers = map(manifest_number, storage.list(MANIFEST_FOLDER))
    return sorted(number for number in numbers if number is not None)


def read_manifest(storage: Files, number: int) -> Manifest:
    """The manifest of a snapshot that exists. CorruptDataError, FormatVersionError name the file."""
    name = manifest_name(number)
    where = f"{storage.url}/{name}"
    manifest = decode_manifest(storage.map(name, MANIFEST_COPY_BYTES_MAX), where)
    if manifest.snapshot != number:
        raise CorruptDataError(f"{where}: says that it is snapshot {manifest.snapshot}")
    return manifest


def newest_manifest(storage: Files) -> Manifest | None:
    """The newest snapshot's manifest, None where there is no dataset. The caller holds the lock, or can bear that a
    collection takes away what was the newest a moment ago (FileNotFoundError)."""
    numbers = snapshot_numbers(storage)
    return read_manifest(storage, numbers[-1]) if numbers else None
