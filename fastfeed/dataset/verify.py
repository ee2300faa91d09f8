"""Verifying a whole dataset: manifests, index files, shards, and what lies around them.

A library: it reads and yields findings, it prints and changes nothing. Three steps, because the third takes long:
 1. `survey` reads manifests and all that they name besides shards (index files, bitmaps, lists of rejects), every byte
    against its checksum, and finds which files snapshots name and which are there that none names.
 2. It hands out the shards that have to be read, each once, however many snapshots name it.
 3. `read_shards` reads every byte of them, several at a time (format/verify.py says what is checked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from fastfeed.dataset.fetched import FetchedPayload
from fastfeed.dataset.folder import (
    INDEX_FOLDER,
    MANIFEST_FOLDER,
    PRESENT_FOLDER,
    REFERRER_FOLDER,
    SHARD_FOLDER,
    manifest_name,
    snapshot_numbers,
)
from fastfeed.dataset.index import check_index_file
from fastfeed.dataset.manifest import Manifest, decode_manifest
from fastfeed.dataset.payload import LocalPayload, Shards
from fastfeed.dataset.present import read_present
from fastfeed.dataset.referrers import read_record
from fastfeed.dataset.rejects import check_rejects, rejects_of
from fastfeed.dataset.shards import ShardEntry, ShardList
from fastfeed.dataset.snapshot import not_found, not_found_at
from fastfeed.dataset.staging import is_live
from fastfeed.dataset.urls import object_url
from fastfeed.errors import CorruptDataError
from fastfeed.format.verify import ExpectedShard, verify_bytes
from fastfeed.storage.local import STAGING_FOLDER, LocalStorage
from fastfeed.storage.remote_storage import RemoteStorage

# Files up to this size are read, not mapped: a disk that cannot read a part of one then gives an error, which is a
# finding, and not SIGBUS. 256 MiB are the index of 64 million rows.
COPY_BYTES_MAX = 256 << 20


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


def survey(storage: LocalStorage | RemoteStorage, snapshot: int | None = None) -> Survey:
    """Read the manifests and index files of all snapshots, or of one.

    DatasetNotFoundError where there is none, FormatVersionError where one needs a newer fastfeed."""
    numbers = snapshot_numbers(storage)
    wanted = numbers if snapshot is None else [number for number in numbers if number == snapshot]
    if not wanted:
        raise (
            not_found(storage.root, numbers, snapshot)
            if isinstance(storage, LocalStorage)
            else not_found_at(storage.url, numbers, snapshot)
        )
    found = Survey(wanted)
    surveyor = _Surveyor(storage, found)
    for number in wanted:
        surveyor.look_at_snapshot(number)
    found.index_files = len(surveyor.index_maps)
    found.shards = [entry for entry, _ in surveyor.shards.values()]
    found.schema_fingerprints = [fingerprint for _, fingerprint in surveyor.shards.values()]
    if snapshot is None:
        for before, after in pairwise(numbers):
            if after != before + 1:
                found.warn(MANIFEST_FOLDER, f"there are no snapshots {before + 1} to {after - 1}: were they collected?")
        look_for_strays(storage, surveyor.named, found)
    return found


class _Surveyor:
    """Reads snapshots one after the other, and each file that they name once."""

    def __init__(self, storage: LocalStorage | RemoteStorage, found: Survey) -> None:
        self.storage = storage
        self.found = found
        self.named: set[str] = set()  # all files that belong to the dataset: absolute paths, or URLs
        self.index_maps: dict[str, memoryview | None] = {}
        self.shards: dict[str, tuple[ShardEntry, bytes]] = {}  # with the fingerprint of the schema that names each

    def look_at_snapshot(self, number: int) -> None:
        manifest = self._manifest(number)
        if manifest is None:
            return
        self._look_at_present(manifest)
        self._look_at_rejects(manifest)
        payload = shards_of(self.storage, manifest)
        maps = [self._index(manifest, at) for at in range(len(manifest.index_files))]
        present = [each for each in maps if each is not None]
        if len(present) < len(maps):
            self.found.error(manifest_name(number), "its shards cannot be located without its index files")
            self.named |= {payload.where(manifest.shards.path(shard)) for shard in range(len(manifest.shards))}
            return
        for entry in ShardList(payload, manifest, present):
            self.named.add(entry.where)
            first, _ = self.shards.setdefault(entry.where, (entry, manifest.schema.fingerprint))
            if (first.uid, first.xxh3_128) != (entry.uid, entry.xxh3_128):
                self.found.error(
                    manifest_name(number), f"names {entry.where} with other hashes than an earlier snapshot does"
                )

    def _manifest(self, number: int) -> Manifest | None:
        """A manifest, or None and a finding where it is damaged."""
        name = manifest_name(number)
        manifest: Manifest | None = None

        def read() -> None:
            nonlocal manifest
            manifest = decode_manifest(self.storage.map(name, COPY_BYTES_MAX), name)

        self._check(name, f"was there when snapshots were listed, and snapshot {number} is gone now", read)
        if manifest is not None and manifest.snapshot != number:
            self.found.error(name, f"says that it is snapshot {manifest.snapshot}")
        return manifest

    def _index(self, manifest: Manifest, at: int) -> memoryview | None:
        """Map index file `at` of `manifest`; None and a finding where it is missing or damaged."""
        file = manifest.index_files[at]
        name = f"{INDEX_FOLDER}/{file.name}"
        if name not in self.index_maps:
            self.index_maps[name] = None

            def read() -> None:
                data = self.storage.map(name, COPY_BYTES_MAX)
                check_index_file(data, file, name)
                self.index_maps[name] = data

            self._check(name, f"is missing; snapshot {manifest.snapshot} names it", read)
        return self.index_maps[name]

    def _look_at_present(self, manifest: Manifest) -> None:
        file = manifest.present
        if file is not None:
            name = f"{PRESENT_FOLDER}/{file.name}"
            self._check(
                name,
                f"is missing; snapshot {manifest.snapshot} names it",
                lambda: read_present(self.storage.map(name, COPY_BYTES_MAX), file, manifest.rows, name),
            )

    def _look_at_rejects(self, manifest: Manifest) -> None:
        """The list of rejects that a manifest names must be there and be that one."""
        try:
            rejects = rejects_of(manifest.provenance)
        except CorruptDataError as error:
            self.found.error(manifest_name(manifest.snapshot), str(error))
            return
        if rejects is not None and where_is(self.storage, rejects.file) not in self.named:
            self._check(
                rejects.file,
                f"is missing; snapshot {manifest.snapshot} names it",
                lambda: check_rejects(self.storage, rejects),
            )

    def _check(self, name: str, missing: str, read: Callable[[], object]) -> None:
        """Read a file that belongs to the dataset; a finding where that fails."""
        self.named.add(where_is(self.storage, name))
        try:
            read()
        except FileNotFoundError:
            self.found.error(name, missing)
        except OSError as error:
            self.found.error(name, f"cannot be read: {error.strerror}")
        except CorruptDataError as error:
            self.found.error(name, without_name(error, name))


def shards_of(storage: LocalStorage | RemoteStorage, manifest: Manifest) -> Shards:
    """The shards of a snapshot, to be read once and whole."""
    if isinstance(storage, LocalStorage):
        return LocalPayload(storage.root)
    return FetchedPayload(storage, manifest.shards.file_bytes)


def where_is(storage: LocalStorage | RemoteStorage, name: str) -> str:
    """A file of the dataset, as `Survey.named` has it."""
    return str(storage.root / name) if isinstance(storage, LocalStorage) else object_url(storage.url, name)


def look_for_strays(storage: LocalStorage | RemoteStorage, named: set[str], found: Survey) -> None:
    """Files in the dataset's folder that no snapshot names: left by writers that did not come to their end, copied here
    by mistake, or those of a damaged manifest."""
    unnamed = "no snapshot names this file"
    if storage.list(REFERRER_FOLDER):
        elsewhere = f"{unnamed} here; datasets that were merged from this one may (`fastfeed gc` asks them)"
    else:
        elsewhere = unnamed
    for name in sorted(storage.list(STAGING_FOLDER)):
        live = is_live(storage.staging_path / name)
        found.warn(
            f"{STAGING_FOLDER}/{name}",
            "belongs to a writer that is running" if live else "was left by a writer that was killed or interrupted",
        )
    for name in storage.walk():
        if where_is(storage, name) not in named and not is_referrer(storage, name, found):
            found.warn(name, elsewhere if name.startswith(f"{SHARD_FOLDER}/") else unnamed)


def is_referrer(storage: LocalStorage | RemoteStorage, name: str, found: Survey) -> bool:
    """Whether a file is the record of another dataset that names shards of this one; a finding if a damaged one."""
    if not name.startswith(f"{REFERRER_FOLDER}/"):
        return False
    try:
        read_record(storage.map(name, COPY_BYTES_MAX), name)
    except (CorruptDataError, OSError) as error:
        found.error(name, str(error).removeprefix(f"{name}: "))
    return True


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
    file, uid = entry.where, entry.uid.hex()
    findings: list[DatasetFinding] = []
    try:
        with entry.open() as shard:
            findings.extend(
                DatasetFinding(Severity.ERROR, file, each.what, each.shard, each.row)
                for each in verify_bytes(file, shard, expected)
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
