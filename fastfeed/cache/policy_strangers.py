"""S3-FIFO for chunks in nobody's future: what was asked for once goes before what was asked for again.

Slots are in two queues. A chunk enters the small one, or the main one if its name is remembered from a short while ago;
a chunk of the small queue that was asked for more than once moves to the main one when its turn comes, and a chunk of
the main one gets another round for each time that it was asked for. Arrays by slot, 10 bytes each, so that millions of
slots cost nothing worth mentioning; only slots that are named as candidates are looked at.

Pure; not thread-safe.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

# Names of chunks that have gone: as many as a pool of 64 GiB has slots.
GHOSTS_MAX = 1 << 16
# The small queue is a tenth of the pool, as in the paper.
SMALL_SHARE = 10
COUNT_MAX = 3

Slots = npt.NDArray[np.int64]


class Strangers:
    """What is known of each slot as if nobody had a future."""

    def __init__(self) -> None:
        self._stamps = np.zeros(0, np.int64)  # when it entered its queue
        self._counts = np.zeros(0, np.uint8)
        self._in_main = np.zeros(0, np.bool_)
        self._clock = 0
        self._ghosts: OrderedDict[tuple[int, int], None] = OrderedDict()

    def entered(self, slot: int, name: tuple[int, int]) -> None:
        """The slot holds another chunk now."""
        if slot >= len(self._stamps):
            self._grow(slot + 1)
        self._clock += 1
        self._stamps[slot], self._counts[slot] = self._clock, 0
        self._in_main[slot] = self._ghosts.pop(name, 0) is None

    def entered_first(self, slots: Slots) -> None:
        """As entered, for many slots that held nothing; no name is remembered yet."""
        if len(slots) and int(slots.max()) >= len(self._stamps):
            self._grow(int(slots.max()) + 1)
        self._stamps[slots] = self._clock + 1 + np.arange(len(slots))
        self._counts[slots], self._in_main[slots] = 0, False
        self._clock += len(slots)

    def used(self, slot: int) -> None:
        """Somebody asked for it."""
        self._counts[slot] = min(int(self._counts[slot]) + 1, COUNT_MAX)

    def left(self, slot: int, name: tuple[int, int]) -> None:
        """The slot was emptied: its chunk's name is remembered if it came from the small queue."""
        if not self._in_main[slot]:
            self._ghosts[name] = None
            self._ghosts.move_to_end(name)
            if len(self._ghosts) > GHOSTS_MAX:
                self._ghosts.popitem(last=False)

    def ranked(self, candidates: Slots) -> Slots:
        """The candidates, who goes first first."""
        promoted = candidates[~self._in_main[candidates] & (self._counts[candidates] > 1)]
        if len(promoted):
            # In the order in which they came, behind all of the main queue.
            promoted = promoted[np.argsort(self._stamps[promoted])]
            self._stamps[promoted] = self._clock + 1 + np.arange(len(promoted))
            self._clock += len(promoted)
            self._in_main[promoted], self._counts[promoted] = True, 0
        small = candidates[~self._in_main[candidates]]
        main = candidates[self._in_main[candidates]]
        small = small[np.argsort(self._stamps[small])]
        main = main[np.lexsort((self._stamps[main], self._counts[main]))]
        if len(small) * SMALL_SHARE >= len(candidates):
            # Down to its share, then the main queue, then the rest.
            keep = len(candidates) // SMALL_SHARE
            return np.concatenate([small[: len(small) - keep], main, small[len(small) - keep :]])
        return np.concatenate([main, small])

    def _grow(self, count: int) -> None:
        more = max(count, 2 * len(self._stamps)) - len(self._stamps)
        self._stamps = np.concatenate([self._stamps, np.zeros(more, np.int64)])
        self._counts = np.concatenate([self._counts, np.zeros(more, np.uint8)])
        self._in_main = np.concatenate([self._in_main, np.zeros(more, np.bool_)])
