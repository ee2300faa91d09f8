"""The file of slot words: in RAM, made once, reopened by every daemon after, never made again while its slabs have
readers.

Readers of an earlier daemon still map it, and go on reading slots while no daemon runs: only the word tells them that a
slot was reused. A word of zero belongs to a slot that was never in use; it gets a random even value before it is.
docs/cache-format.md, section "Words".
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastfeed._native.cache import SlotWords

WORD_BYTES = 8
# Random words end below this: 2^37 fills of one slot later the map's 38 bits have not gone round.
_RANDOM_BITS = 62


class WordsFile:
    """The file, mapped writable. `words` is for everybody; the rest for the thread that owns the pool."""

    def __init__(self, path: Path, fd: int, slots: int, *, kept: bool) -> None:
        """Use `open_words` or `new_words`. Takes the descriptor."""
        self.path = path
        self.slots = slots
        self.kept = kept  # readers of an earlier daemon may have it mapped
        self._fd = fd
        self.words = SlotWords(fd, slots, writable=True)

    def begin_range(self, first_slot: int, count: int) -> None:
        """Give random words to the slots [first_slot, first_slot + count) that have none yet."""
        words = self.range(first_slot, count)
        if len(unused := np.nonzero(words == 0)[0]) == 0:
            return
        # Nobody reads words without an entry in a map, and no map names these slots: plain writes do.
        words[unused] = random_words(len(unused))
        for start, stop in _runs(unused):
            _write(self._fd, words[start:stop], first_slot + start)

    def range(self, first_slot: int, count: int) -> npt.NDArray[np.uint64]:
        """The words of `count` slots, each as it was at some moment of the call."""
        raw = bytearray(count * WORD_BYTES)
        _read(self._fd, memoryview(raw), first_slot * WORD_BYTES)
        return np.frombuffer(raw, dtype=np.uint64)

    def adopt(self, first_slot: int, words: npt.NDArray[np.uint64]) -> None:
        """At the opening: give words to slots from `first_slot` on that have none yet (0 in `words`: none)."""
        if len(given := np.nonzero(words)[0]):
            for start, stop in _runs(given):
                _write(self._fd, words[start:stop], first_slot + start)

    def close(self) -> None:
        """The file stays. Idempotent."""
        if self._fd >= 0:
            self.words.close()
            os.close(self._fd)
            self._fd = -1


def open_words(path: Path, slots: int) -> WordsFile | None:
    """The file that is there; None: there is none. It grows where the pool has more slots than it had."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        slots = max(slots, os.fstat(fd).st_size // WORD_BYTES)
        os.ftruncate(fd, slots * WORD_BYTES)
        return WordsFile(path, fd, slots, kept=True)
    except BaseException:
        os.close(fd)
        raise


def new_words(path: Path, slots: int, generations: dict[int, npt.NDArray[np.uint64]]) -> WordsFile:
    """A new file in place of any other: zeros, but for `generations`: first slot -> words from there on.

    Whoever maps the old file keeps it: the caller knows that no such reader has the slabs.
    """
    draft = path.with_name(path.name + ".new")
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(fd, slots * WORD_BYTES)
        for first_slot, words in generations.items():
            _write(fd, words, first_slot)
        os.rename(draft, path)
        return WordsFile(path, fd, slots, kept=False)
    except BaseException:
        os.close(fd)
        raise


def random_words(count: int) -> npt.NDArray[np.uint64]:
    """Even, and never zero in the 38 bits that a map entry has."""
    words = np.frombuffer(os.urandom(count * WORD_BYTES), dtype=np.uint64) >> np.uint64(64 - _RANDOM_BITS)
    return (words | np.uint64(2)) & ~np.uint64(1)


def _read(fd: int, into: memoryview, offset: int) -> None:
    while into and (got := os.preadv(fd, [into], offset)):
        into, offset = into[got:], offset + got


def _write(fd: int, words: npt.NDArray[np.uint64], first_slot: int) -> None:
    data, offset = memoryview(words.tobytes()), first_slot * WORD_BYTES
    while data:
        wrote = os.pwrite(fd, data, offset)
        data, offset = data[wrote:], offset + wrote


def _runs(positions: npt.NDArray[np.intp]) -> list[tuple[int, int]]:
    """[start, stop) of each run of consecutive numbers."""
    breaks = np.nonzero(np.diff(positions) != 1)[0] + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(positions, breaks)]
