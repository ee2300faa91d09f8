"""Shards of an object store for who looks at every byte of them: each is fetched once, into a file without a name.

For commands (verify): it goes past the cache, whose bytes are not what is asked about, and talks to the origin itself,
so it is never in a process that trains. The file goes with its descriptor, however the process ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from fastfeed.dataset.urls import object_url
from fastfeed.errors import CorruptDataError
from fastfeed.format.shard_bytes import FileBytes, ShardBytes
from fastfeed.storage.remote_storage import RemoteStorage, scratch_folder
from fastfeed.wire.sets import Sizes


class FetchedPayload:
    """The shards of a snapshot in `storage`. sizes: what the manifest says of each, and no more is fetched. Shards of
    other datasets are read with the credentials of the environment."""

    def __init__(self, storage: RemoteStorage, sizes: Sizes) -> None:
        self._storage = storage
        self._sizes = sizes

    def where(self, path: str) -> str:
        return object_url(self._storage.url, path)

    @contextmanager
    def open(self, number: int, path: str) -> Iterator[ShardBytes]:
        with tempfile.TemporaryFile(dir=scratch_folder()) as file:
            url, size_bytes = self.where(path), int(self._sizes[number])
            folder, _, name = url.rpartition("/")
            if url.startswith(f"{self._storage.url}/"):
                found_bytes = self._storage.fetch(path, file.fileno(), size_bytes)
            else:
                elsewhere = RemoteStorage(folder)
                try:
                    found_bytes = elsewhere.fetch(name, file.fileno(), size_bytes)
                finally:
                    elsewhere.close()
            if found_bytes > size_bytes:
                raise CorruptDataError(f"{url}: the file has {found_bytes} bytes, the manifest says {size_bytes}")
            yield FileBytes(file.fileno())
