"""Where the bytes of a snapshot's shards are read: from files in place, or through the node's cache.

Native readers and those who read parts of a shard in Python (lanes) ask here, so that nobody else knows the difference.
Safe for threads and after fork; `RemotePayload` opens its set once in each process that reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastfeed.dataset.urls import object_url
from fastfeed.format.shard_bytes import FileBytes, ShardBytes
from fastfeed.wire.door import session_at
from fastfeed.wire.place import Place

if TYPE_CHECKING:
    from fastfeed.wire.session import RemoteSet
    from fastfeed.wire.sets import Sizes


class Shards(Protocol):
    """The shards of one snapshot, by their numbers and the paths that the manifest gives them."""

    def where(self, path: str) -> str:
        """The place of a shard, as people write it."""
        ...

    def open(self, number: int, path: str) -> AbstractContextManager[ShardBytes]:
        """Read parts of one shard. OSError or a FastfeedError with the shard's place."""
        ...


class Payload(Shards, Protocol):
    """Shards that native readers read, too."""

    @property
    def place(self) -> Place | None:
        """Of the daemon that reads them; None: nobody is needed."""
        ...

    def native(self) -> tuple[str, tuple[Any, int] | None]:
        """(root, cache) for a native snapshot: the folder of relative paths, or (client, set number) instead."""
        ...


class LocalPayload:
    """Shards in a folder of this machine."""

    place = None

    def __init__(self, root: Path) -> None:
        self._root = root

    def where(self, path: str) -> str:
        return str(self._root / path)

    @contextmanager
    def open(self, number: int, path: str) -> Iterator[ShardBytes]:
        with open(self._root / path, "rb") as file:
            yield FileBytes(file.fileno())

    def native(self) -> tuple[str, tuple[Any, int] | None]:
        return str(self._root), None


class RemotePayload:
    """Shards that the daemon at `place` fetches. manifest_hash: what the daemon must find too; sizes: of each shard."""

    def __init__(self, place: Place, url: str, snapshot: int, manifest_hash: bytes, sizes: Sizes) -> None:
        self.place: Place = place
        self._url, self._snapshot = url, snapshot
        self._manifest_hash, self._sizes = manifest_hash, sizes
        self._opened: tuple[int, RemoteSet] | None = None

    def where(self, path: str) -> str:
        return object_url(self._url, path)

    @contextmanager
    def open(self, number: int, path: str) -> Iterator[ShardBytes]:
        yield _Object(self.opened(), number)

    def native(self) -> tuple[str, tuple[Any, int] | None]:
        opened = self.opened()
        return self._url, (opened.client, opened.number)

    def opened(self) -> RemoteSet:
        """The set of this process. Two threads may both open it, and get the same."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            session = session_at(self.place)
            remote_set = session.open_dataset(self._url, self._snapshot, self._manifest_hash, self._sizes)
            opened = self._opened = os.getpid(), remote_set
        return opened[1]


class _Object:
    def __init__(self, opened: RemoteSet, number: int) -> None:
        self._opened, self._number = opened, number

    @property
    def size_bytes(self) -> int:
        return int(self._opened.sizes[self._number])

    def read_at(self, offset: int, length: int) -> bytes:
        return self._opened.read(self._number, offset, length)
