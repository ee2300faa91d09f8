"""A dataset's files where the node's cache daemon fetches them, over the wire.

Manifests, indexes and bitmaps come whole, as sealed memfds that all processes of the node share. Nothing is written
this way: writers talk to the origin themselves (storage/remote.py), and are never in a process that trains.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pyarrow as pa

from fastfeed.errors import CorruptDataError
from fastfeed.storage.protocol import StoredFile
from fastfeed.wire.door import session_at
from fastfeed.wire.place import Place

# A manifest of a million shards has 200 MB, an index 4 bytes a row. A file of more than this is none of them.
FILE_BYTES_MAX = 64 << 30
# Up to so much is copied: a map costs a page table, and a copy no descriptor.
COPY_BYTES_MAX = 1 << 20


class RemoteFiles:
    """The dataset at `url`, read through the daemon at `place`. Holds nothing: sessions are of the process."""

    def __init__(self, url: str, place: Place) -> None:
        self._url, self.place = url, place

    @property
    def url(self) -> str:
        return self._url

    def list(self, folder: str) -> list[str]:
        return [file.name for file in session_at(self.place).list_folder(f"{self._url}/{folder}")]

    def files(self, folder: str) -> Sequence[StoredFile]:
        listed = session_at(self.place).list_folder(f"{self._url}/{folder}")
        return sorted(StoredFile(file.name, file.size_bytes, file.modified_us / 1e6) for file in listed)

    def map(self, name: str, copy_bytes_max: int = 0, *, hold: bool = True) -> memoryview:
        """As `Files` say. The memfd is sealed, so nobody can change or cut it; nothing is held at the origin."""
        return self.map_sized(name, 0, copy_bytes_max)

    def map_sized(self, name: str, size_bytes: int, copy_bytes_max: int = 0) -> memoryview:
        """As `map`, of a file that must have `size_bytes` (0: any): one that the daemon has is not asked for again."""
        url = f"{self._url}/{name}"
        file = session_at(self.place).file(url, size_bytes, FILE_BYTES_MAX)
        try:
            if file.size_bytes > max(copy_bytes_max, COPY_BYTES_MAX):
                # A map of Python's own would keep the descriptor. The memfd has no other name.
                with pa.memory_map(f"/proc/self/fd/{file.descriptor}") as mapped:
                    return memoryview(mapped.read_buffer())
            data = os.pread(file.descriptor, file.size_bytes, 0)
        finally:
            os.close(file.descriptor)
        if len(data) != file.size_bytes:
            raise CorruptDataError(f"{url}: has {file.size_bytes} bytes, and {len(data)} came")
        return memoryview(data)
