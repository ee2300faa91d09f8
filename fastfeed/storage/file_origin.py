"""Files of this machine, or of a file system that it has mounted, as an origin: one attempt a call, in threads.

The ETag is the file's inode, size and time of change: a file that is replaced or written to has another one. A shard's
has no time: publishing the same shard again renews it, and what is written into a shard its checksums find. The ETag is
looked at before and after a read of the same descriptor, so that a piece is of one version. A hung file system (NFS
without its server) holds a thread for each attempt that was given up, at most `threads`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from fastfeed.errors import OriginChangedError, OriginDeniedError
from fastfeed.storage.failures import TransientOriginError, no_such_object, object_exists
from fastfeed.storage.local import make_folders, sync_folder, write_durably
from fastfeed.storage.protocol import Listed, ObjectInfo, Piece

P = ParamSpec("P")
T = TypeVar("T")
SHARD_SUFFIX = ".ffs"


class FileOrigin:
    """The files below `root`; paths cannot leave it by "..". Threads start as they are needed and end with close()."""

    def __init__(self, root: Path, threads: int = 32) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fastfeed-file-origin")

    @property
    def url(self) -> str:
        return "file://" + str(self._root).rstrip("/")

    async def head(self, path: str) -> ObjectInfo:
        return await self._run(path, lambda: info_of(path, self._file(path).stat()))

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        return await self._run(path, self._read, path, start, stop, etag)

    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        for each in await self._run(prefix, self._listing, prefix, recursive):
            yield each

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        await self._run(path, self._write, path, data, if_absent)

    async def delete(self, path: str) -> None:
        def remove() -> None:
            with suppress(FileNotFoundError):
                self._file(path).unlink()
                sync_folder(self._file(path).parent)

        await self._run(path, remove)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, path: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise no_such_object(self.url, path) from error
        except FileExistsError as error:
            raise object_exists(self.url, path) from error
        except PermissionError as error:
            raise OriginDeniedError(
                f"{self.url}/{path}: {error.strerror}. The process that reads (user {os.geteuid()}) needs leave to."
            ) from error
        except OSError as error:
            raise TransientOriginError(f"{error.strerror} ({self.url}/{path})") from error

    def _file(self, path: str) -> Path:
        if ".." in path.split("/"):
            raise no_such_object(self.url, path)
        return self._root / path

    def _read(self, path: str, start: int, stop: int, etag: str | None) -> Piece:
        with open(self._file(path), "rb", buffering=0) as file:
            info = info_of(path, os.fstat(file.fileno()))
            require_same(f"{self.url}/{path}", info, etag, stop)
            data = bytearray(stop - start)
            with memoryview(data) as view:
                done = 0
                while done < len(view):
                    got = os.preadv(file.fileno(), [view[done:]], start + done)
                    if got == 0:
                        break
                    done += got
            after = info_of(path, os.fstat(file.fileno()))
        if after.etag != info.etag or done < len(data):
            raise OriginChangedError(f"{self.url}/{path}: was written to while it was read.")
        return Piece(memoryview(data).toreadonly(), info)

    def _listing(self, prefix: str, recursive: bool) -> Sequence[Listed]:
        found: list[Listed] = []
        folders = [prefix.strip("/")]
        while folders:
            folder = folders.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._file(folder)) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    with suppress(FileNotFoundError):  # gone since it was listed
                        if entry.is_file():
                            status = entry.stat()
                            found.append(Listed(path, status.st_size, status.st_mtime))
                        elif recursive and entry.is_dir():
                            folders.append(path)
        return found

    def _write(self, path: str, data: bytes | memoryview, if_absent: bool) -> None:
        target = self._file(path)
        make_folders(target.parent)
        temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
        try:
            write_durably(temporary, bytes(data))
            if if_absent:
                os.link(temporary, target)
            else:
                os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def info_of(path: str, status: os.stat_result) -> ObjectInfo:
    """What an origin says of a file. FileNotFoundError where it is a folder or a device."""
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError("no regular file")
    changed_ns = 0 if path.endswith(SHARD_SUFFIX) else status.st_mtime_ns
    etag = f'"{status.st_ino:x}-{status.st_size:x}-{changed_ns:x}"'
    return ObjectInfo(status.st_size, etag, "", status.st_mtime)


def require_same(url: str, info: ObjectInfo, etag: str | None, stop: int = 0) -> None:
    """OriginChangedError unless the object has this ETag (if one is given) and bytes up to `stop`."""
    if etag and info.etag != etag:
        raise OriginChangedError(
            f"{url}: is another object than before (ETag {info.etag}, was {etag}). It was replaced while it was read: "
            "open the dataset again. Shards of a dataset never change; whoever writes there must not replace files."
        )
    if info.size_bytes < stop:
        raise OriginChangedError(
            f"{url}: has {info.size_bytes} bytes, and byte {stop - 1} was wanted. It was replaced or cut: "
            "check it with fastfeed verify, or open the dataset again."
        )
