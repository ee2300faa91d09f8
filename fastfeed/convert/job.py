"""One conversion from start to end.

1. Scan the source into a plan.   2. Look at the destination: a dataset made by the same command is left as it is.
3. Cut the plan into tasks.       4. Take the staging folder of this place; what an earlier run has finished in it
is kept (unfinished.py).          5. Write the other tasks, with threads or worker processes.
6. Publish and commit all shards as one snapshot.   7. Remove the staging folder.
Whatever ends the job before 6 (an error, Ctrl-C, kill -9) commits nothing, and leaves finished tasks in the staging
folder for the same command to go on with. Readers never look there.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from fastfeed import __version__
from fastfeed.convert.detect import source_of
from fastfeed.convert.dictionaries import dictionaries_of
from fastfeed.convert.encoding import ON_ERROR
from fastfeed.convert.engine_local import WorkerKind, input_bytes, write_tasks
from fastfeed.convert.identity import IDENTITY, difference, input_of, require_same, unfinished_identity
from fastfeed.convert.plan import cut
from fastfeed.convert.rejects import join_rejects
from fastfeed.convert.schema_file import read_schema_file
from fastfeed.convert.source import Item, Plan, Source
from fastfeed.convert.task import TaskWork
from fastfeed.convert.task_record import require_record, sealed_shard
from fastfeed.convert.unfinished import Started, Unfinished, unfinished_in
from fastfeed.convert.wanted import Wanted
from fastfeed.dataset.commit import commit_shards
from fastfeed.dataset.folder import read_manifest, snapshot_numbers
from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.rejects import REJECTS_KEY, rejects_of
from fastfeed.dataset.staging import naming
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.image_file import CHECKS
from fastfeed.format.machine import usable_cores
from fastfeed.format.schema import Codec, Schema
from fastfeed.format.sizes import parse_shard_size
from fastfeed.format.wording import few
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.location import storage_to_write
from fastfeed.storage.protocol import Storage

# More than any machine has cores to spare: a number like this is a typing mistake.
WORKERS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """What to convert, and how. `workers=None`: as many as there are usable cores."""

    source: str
    destination: str
    kind: str = "auto"
    labels: str | None = None
    check: str = "structure"
    shard_size: str | int = "256MiB"
    workers: int | None = None
    limit_rows: int | None = None
    columns: Sequence[str] | None = None  # of the source; None: all
    rename: Sequence[tuple[str, str]] = ()  # (name in the source, name in the dataset)
    schema: str | None = None  # a file of types, see schema_file.py
    image_size: int | None = None  # the shorter side of larger images
    on_error: str = "stop"
    resume: bool = False
    overwrite: bool = False
    worker_kind: WorkerKind = WorkerKind.AUTO

    def __post_init__(self) -> None:
        if self.check not in CHECKS:
            raise ConfigError(f"check={self.check!r}: choose one of {', '.join(CHECKS)}.")
        if self.on_error not in ON_ERROR:
            raise ConfigError(f"on_error={self.on_error!r}: choose one of {', '.join(ON_ERROR)}.")
        if self.resume and self.overwrite:
            raise ConfigError("resume goes on with what is there and overwrite begins anew: choose one of them.")
        parse_shard_size(self.shard_size)
        if self.workers is not None and not 1 <= self.workers <= WORKERS_MAX:
            raise ConfigError(f"workers={self.workers}: it must be between 1 and {WORKERS_MAX}.")
        if self.limit_rows is not None and self.limit_rows < 1:
            raise ConfigError(f"limit={self.limit_rows}: it must be at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSummary:
    """What a conversion did. `converted` is False where the dataset was there already."""

    destination: str
    snapshot: int
    converted: bool
    seen: str
    notes: Sequence[str]
    rows: int
    size_bytes: int
    shards: int
    rejects: int
    resumed_tasks: int
    workers: int
    seconds: float


class Listener(Protocol):
    """Who is told how a conversion goes on, in the thread that runs it."""

    def planned(self, plan: Plan, task_count: int) -> None:
        """What will be done."""
        ...

    def resumed(self, tasks: int, size_bytes: int) -> None:
        """So many tasks, of so many bytes of input, were finished by an earlier run."""
        ...

    def advanced(self, rows: int, size_bytes: int) -> None:
        """So much more is written."""
        ...

    def kept(self, tasks: int) -> None:
        """The conversion ends here; so many finished tasks wait for the next run."""
        ...


class Silent:
    """The listener that does nothing."""

    def planned(self, plan: Plan, task_count: int) -> None: ...

    def resumed(self, tasks: int, size_bytes: int) -> None: ...

    def advanced(self, rows: int, size_bytes: int) -> None: ...

    def kept(self, tasks: int) -> None: ...


def utc_now() -> datetime:
    """The clock of the machine."""
    return datetime.now(UTC)


def convert(
    options: ConvertOptions, listener: Listener | None = None, clock: Callable[[], datetime] = utc_now
) -> ConvertSummary:
    """Run one conversion.

    Raises ConfigError where options, source and destination do not fit together, CorruptDataError naming
    the file that is damaged, OSError for the system's failures, FastfeedError where a worker died."""
    started_s = time.monotonic()
    listener = listener or Silent()
    require_utf8(options.source, options.labels)
    source_path = Path(os.path.abspath(options.source))
    source = source_of(
        options.kind,
        source_path,
        labels=Path(options.labels) if options.labels else None,
        wanted=wanted_of(options),
    )
    with closing(storage_to_write(options.destination)) as storage:
        require_destination(source_path, storage)
        plan = source.plan(options.limit_rows)
        if plan.rejected is not None and options.on_error == "stop":
            raise plan.rejected.error(source.folder)
        provenance = provenance_of(options, source, source_path, plan, clock())
        job = _Job(options=options, source=source, plan=plan, provenance=provenance, storage=storage, listener=listener)
        return job.run(started_s)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A conversion whose input is known."""

    options: ConvertOptions
    source: Source
    plan: Plan
    provenance: dict[str, Any]
    storage: Storage
    listener: Listener

    def run(self, started_s: float) -> ConvertSummary:
        """From the look at the destination on."""
        replace = self.options.overwrite or self._replacing()
        if not replace and (present := already_there(self.storage, self.provenance)) is not None:
            self._clear_rest()
            return self._summary(present, started_s, converted=False)
        if not self.plan.items:
            raise ConfigError(f"{self.source.folder}: has nothing to convert.")
        tasks = self._tasks()
        workers = min(self.options.workers or usable_cores(), len(tasks))
        self.listener.planned(self.plan, len(tasks))
        unfinished = Unfinished.take(self.storage)
        try:
            # Again: another run may have come to its end since we looked.
            if not replace and (present := already_there(self.storage, self.provenance)) is not None:
                return self._summary(present, started_s, converted=False)
            self._begin(unfinished, replace, len(tasks))
            resumed = len(unfinished.records)
            snapshot = self._write(unfinished, tasks, workers, replace)
        finally:
            if kept := unfinished.leave():
                self.listener.kept(kept)
        made = read_manifest(self.storage, snapshot)
        return self._summary(made, started_s, converted=True, workers=workers, resumed_tasks=resumed)

    def _tasks(self) -> list[Sequence[Item]]:
        sizes_bytes = [item.size_bytes for item in self.plan.items]
        parts = cut(sizes_bytes, parse_shard_size(self.options.shard_size))
        return [self.plan.items[part.start : part.stop] for part in parts]

    def _started(self, replace: bool) -> Started:
        identity = unfinished_identity(self.provenance, self.plan)
        return Started(identity=identity, on_error=self.options.on_error, replace=replace)

    def _replacing(self) -> bool:
        """Whether what was begun here, and is ours, was begun with --overwrite."""
        begun = unfinished_in(self.storage)
        return begun is not None and begun.replace and begun.identity == self._started(replace=True).identity

    def _begin(self, unfinished: Unfinished, replace: bool, task_count: int) -> None:
        """Decide what becomes of what is in the staging folder."""
        ours, begun = self._started(replace), unfinished.started
        if begun is None or self.options.overwrite:
            unfinished.begin(ours)
            return
        if unfinished.stopped and begun.identity["input"] != ours.identity["input"]:
            unfinished.begin(ours)  # it ended at bad input, which has been mended since
            return
        try:
            require_same(self.storage.url, begun.identity, ours.identity, begun.on_error, ours.on_error)
        except ConfigError:
            unfinished.release()
            raise
        unfinished.go_on(ours, task_count, self.plan.schema)

    def _write(self, unfinished: Unfinished, tasks: Sequence[Sequence[Item]], workers: int, replace: bool) -> int:
        """Write what is left, and commit all."""
        finished, folder, schema = unfinished.records, unfinished.folder, self.plan.schema
        left = [(number, items) for number, items in enumerate(tasks) if number not in finished]
        if finished:
            self.listener.resumed(len(finished), sum(item.size_bytes for n in finished for item in tasks[n]))
        if not may_be_smaller(self.options, schema):
            require_space(self.storage.staging_path, input_bytes(left))
        work = TaskWork(
            source=self.source,
            schema=schema,
            staging=folder,
            shard_bytes=parse_shard_size(self.options.shard_size),
            check=self.options.check,
            on_error=self.options.on_error,
            dictionaries=dictionaries_of(self.source, self.plan, folder, parse_shard_size(self.options.shard_size)),
        )
        try:
            write_tasks(work, left, workers, self.options.worker_kind, self.listener.advanced)
        except (CorruptDataError, ConfigError):
            unfinished.stop()
            raise
        with naming(unfinished.folder):
            return self._commit(unfinished, work, len(tasks), replace)

    def _commit(self, unfinished: Unfinished, work: TaskWork, task_count: int, replace: bool) -> int:
        folder = unfinished.folder
        records = [require_record(folder, number, self.plan.schema) for number in range(task_count)]
        shards = [sealed_shard(folder, shard, self.plan.schema) for record in records for shard in record.shards]
        rejects = join_rejects(folder, [record.rejects for record in records if record.rejects is not None])
        if not shards:
            raise CorruptDataError(
                f"{self.source.folder}: all {rejects.count if rejects else 0:,} samples were rejected. Nothing was "
                "committed; without --on-error skip the first of them is named."
            )
        provenance = dict(self.provenance)
        if rejects is not None:
            published = rejects.published()
            provenance[REJECTS_KEY] = published.provenance()
            self.storage.publish([(folder / rejects.name, published.file)])
        snapshot = commit_shards(
            self.storage,
            schema=self.plan.schema,
            shards=shards,
            dictionaries=work.dictionaries,
            metadata=self.plan.metadata,
            provenance=provenance,
            replace=replace,
        )
        unfinished.remove()
        return snapshot

    def _clear_rest(self) -> None:
        """A run that was killed after its commit has left its staging folder."""
        if (begun := unfinished_in(self.storage)) is not None:
            if begun.identity != self._started(replace=False).identity:
                return  # another's
            Unfinished.take(self.storage).remove()

    def _summary(
        self, manifest: Manifest, started_s: float, *, converted: bool, workers: int = 0, resumed_tasks: int = 0
    ) -> ConvertSummary:
        """The summary, from the snapshot that is there now."""
        return ConvertSummary(
            destination=self.options.destination,
            snapshot=manifest.snapshot,
            converted=converted,
            seen=self.plan.seen,
            notes=self.plan.notes,
            rows=manifest.rows,
            size_bytes=int(manifest.shards.file_bytes.sum()),
            shards=len(manifest.shards),
            rejects=rejects.count if (rejects := rejects_of(manifest.provenance)) else 0,
            resumed_tasks=resumed_tasks,
            workers=workers,
            seconds=time.monotonic() - started_s,
        )


def wanted_of(options: ConvertOptions) -> Wanted:
    """What the user wants of the source's columns."""
    return Wanted(
        columns=None if options.columns is None else tuple(options.columns),
        rename=tuple(options.rename),
        types={} if options.schema is None else read_schema_file(Path(options.schema)),
        image_size=options.image_size,
    )


def provenance_of(
    options: ConvertOptions, source: Source, source_path: Path, plan: Plan, now: datetime
) -> dict[str, Any]:
    """Who makes the dataset, when, and from what. IDENTITY says which of it decides the rows."""
    return {
        "tool": f"fastfeed {__version__}",
        "command": "convert",
        "source": str(source_path.resolve()),
        "options": {
            "from": source.kind,
            **source.options(),
            "shard_size_bytes": parse_shard_size(options.shard_size),
            "limit": options.limit_rows,
            "on_error": options.on_error,
            # Which samples are left out depends on it; what stops at none does not.
            **({"check": options.check} if options.on_error == "skip" else {}),
        },
        "input": input_of(source, plan),
        "check": options.check,
        "created": now.isoformat(timespec="seconds"),
    }


def already_there(storage: Storage, provenance: Mapping[str, Any]) -> Manifest | None:
    """The newest snapshot if the same conversion made it, None if there is none, else ConfigError."""
    numbers = snapshot_numbers(storage)
    if not numbers:
        return None
    manifest = read_manifest(storage, numbers[-1])
    why = difference(manifest.provenance, {key: provenance[key] for key in IDENTITY})
    if not why:
        return manifest
    raise ConfigError(
        f"{storage.url}: holds a dataset already (snapshot {manifest.snapshot}), {why}. Choose another "
        "destination, or give --overwrite to make it anew."
    )


def require_utf8(source: str, labels: str | None) -> None:
    """ConfigError where there is no source, or a path that a provenance cannot name."""
    if not source:
        raise ConfigError("'' is no source: give a file, a folder or a pattern.")
    for path in (source, labels or ""):
        try:
            os.path.realpath(path).encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{os.fsencode(os.path.realpath(path))!r}: is not UTF-8, and a dataset says what it was made from. "
                "Rename it."
            ) from error


def require_destination(source: Path, storage: Storage) -> None:
    """ConfigError where a dataset would lie among other things, or in its own source."""
    if isinstance(storage, LocalStorage):
        require_apart(source, storage.root)
        require_dataset_or_empty(storage.root)
    elif (others := storage.list("")) and not snapshot_numbers(storage):
        raise ConfigError(f"{storage.url}: holds other objects ({few(others)}) and no dataset. Choose another "
                          "destination.")  # fmt: skip


def require_apart(source: Path, target: Path) -> None:
    """A dataset inside its own source would be part of the next scan."""
    if target.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{target}: lies in the source {source}. Choose a destination outside of it.")


def require_dataset_or_empty(target: Path) -> None:
    """Never mix a dataset's files with a folder of other things."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"{target}: is a file. A dataset needs a folder.")
    if not (target / "_feed").is_dir() and any(target.iterdir()):
        raise ConfigError(f"{target}: is not empty and holds no dataset. Choose another destination.")


def may_be_smaller(options: ConvertOptions, schema: Schema) -> bool:
    """Whether what is written may be much smaller than what is read."""
    return options.image_size is not None or any(column.storage is Codec.ZSTD for column in schema.values())


def require_space(target: Path, need_bytes: int) -> None:
    """Say at the start what would fail at the end. A dataset is about as large as its input."""
    existing = next(path for path in [target, *target.parents] if path.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < need_bytes:
        raise OSError(errno.ENOSPC, f"needs about {need_bytes:,} bytes, and {free_bytes:,} are free", str(target))
