"""A dataset without files, for loaders that are given a `FakeReader`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fastfeed.format.schema import Scalar, Schema, Text


class FakeDataset:
    """n rows of the columns id and text. `fingerprint` is what distinguishes two of them."""

    block_rows = 4
    home_key = 7
    physical_block_rows = 4
    window = None
    is_view = False
    # Read in place: no daemon is told of it.
    opened = SimpleNamespace(payload=None)
    schema = Schema({"id": Scalar("int64"), "text": Text()})

    def __init__(self, rows: int, fingerprint: str = "a" * 32, **lanes: Any) -> None:
        self._rows = rows
        self._lanes = lanes
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return self._rows

    def lane(self, name: str) -> Any:
        return self._lanes[name]

    def shards(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(bytes=100 * self._rows, rows=self._rows)]
