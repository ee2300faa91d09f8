"""What a source is: the only thing that a new input format has to provide.

A source is a small class that pickles: it travels to worker processes. `plan` runs once, in the parent;
`batches` runs in workers, for consecutive items of the plan. Both must be functions of the input alone: two
runs over the same input give the same items and the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import pyarrow as pa

from fastfeed.format.schema import Schema


class Item(NamedTuple):
    """One indivisible piece of input: what a shard holds is a run of whole items."""

    size_bytes: int  # of payload, about; what shards are cut by
    name: str  # what a message calls it: a path relative to the source
    values: tuple[object, ...]  # the source's own; must pickle


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a source found. Items are in row order."""

    schema: Schema
    items: Sequence[Item]
    metadata: dict[str, object] = field(default_factory=dict)
    seen: str  # one line for the user: what the input is
    notes: Sequence[str] = ()  # lines for the user: what was left out, and why


class Source(Protocol):
    """One input of one kind."""

    @property
    def kind(self) -> str:
        """What `--from` calls it."""
        ...

    def plan(self, limit_rows: int | None) -> Plan:
        """Scan the input, reading as little as possible; at most the first `limit_rows` rows.

        Raises ConfigError where the input does not make sense, OSError where it cannot be read."""
        ...

    def options(self) -> dict[str, object]:
        """What besides the input decides the rows; JSON-able. Two equal sources have equal options."""
        ...

    def batches(self, schema: Schema, items: Sequence[Item]) -> Iterator[pa.RecordBatch]:
        """The rows of `items`, in order, as record batches of `schema`, a few MiB each.

        Raises CorruptDataError naming the file where the input is damaged."""
        ...
