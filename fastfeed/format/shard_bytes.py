"""A shard that is open for reading parts of it, wherever it is; and one that is a file."""

from __future__ import annotations

import os
from typing import Protocol


class ShardBytes(Protocol):
    """One shard, opened for reading parts of it."""

    @property
    def size_bytes(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes [offset, offset + length), fewer where the file ends before."""
        ...


class FileBytes:
    """A file by its descriptor, which stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
