"""The page: 4 KiB that a client shares with the daemon, made and sealed by the daemon, written by the client alone.

512 words of u64, little endian: the loader's place and waits (written here), and the native reader's counters (written
in csrc/cache). The daemon reads it without a lock and checks every number that it uses, so a word may be torn between
two steps, and a client that writes nonsense only harms what it is given. Not thread-safe: of a process's loaders, the
one that moved last is in the page.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Mapping

PAGE_BYTES = 4096
MAGIC = int.from_bytes(b"FFPAGE01", "little")

# Numbers of words. The loader's:
REGISTRATION, EPOCH, POSITION, EXPOSED_WAIT_US, STEPS, PROGRESS_NS = range(1, 7)
# The native reader's, by their names in stats().
READER_WORDS: Mapping[str, int] = {
    "slab_reads": 16,
    "slab_bytes": 17,
    "ring_reads": 18,
    "ring_bytes": 19,
    "races_lost": 20,
    "crc_failures": 21,
    "slab_reads_given_up": 22,
    "miss_wait_us": 23,
}
_WORD = struct.Struct("<Q")
_WORDS = struct.Struct("<24Q")


class PageWriter:
    """The loader's side. Keeps a map of its own, so the descriptor may be closed."""

    def __init__(self, descriptor: int) -> None:
        self._words = mmap.mmap(descriptor, PAGE_BYTES)
        self._put(0, MAGIC)

    def begin(self, registration: int, epoch: int, position: int) -> None:
        """Another place: the loader of this registration has begun to read there."""
        self._put(REGISTRATION, 0)  # who reads between these lines sees no registration, rather than a wrong place
        self._put(EPOCH, epoch)
        self._put(POSITION, position)
        self._put(PROGRESS_NS, time.monotonic_ns())
        self._put(REGISTRATION, registration)

    def step(self, registration: int, epoch: int, position: int, exposed_wait_s: float) -> None:
        """One batch was handed out, after a wait; the next one begins at `position`. Of two loaders that read in turns
        the one that moved last is in the page."""
        if self._get(REGISTRATION) != registration:
            self.begin(registration, epoch, position)
        self._put(POSITION, position)
        self._put(EXPOSED_WAIT_US, self._get(EXPOSED_WAIT_US) + int(exposed_wait_s * 1e6))
        self._put(STEPS, self._get(STEPS) + 1)
        self._put(PROGRESS_NS, time.monotonic_ns())

    def end(self, registration: int) -> None:
        """That loader reads no more, unless another one has taken its place in the page."""
        if self._get(REGISTRATION) == registration:
            self._put(REGISTRATION, 0)

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words.close()

    def _get(self, word: int) -> int:
        value: int = _WORD.unpack_from(self._words, word * 8)[0]
        return value

    def _put(self, word: int, value: int) -> None:
        _WORD.pack_into(self._words, word * 8, value)


class PageView:
    """What a page says at one moment; the daemon's side. Any number may be nonsense."""

    def __init__(self, words: bytes | mmap.mmap | memoryview) -> None:
        values = _WORDS.unpack_from(words)
        self.is_page = values[0] == MAGIC
        self.registration: int = values[REGISTRATION]
        self.epoch: int = values[EPOCH]
        self.position: int = values[POSITION]
        self.exposed_wait_us: int = values[EXPOSED_WAIT_US]
        self.steps: int = values[STEPS]
        self.progress_ns: int = values[PROGRESS_NS]
        self.reader: dict[str, int] = {name: values[word] for name, word in READER_WORDS.items()}
