"""One conversion from start to end.

1. Scan the source into a plan.   2. Look at the destination: a dataset made by the same command is left as
it is.
3. Cut the plan into shards.      4. Write them into a staging folder of our own, with worker processes.
5. Publish and commit all of them as one snapshot.   6. Remove the staging folder.
Whatever ends the job before 5 (an error, Ctrl-C) goes to 6: nothing is committed and nothing remains. A job
that is killed leaves its staging folder behind, which no reader looks at.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import xxhash

from fastfeed import __version__
from fastfeed.convert.detect import source_of
from fastfeed.convert.engine_local import ShardWork, write_shards
from fastfeed.convert.machine import usable_cores
from fastfeed.convert.plan import cut
from fastfeed.convert.schema_file import read_schema_file
from fastfeed.convert.source import Plan, Source
from fastfeed.convert.wanted import Wanted
from fastfeed.dataset.commit import commit_shards, snapshot_numbers
from fastfeed.dataset.folder import read_manifest
from fastfeed.dataset.manifest import Manifest
from fastfeed.dataset.staging import Staging
from fastfeed.errors import ConfigError
from fastfeed.format.image_file import CHECKS
from fastfeed.format.sizes import parse_shard_size
from fastfeed.storage.local import LocalStorage
from fastfeed.storage.location import local_path

# What two conversions into one place must have in common to be the same one.
IDENTITY = ("command", "source", "options", "input")
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
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.check not in CHECKS:
            raise ConfigError(f"check={self.check!r}: choose one of {', '.join(CHECKS)}.")
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
    workers: int
    seconds: float


class Listener(Protocol):
    """Who is told how a conversion goes on, in the thread that runs it."""

    def planned(self, plan: Plan, shard_count: int) -> None: ...

    def advanced(self, rows: int, size_bytes: int) -> None: ...


class Silent:
    """The listener that does nothing."""

    def planned(self, plan: Plan, shard_count: int) -> None: ...

    def advanced(self, rows: int, size_bytes: int) -> None: ...


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
    source_path, target = Path(os.path.abspath(options.source)), local_path(options.destination)
    source = source_of(
        options.kind,
        source_path,
        labels=Path(options.labels) if options.labels else None,
        wanted=wanted_of(options),
    )
    require_apart(source_path, target)
    require_dataset_or_empty(target)
    storage = LocalStorage(target)
    plan = source.plan(options.limit_rows)
    if plan.rejected is not None:
        raise plan.rejected.error(source.folder)
    provenance = provenance_of(options, source, source_path, plan, clock())
    present = None if options.overwrite else already_there(storage, provenance)
    if present is not None:
        return summary_of(present, plan, options, converted=False, workers=0, seconds=time.monotonic() - started_s)

    sizes_bytes = [item.size_bytes for item in plan.items]
    require_space(target, sum(sizes_bytes))
    parts = [plan.items[part.start : part.stop] for part in cut(sizes_bytes, parse_shard_size(options.shard_size))]
    workers = min(options.workers or usable_cores(), len(parts))
    listener.planned(plan, len(parts))
    staging = Staging(storage)
    try:
        work = ShardWork(source=source, schema=plan.schema, staging=staging.folder, check=options.check)
        shards = write_shards(work, parts, workers, listener.advanced)
        snapshot = commit_shards(
            storage,
            schema=plan.schema,
            shards=shards,
            metadata=plan.metadata,
            provenance=provenance,
            replace=options.overwrite,
        )
    finally:
        staging.remove()
    made = read_manifest(storage, snapshot)
    return summary_of(made, plan, options, converted=True, workers=workers, seconds=time.monotonic() - started_s)


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
        },
        "input": {
            "items": len(plan.items),
            "bytes": sum(item.size_bytes for item in plan.items),
            "xxh3_128": fingerprint_of(plan),
        },
        "check": options.check,
        "created": now.isoformat(timespec="seconds"),
    }


def fingerprint_of(plan: Plan) -> str:
    """A hash over what the plan says: names, sizes, labels. Files are not read."""
    digest = xxhash.xxh3_128(json.dumps(plan.metadata, sort_keys=True).encode())
    for item in plan.items:
        digest.update(json.dumps([item.size_bytes, item.name, item.values]).encode())
    return digest.hexdigest()


def already_there(storage: LocalStorage, provenance: Mapping[str, Any]) -> Manifest | None:
    """The newest snapshot if the same conversion made it, None if there is none, else ConfigError."""
    numbers = snapshot_numbers(storage)
    if not numbers:
        return None
    manifest = read_manifest(storage, numbers[-1])
    found = manifest.provenance
    different = [key for key in IDENTITY if found.get(key) != provenance[key]]
    if not different:
        return manifest
    if "command" in different:
        why = "which was not made by convert"
    elif "source" in different:
        why = f"made from {found['source']}"
    elif "options" in different:
        why = "made with other options: " + differences(found["options"], provenance["options"])
    else:
        why = (
            f"made from {found['input']['items']:,} files of this folder, which has changed since "
            f"({provenance['input']['items']:,} now)"
        )
    raise ConfigError(
        f"{storage.root}: holds a dataset already (snapshot {manifest.snapshot}), {why}. Choose another "
        "destination, or give --overwrite to make it anew."
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What is not equal in two sets of options, for a message."""
    return ", ".join(
        f"{key} was {old.get(key)!r} and is {new.get(key)!r} now"
        for key in [*new, *(key for key in old if key not in new)]
        if old.get(key) != new.get(key)
    )


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


def require_space(target: Path, need_bytes: int) -> None:
    """Say at the start what would fail at the end. A dataset is about as large as its images."""
    existing = next(path for path in [target, *target.parents] if path.is_dir())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < need_bytes:
        raise OSError(errno.ENOSPC, f"needs about {need_bytes:,} bytes, and {free_bytes:,} are free", str(target))


def summary_of(
    manifest: Manifest, plan: Plan, options: ConvertOptions, *, converted: bool, workers: int, seconds: float
) -> ConvertSummary:
    """The summary, from the snapshot that is there now."""
    return ConvertSummary(
        destination=options.destination,
        snapshot=manifest.snapshot,
        converted=converted,
        seen=plan.seen,
        notes=plan.notes,
        rows=manifest.rows,
        size_bytes=int(manifest.shards.file_bytes.sum()),
        shards=len(manifest.shards),
        workers=workers,
        seconds=seconds,
    )
