"""Objects: one version of one file of an origin, as the cache names and checks it.

The key is a hash over all that decides which bytes are right: the pool, the endpoint, the URL, the version, and for a
shard also its size and the checksums that the index gives of its chunks. So a manifest that lies about a shard has
objects of its own, and can neither fill nor fail anybody else's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from fastfeed._native.checksum import crc32c
from fastfeed.wire.hot import CHUNK_BYTES

if TYPE_CHECKING:
    from fastfeed.daemon.sources import Source

# Of an object's bytes, so much may be fetched as the exact bytes of rows, beside the chunks that they lie in and that
# are fetched whole later: an origin serves at most 1.05 times what is read.
EXACT_SHARE = 0.01
_LENGTH = struct.Struct("<I")


def object_key(pool: str, endpoint: str, url: str, version: str) -> bytes:
    """The 16 bytes that name an object in slots and maps: xxh3-128 over the four, each with its length before it."""
    return _hash_of(part.encode("utf-8", "surrogateescape") for part in (pool, endpoint, url, version))


def shard_version(xxh3_128: bytes, size_bytes: int, covered_bytes: int, checksums: npt.NDArray[np.uint32]) -> str:
    """The version of a shard: what its manifest and index say of its bytes."""
    sums = xxhash.xxh3_64_hexdigest(checksums.astype("<u4", copy=False).tobytes())
    return f"xxh3:{xxh3_128.hex()}:{size_bytes}:{covered_bytes}:{sums}"


def _hash_of(parts: Iterable[bytes]) -> bytes:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(_LENGTH.pack(len(part)))
        digest.update(part)
    result: bytes = digest.digest()
    return result


class CachedObject:
    """One object. The sets that have it share it, so that it is fetched once and pinned once.

    checksums: crc32c of each chunk of the first `covered_bytes`; None: nobody says what its bytes must be. etag: of the
    origin's first answer ("": none yet), which every later request pins.
    """

    __slots__ = (
        "__weakref__", "checksums", "covered_bytes", "etag", "exact_left_bytes", "exact_touched", "key", "path",
        "size_bytes", "source", "url",
    )  # fmt: skip

    def __init__(
        self,
        key: bytes,
        url: str,
        source: Source,
        path: str,
        size_bytes: int,
        *,
        etag: str = "",
        checksums: npt.NDArray[np.uint32] | None = None,
        covered_bytes: int = 0,
    ) -> None:
        self.key, self.url, self.source, self.path = key, url, source, path
        self.size_bytes, self.etag = size_bytes, etag
        self.checksums, self.covered_bytes = checksums, covered_bytes
        self.exact_left_bytes = int(size_bytes * EXACT_SHARE)
        # Chunks of which exact bytes were fetched: the next one who misses gets the whole.
        self.exact_touched: set[int] = set()

    @property
    def chunks(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    def chunk_bytes(self, chunk: int) -> int:
        """The length of a chunk: only the last one may be shorter than CHUNK_BYTES."""
        return min(CHUNK_BYTES, self.size_bytes - chunk * CHUNK_BYTES)

    def verifies(self, chunk: int) -> bool:
        """Whether somebody says what the bytes of this chunk are."""
        return self.checksums is not None and chunk < len(self.checksums)

    def is_right(self, chunk: int, data: Any) -> bool:
        """Whether these may be the whole chunk's bytes: all that the index covers of them has its checksum."""
        if self.checksums is None or chunk >= len(self.checksums):
            return True
        covered = min(len(data), self.covered_bytes - chunk * CHUNK_BYTES)
        return crc32c(data[:covered]) == int(self.checksums[chunk])

    def __repr__(self) -> str:
        return f"{self.url} ({self.size_bytes} bytes)"
