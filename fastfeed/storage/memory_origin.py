"""An origin in memory: the smallest whole one, for tests and for trying things out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import xxhash

from fastfeed.storage.failures import no_such_object, object_exists
from fastfeed.storage.file_origin import require_same
from fastfeed.storage.protocol import Listed, ObjectInfo, Piece


class _Stored(NamedTuple):
    data: bytes
    modified_s: float
    tag: str

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(len(self.data), f'"{xxhash.xxh3_64_hexdigest(self.data)}"', "", self.modified_s)


class MemoryOrigin:
    """Objects by path. The ETag is a hash of the content, as S3's is."""

    def __init__(self, url: str = "memory://origin") -> None:
        self._url = url
        self._objects: dict[str, _Stored] = {}

    @property
    def url(self) -> str:
        return self._url

    async def head(self, path: str) -> ObjectInfo:
        return self._object(path).info

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        found = self._object(path)
        require_same(f"{self._url}/{path}", found.info, etag, stop)
        return Piece(memoryview(found.data)[start:stop], found.info)

    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        folder = prefix.strip("/") + "/" if prefix.strip("/") else ""
        for path, found in list(self._objects.items()):
            if path.startswith(folder) and (recursive or "/" not in path[len(folder) :]):
                yield Listed(path, len(found.data), found.modified_s)

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        present = self._objects.get(path)
        if if_absent and present is not None:
            if tag and present.tag == tag:
                return
            raise object_exists(self._url, path)
        self._objects[path] = _Stored(bytes(data), time.time(), tag)

    async def delete(self, path: str) -> None:
        self._objects.pop(path, None)

    async def close(self) -> None:
        """Nothing is held."""

    def _object(self, path: str) -> _Stored:
        if path not in self._objects:
            raise no_such_object(self._url, path)
        return self._objects[path]
