"""Which chunk is in which slot, both ways, for all slots of a pool. Pure memory: no files, no locks, no clock.

21 bytes a slot and 4 bytes a chunk of an object that has slots, so that a pool of 1 TiB costs some 30 MB. Not
thread-safe: the thread that owns the pool uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from fastfeed.cache.evictor import Held
from fastfeed.cache.slot_table import ENTRY_TYPE

# Objects of up to 16 TiB: larger ones are not stored as one object anywhere, and an index of them would be large.
CHUNKS_MAX = 1 << 24
_NONE = -1


class SlotState(IntEnum):
    """What a slot is to the pool."""

    FREE = 0
    RESERVED = 1  # given to a fill that is not done yet
    PUBLISHED = 2
    UNPROVEN = 3  # named by the table after a power loss; its bytes are checked before use
    PROVING = 4  # being checked
    HIDDEN = 5  # published, on a disk that is out
    FENCED = 6  # out of use after a failed write or bad bytes
    RETIRED = 7  # beyond the limit; emptied or being filled still


class _Object:
    """One object's chunks: slot numbers, -1 where there is none."""

    __slots__ = ("count", "key", "number", "slots")

    def __init__(self, key: bytes, number: int) -> None:
        self.key = key
        self.number = number
        self.count = 0
        self.slots: npt.NDArray[np.int32] = np.full(8, _NONE, dtype=np.int32)

    def reserve(self, chunk: int) -> None:
        if chunk >= len(self.slots):
            grown = np.full(max(chunk + 1, 2 * len(self.slots)), _NONE, dtype=np.int32)
            grown[: len(self.slots)] = self.slots
            self.slots = grown


class SlotIndex:
    """States and contents of `slots` slots. A slot that has a content knows it until `clear`; `at` knows the slots
    that were `put` there and not taken out."""

    def __init__(self, slots: int) -> None:
        self.state = np.zeros(slots, dtype=np.uint8)
        self.generation = np.zeros(slots, dtype=np.uint64)
        self._object = np.zeros(slots, dtype=np.int32)
        self._chunk = np.zeros(slots, dtype=np.int32)
        self.length = np.zeros(slots, dtype=np.int32)
        self._by_key: dict[bytes, _Object] = {}
        self._objects: list[_Object | None] = []
        self._free_numbers: list[int] = []

    def at(self, key: bytes, chunk: int) -> int | None:
        """The slot that has this chunk, or will have it; None: there is none."""
        found = self._by_key.get(key)
        if found is None or chunk >= len(found.slots):
            return None
        slot = int(found.slots[chunk])
        return None if slot == _NONE else slot

    def slots_of(self, key: bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
        """An object's chunks that have slots, ascending, and these slots."""
        found = self._by_key.get(key)
        if found is None:
            return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.int32)
        chunks = np.nonzero(found.slots != _NONE)[0]
        return chunks, found.slots[chunks]

    def keys(self) -> Iterator[bytes]:
        return iter(self._by_key)

    def put(self, slot: int, key: bytes, chunk: int, length: int, state: SlotState) -> None:
        """The slot is this chunk's from now on, in `state`. Nothing else may be there."""
        owner = self._owner(key)
        owner.reserve(chunk)
        assert owner.slots[chunk] == _NONE  # callers look first
        owner.slots[chunk] = slot
        owner.count += 1
        self._object[slot], self._chunk[slot], self.length[slot] = owner.number, chunk, length
        self.state[slot] = state

    def content(self, slot: int) -> tuple[bytes, int, int]:
        """Key, chunk and length of a slot that has been put somewhere."""
        owner = self._objects[self._object[slot]]
        assert owner is not None  # it counts this slot
        return owner.key, int(self._chunk[slot]), int(self.length[slot])

    def named(self, slots: npt.NDArray[np.intp]) -> Held:
        """What many slots hold that have been put somewhere."""
        keys = [b"" if owner is None else owner.key for owner in self._objects]
        return Held(slots.astype(np.int64), keys, self._object[slots], self._chunk[slots])

    def clear(self, slot: int, state: SlotState) -> None:
        """The slot is nobody's from now on."""
        owner = self._objects[self._object[slot]]
        assert owner is not None  # it counts this slot
        chunk = int(self._chunk[slot])
        if owner.slots[chunk] == slot:
            owner.slots[chunk] = _NONE
            owner.count -= 1
            if owner.count == 0:
                del self._by_key[owner.key]
                self._objects[owner.number] = None
                self._free_numbers.append(owner.number)
        self.state[slot] = state

    def load(self, first_slot: int, entries: npt.NDArray[np.void], states: npt.NDArray[np.uint8]) -> int:
        """Put many at once: entries [n] of a slot table, and each one's state; FREE ones are left out.

        Of several slots with one chunk, the first published one stays, the others are free. Returns how many those are.
        """
        assert entries.dtype == ENTRY_TYPE
        used = np.nonzero(states != SlotState.FREE)[0]
        if len(used) == 0:
            return 0
        taken, slots = entries[used], (used + first_slot).astype(np.int64)
        keys = np.ascontiguousarray(taken["key"]).view("<u8").reshape(-1, 2)
        order = np.lexsort((states[used], taken["chunk"], keys[:, 0], keys[:, 1]))
        taken, slots, keys = taken[order], slots[order], keys[order]
        chunks = taken["chunk"].astype(np.int64)
        new_key = np.any(keys[1:] != keys[:-1], axis=1)
        first = np.concatenate(([True], new_key | (chunks[1:] != chunks[:-1])))
        starts = [0, *(np.nonzero(new_key)[0] + 1).tolist()]
        dropped = 0
        for start, stop in zip(starts, [*starts[1:], len(slots)], strict=True):
            owner = self._owner(keys[start].tobytes())
            owner.reserve(int(chunks[stop - 1]))
            fresh = first[start:stop] & (owner.slots[chunks[start:stop]] == _NONE)
            mine = slots[start:stop][fresh]
            owner.slots[chunks[start:stop][fresh]] = mine
            owner.count += len(mine)
            self._object[mine] = owner.number
            dropped += stop - start - len(mine)
            self.state[mine] = states[mine - first_slot]
        self.length[slots] = taken["length"]
        self.generation[slots] = taken["generation"]
        self._chunk[slots] = chunks
        return dropped

    def _owner(self, key: bytes) -> _Object:
        owner = self._by_key.get(key)
        if owner is None:
            number = self._free_numbers.pop() if self._free_numbers else len(self._objects)
            owner = self._by_key[key] = _Object(key, number)
            if number == len(self._objects):
                self._objects.append(owner)
            else:
                self._objects[number] = owner
        return owner
