"""Records of other datasets whose snapshots name shards of this one (docs/format.md, section 9).

`merge` writes one into each dataset whose shards it names, before it commits; `gc` asks the datasets in them what they
still name. A record only says where to look: one that is left of a merge that never came to its end does no harm,
as the dataset there names nothing.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from pathlib import Path

import xxhash

from fastfeed.dataset.folder import REFERRER_FOLDER, manifest_name, snapshot_numbers
from fastfeed.dataset.manifest import decode_manifest
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.location import storage_to_write
from fastfeed.storage.protocol import Storage

RECORD_FORMAT = 1
# A record is a line with a path in it; anything much longer is none.
RECORD_BYTES_MAX = 64 * 1024


def register(owner: Storage, referrer: str) -> None:
    """Note in `owner` that the dataset at `referrer` (an absolute path) names shards of it. Durable on return."""
    name, data = record_of(referrer)
    with suppress(FileExistsError):
        owner.create(f"{REFERRER_FOLDER}/{name}", data)


def record_of(referrer: str) -> tuple[str, bytes]:
    """The name and the bytes of a record."""
    data = json.dumps({"format": RECORD_FORMAT, "dataset": referrer}, ensure_ascii=False).encode() + b"\n"
    return f"{xxhash.xxh3_128_hexdigest(data)}.json", data


def read_record(data: memoryview, name: str) -> str:
    """The dataset that a record names. CorruptDataError."""
    stem = Path(name).stem
    if len(data) > RECORD_BYTES_MAX or xxhash.xxh3_128_hexdigest(data) != stem:
        raise CorruptDataError(f"{name}: is not the record of a dataset that its name stands for")
    try:
        record = json.loads(bytes(data))
        known, dataset = record["format"] == RECORD_FORMAT, record["dataset"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptDataError(f"{name}: is no record of a dataset: {error}") from error
    if not known or not isinstance(dataset, str):
        raise CorruptDataError(f"{name}: is no record of a dataset that this fastfeed knows. Upgrade fastfeed.")
    return dataset


def records(storage: Storage) -> dict[str, str]:
    """Record's name -> the dataset that it names. CorruptDataError names a record that is damaged."""
    found = {}
    for name in sorted(storage.list(REFERRER_FOLDER)):
        if not name.startswith("."):
            path = f"{REFERRER_FOLDER}/{name}"
            found[path] = read_record(storage.map(path), f"{storage.url}/{path}")
    return found


def shard_names(storage: Storage) -> set[str]:
    """File names of all shards that any snapshot of a dataset names, whichever folder they are in."""
    names: set[str] = set()
    for number in snapshot_numbers(storage):
        with suppress(FileNotFoundError):  # dropped since it was listed
            names |= shard_names_of(storage, number)
    return names


def shard_names_of(storage: Storage, number: int) -> set[str]:
    """File names of the shards that one snapshot names. Its manifest is not held when this returns."""
    name = manifest_name(number)
    manifest = decode_manifest(memoryview(bytes(storage.map(name))), f"{storage.url}/{name}")
    return {path.rpartition("/")[2] for path in manifest.shards.paths()}


def names_in_referrer(owner: str, referrer: str) -> set[str]:
    """What the dataset at `referrer` names. ConfigError with what to do where it cannot be asked."""
    try:
        with closing(storage_to_write(referrer)) as storage:
            if isinstance(storage, LocalStorage) and not (storage.root / "_feed").is_dir():
                raise FileNotFoundError("there is no dataset there")
            return shard_names(storage)
    except (OSError, FastfeedError) as error:
        raise ConfigError(
            f"{owner}: the dataset {referrer} refers to shards here, and cannot be asked which: {error}. Nothing was "
            f"removed. Bring it back (is it mounted? was it moved? then link its old place to the new one), or, if it "
            f"is gone for good: fastfeed gc {owner} --forget {referrer}"
        ) from error
