"""The folder of a conversion that is not committed yet, `_feed/staging/convert`, and how a later run goes on in it.

One place has one such folder: what a second conversion into it finds there is its own rest, or a reason to stop.

 1. Take the folder's lock: another running conversion holds it, a dead one does not.
 2. Read `conversion.json`, which says what is converted and how. Where it is missing or torn, nothing was finished:
    empty the folder and write it, durably, before anything else comes in.
 3. Another conversion than ours: ConfigError that names the difference. Nothing is touched.
 4. Ours: keep the tasks whose records and shards pass (task_record.py), and shards that a crash left whole
    before their record; remove the rest.
 5. Tasks add shards and records. Each is kept from then on, whatever happens.
 6. After the commit, the folder goes. It also goes when a run ends before it has finished any task.

Shards keep their inode: from staging they are linked to their final names.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastfeed.convert.dictionaries import DICTIONARIES_NAME
from fastfeed.convert.task_record import (
    TaskRecord,
    read_record,
    read_sealed_json,
    record_name,
    write_sealed_json,
)
from fastfeed.dataset.staging import LOCK_NAME, FolderLock, remove_staging
from fastfeed.errors import ConfigError, CorruptDataError, FormatVersionError
from fastfeed.format.reopen import read_structure
from fastfeed.format.schema import Schema
from fastfeed.storage.local import sync_file, sync_folder
from fastfeed.storage.protocol import Storage

FOLDER_NAME = "convert"
IDENTITY_NAME = "conversion.json"
# Left by a run that stopped at bad input: what is converted is then expected to change.
STOPPED_NAME = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What conversion.json says. `identity` decides the shards; the others do not."""

    identity: Mapping[str, Any]
    on_error: str
    replace: bool  # whether the commit may take the place of a dataset that is there

    def as_json(self) -> dict[str, Any]:
        return {"identity": dict(self.identity), "on_error": self.on_error, "replace": self.replace}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Started:
        return cls(identity=value["identity"], on_error=value["on_error"], replace=value["replace"])


def unfinished_in(storage: Storage) -> Started | None:
    """What was begun in this place and not finished; None where there is nothing. Changes nothing."""
    value = read_sealed_json(storage.staging_path / FOLDER_NAME / IDENTITY_NAME)
    return None if value is None else Started.from_json(value)


@dataclass(kw_only=True)
class Unfinished:
    """Our hold on the folder. Ends with the first of remove(), leave() and release()."""

    folder: Path
    records: dict[int, TaskRecord] = field(default_factory=dict)  # of finished tasks
    _lock: FolderLock
    _above: Sequence[Path]
    _ended: bool = False

    @classmethod
    def take(cls, storage: Storage) -> Unfinished:
        """Hold the folder. ConfigError where a running conversion does."""
        root_existed = storage.exists()
        rest_existed = (storage.staging_path / FOLDER_NAME).exists()
        folder = storage.staging() / FOLDER_NAME
        lock = FolderLock.take(folder)
        if lock is None:
            raise ConfigError(
                f"{storage.url}: another conversion into this place is running (it holds {folder / LOCK_NAME}). "
                "Wait for its end, or end it; what it has finished is kept."
            )
        # What holds the rest of a conversion and nothing else was made by that conversion.
        made_by_us = not root_existed or (rest_existed and storage.list("") == ["_feed"])
        return cls(folder=folder, _lock=lock, _above=storage.above_staging(existed=not made_by_us))

    @property
    def started(self) -> Started | None:
        """What the folder is about; None where that is not known, and nothing in it can be of use."""
        value = read_sealed_json(self.folder / IDENTITY_NAME)
        return None if value is None else Started.from_json(value)

    @property
    def stopped(self) -> bool:
        """Whether the last run ended at bad input."""
        return (self.folder / STOPPED_NAME).exists()

    def begin(self, started: Started) -> None:
        """Empty the folder and say what it is for from now on."""
        for path in self.folder.iterdir():
            if path.name != LOCK_NAME:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._write(started)

    def go_on(self, started: Started, task_count: int, schema: Schema) -> None:
        """Keep what is finished and whole of `task_count` tasks, remove the rest."""
        self._write(started)
        for number in range(task_count):
            record = read_record(self.folder, number, schema)
            if record is not None:
                self.records[number] = record
        wanted = {LOCK_NAME, IDENTITY_NAME, DICTIONARIES_NAME} | {record_name(number) for number in self.records}
        for record in self.records.values():
            wanted |= {shard.path(self.folder).name for shard in record.shards}
            wanted |= {record.rejects.name} if record.rejects else set()
        for path in self.folder.iterdir():
            if path.name not in wanted and not is_whole_shard(path):
                path.unlink()

    def stop(self) -> None:
        """Note that the input is bad."""
        (self.folder / STOPPED_NAME).touch()

    def remove(self) -> None:
        """Remove the folder, and those above it that are empty then."""
        if not self._ended:
            self._ended = True
            remove_staging(self._lock, self._above)

    def leave(self) -> int:
        """Let go: keep what later runs can use, or remove the folder if that is nothing. The number of tasks kept."""
        if self._ended:
            return 0
        kept = sum(1 for path in self.folder.glob("task-*.json") if read_sealed_json(path) is not None)
        if kept:
            self.release()
        else:
            self.remove()
        return kept

    def release(self) -> None:
        """Let go of the folder as it is."""
        self._ended = True
        self._lock.release()

    def _write(self, started: Started) -> None:
        with suppress(FileNotFoundError):
            (self.folder / STOPPED_NAME).unlink()
        if self.started != started:
            temporary = self.folder / f"{IDENTITY_NAME}.new"
            write_sealed_json(temporary, started.as_json())
            sync_file(temporary)
            temporary.replace(self.folder / IDENTITY_NAME)
            sync_folder(self.folder)


def is_whole_shard(path: Path) -> bool:
    """Whether `path` is a shard whose structures are all right: it got its name after its content was durable."""
    if path.suffix != ".ffs":
        return False
    try:
        read_structure(path)
    except (CorruptDataError, FormatVersionError):
        return False
    return True
