"""Verifying a whole dataset: manifests, index files, shards, and what lies around them.

A library: it reads and yields findings, it prints and changes nothing. Three steps, because the third takes long:
 1. `survey` reads manifests and index files, all of their bytes against their checksums, and finds which files
    snapshots name and which are there that none names.
 2. It hands out the shards that have to be read, each once, however many snapshots name it.
 3. `read_shards` reads every byte of them, several at a time (format/verify.py says what is checked).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fastfeed.dataset.commit import INDEX_FOLDER, SHARD_FOLDER, manifest_name, snapshot_numbers
from fastfeed.dataset.folder import REJECTS_FOLDER
from fastfeed.dataset.index import check_index_file
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.dataset.rejects import check_rejects, rejects_of
from fastfeed.dataset.shards import ShardEntry, ShardList
from fastfeed.dataset.snapshot import not_found
from fastfeed.dataset.staging import is_live
from fastfeed.errors import CorruptDataError
from fastfeed.format.verify import ExpectedShard, verify_shard
from fastfeed.storage.local import STAGING_FOLDER, LocalStorage


class Severity(StrEnum):
    """An error is data that cannot be read as it was written; a warning is something that should not be there."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class DatasetFinding:
    """One thing that is wrong. `shard` is its name, `row` its row in the shard, where they apply."""

    severity: Severity
    file: str
    what: str
    shard: str | None = None
    row: int | None = None


@dataclass(slots=True)
class Survey:
    """What step 1 found. `shards` are those to be read, in the order of the first snapshot that names each."""

    snapshots: list[int]
    findings: list[DatasetFinding] = field(default_factory=list)
    index_files: int = 0
    shards: list[ShardEntry] = field(default_factory=list)
    schema_fingerprints: list[bytes] = field(default_factory=list)  # of each of `shards`

    @property
    def bytes(self) -> int:
        """Bytes of all shards to be read."""
        return sum(shard.bytes for shard in self.shards)

    def error(self, file: str, what: str) -> None:
        """Note an error of `file`."""
        self.findings.append(DatasetFinding(Severity.ERROR, file, what))

    def warn(self, file: str, what: str) -> None:
        """Note a warning about `file`."""
        self.findings.append(DatasetFinding(Severity.WARNING, file, what))


def survey(storage: LocalStorage, snapshot: int | None = None) -> Survey:
    """Read the manifests and index files of all snapshots, or of one.

    DatasetNotFoundError where there is none, FormatVersionError where one needs a newer fastfeed."""
    numbers = snapshot_numbers(storage)
    wanted = numbers if snapshot is None else [number for number in numbers if number == snapshot]
    if not wanted:
        raise not_found(storage.root, numbers, snapshot)
    found = Survey(wanted)
    index_maps: dict[str, memoryview | None] = {}
    checked_rejects: set[str] = set()
    named: dict[Path, tuple[ShardEntry, bytes]] = {}
    for number in wanted:
        manifest = read_manifest(storage, number, found)
        if manifest is None:
            continue
        look_at_rejects(storage, manifest, checked_rejects, found)
        maps = [read_index(storage, manifest, at, index_maps, found) for at in range(len(manifest.index_files))]
        present = [each for each in maps if each is not None]
        if len(present) < len(maps):
            found.error(manifest_name(number), "its shards cannot be located without its index files")
            continue
        for entry in ShardList(storage.root, manifest, present):
            first, _ = named.setdefault(entry.path, (entry, manifest.schema.fingerprint))
            if (first.uid, first.xxh3_128) != (entry.uid, entry.xxh3_128):
                found.error(
                    manifest_name(number), f"names {entry.path} with other hashes than an earlier snapshot does"
                )
    found.index_files = len(index_maps)
    found.shards = [entry for entry, _ in named.values()]
    found.schema_fingerprints = [fingerprint for _, fingerprint in named.values()]
    if snapshot is None:
        look_for_strays(storage, set(index_maps), set(named), found)
        for name in sorted(storage.list(REJECTS_FOLDER)):
            if f"{REJECTS_FOLDER}/{name}" not in checked_rejects:
                found.warn(f"{REJECTS_FOLDER}/{name}", "no snapshot names this list of rejects")
    return found


def read_manifest(storage: LocalStorage, number: int, found: Survey) -> Manifest | None:
    """A manifest, or None and a finding where it is damaged."""
    name = manifest_name(number)
    try:
        manifest = decode_manifest(storage.map(name), name)
    except CorruptDataError as error:
        found.error(name, without_name(error, name))
        return None
    if manifest.snapshot != number:
        found.error(name, f"says that it is snapshot {manifest.snapshot}")
    return manifest


def read_index(
    storage: LocalStorage, manifest: Manifest, at: int, known: dict[str, memoryview | None], found: Survey
) -> memoryview | None:
    """Map index file `at` of `manifest`; None where it is missing or damaged. Each file is read once."""
    file = manifest.index_files[at]
    name = f"{INDEX_FOLDER}/{file.name}"
    if name not in known:
        known[name] = None
        try:
            data = storage.map(name)
            check_index_file(data, file, name)
            known[name] = data
        except FileNotFoundError:
            found.error(name, f"is missing; snapshot {manifest.snapshot} names it")
        except CorruptDataError as error:
            found.error(name, without_name(error, name))
    return known[name]


def look_at_rejects(storage: LocalStorage, manifest: Manifest, checked: set[str], found: Survey) -> None:
    """The list of rejects that a manifest names must be there and be that one. Each list is read once."""
    try:
        rejects = rejects_of(manifest.provenance)
    except CorruptDataError as error:
        found.error(manifest_name(manifest.snapshot), str(error))
        return
    if rejects is None or rejects.file in checked:
        return
    checked.add(rejects.file)
    try:
        check_rejects(storage, rejects)
    except FileNotFoundError:
        found.error(rejects.file, f"is missing; snapshot {manifest.snapshot} names it")
    except CorruptDataError as error:
        found.error(rejects.file, str(error))


def look_for_strays(storage: LocalStorage, index_files: set[str], shards: set[Path], found: Survey) -> None:
    """Files that no snapshot names: left by writers that did not come to their end, or by a damaged manifest."""
    for name in sorted(storage.list(INDEX_FOLDER)):
        if f"{INDEX_FOLDER}/{name}" not in index_files:
            found.warn(f"{INDEX_FOLDER}/{name}", "no snapshot names this index file")
    for name in sorted(storage.list(SHARD_FOLDER)):
        if storage.root / SHARD_FOLDER / name not in shards:
            found.warn(f"{SHARD_FOLDER}/{name}", "no snapshot names this file")
    for name in sorted(storage.list(STAGING_FOLDER)):
        live = is_live(storage.root / STAGING_FOLDER / name)
        found.warn(
            f"{STAGING_FOLDER}/{name}",
            "belongs to a writer that is running" if live else "was left by a writer that was killed or interrupted",
        )


def read_shards(found: Survey, workers: int) -> Iterator[tuple[ShardEntry, list[DatasetFinding]]]:
    """Read every shard of a survey with `workers` threads; yield each with its findings, in order.

    Reading and hashing run without the GIL."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="verify")
    try:
        yield from zip(found.shards, pool.map(findings_of, found.shards, found.schema_fingerprints), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def findings_of(entry: ShardEntry, schema_fingerprint: bytes) -> list[DatasetFinding]:
    """All that is wrong with one shard (format/verify.py bounds how many findings that can be)."""
    expected = ExpectedShard(
        uid=entry.uid,
        bytes=entry.bytes,
        rows=entry.rows,
        payload_end=entry.payload_end,
        tokens=entry.tokens,
        xxh3_128=entry.xxh3_128,
        schema_fingerprint=schema_fingerprint,
        row_index=entry.row_index,
        chunk_checksums=entry.chunk_checksums,
        page_checksums=entry.page_checksums,
    )
    file, uid = str(entry.path), entry.uid.hex()
    findings: list[DatasetFinding] = []
    try:
        findings.extend(
            DatasetFinding(Severity.ERROR, file, each.what, each.shard, each.row)
            for each in verify_shard(entry.path, expected)
        )
    except FileNotFoundError:
        findings.append(DatasetFinding(Severity.ERROR, file, "is missing; a snapshot names it", uid))
    except OSError as error:  # the rest of the dataset may be readable
        findings.append(DatasetFinding(Severity.ERROR, file, f"cannot be read: {error.strerror}", uid))
    except CorruptDataError as error:
        findings.append(DatasetFinding(Severity.ERROR, file, without_name(error, file), uid))
    return findings


def without_name(error: CorruptDataError, name: str) -> str:
    """The message without the file's name, which the finding has already."""
    return str(error).removeprefix(f"{name}: ")
