"""What the slots of a disk are worth when a pool is opened. Pure: a function of tables and words.

1. Words were kept (same boot, same file: the last daemon was stopped or killed). A slot whose word is its entry's
   generation was published: it is warm. One whose word is one less was written whole, or waits for its check: it is
   checked. Any other was being written, or emptied: it is free. The page cache lost nothing, so nothing else is to be
   checked.
2. Words are new (the machine was restarted, or the file is gone and nobody reads the slabs). Entries up to the
   watermark are warm, unless slots of such entries were overwritten since (`reused`): then an old entry may describe
   a slot that is half something else. All others are checked, byte for byte, before anybody sees them.

A damaged entry was dropped when the table was loaded (its length is 0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastfeed._native.cache import CHUNK_BYTES, GENERATION_MASK
from fastfeed.cache.slot_index import CHUNKS_MAX, SlotState
from fastfeed.cache.slot_table import TableHeader


def judge(
    entries: npt.NDArray[np.void], header: TableHeader, words: npt.NDArray[np.uint64] | None
) -> npt.NDArray[np.uint8]:
    """Each slot's SlotState: PUBLISHED, UNPROVEN or FREE. `words`: the slots' words where they were kept, else None."""
    generation = entries["generation"]
    named = (
        (entries["length"] > 0)
        & (entries["length"] <= CHUNK_BYTES)
        & (entries["chunk"] < CHUNKS_MAX)
        & (generation % 2 == 0)
        & (generation & np.uint64(GENERATION_MASK) != 0)
    )
    states = np.full(len(entries), SlotState.FREE, dtype=np.uint8)
    if words is None:
        states[named] = SlotState.UNPROVEN
        if not header.reused:
            states[named & (entries["sequence"] <= header.watermark)] = SlotState.PUBLISHED
    else:
        states[named & (words == generation)] = SlotState.PUBLISHED
        states[named & (words + np.uint64(1) == generation)] = SlotState.UNPROVEN
    return states


def words_for(entries: npt.NDArray[np.void], states: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The words of a new file: of a published slot its generation, of one to be checked the odd number before it
    (readers miss, and publishing gives the generation again), 0 for the rest."""
    words = np.zeros(len(entries), dtype=np.uint64)
    published, unproven = states == SlotState.PUBLISHED, states == SlotState.UNPROVEN
    words[published] = entries["generation"][published]
    words[unproven] = entries["generation"][unproven] - np.uint64(1)
    return words
