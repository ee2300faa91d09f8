"""Where the chunks of a set of objects are: sealed memory that clients map, kept true by the pool.

A set is what a client opens: objects in a fixed order, each with its chunks; chunk c of object o is entry
(chunks of the objects before) + c. The same object may be in many sets. A map is a hint: the slot's word is the truth.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fastfeed._native.cache import KEY_BYTES, ChunkMap, map_bytes
from fastfeed.cache.memory import make_memory, reopened_read_only, seal
from fastfeed.errors import ConfigError

# 4 PiB of objects in one set: its map would be 32 GiB, of which only what is used takes memory.
CHUNKS_OF_SET_MAX = 1 << 32


class SetMap:
    """Made by `Pool.map_set`; used by the thread that owns the pool."""

    def __init__(self, keys: Sequence[bytes], chunks: Sequence[int], closed: Callable[[SetMap], None]) -> None:
        """`chunks`: how many chunks each object has. `closed` is told when the set is closed."""
        self.keys = tuple(keys)
        self.chunks = tuple(chunks)
        if len(self.keys) != len(self.chunks) or any(len(key) != KEY_BYTES for key in self.keys):
            raise ConfigError(f"a set of {len(self.keys)} keys of {KEY_BYTES} bytes and {len(self.chunks)} sizes")
        firsts = np.zeros(len(chunks) + 1, dtype=np.int64)
        np.cumsum(self.chunks, out=firsts[1:])
        self.first_chunks = firsts
        self.chunk_count = int(firsts[-1])
        if self.chunk_count > CHUNKS_OF_SET_MAX or any(count < 0 for count in self.chunks):
            raise ConfigError(f"a set of {self.chunk_count} chunks; at most {CHUNKS_OF_SET_MAX} are possible")
        self._closed = closed
        self._fd = make_memory("map", map_bytes(self.chunk_count, len(self.keys)))
        try:
            self._map = ChunkMap(self._fd, self.chunk_count, len(self.keys), keys=b"".join(self.keys))
            seal(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def set(self, number: int, chunk: int, entry: int) -> None:
        """Chunk `chunk` of object `number` is at `entry` (0: nowhere). One that the object does not have is left
        out."""
        if chunk < self.chunks[number]:
            self._map.set(int(self.first_chunks[number]) + chunk, entry)

    def set_many(self, number: int, chunks: npt.NDArray[np.intp], entries: npt.NDArray[np.uint64]) -> None:
        """The same for several chunks of one object."""
        inside = chunks < self.chunks[number]
        at = (chunks[inside] + self.first_chunks[number]).astype(np.uint64)
        self._map.set_many(at, np.ascontiguousarray(entries[inside]))

    def get(self, number: int, chunk: int) -> int:
        """The entry, 0 where there is none."""
        return self._map.get(int(self.first_chunks[number]) + chunk)

    def client_fd(self) -> int:
        """A new read-only descriptor for a client; the caller closes it when it has been sent."""
        return reopened_read_only(self._fd)

    def close(self) -> None:
        """Kept true no longer. Clients that map it go on with what it says: words tell them what is stale.
        Idempotent."""
        if self._fd >= 0:
            self._closed(self)
            self._map.close()
            os.close(self._fd)
            self._fd = -1
