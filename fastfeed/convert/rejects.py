"""Samples that were left out with --on-error skip: lists of them, in staging and in the dataset.

One JSON object a line: `name` (the file, relative to the source), `where` in it (a line, a member; "" where the file
is the sample), `why`. Each task writes its own list; the dataset gets all of them, one task after the other, as
`_feed/rejects/<xxh3-128>.jsonl`, and its provenance names that file with size, hash and count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import xxhash

from fastfeed.convert.source import Rejected
from fastfeed.dataset.rejects import Rejects
from fastfeed.errors import CorruptDataError

# Lists are copied and hashed by pieces of this size.
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RejectsFile:
    """A list of at least one sample, in the staging folder."""

    name: str
    count: int
    bytes: int
    xxh3_128: str

    def as_json(self) -> list[Any]:
        """For a record."""
        return [self.name, self.count, self.bytes, self.xxh3_128]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> RejectsFile:
        """Out of a record."""
        return cls(*values)

    def check(self, folder: Path) -> None:
        """CorruptDataError unless `folder` holds exactly this list."""
        found = xxhash.xxh3_128_hexdigest((folder / self.name).read_bytes())
        if found != self.xxh3_128:
            raise CorruptDataError(f"{folder / self.name}: has the hash {found}, its record says {self.xxh3_128}")

    def published(self) -> Rejects:
        """As the dataset names it."""
        return Rejects(count=self.count, bytes=self.bytes, xxh3_128=self.xxh3_128)


class RejectsWriter:
    """Writes one list. Makes its file with the first sample: without one, there is none. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedWriter | None = None
        self._hash = xxhash.xxh3_128()
        self._count = self._bytes = 0

    @classmethod
    def of_task(cls, staging: Path, number: int) -> RejectsWriter:
        """The list of one task."""
        return cls(staging / f"task-{number:08}.rejects")

    def add(self, rejected: Rejected) -> None:
        """Append one sample."""
        line = json.dumps(rejected._asdict(), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self._write(line)
        self._count += 1

    def add_list(self, folder: Path, part: RejectsFile) -> None:
        """Append another list."""
        with open(folder / part.name, "rb") as file:
            while piece := file.read(PIECE_BYTES):
                self._write(piece)
        self._count += part.count

    def finish(self) -> RejectsFile | None:
        """The list, on disk; None where nothing was added."""
        if self._file is None:
            return None
        file, self._file = self._file, None
        with file:
            file.flush()
            os.fsync(file.fileno())
        return RejectsFile(self._path.name, self._count, self._bytes, self._hash.hexdigest())

    def abort(self) -> None:
        """Throw the list away. Idempotent; nothing after finish()."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()
            self._path.unlink(missing_ok=True)

    def _write(self, content: bytes) -> None:
        if self._file is None:
            self._file = open(self._path, "wb")  # noqa: SIM115
        self._file.write(content)
        self._hash.update(content)
        self._bytes += len(content)


def join_rejects(staging: Path, parts: Sequence[RejectsFile]) -> RejectsFile | None:
    """The lists of all tasks as one, written into `staging`; None where there is none."""
    whole = RejectsWriter(staging / "rejects.jsonl")
    try:
        for part in parts:
            whole.add_list(staging, part)
        return whole.finish()
    finally:
        whole.abort()
