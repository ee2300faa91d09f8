"""A dataset's folder in an object store, for who writes or verifies: blocking, over an origin in a thread of its own.

 * A file appears by one PUT, whole or not at all; `create` is a conditional PUT (If-None-Match: *), so of several
   callers one succeeds.   * Publishing uploads; what has its name already is kept, as names are hashes of contents.
 * Readers hold nothing here, so `held` is never true; `gc` leaves alone what is young.
 * The lock is objects that grow old (`lease.py`).   * Staging is on this machine: STAGING_VARIABLE, else below
   /var/tmp; it has a place for each URL, so that a conversion that was killed finds it again.
Training processes never come here (obstore is not fork-safe): they read through the cache's daemon.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import xxhash

from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.storage.lease import LOCK_FOLDER, Leases
from fastfeed.storage.local import LOCK_FILE
from fastfeed.storage.loop_thread import LoopThread
from fastfeed.storage.options import OriginOptions
from fastfeed.storage.origins import open_origin, read_whole
from fastfeed.storage.places import place_of
from fastfeed.storage.protocol import Origin, StoredFile

STAGING_VARIABLE = "FASTFEED_STAGING_DIR"
# Files are uploaded two at a time, large ones each in parts: one connection does not fill a line.
UPLOADS_MAX = 2
# Removals are small requests.
REMOVALS_MAX = 16
# Of a file that is fetched: four requests in flight fill a line, and are 32 MiB.
FETCH_BYTES = 8 << 20
FETCHES_MAX = 4


class RemoteStorage:
    """The folder `url`. Safe for threads; not after fork. Ends with close(), or with the last reference to it."""

    def __init__(self, url: str, options: OriginOptions | None = None, *, origin: Origin | None = None) -> None:
        """origin: the one to use, in place of what `options` describe (for tests)."""
        place = place_of(url)
        if origin is None:
            origin, _ = open_origin(url, options)
        self._origin = origin
        self._prefix = place.path
        self._root = f"{place.root}/{place.path}".rstrip("/")
        self._thread = LoopThread()
        self._uploading: dict[str, tuple[int, Future[None]]] = {}  # handed over: name -> (bytes, the upload)

    @property
    def url(self) -> str:
        return self._root

    def list(self, folder: str) -> list[str]:
        return [file.name for file in self.files(folder)]

    def files(self, folder: str) -> Sequence[StoredFile]:
        async def found() -> Sequence[StoredFile]:
            return sorted(
                [
                    StoredFile(each.path.rpartition("/")[2], each.size_bytes or 0, each.modified_s or 0.0)
                    async for each in self._origin.list(path, recursive=bool(folder))
                    if "/" not in each.path[len(path) + 1 :]
                ]
            )

        # A dataset's folders are flat: listed with all below them they come in pages, else all at once.
        path = self._path(folder)
        return self._thread.run(found())

    def walk(self) -> Sequence[str]:
        """All files of the folder and below, in order, but locks: of this kind, and of a folder that was uploaded."""

        async def found() -> Sequence[str]:
            below = len(f"{self._prefix}/".lstrip("/"))
            return sorted([each.path[below:] async for each in self._origin.list(self._prefix, recursive=True)])

        names = self._thread.run(found())
        return [name for name in names if name != LOCK_FILE and not name.startswith(f"{LOCK_FOLDER}/")]

    def fetch(self, name: str, descriptor: int, bytes_max: int) -> int:
        """Write a file to `descriptor`, all of one version, unless it has more than `bytes_max`; return how many it
        has. FETCH_BYTES * FETCHES_MAX of it are in memory at a time."""
        return self._thread.run(self._fetch(self._path(name), descriptor, bytes_max))

    def map(self, name: str, copy_bytes_max: int = 0, *, hold: bool = True) -> memoryview:
        data, _ = self._thread.run(read_whole(self._origin, self._path(name)))
        return memoryview(data).toreadonly()

    def create(self, name: str, data: bytes) -> None:
        self._thread.run(self._origin.put(self._path(name), data, if_absent=True))

    def hand_over(self, path: Path, name: str) -> None:
        """Upload in the background, and take the file away when that is done. At most UPLOADS_MAX at a time: else wait.
        Raises what an earlier upload met."""
        while len(left := [each for _, each in self._uploading.values() if not each.done()]) >= UPLOADS_MAX:
            left[0].result()
        for _, each in self._uploading.values():
            if each.done():
                each.result()
        self._uploading[name] = (path.stat().st_size, self._thread.start(self._upload(path, name, keep=False)))

    def publish(self, files: Iterable[tuple[Path, str]]) -> None:
        self._thread.run(self._publish(list(files)))

    @property
    def holds(self) -> bool:
        return False

    def held(self, name: str) -> bool:
        self._thread.run(self._origin.head(self._path(name)))
        return False

    def remove(self, names: Iterable[str]) -> Sequence[str]:
        async def remove_all() -> None:
            gate = asyncio.Semaphore(REMOVALS_MAX)

            async def remove(name: str) -> None:
                async with gate:
                    await self._origin.delete(self._path(name))

            # A crash in between leaves whole snapshots in any order: manifests go in a call of their own.
            await asyncio.gather(*(remove(name) for name in names))

        self._thread.run(remove_all())
        return []

    @contextmanager
    def lock(self, *, exclusive: bool) -> Iterator[None]:
        leases = Leases(self._origin, self._prefix)
        held = AsyncExitStack()
        self._thread.run(held.enter_async_context(leases.exclusive() if exclusive else leases.shared()))
        try:
            yield
        finally:
            self._thread.run(held.aclose())

    def staging(self) -> Path:
        base = self.staging_path.parent
        if STAGING_VARIABLE not in os.environ:
            require_own(base)
        self.staging_path.mkdir(parents=True, exist_ok=True)
        return self.staging_path

    @property
    def staging_path(self) -> Path:
        return staging_of(self._root)

    def exists(self) -> bool:
        """True: a folder of an object store needs not be made."""
        return True

    def above_staging(self, *, existed: bool) -> Sequence[Path]:
        return [self.staging_path] if STAGING_VARIABLE in os.environ else [self.staging_path, self.staging_path.parent]

    def close(self) -> None:
        """End the connections and the thread; uploads that were not waited for are cancelled. Idempotent."""
        self._thread.close()

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}".strip("/")

    async def _fetch(self, path: str, descriptor: int, bytes_max: int) -> int:
        info = await self._origin.head(path)
        if info.size_bytes > bytes_max:
            return info.size_bytes
        starts = iter(range(0, info.size_bytes, FETCH_BYTES))

        async def fetch() -> None:
            for start in starts:  # shared: each takes the next one
                stop = min(start + FETCH_BYTES, info.size_bytes)
                piece = await self._origin.get_range(path, start, stop, etag=info.etag)
                await asyncio.to_thread(write_at, descriptor, piece.data, start)

        fetches = [asyncio.ensure_future(fetch()) for _ in range(FETCHES_MAX)]
        try:
            await asyncio.gather(*fetches)
        finally:
            for each in fetches:
                each.cancel()
        return info.size_bytes

    async def _publish(self, files: Sequence[tuple[Path, str]]) -> None:
        gate = asyncio.Semaphore(UPLOADS_MAX)

        async def publish(path: Path, name: str) -> None:
            async with gate:
                handed = self._uploading.get(name)
                if handed is not None:
                    await asyncio.wrap_future(handed[1])
                size_bytes = handed[0] if handed else path.stat().st_size
                if not await self._is_there(name, size_bytes):
                    if handed is not None:
                        raise CorruptDataError(f"{self._root}/{name}: was uploaded, and has been removed since. Write "
                                               "the dataset again.")  # fmt: skip
                    await self._upload(path, name, keep=True)

        uploads = [asyncio.ensure_future(publish(path, name)) for path, name in files]
        try:
            await asyncio.gather(*uploads)
        finally:
            for each in uploads:
                each.cancel()

    async def _is_there(self, name: str, size_bytes: int) -> bool:
        try:
            info = await self._origin.head(self._path(name))
        except FileNotFoundError:
            return False
        if info.size_bytes != size_bytes:
            raise CorruptDataError(
                f"{self._root}/{name}: has {info.size_bytes} bytes, and what its name stands for has {size_bytes}. "
                "Remove it and write again."
            )
        return True

    async def _upload(self, path: Path, name: str, *, keep: bool) -> None:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                await self._origin.put(self._path(name), b"")
            else:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # ends with the last view of it
                await self._origin.put(self._path(name), memoryview(mapped))
        if not keep:
            path.unlink()


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """All of `data`."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def scratch_folder() -> Path:
    """Where files without a name are kept: on a disk, where the operator said or the system means it."""
    return Path(os.environ.get(STAGING_VARIABLE, "/var/tmp"))


def staging_of(url: str) -> Path:
    """The local folder in which what goes to `url` is made."""
    base = os.environ.get(STAGING_VARIABLE) or f"/var/tmp/fastfeed-staging-{os.geteuid()}"
    return Path(base) / xxhash.xxh3_128_hexdigest(url.encode())


def require_own(base: Path) -> None:
    """Make a folder that everybody could have made, unless it is there; ConfigError where it is not ours."""
    base.mkdir(mode=0o700, exist_ok=True)
    status = base.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{base}: belongs to user {status.st_uid}, and what we write must be ours alone. Name "
                          f"another folder: {STAGING_VARIABLE}=/path.")  # fmt: skip
