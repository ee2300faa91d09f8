"""Bytes of input files in one direction: plain with seeks, or decompressed as they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from fastfeed.errors import CorruptDataError

# Of a plain file that is read from front to end.
READ_BUFFER_BYTES = 1 << 20
# Decompressed at once: memory does not depend on what a header claims.
PART_BYTES = 1 << 20


class ByteStream(Protocol):
    """Bytes in one direction."""

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end."""
        ...

    def skip(self, count: int) -> int:
        """Pass over `count` bytes; return how many there were."""
        ...

    def close(self) -> None: ...


class FileStream:
    """A file, from an offset on. Skipping costs nothing."""

    def __init__(self, path: Path, offset: int, buffer_bytes: int = READ_BUFFER_BYTES) -> None:
        self._file = path.open("rb", buffering=buffer_bytes)
        self._size_bytes = os.fstat(self._file.fileno()).st_size
        self._file.seek(offset)
        self._at = offset

    def read(self, count: int) -> bytes:
        content = self._file.read(min(count, max(self._size_bytes - self._at, 0)))
        self._at += len(content)
        return content

    def skip(self, count: int) -> int:
        passed = min(count, max(self._size_bytes - self._at, 0))
        self._at += passed
        self._file.seek(self._at)
        return passed

    def close(self) -> None:
        self._file.close()


class CompressedStream:
    """A gzip or zstd file, decompressed as it is read."""

    def __init__(self, path: Path, codec: str) -> None:
        self._codec = codec
        if path.stat().st_size == 0:  # Arrow takes it for whole; gzip and zstd write headers, even of nothing
            raise CorruptDataError(f"is no whole {codec} stream: the file is empty")
        self._stream = pa.input_stream(str(path), compression=codec)

    def read(self, count: int) -> bytes:
        parts = []
        while count > 0:
            # Little by little: what a header claims is not allocated before it is there.
            part = self._part(min(count, PART_BYTES))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, count: int) -> int:
        passed = 0
        while passed < count:
            part = self._part(min(count - passed, PART_BYTES))
            if not part:
                break
            passed += len(part)
        return passed

    def _part(self, count: int) -> bytes:
        try:
            part: bytes = self._stream.read(count)
        except OSError as error:
            if error.errno is not None:
                raise  # the system's
            raise CorruptDataError(f"is no whole {self._codec} stream: {error}") from error
        return part

    def close(self) -> None:
        self._stream.close()


def codec_of(name: str, codecs: Mapping[str, str]) -> str:
    """How a file is compressed, by its longest suffix among `codecs`; "" where it is not."""
    suffixes = [suffix for suffix in codecs if name.lower().endswith(suffix)]
    return codecs[max(suffixes, key=len)] if suffixes else ""


def open_stream(path: Path, codec: str, offset: int, buffer_bytes: int = READ_BUFFER_BYTES) -> ByteStream:
    """The content of a file from `offset` on (0 where it is compressed)."""
    return CompressedStream(path, codec) if codec else FileStream(path, offset, buffer_bytes)
