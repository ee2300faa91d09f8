"""What a dataset asks of the place where it lives (`Storage`), and what a place gives to who reads objects (`Origin`).

Names are relative to the dataset's folder, with "/" between the parts. A file never changes once it exists, and
appears only when it is whole: every writing method is atomic and durable when it returns. Failures of the system
are OSError with the file's name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class StoredFile(NamedTuple):
    """A file in a folder of a storage: its name there, its size, when it was last written or published (Unix time)."""

    name: str
    bytes: int
    modified_s: float


class Files(Protocol):
    """The files of a dataset, for reading. Safe for threads and after fork."""

    @property
    def url(self) -> str:
        """Where this is, for messages and for opening it again in another process."""
        ...

    def list(self, folder: str) -> list[str]:
        """Names in `folder`, not sorted, writers' temporary files among them. [] where there is no such folder."""
        ...

    def files(self, folder: str) -> Sequence[StoredFile]:
        """The files in `folder` with their sizes and ages, sorted by name. [] where there is no such folder."""
        ...

    def map(self, name: str, copy_bytes_max: int = 0, *, hold: bool = True) -> memoryview:
        """The whole file, read-only, loaded as it is touched; up to copy_bytes_max bytes as a copy of our own, which
        nobody can cut or change. It stays while any view of it lives. hold: it is held against `remove` as long,
        which keeps a descriptor open. FileNotFoundError where there is none."""
        ...


class Storage(Files, Protocol):
    """The operations on files, the lock between writers and collectors, and the staging that publishing starts from.
    Safe for threads and after fork."""

    def create(self, name: str, data: bytes) -> None:
        """Make the file, or raise FileExistsError where one has that name: of several callers one succeeds."""
        ...

    def publish(self, files: Iterable[tuple[Path, str]]) -> None:
        """Give whole files from `staging()` their final names. A file that already has the name is kept, and counts
        as published now: names of published files are hashes of their content. The staged files remain."""
        ...

    @property
    def holds(self) -> bool:
        """Whether it can tell what readers hold. Where it cannot, age alone protects what they read."""
        ...

    def held(self, name: str) -> bool:
        """Whether a reader holds the file (`map`). FileNotFoundError where there is none."""
        ...

    def remove(self, names: Iterable[str]) -> Sequence[str]:
        """Remove files, in this order; return those that stay because a reader holds them. Files that are not there
        are no error. Durable when it returns."""
        ...

    def lock(self, *, exclusive: bool) -> AbstractContextManager[None]:
        """Hold the dataset's lock: shared by all who publish and commit, exclusive for who removes files. Waits, and
        raises CommitConflictError after a while. The system releases it when the process ends. Shared: goes on
        without where the storage has no locks; exclusive: OSError there."""
        ...

    def staging(self) -> Path:
        """A local folder in which writers make folders of their own; on the dataset's file system, if it has one."""
        ...

    @property
    def staging_path(self) -> Path:
        """Where `staging()` is or would be. Nothing is made of it."""
        ...

    def exists(self) -> bool:
        """Whether the dataset's folder is there, or needs not be."""
        ...

    def above_staging(self, *, existed: bool) -> Sequence[Path]:
        """Local folders, innermost first, that go with the last writer's folder if they are empty then. existed: the
        dataset's folder was there before the writer."""
        ...

    def hand_over(self, path: Path, name: str) -> None:
        """Take a finished file from staging that will be published as `name`: where publishing is an upload, it begins
        now, and the file goes when it is done, so that staging needs no room for a whole dataset. May raise what an
        earlier one met."""
        ...

    def close(self) -> None:
        """Let go of threads and connections. Idempotent."""
        ...


class ObjectInfo(NamedTuple):
    """What an origin says of one object. etag: what `get_range` pins; "" where the origin gives none."""

    size_bytes: int
    etag: str
    version: str  # of a versioned bucket; "" elsewhere
    modified_s: float  # Unix time; 0.0 where the origin gives none


class Listed(NamedTuple):
    """One line of an origin's listing. None: a web server's page of links does not say."""

    path: str
    size_bytes: int | None
    modified_s: float | None


class Piece(NamedTuple):
    """Bytes of an object, and the object that they are of. data: a read-only buffer that the caller owns."""

    data: memoryview
    info: ObjectInfo


# A range is held in memory whole, here and where it is written; eight of the largest fetches of the cache.
RANGE_BYTES_MAX = 64 << 20


class Origin(Protocol):
    """Where objects really are: one bucket, one web server, or the files of this machine.

    Paths are relative to `url`, with "/" between the parts and none in front. Used from one event loop.
    FileNotFoundError where there is no such object; OriginDeniedError, OriginChangedError and OriginError as their
    names say. What `origins.open_origin` returns has limits, retries and deadlines (`steady.py`): no call of it waits
    for ever.
    """

    @property
    def url(self) -> str:
        """The root, without a "/" at its end: "s3://bucket", "https://host:8080", "file://"."""
        ...

    async def head(self, path: str) -> ObjectInfo:
        """Size, ETag and age of one object."""
        ...

    async def get_range(self, path: str, start: int, stop: int, *, etag: str | None = None) -> Piece:
        """Exactly the bytes start..stop-1, at least 1 and at most RANGE_BYTES_MAX. etag: the object must still have
        it, else OriginChangedError; None or "" for the first answer, whose `info.etag` is then pinned by the caller."""
        ...

    def list(self, prefix: str, *, recursive: bool = False) -> AsyncIterator[Listed]:
        """The objects in the folder `prefix`, in no order; recursive: below it too. Nothing where there is none."""
        ...

    async def put(self, path: str, data: bytes | memoryview, *, if_absent: bool = False, tag: str = "") -> None:
        """Make or replace an object. if_absent: of all who call, one succeeds and the others get FileExistsError.
        tag: kept beside the object; who finds it there was answered late, and has succeeded."""
        ...

    async def delete(self, path: str) -> None:
        """Remove an object. One that is not there is no error."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Idempotent."""
        ...
