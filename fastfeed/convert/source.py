"""What a source is: the only thing that a new input format has to provide.

A source is a small class that pickles: it travels to worker processes. `plan` runs once, in the parent;
`batches` runs in workers, for consecutive items of the plan. Both must be functions of the input alone: two
runs over the same input give the same items and the same rows.

A source neither stops at a bad sample nor drops it silently: it yields a `Rejected` in its place and goes on.
Who consumes the rows decides what that means (encoding.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import pyarrow as pa

from fastfeed.errors import CorruptDataError
from fastfeed.format.schema import Schema


class Item(NamedTuple):
    """One indivisible piece of input, about 4 MiB at most where the input allows it: what a shard holds is a
    run of whole items.
    """

    size_bytes: int  # of payload, about; what shards are cut by
    name: str  # what a message calls it: a path relative to the source
    values: tuple[object, ...]  # the source's own; JSON-able, and part of what identifies the input
    rows: int = 1  # samples in it, rejected ones included


class Place(NamedTuple):
    """Where a sample is in the input."""

    name: str  # the file, relative to the source
    where: str = ""  # in the file: "line 17", "member 000/3.jpg"; empty: the file is the sample


class Rejected(NamedTuple):
    """A sample, or a part of a file, that cannot be converted."""

    name: str  # as in Place
    where: str  # as in Place
    why: str

    def error(self, folder: Path) -> CorruptDataError:
        """The error that says it, of an input whose names are relative to `folder`."""
        return CorruptDataError(": ".join(part for part in (str(folder / self.name), self.where, self.why) if part))


# A batch with the columns of the schema, or one mapping a sample.
Samples: TypeAlias = pa.RecordBatch | Sequence[Mapping[str, Any]]


class Rows(NamedTuple):
    """Consecutive samples, at least one."""

    samples: Samples
    place: Callable[[int], Place]  # of a row of them; for messages only


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a source found. Items are in row order."""

    schema: Schema
    items: Sequence[Item]
    metadata: dict[str, object] = field(default_factory=dict)
    seen: str  # one line for the user: what the input is
    notes: Sequence[str] = ()  # lines for the user: what was left out, and why
    rejected: Rejected | None = None  # the first bad sample that the scan met; `batches` gives it again


class Source(Protocol):
    """One input of one kind."""

    @property
    def kind(self) -> str:
        """What `--from` calls it."""
        ...

    @property
    def folder(self) -> Path:
        """What names of files are relative to."""
        ...

    @property
    def image_size(self) -> int | None:
        """The shorter side that larger images are shrunk to, in pixels."""
        ...

    @property
    def holds_the_gil(self) -> bool:
        """Whether `batches` is mostly Python, a sample at a time: threads do not make it faster."""
        ...

    def plan(self, limit_rows: int | None) -> Plan:
        """Scan the input, reading as little as possible; at most the first `limit_rows` rows.

        Raises ConfigError where the input does not make sense, OSError where it cannot be read."""
        ...

    def options(self) -> dict[str, object]:
        """What besides the input decides the rows; JSON-able. Two equal sources have equal options."""
        ...

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[Rows | Rejected]:
        """The samples of `items`, in order, a few MiB at a time, and what cannot be one.

        Images are not yet checked or shrunk, and a value may not fit its column: encoding.py looks at
        that."""
        ...
