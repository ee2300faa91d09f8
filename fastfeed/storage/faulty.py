"""A storage that fails by script: for tests of crash points, and for trying out what an error does.

Each call of a scripted operation takes the next character: "." works, "b" fails before anything happened, "a" fails
after it happened (an answer that was lost), "s" finds the disk full. A script that is used up works from then on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from fastfeed.errors import ConfigError
from fastfeed.storage.protocol import Storage, StoredFile

T = TypeVar("T")
_OPERATIONS = ("list", "files", "map", "create", "publish", "remove")
_CODES = {"b": errno.EIO, "a": errno.EIO, "s": errno.ENOSPC}


class FaultyStorage:
    """Wraps `inner`. `scripts`: operation -> characters. `calls` lists (operation, name) of everything asked."""

    def __init__(self, inner: Storage, scripts: Mapping[str, str]) -> None:
        for operation, script in scripts.items():
            if operation not in _OPERATIONS or set(script) - {".", *_CODES}:
                raise ConfigError(
                    f"cannot script {operation!r} with {script!r}: operations are {', '.join(_OPERATIONS)}; "
                    "characters are '.', 'b', 'a' and 's'."
                )
        self.inner = inner
        self.calls: list[tuple[str, str]] = []
        self._scripts = {operation: iter(script) for operation, script in scripts.items()}

    @property
    def url(self) -> str:
        return self.inner.url

    def list(self, folder: str) -> list[str]:
        late = self._step("list", folder)
        return _after(late, self.inner.list(folder), folder)

    def files(self, folder: str) -> Sequence[StoredFile]:
        late = self._step("files", folder)
        return _after(late, self.inner.files(folder), folder)

    def map(self, name: str, copy_bytes_max: int = 0, *, hold: bool = True) -> memoryview:
        late = self._step("map", name)
        return _after(late, self.inner.map(name, copy_bytes_max, hold=hold), name)

    def create(self, name: str, data: bytes) -> None:
        late = self._step("create", name)
        self.inner.create(name, data)
        _after(late, None, name)

    def publish(self, files: Iterable[tuple[Path, str]]) -> None:
        """One step of the script a file."""
        for path, name in files:
            late = self._step("publish", name)
            self.inner.publish([(path, name)])
            _after(late, None, name)

    @property
    def holds(self) -> bool:
        return self.inner.holds

    def held(self, name: str) -> bool:
        return self.inner.held(name)

    def remove(self, names: Iterable[str]) -> Sequence[str]:
        """One step of the script a file."""
        held: Sequence[str] = ()
        for name in names:
            late = self._step("remove", name)
            held = [*held, *self.inner.remove([name])]
            _after(late, None, name)
        return held

    def lock(self, *, exclusive: bool) -> AbstractContextManager[None]:
        return self.inner.lock(exclusive=exclusive)

    def staging(self) -> Path:
        return self.inner.staging()

    @property
    def staging_path(self) -> Path:
        return self.inner.staging_path

    def exists(self) -> bool:
        return self.inner.exists()

    def above_staging(self, *, existed: bool) -> Sequence[Path]:
        return self.inner.above_staging(existed=existed)

    def hand_over(self, path: Path, name: str) -> None:
        self.inner.hand_over(path, name)

    def close(self) -> None:
        self.inner.close()

    def _step(self, operation: str, name: str) -> bool:
        """Note the call; raise if it fails at once; return whether it fails afterwards."""
        self.calls.append((operation, name))
        character = next(self._scripts.get(operation, iter("")), ".")
        if character in ("b", "s"):
            raise _failure(character, name)
        return character == "a"


def _after(late: bool, result: T, name: str) -> T:
    if late:
        raise _failure("a", name)
    return result


def _failure(character: str, name: str) -> OSError:
    code = _CODES[character]
    return OSError(code, os.strerror(code), name)
