"""Whole files of origins in sealed memfds that all clients of a pool share: manifests, indexes, what tools read whole.

A file is read once, however many ask for it at the same time, and again only where the origin has another version of
it. Files that are here, and those that are being read, together stay below a limit: what nobody has asked for lately
goes first, and a read waits until others have ended. One file alone may be larger. Who has a descriptor keeps the
memory of a file that has gone.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import OrderedDict, deque
from typing import NamedTuple

from fastfeed.daemon.buffers import Buffers
from fastfeed.daemon.memfds import seal_filled, sealed_bytes, writable_memory
from fastfeed.daemon.sources import Sources
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.storage.origins import read_into
from fastfeed.storage.protocol import ObjectInfo, Origin
from fastfeed.wire.listing import ListedFile, pack_listing
from fastfeed.wire.messages import ETAG_BYTES_MAX


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

    def __init__(self, sources: Sources, bytes_max: int) -> None:
        self._sources = sources
        self.room = Buffers(bytes_max)  # of what is here and what is being read
        self._files: OrderedDict[str, WholeFile] = OrderedDict()
        self._reads: dict[str, _Read] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.room.call_on_room(self._wake)

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
        await self._make_room(info.size_bytes)
        try:
            descriptor, info = await self._in_memory(source.origin, path, info)
        except BaseException:
            self.room.give_back(info.size_bytes)
            raise
        file = WholeFile(descriptor, info._replace(etag=info.etag[:ETAG_BYTES_MAX]))
        self.forget(url)
        self._files[url] = file
        self._wake()  # who waits for room may have this one's
        return file

    async def _in_memory(self, origin: Origin, path: str, info: ObjectInfo) -> tuple[int, ObjectInfo]:
        """A sealed memfd with all of an object, of the size that `info` says."""
        if info.size_bytes == 0:
            return sealed_bytes("file", b""), info
        descriptor, mapped = writable_memory("file", info.size_bytes)
        try:
            info = await read_into(origin, path, mapped)
            seal_filled(descriptor, mapped)
        except BaseException:
            mapped.close()
            os.close(descriptor)
            raise
        return descriptor, info

    async def _make_room(self, size_bytes: int) -> None:
        while not self.room.take(size_bytes):
            if self._files:
                self._drop(self._files.popitem(last=False)[1])
                continue
            ended = asyncio.get_running_loop().create_future()
            self._waiting.append(ended)
            await ended

    def _wake(self) -> None:
        while self._waiting:
            ended = self._waiting.popleft()
            if not ended.done():
                ended.set_result(None)

    def _drop(self, file: WholeFile) -> None:
        self.room.give_back(file.info.size_bytes)


def _too_large(url: str, size_bytes: int, size_bytes_max: int) -> ConfigError:
    return ConfigError(f"{url}: has {size_bytes} bytes, and at most {size_bytes_max} were asked for as one file.")
