"""Damage to a living cache from outside: bits of slabs, of trailers, of slot words and of the daemon's chunk maps.

A map is a sealed memfd that nobody but the daemon can write: it is damaged through the daemon's own memory, as a stray
write of a bug in it would. Everything is drawn from a seed.
"""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

from fastfeed._native.cache import CHUNK_BYTES, SLOT_BYTES, TRAILER_BYTES, Slab

WORD_BYTES = 8
# Pairs of slots that are looked at for two that may be exchanged.
DRAWS_MAX = 100


class Damager:
    """Damages slabs and words that lie in files, and maps that lie in the daemon's memory."""

    def __init__(self, slabs: list[Path], words: Path, seed: int) -> None:
        self._slabs = slabs
        self._words = words
        self._draw = random.Random(seed)

    def payload_bits(self, count: int = 1) -> None:
        for _ in range(count):
            slab, slot = self._slot()
            self._flip(slab, slot * SLOT_BYTES + self._draw.randrange(CHUNK_BYTES))

    def trailer_bits(self, count: int = 1) -> None:
        for _ in range(count):
            slab, slot = self._slot()
            self._flip(slab, slot * SLOT_BYTES + CHUNK_BYTES + self._draw.randrange(128))

    def swap_slots(self, *, with_trailers: bool) -> None:
        """Two slots' bytes, and their trailers or not, change places. Of different chunk numbers: the frames of a chunk
        of a shard, and of another one that has stolen its uid, have the same seeds (docs/integrity.md)."""
        size = CHUNK_BYTES + TRAILER_BYTES if with_trailers else CHUNK_BYTES
        for _ in range(DRAWS_MAX):
            (one, at), (other, to) = self._slot(), self._slot()
            chunks = _chunk_in(one, at), _chunk_in(other, to)
            if None not in chunks and chunks[0] != chunks[1]:
                break
        else:
            return
        with open(one, "r+b", buffering=0) as first, open(other, "r+b", buffering=0) as second:
            a = os.pread(first.fileno(), size, at * SLOT_BYTES)
            b = os.pread(second.fileno(), size, to * SLOT_BYTES)
            os.pwrite(first.fileno(), b, at * SLOT_BYTES)
            os.pwrite(second.fileno(), a, to * SLOT_BYTES)

    def word_bits(self, count: int = 1) -> None:
        """Bits of words of the first slab's slots, but not the lowest: an even word stays even."""
        for _ in range(count):
            _, word = self._slot()
            self._flip(self._words, word * WORD_BYTES, 0xFE)

    def map_entries(self, pid: int, count: int = 1) -> int:
        """Exchange entries of chunk maps in the daemon's memory, and flip bits of some; how many were hit."""
        hit = 0
        with open(f"/proc/{pid}/maps") as lines, open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            places = [[int(end, 16) for end in line.split()[0].split("-")]
                      for line in lines if "memfd:ff-map" in line and " rw-s " in line]
            for start, stop in places:
                for _ in range(count):
                    at = start + self._draw.randrange(min(stop - start, 4096) // WORD_BYTES) * WORD_BYTES
                    other = start + self._draw.randrange(min(stop - start, 4096) // WORD_BYTES) * WORD_BYTES
                    (entry,) = struct.unpack("<Q", os.pread(memory.fileno(), WORD_BYTES, other))
                    if self._draw.random() < 0.5:
                        entry ^= 1 << self._draw.randrange(64)
                    os.pwrite(memory.fileno(), struct.pack("<Q", entry), at)
                    hit += 1
        return hit

    def _slot(self) -> tuple[Path, int]:
        slab = self._draw.choice(self._slabs)
        return slab, self._draw.randrange(max(1, slab.stat().st_size // SLOT_BYTES))

    def _flip(self, file: Path, at: int, bits: int = 0xFF) -> None:
        with open(file, "r+b", buffering=0) as opened:
            byte = os.pread(opened.fileno(), 1, at)
            if byte:
                mask = self._draw.choice([1 << bit for bit in range(8) if bits >> bit & 1])
                os.pwrite(opened.fileno(), bytes([byte[0] ^ mask]), at)


def _chunk_in(slab: Path, slot: int) -> int | None:
    """The chunk that a whole slot holds; None: it is damaged, or being written."""
    with open(slab, "rb") as file:
        opened = Slab(file.fileno(), 0, slab.stat().st_size // SLOT_BYTES)
        try:
            found = opened.verify(slot)
        finally:
            opened.close()
    return None if found is None else found.chunk
