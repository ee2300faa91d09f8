"""What a finished task leaves in the staging folder, and what a later run believes of it.

A record is a line of JSON and its xxh3-128, `task-<number>.json`. It is written after the task's shards are durable,
so where it is whole, they are there; it needs no fsync of its own, for a record that a crash tore or lost only means
that its task is done once more.

What is believed: the record, if its hash is right; a shard, if it has the length that the record says, and header,
trailer and all sections of its footer pass their checksums and name the same uid and schema. Payload is not
read again: it was hashed when it was written, and `fastfeed verify` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from fastfeed.convert.rejects import RejectsFile
from fastfeed.errors import ConfigError, CorruptDataError, FormatVersionError
from fastfeed.format.reopen import reopen_shard
from fastfeed.format.schema import Schema
from fastfeed.format.seal import SealedShard


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One shard of a task: what its own bytes do not say, or not cheaply."""

    uid: str
    bytes: int
    rows: int
    xxh3_128: str

    def path(self, staging: Path) -> Path:
        """The finished shard."""
        return staging / f"{self.uid}.ffs"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What one task gave. No shard: all of its samples were rejected."""

    shards: tuple[ShardRecord, ...]
    rejects: RejectsFile | None

    @classmethod
    def of(cls, shards: Sequence[SealedShard], rejects: RejectsFile | None) -> TaskRecord:
        """The record of shards that were just sealed."""
        return cls(
            tuple(ShardRecord(each.uid.hex(), each.bytes, each.rows, each.xxh3_128.hex()) for each in shards), rejects
        )

    @property
    def bytes(self) -> int:
        """Of all its shards."""
        return sum(shard.bytes for shard in self.shards)

    def write(self, staging: Path, number: int) -> None:
        """Say that task `number` is finished."""
        value = {
            "shards": [[each.uid, each.bytes, each.rows, each.xxh3_128] for each in self.shards],
            "rejects": None if self.rejects is None else self.rejects.as_json(),
        }
        write_sealed_json(staging / record_name(number), value)


def record_name(number: int) -> str:
    """The record of task `number`, in the staging folder."""
    return f"task-{number:08}.json"


def read_record(staging: Path, number: int, schema: Schema) -> TaskRecord | None:
    """The record of a task and proof that its files are there; None where it has to be done again."""
    value = read_sealed_json(staging / record_name(number))
    if value is None:
        return None
    rejects = None if value["rejects"] is None else RejectsFile.from_json(value["rejects"])
    record = TaskRecord(tuple(ShardRecord(*each) for each in value["shards"]), rejects)
    try:
        for shard in record.shards:
            sealed_shard(staging, shard, schema)
        if rejects is not None:
            rejects.check(staging)
    except (CorruptDataError, FormatVersionError, ConfigError, FileNotFoundError):
        return None  # written again, under the same names
    return record


def require_record(staging: Path, number: int, schema: Schema) -> TaskRecord:
    """The record of a task that was finished in this run, or before it."""
    record = read_record(staging, number, schema)
    if record is None:
        raise CorruptDataError(
            f"{staging}: task {number} was finished, and its shards are damaged or gone now. Look at the disk; the "
            "same command makes them again."
        )
    return record


def sealed_shard(staging: Path, record: ShardRecord, schema: Schema) -> SealedShard:
    """What a commit needs of a finished shard, out of the shard itself. CorruptDataError where it is not that one."""
    shard = reopen_shard(record.path(staging), schema, bytes.fromhex(record.xxh3_128))
    if (shard.bytes, shard.rows) != (record.bytes, record.rows):
        raise CorruptDataError(f"{shard.path}: has {shard.bytes} bytes and {shard.rows} rows, its record says {record}")
    return shard


def write_sealed_json(path: Path, value: Any) -> None:
    """Write `value` and the hash of its text."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    path.write_text(f"{text}\n{xxhash.xxh3_128_hexdigest(text.encode())}\n", encoding="ascii")


def read_sealed_json(path: Path) -> Any:
    """What write_sealed_json wrote; None where the file is missing or torn."""
    try:
        text, digest, rest = path.read_bytes().decode("ascii").split("\n")
    except (FileNotFoundError, ValueError):
        return None
    whole = rest == "" and digest == xxhash.xxh3_128_hexdigest(text.encode())
    return json.loads(text) if whole else None
