"""Files in a folder of this machine, or of a file system that it has mounted.

How a file appears (`create` and `publish`), so that a crash at any moment leaves either nothing or all of it:
 1. Write to a temporary name (in the folder of the final name, or in staging).   2. fsync the file.
 3. link(2) it to the final name: this fails if the name exists, on every POSIX file system.
 4. fsync the folder.   5. Remove the temporary name.
A crash before 3 leaves a temporary file, which no reader looks at.
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fastfeed.errors import CorruptDataError

STAGING_FOLDER = "_feed/staging"


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

    def map(self, name: str) -> memoryview:
        with open(self.root / name, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")  # mmap refuses to map nothing
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

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
        for folder in folders:
            sync_folder(folder)

    def staging(self) -> Path:
        folder = self.root / STAGING_FOLDER
        make_folders(folder)
        return folder


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
