"""Arrow files with a checksummed tail: manifests and index files (docs/format.md, section 5).

The tail is checked before Arrow sees a byte, so that nothing parses what nobody wrote.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from fastfeed.errors import CorruptDataError
from fastfeed.format.layout import Digest

TAIL_MAGIC = b"FFTAIL01"
_TAIL = struct.Struct("<8sQ16s")
TAIL_BYTES = _TAIL.size


class Tail(NamedTuple):
    """What the last TAIL_BYTES of a file say of the bytes before them."""

    arrow_bytes: int
    xxh3_128: Digest

    def pack(self) -> bytes:
        """The tail as it stands in the file."""
        return _TAIL.pack(TAIL_MAGIC, *self)


def seal(arrow_bytes: bytes) -> bytes:
    """The file: `arrow_bytes` and its tail."""
    return arrow_bytes + Tail(len(arrow_bytes), xxhash.xxh3_128_digest(arrow_bytes)).pack()


def read_tail(file: memoryview, name: str) -> Tail:
    """The tail of a whole file, of which only these bytes are touched. CorruptDataError where it is not this file's."""
    if len(file) < TAIL_BYTES:
        raise CorruptDataError(f"{name}: {len(file)} bytes, too short for its tail. Restore the file or make it again.")
    magic, length, digest = _TAIL.unpack(file[-TAIL_BYTES:])
    if magic != TAIL_MAGIC:
        raise CorruptDataError(f"{name}: the tail begins with {magic!r}, not {TAIL_MAGIC!r}; the file is not whole")
    if length != len(file) - TAIL_BYTES:
        raise CorruptDataError(f"{name}: the tail says {length} bytes of Arrow, there are {len(file) - TAIL_BYTES}")
    return Tail(length, digest)


def open_sealed(buffer: Any, name: str) -> pa.Buffer:
    """The Arrow file inside `buffer` (bytes, a memory map, ...), as a view that keeps it alive.

    CorruptDataError names the file where a byte is not what was written.
    """
    whole = pa.py_buffer(buffer)
    tail = read_tail(memoryview(whole), name)
    arrow = whole.slice(0, tail.arrow_bytes)
    actual = xxhash.xxh3_128_digest(memoryview(arrow))
    if actual != tail.xxh3_128:
        raise CorruptDataError(
            f"{name}: xxh3-128 {actual.hex()}, the tail says {tail.xxh3_128.hex()}. Restore the file or make it again."
        )
    return arrow
