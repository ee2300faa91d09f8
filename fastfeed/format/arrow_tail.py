"""Arrow files with a checksummed tail: manifests and index files (docs/format.md, section 5).

The tail is checked before Arrow sees a byte, so that nothing parses what nobody wrote.
"""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import xxhash

from fastfeed.errors import CorruptDataError

TAIL_BYTES = 32
TAIL_MAGIC = b"FFTAIL01"

_TAIL = struct.Struct("<8sQ16s")


def seal(arrow_bytes: bytes) -> bytes:
    """The file: `arrow_bytes` and its tail."""
    return arrow_bytes + _TAIL.pack(TAIL_MAGIC, len(arrow_bytes), xxhash.xxh3_128_digest(arrow_bytes))


def open_sealed(buffer: Any, name: str) -> pa.Buffer:
    """The Arrow file inside `buffer` (bytes, a memory map, ...), as a view that keeps it alive.

    CorruptDataError names the file where a byte is not what was written.
    """
    whole = pa.py_buffer(buffer)
    if whole.size < TAIL_BYTES:
        raise CorruptDataError(
            f"{name}: {whole.size} bytes, too short for its tail. Restore the file or make it again."
        )
    magic, length, digest = _TAIL.unpack(whole.slice(whole.size - TAIL_BYTES).to_pybytes())
    if magic != TAIL_MAGIC:
        raise CorruptDataError(f"{name}: the tail begins with {magic!r}, not {TAIL_MAGIC!r}; the file is not whole")
    if length != whole.size - TAIL_BYTES:
        raise CorruptDataError(f"{name}: the tail says {length} bytes of Arrow, there are {whole.size - TAIL_BYTES}")
    arrow = whole.slice(0, length)
    actual = xxhash.xxh3_128_digest(memoryview(arrow))
    if actual != digest:
        raise CorruptDataError(
            f"{name}: xxh3-128 {actual.hex()}, the tail says {digest.hex()}. Restore the file or make it again."
        )
    return arrow
