"""Whole files of origins in sealed memfds that all clients of a pool share: manifests, indexes, what tools read whole.

A file is read once, however many ask for it at the same time, and again only where the origin has another version of
it. What nobody has asked for lately goes when the files together pass a limit; who has the descriptor keeps the memory.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import OrderedDict
from typing import NamedTuple

from fastfeed.daemon.memfds import sealed_bytes
from fastfeed.daemon.sources import Sources
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.storage.origins import read_whole
from fastfeed.storage.protocol import ObjectInfo
from fastfeed.wire.listing import ListedFile, pack_listing
from fastfeed.wire.messages import ETAG_BYTES_MAX

# Manifests and index files of a few datasets of 10^8 rows.
KEPT_BYTES_MAX = 1 << 30


class WholeFile:
    """A file that was read. descriptor: of its memfd, which is open as long as somebody holds this: the number of a
    closed one may be another file's by the time that somebody who waited duplicates it."""

    def __init__(self, descriptor: int, info: ObjectInfo) -> None:
        self.descriptor, self.info = descriptor, info
        weakref.finalize(self, os.close, descriptor)


class _Read(NamedTuple):
    """One that is under way, of at most so many bytes."""

    size_bytes_max: int
    task: asyncio.Task[WholeFile]


class Files:
    """For one event loop."""

    def __init__(self, sources: Sources, kept_bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._sources = sources
        self._kept_bytes_max = kept_bytes_max
        self._files: OrderedDict[str, WholeFile] = OrderedDict()
        self._reads: dict[str, _Read] = {}
        self.kept_bytes = 0

    async def open(
        self, url: str, size_bytes: int, size_bytes_max: int, *, may_be_old: bool = False
    ) -> tuple[int, ObjectInfo]:
        """A descriptor of the caller's own, and what the origin says of the file.

        size_bytes: what the file must have; 0: whatever it has, at most size_bytes_max. A file of a given size is taken
        to be immutable, and not asked for again; nor is any where the caller checks itself if it `may_be_old`.
        FileNotFoundError, OriginError, ConfigError.
        """
        known = self._files.get(url)
        is_known = known is not None and (may_be_old or known.info.size_bytes == size_bytes)
        if known is None or (not is_known and await self.head(url) != known.info):
            known = await self._read_shared(url, size_bytes or size_bytes_max)
        if size_bytes and known.info.size_bytes != size_bytes:
            raise CorruptDataError(
                f"{url}: has {known.info.size_bytes} bytes, and {size_bytes} were expected: it was cut or replaced."
            )
        if known.info.size_bytes > size_bytes_max:
            raise _too_large(url, known.info.size_bytes, size_bytes_max)
        if url in self._files:
            self._files.move_to_end(url)
        return os.dup(known.descriptor), known.info

    async def head(self, url: str) -> ObjectInfo:
        """What the origin says of a file now."""
        source, path = self._sources.find(url)
        info = await source.origin.head(path)
        return info._replace(etag=info.etag[:ETAG_BYTES_MAX])

    async def list(self, url: str, *, recursive: bool) -> tuple[int, int, int]:
        """The files in a folder, by their paths in it: a memfd of the caller's, its size, and the number of files."""
        source, path = self._sources.find(url)
        prefix = f"{path}/" if path else ""
        found = [
            ListedFile(each.path.removeprefix(prefix), each.size_bytes or 0, int((each.modified_s or 0) * 1e6))
            async for each in source.origin.list(path, recursive=recursive)
        ]
        data = pack_listing(found)
        return sealed_bytes("listing", data), len(data), len(found)

    def has(self, url: str) -> bool:
        """Whether some version of the file is here."""
        return url in self._files

    def forget(self, url: str) -> None:
        """Ask the origin anew, the next time."""
        if (known := self._files.pop(url, None)) is not None:
            self._drop(known)

    def close(self) -> None:
        """Let go of all files."""
        for read in self._reads.values():
            read.task.cancel()
        while self._files:
            self._drop(self._files.popitem()[1])

    async def _read_shared(self, url: str, size_bytes_max: int) -> WholeFile:
        """The result of one read that all who ask meanwhile share. It goes on where who asked first has gone. One that
        refuses what is wanted here, because who began it wanted less, is not joined."""
        read = self._reads.get(url)
        if read is None or read.size_bytes_max < size_bytes_max:
            read = self._reads[url] = _Read(size_bytes_max, asyncio.ensure_future(self._read(url, size_bytes_max)))
            read.task.add_done_callback(lambda done: self._forget_read(url, done))
        return await asyncio.shield(read.task)

    def _forget_read(self, url: str, done: asyncio.Task[WholeFile]) -> None:
        if url in self._reads and self._reads[url].task is done:
            del self._reads[url]

    async def _read(self, url: str, size_bytes_max: int) -> WholeFile:
        source, path = self._sources.find(url)
        info = await source.origin.head(path)
        if info.size_bytes > size_bytes_max:
            raise _too_large(url, info.size_bytes, size_bytes_max)
        if info.size_bytes:
            data, info = await read_whole(source.origin, path, info.size_bytes)
        else:
            data = bytearray()
        descriptor = await asyncio.to_thread(sealed_bytes, "file", data)
        file = WholeFile(descriptor, info._replace(etag=info.etag[:ETAG_BYTES_MAX]))
        self.forget(url)
        self._files[url] = file
        self.kept_bytes += info.size_bytes
        while self.kept_bytes > self._kept_bytes_max and len(self._files) > 1:
            self._drop(self._files.popitem(last=False)[1])
        return file

    def _drop(self, file: WholeFile) -> None:
        self.kept_bytes -= file.info.size_bytes


def _too_large(url: str, size_bytes: int, size_bytes_max: int) -> ConfigError:
    return ConfigError(f"{url}: has {size_bytes} bytes, and at most {size_bytes_max} were asked for as one file.")
