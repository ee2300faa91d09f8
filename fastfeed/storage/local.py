"""Files in a folder of this machine, or of a file system that it has mounted.

How a file appears (`create` and `publish`), so that a crash at any moment leaves either nothing or all of it:
 1. Write to a temporary name (in the folder of the final name, or in staging).   2. fsync the file.
 3. link(2) it to the final name: this fails if the name exists, on every POSIX file system.
 4. fsync the folder.   5. Remove the temporary name.
A crash before 3 leaves a temporary file, which no reader looks at.

How files are held: a map that holds keeps a shared flock(2) on its file, and `remove` takes an exclusive one first.
So a file that a reader on this machine holds is not removed, nor one that a reader on another machine holds where the
file system carries locks between machines (NFS; Lustre mounted with flock). The system drops the locks of a process
that ends.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pyarrow as pa

from fastfeed.errors import CommitConflictError, CorruptDataError
from fastfeed.storage.protocol import StoredFile

STAGING_FOLDER = "_feed/staging"
# Locked by who publishes (shared) and by who removes (exclusive). Empty.
LOCK_FILE = "_feed/lock"
# Commits publish and sync large shards under the lock, and a collection removes many files: minutes, not hours.
LOCK_TIMEOUT_S = 600.0
LOCK_POLL_S = 0.02
# What flock says where a file system has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class LocalStorage:
    """A dataset's folder. Holds no descriptors and no locks, so threads and forks need no care."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def url(self) -> str:
        return str(self.root)

    def list(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def files(self, folder: str) -> Sequence[StoredFile]:
        found = []
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # gone since it was listed
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append(StoredFile(entry.name, status.st_size, status.st_mtime))
        return sorted(found)

    def walk(self) -> Sequence[str]:
        """All files of the folder and below, in order, but the lock and what is in staging."""
        names = []
        for folder, folders, files in os.walk(self.root):
            place = Path(folder)
            folders[:] = sorted(each for each in folders if place / each != self.staging_path)
            names += [(place / file).relative_to(self.root).as_posix() for file in sorted(files)]
        return [name for name in names if name != LOCK_FILE]

    def map(self, name: str, copy_bytes_max: int = 0, *, hold: bool = True) -> memoryview:
        if not hold:
            return map_unheld(self.root / name, copy_bytes_max)
        with open(self.root / name, "rb") as file:
            with suppress_no_locks():
                fcntl.flock(file.fileno(), fcntl.LOCK_SH)  # who removes a file holds it for one unlink
            if os.fstat(file.fileno()).st_nlink == 0:  # removed between our open and our lock
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.root / name))
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes == 0:
                return memoryview(b"")  # mmap refuses to map nothing
            # The map keeps a duplicate of the descriptor, and with it the lock.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return memoryview(mapped if size_bytes > copy_bytes_max else _Copy.of(file.fileno(), mapped)).toreadonly()

    def create(self, name: str, data: bytes) -> None:
        target = self.root / name
        make_folders(target.parent)
        temporary = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}"
        try:
            write_durably(temporary, data)
            os.link(temporary, target)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def publish(self, files: Iterable[tuple[Path, str]]) -> None:
        folders = set()
        for path, name in files:
            target = self.root / name
            if target.parent not in folders:
                make_folders(target.parent)
                folders.add(target.parent)
            sync_file(path)
            try:
                os.link(path, target)
            except FileExistsError:
                require_same_size(path, target)
                if os.path.samefile(path, target):
                    continue  # published before, by a run that did not come to its commit
                with suppress(PermissionError):  # another user's; the dataset's lock protects it meanwhile
                    os.utime(target)
        for folder in folders:
            sync_folder(folder)

    @property
    def holds(self) -> bool:
        return True

    def held(self, name: str) -> bool:
        path = self.root / name
        # Where nothing can be written a look is still possible, but for NFS, whose exclusive locks want a writer.
        with unheld(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY) as free:
            return not free

    def remove(self, names: Iterable[str]) -> Sequence[str]:
        held, folders = [], set()
        try:
            for name in names:
                path = self.root / name
                with suppress(FileNotFoundError), unheld(path) as free:
                    if free:
                        os.unlink(path)
                        folders.add(path.parent)
                    else:
                        held.append(name)
        finally:
            for folder in folders:
                sync_folder(folder)
        return held

    @contextmanager
    def lock(self, *, exclusive: bool) -> Iterator[None]:
        path = self.root / LOCK_FILE
        make_folders(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with nullcontext() if exclusive else suppress_no_locks():
                wait_for_lock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, path)
            yield
        finally:
            os.close(descriptor)

    def staging(self) -> Path:
        make_folders(self.staging_path)
        return self.staging_path

    @property
    def staging_path(self) -> Path:
        return self.root / STAGING_FOLDER

    def exists(self) -> bool:
        return self.root.exists()

    def above_staging(self, *, existed: bool) -> Sequence[Path]:
        base = self.staging_path
        return [base, base.parent] if existed else [base, base.parent, self.root]

    def hand_over(self, path: Path, name: str) -> None:
        """Publishing links the file: it costs no room."""

    def close(self) -> None:
        """Nothing is held."""


def map_unheld(path: Path, copy_bytes_max: int) -> memoryview:
    """The bytes of a file, without a descriptor that stays open: a snapshot of many commits has as many index files."""
    with open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > max(copy_bytes_max, 0):
            # Python's own map keeps a descriptor; Arrow's buffers keep the pages only. Arrow takes a str for UTF-8.
            with pa.memory_map(os.fsencode(path)) as mapped:
                return memoryview(mapped.read_buffer())
        data = file.read()
    if len(data) != size_bytes:
        raise CorruptDataError(f"{path}: a file of {size_bytes} bytes had {len(data)} when it was read")
    return memoryview(data)


class _Copy(mmap.mmap):
    """The bytes of a file in memory of our own. `source` is a map of it that nobody touches: it holds the file."""

    source: mmap.mmap

    @classmethod
    def of(cls, descriptor: int, source: mmap.mmap) -> _Copy:
        """What the file has now; CorruptDataError where it has become shorter than `source`."""
        copy = cls(-1, len(source), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        copy.source = source
        done = 0
        with memoryview(copy) as view:
            while done < len(view):
                got = os.preadv(descriptor, [view[done:]], done)
                if got == 0:
                    raise CorruptDataError(f"a file of {len(view)} bytes ended at {done} while it was read")
                done += got
        return copy


@contextmanager
def suppress_no_locks() -> Iterator[None]:
    """Go on where the file system has no locks: there nobody can remove files either (`remove`, `lock`)."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextmanager
def unheld(path: Path, access: int = os.O_RDWR) -> Iterator[bool]:
    """Whether nobody holds the file. If so, nobody can begin to in the block."""
    descriptor = os.open(path, access | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(descriptor)


def wait_for_lock(descriptor: int, operation: int, path: Path) -> None:
    """flock that does not wait for ever. CommitConflictError."""
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline_s:
                raise CommitConflictError(
                    f"{path}: another process has held the dataset's lock for {LOCK_TIMEOUT_S:.0f} s, to commit or to "
                    "collect. Nothing was changed; try again when it is done."
                ) from error
        time.sleep(LOCK_POLL_S)


def make_folders(folder: Path) -> None:
    """mkdir -p whose new folders survive a crash."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: a dataset needs a folder there.")
    sync_folder(folder.parent)


def require_same_size(path: Path, target: Path) -> None:
    """A file that was published under the same name has the same content, unless someone damaged it."""
    wanted_bytes, found_bytes = path.stat().st_size, target.stat().st_size
    if wanted_bytes != found_bytes:
        raise CorruptDataError(
            f"{target}: has {found_bytes} bytes, and what its name stands for has {wanted_bytes}. "
            "Remove it and write again."
        )


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file; on disk when this returns. FileExistsError."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Make the content of a file survive a crash."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make names that were created in `folder` survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
