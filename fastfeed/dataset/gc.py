"""Collecting: what leaves a dataset's folder, and in which order, so that a crash at any moment leaves a whole dataset.

 1. The dataset's lock is taken, exclusive: nobody publishes or commits here until the end, and no merge that names our
    shards is under way (`merge.py` holds the lock, shared).
 2. The manifests that stay are read, and so are those of the datasets that refer to ours (`referrers.py`). If one of
    them cannot be, nothing is removed: what it names is not known.
 3. Manifests of snapshots that are to be dropped go first, the oldest first; one that a reader holds stays.
 4. Then goes what no snapshot that is left names: shards, index files, bitmaps, rejects; what writers that were killed
    left; records of datasets that name nothing of ours any more.
A crash after 3 leaves files that no snapshot names, which the next collection takes. Nothing younger than `older_than`
goes in 4: where a file system does not carry locks between machines, age is what protects a commit on another. In an
object store readers hold nothing: there a snapshot goes in 3 only when it was replaced before `older_than`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fastfeed.dataset.folder import (
    INDEX_FOLDER,
    MANIFEST_FOLDER,
    PRESENT_FOLDER,
    REFERRER_FOLDER,
    REJECTS_FOLDER,
    SHARD_FOLDER,
    manifest_name,
    snapshot_numbers,
)
from fastfeed.dataset.manifest import decode_manifest
from fastfeed.dataset.referrers import names_in_referrer, record_of, records
from fastfeed.dataset.snapshot import not_found, not_found_at
from fastfeed.dataset.staging import FolderLock, is_live, remove_staging
from fastfeed.errors import ConfigError
from fastfeed.format.durations import parse_duration_s
from fastfeed.storage.local import STAGING_FOLDER, LocalStorage
from fastfeed.storage.location import local_path, storage_to_write
from fastfeed.storage.places import is_remote
from fastfeed.storage.protocol import Storage

# The only names that are collected: what fastfeed writes. Other files in these folders are somebody's.
_COLLECTED = {
    SHARD_FOLDER: re.compile(r"[0-9a-f]{32}\.ffs", re.ASCII),
    INDEX_FOLDER: re.compile(r"[0-9a-f]{32}\.arrow", re.ASCII),
    PRESENT_FOLDER: re.compile(r"[0-9a-f]{32}\.bits", re.ASCII),
    REJECTS_FOLDER: re.compile(r"[0-9a-f]{32}\.jsonl", re.ASCII),
}
# What `LocalStorage.create` writes to before a file has its name, in the folders where it does.
_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]{8}", re.ASCII)
KILLED = "left by a writer that was killed"
_TEMPORARY_FOLDERS = (MANIFEST_FOLDER, PRESENT_FOLDER, REFERRER_FOLDER)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file (or a writer's folder) that nothing needs. `why` says what is known of it."""

    name: str
    bytes: int
    why: str


@dataclass(slots=True, kw_only=True)
class GcReport:
    """What was removed or, if not `deleted`, would be. young and held: what stays for now, and would go otherwise."""

    url: str
    deleted: bool
    snapshots_kept: list[int] = field(default_factory=list)
    snapshots_dropped: list[int] = field(default_factory=list)
    # A reader has them open, or could have, for in an object store nobody knows; they are among those kept.
    snapshots_held: list[int] = field(default_factory=list)
    removed: list[Leftover] = field(default_factory=list)
    young: list[Leftover] = field(default_factory=list)
    referred: int = 0  # shards that no snapshot here names, and that other datasets do

    @property
    def bytes(self) -> int:
        """Bytes of all that is removed."""
        return sum(each.bytes for each in self.removed)


def gc(
    url: str | os.PathLike[str],
    *,
    delete: bool = False,
    older_than: str | float = "24h",
    keep_snapshots: int | None = None,
    forget: Sequence[str | os.PathLike[str]] = (),
) -> GcReport:
    """Find what no snapshot of the dataset at `url` names; with delete=True, remove it.

    older_than: what was written later stays ("24h", "30m", or seconds). keep_snapshots: drop all but the newest so
    many first (None: drop none). forget: datasets that are gone for good although a record says that they refer here.
    ConfigError: a dataset that refers here cannot be asked. CorruptDataError, FormatVersionError: a manifest that stays
    cannot be read. Nothing is removed then.
    """
    if keep_snapshots is not None and keep_snapshots < 1:
        raise ConfigError(f"keep_snapshots={keep_snapshots}: at least the newest stays. To remove a dataset, remove "
                          "its folder.")  # fmt: skip
    forgotten = {os.fspath(each) if is_remote(each) else str(local_path(each)) for each in forget}
    before_s = time.time() - parse_duration_s(older_than, "older_than")
    with closing(storage_to_write(url)) as storage:
        if not snapshot_numbers(storage):
            raise not_found(storage.root, [], None) if isinstance(storage, LocalStorage) else not_found_at(
                storage.url, [], None
            )
        # A look without the lock may be wrong about what is being written just now, and needs no permission to write.
        with storage.lock(exclusive=True) if delete else nullcontext():
            return Collection(storage, before_s, forgotten, delete=delete).run(keep_snapshots)


class Collection:
    """One collection; see above. The caller holds the lock. `storage` may be one that fails, for tests."""

    def __init__(self, storage: Storage, before_s: float, forgotten: set[str], *, delete: bool) -> None:
        self.storage = storage
        self.report = GcReport(url=storage.url, deleted=delete)
        self._before_s = before_s
        self._forgotten = forgotten

    def run(self, keep_snapshots: int | None) -> GcReport:
        report = self.report
        numbers = snapshot_numbers(self.storage)
        unwanted = [] if keep_snapshots is None else numbers[:-keep_snapshots]
        droppable = self._droppable(numbers, unwanted)
        named = Named()
        for number in numbers:
            if number not in droppable:
                named.add(self.storage, number)
        referrers, elsewhere = self._ask_referrers(named)
        held = self._drop_snapshots(droppable)
        for number in held:
            named.add(self.storage, number)
        report.snapshots_held = [number for number in unwanted if number not in droppable or number in held]
        report.snapshots_dropped = [number for number in unwanted if number not in report.snapshots_held]
        report.snapshots_kept = [number for number in numbers if number not in report.snapshots_dropped]
        self._remove_files([*self._unnamed(named, elsewhere), *self._temporaries(), *self._stale_records(referrers)])
        self._remove_staging()
        return report

    def _droppable(self, numbers: Sequence[int], unwanted: Sequence[int]) -> list[int]:
        """Of the snapshots that are unwanted those that may go. Where nobody knows what readers hold, one stays until
        it has been replaced for as long as files must be old."""
        if self.storage.holds or not unwanted:
            return list(unwanted)
        written_s = {file.name: file.modified_s for file in self.storage.files(MANIFEST_FOLDER)}
        successors = dict(pairwise(numbers))
        return [
            number
            for number in unwanted
            if written_s[manifest_name(successors[number]).rpartition("/")[2]] <= self._before_s
        ]

    def _ask_referrers(self, named: Named) -> tuple[dict[str, bool], set[str]]:
        """(record -> whether its dataset names shards of ours, the names of all that they name). Nobody is asked where
        no shard could go."""
        ours = {file.name for file in self.storage.files(SHARD_FOLDER)}
        states: dict[str, bool] = {}
        needed: set[str] = set()
        if all(named.needs(f"{SHARD_FOLDER}/{name}") for name in ours):
            return states, needed
        for record, referrer in records(self.storage).items():
            names = set() if referrer in self._forgotten else names_in_referrer(self.storage.url, referrer) & ours
            states[record] = bool(names)
            needed |= names
        return states, needed

    def _drop_snapshots(self, unwanted: Sequence[int]) -> list[int]:
        """Drop snapshots, or only look; those that a reader holds."""
        names = {manifest_name(number): number for number in unwanted}
        if self.report.deleted:
            held = self.storage.remove(names)
        else:
            held = [name for name in names if self.storage.held(name)]
        return [names[name] for name in held]

    def _unnamed(self, named: Named, elsewhere: set[str]) -> Iterator[_Aged]:
        for folder, pattern in _COLLECTED.items():
            for file in self.storage.files(folder):
                name = f"{folder}/{file.name}"
                if not pattern.fullmatch(file.name) or named.needs(name):
                    continue
                if folder == SHARD_FOLDER and file.name in elsewhere:
                    self.report.referred += 1
                else:
                    yield _Aged(Leftover(name, file.bytes, "no snapshot names it"), file.modified_s)

    def _temporaries(self) -> Iterator[_Aged]:
        for folder in _TEMPORARY_FOLDERS:
            for file in self.storage.files(folder):
                if _TEMPORARY.fullmatch(file.name):
                    yield _Aged(Leftover(f"{folder}/{file.name}", file.bytes, KILLED), file.modified_s)

    def _stale_records(self, states: dict[str, bool]) -> Iterator[_Aged]:
        forgotten = {record_of(each)[0] for each in self._forgotten}
        for file in self.storage.files(REFERRER_FOLDER):
            name = f"{REFERRER_FOLDER}/{file.name}"
            if states.get(name) is False:
                modified_s = 0.0 if file.name in forgotten else file.modified_s
                yield _Aged(Leftover(name, file.bytes, "its dataset names no shard here"), modified_s)

    def _remove_files(self, found: Sequence[_Aged]) -> None:
        old = self._without_young(found)
        held = set(self.storage.remove(each.name for each in old)) if self.report.deleted else set()
        self.report.removed += [each for each in old if each.name not in held]

    def _remove_staging(self) -> None:
        found = []
        place = self.storage.staging_path
        for name in sorted(os.listdir(place)) if place.is_dir() else []:
            folder = place / name
            with suppress(FileNotFoundError):  # its writer ends just now
                if folder.is_dir() and not is_live(folder):
                    size_bytes, modified_s = _size_and_age(folder)
                    found.append(_Aged(Leftover(f"{STAGING_FOLDER}/{name}", size_bytes, KILLED), modified_s))
        for each in self._without_young(found):
            if not self.report.deleted or _remove_folder(place / Path(each.name).name):
                self.report.removed.append(each)

    def _without_young(self, found: Sequence[_Aged]) -> list[Leftover]:
        self.report.young += [each.leftover for each in found if each.modified_s > self._before_s]
        return [each.leftover for each in found if each.modified_s <= self._before_s]


class _Aged(NamedTuple):
    leftover: Leftover
    modified_s: float


class Named:
    """The files that snapshots name, relative to the dataset's folder. Shards count by their names, wherever they
    lie: a name is the hash of what is in it."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._provenance: list[str] = []

    def add(self, storage: Storage, number: int) -> None:
        """Note what one snapshot names. Its manifest is read without being held afterwards."""
        name = manifest_name(number)
        manifest = decode_manifest(memoryview(bytes(storage.map(name))), f"{storage.url}/{name}")
        self._names |= {f"{SHARD_FOLDER}/{path.rpartition('/')[2]}" for path in manifest.shards.paths()}
        self._names |= {f"{INDEX_FOLDER}/{file.name}" for file in manifest.index_files}
        if manifest.present is not None:
            self._names.add(f"{PRESENT_FOLDER}/{manifest.present.name}")
        self._provenance.append(json.dumps(manifest.provenance))

    def needs(self, name: str) -> bool:
        """Whether a snapshot names the file; a file of rejects is named in the provenance."""
        if name.startswith(f"{REJECTS_FOLDER}/"):
            return any(Path(name).stem in text for text in self._provenance)
        return name in self._names


def _size_and_age(folder: Path) -> tuple[int, float]:
    """Bytes of all files below, and when the newest was written."""
    sizes, times = [0], [folder.stat().st_mtime]
    for status in _statuses(folder):
        sizes.append(status.st_size)
        times.append(status.st_mtime)
    return sum(sizes), max(times)


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.stat()


def _remove_folder(folder: Path) -> bool:
    """Remove a writer's folder, unless somebody has taken it since it was looked at."""
    lock = FolderLock.take(folder)
    if lock is None:
        return False
    remove_staging(lock, [folder.parent])
    return True
