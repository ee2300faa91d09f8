"""Slots, words, maps and rings, as the daemon writes them."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native import cache
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError

KEY = b"sixteen bytes ok"
SLOTS = 4


def memfd(size: int) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


@pytest.fixture
def words() -> Iterator[cache.SlotWords]:
    fd = memfd(SLOTS * 8)
    os.pwrite(fd, np.array([2, 4, 6, 9], dtype=np.uint64).tobytes(), 0)
    made = cache.SlotWords(fd, SLOTS, writable=True)
    os.close(fd)
    yield made
    made.close()


@pytest.fixture
def slab_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "slab", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SLOTS * cache.SLOT_BYTES)
    yield fd
    os.close(fd)


def test_words_are_even_odd_and_even_again(words: cache.SlotWords) -> None:
    assert words.copy().tolist() == [2, 4, 6, 9]
    assert words.begin(1) == 6
    assert words.load(1) == 5
    assert words.publish(1) == 6
    with pytest.raises(FastfeedError, match="slot 1 was published without"):
        words.publish(1)
    assert words.begin(3) == 12  # its writer died: another odd word, so nobody waits for the old one
    assert words.load(3) == 11
    assert len(words) == SLOTS


def test_words_that_are_mapped_for_reading_cannot_be_changed() -> None:
    fd = memfd(8)
    reading = cache.SlotWords(fd, 1)
    with pytest.raises(ConfigError, match="opened for reading"):
        reading.begin(0)
    with pytest.raises(ConfigError, match="slot 1 has no word"):
        reading.load(1)
    with pytest.raises(CorruptDataError, match="8 bytes, 16 are needed"):
        cache.SlotWords(fd, 2)
    os.close(fd)
    reading.close()
    reading.close()
    with pytest.raises(ConfigError, match="is closed"):
        reading.load(0)


def test_a_slot_is_read_as_it_was_filled_and_only_as_that(words: cache.SlotWords, slab_fd: int) -> None:
    slab = cache.Slab(slab_fd, 0, SLOTS)
    data = os.urandom(200_000)
    generation = slab.fill(words, 2, KEY, 7, data)
    assert slab.read(words, 2, generation, KEY, 7, 0, 10) is None  # not published
    assert words.publish(2) == generation
    assert slab.read(words, 2, generation, KEY, 7, 65_530, 70_000) == data[65_530:135_530]
    assert slab.read(words, 2, generation, KEY, 7, 199_999, 1) == data[-1:]
    assert slab.read(words, 2, generation - 2, KEY, 7, 0, 10) is None
    assert slab.trailer(2) == slab.verify(2) == cache.SlotInfo(KEY, 7, generation, len(data))
    assert slab.trailer(1) is None
    for key, chunk, offset, length in ((b"another key 1234", 7, 0, 1), (KEY, 8, 0, 1), (KEY, 7, 199_999, 2)):
        with pytest.raises(CorruptDataError, match="slot 2"):
            slab.read(words, 2, generation, key, chunk, offset, length)
    with pytest.raises(ConfigError, match="no bytes"):
        slab.read(words, 2, generation, KEY, 7, 0, 0)


def test_a_flipped_byte_is_found_where_it_is(words: cache.SlotWords, slab_fd: int) -> None:
    slab = cache.Slab(slab_fd, 0, SLOTS)
    data = os.urandom(cache.CHUNK_BYTES)
    generation = slab.fill(words, 0, KEY, 0, data)
    words.publish(0)
    os.pwrite(slab_fd, bytes([data[100_000] ^ 1]), 100_000)
    assert slab.trailer(0) is not None
    assert slab.verify(0) is None
    assert slab.read(words, 0, generation, KEY, 0, 0, 65_536) == data[:65_536]
    with pytest.raises(CorruptDataError, match="not those that were written"):
        slab.read(words, 0, generation, KEY, 0, 99_990, 5)


def test_a_read_into_a_ring_lands_where_it_was_sent(words: cache.SlotWords, slab_fd: int) -> None:
    fd = memfd(8192)
    ring = cache.Ring(fd, 8192)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    slab = cache.Slab(slab_fd, 0, SLOTS)
    data = os.urandom(5000)
    generation = slab.fill(words, 1, KEY, 0, data)
    words.publish(1)
    assert slab.read_into(words, 1, generation, KEY, 0, 10, ring, 4096, 4000)
    assert os.pread(fd, 4000, 4096) == data[10:4010]
    words.begin(1)
    assert not slab.read_into(words, 1, generation, KEY, 0, 10, ring, 0, 4000)
    assert os.pread(fd, 4000, 0) == bytes(4000)
    with pytest.raises(ConfigError, match="4000 bytes at 4193 of a ring of 8192"):
        slab.read_into(words, 1, generation, KEY, 0, 10, ring, 4193, 4000)
    ring.write(8190, b"ab")
    assert os.pread(fd, 2, 8190) == b"ab"
    with pytest.raises(ConfigError, match="ring of 8192"):
        ring.write(8191, b"ab")
    assert len(ring) == 8192
    ring.close()
    with pytest.raises(ConfigError, match="ring is closed"):
        ring.write(0, b"")
    os.close(fd)


def test_fills_that_make_no_sense_change_nothing(words: cache.SlotWords, slab_fd: int) -> None:
    slab = cache.Slab(slab_fd, 2, 2)
    before = words.copy().tolist()
    for slot, data, message in (
        (0, b"x", "not in this slab"),
        (2, b"", "0 bytes"),
        (4, b"x", "no word"),
        (2, bytes(cache.CHUNK_BYTES + 1), "1048577 bytes"),
    ):
        with pytest.raises(ConfigError, match=message):
            slab.fill(words, slot, KEY, 0, data)
    with pytest.raises(ConfigError, match="a key is 16 bytes"):
        slab.fill(words, 2, b"short", 0, b"x")
    assert words.copy().tolist() == before
    with pytest.raises(ConfigError, match="of a pool"):
        cache.Slab(slab_fd, cache.SLOTS_MAX, 1)
    slab.close()
    with pytest.raises(ConfigError, match="slab is closed"):
        slab.trailer(2)


def test_a_slab_that_cannot_be_written_leaves_the_word_odd(words: cache.SlotWords, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    fd = os.open(tmp_path / "empty", os.O_RDONLY)
    slab = cache.Slab(fd, 0, SLOTS)
    os.close(fd)
    with pytest.raises(OSError, match="writing slot 1"):
        slab.fill(words, 1, KEY, 0, b"x")
    assert words.load(1) == 5
    with pytest.raises(OSError, match="reading slot 1"):
        slab.trailer(1)


def test_a_map_has_entries_and_keys_that_only_its_maker_writes() -> None:
    fd = memfd(cache.map_bytes(3, 2))
    chunks = cache.ChunkMap(fd, 3, 2, keys=KEY + b"the second key 1")
    seen = cache.ChunkMap(fd, 3, 2)
    entry = cache.map_entry(5, 1 << 40 | 2)
    assert entry == 5 << 38 | (1 << 40 | 2) & cache.GENERATION_MASK
    chunks.set(1, entry)
    chunks.set_many(np.array([0, 2], dtype=np.uint64), np.array([8, 9], dtype=np.uint64))
    assert seen.copy().tolist() == [8, entry, 9]
    assert seen.get(1) == entry
    assert seen.key(1) == b"the second key 1"
    assert len(seen) == 3
    for call in (
        lambda: seen.set(0, 1),
        lambda: seen.get(3),
        lambda: seen.key(2),
        lambda: chunks.set_many(np.zeros(2, dtype=np.uint64), np.zeros(1, dtype=np.uint64)),
        lambda: cache.map_entry(1 << 26, 2),
        lambda: cache.ChunkMap(fd, 3, 2, keys=KEY),
    ):
        with pytest.raises(ConfigError):
            call()
    with pytest.raises(CorruptDataError, match="chunk map has"):
        cache.ChunkMap(fd, 4, 2)
    for each in (chunks, seen):
        each.close()
    with pytest.raises(ConfigError, match="closed"):
        seen.get(0)
    os.close(fd)


def test_two_threads_fill_their_slots_at_once(words: cache.SlotWords, slab_fd: int) -> None:
    slab = cache.Slab(slab_fd, 0, SLOTS)

    def fill(slot: int) -> None:
        for number in range(20):
            slab.fill(words, slot, KEY, number, bytes([number]) * cache.CHUNK_BYTES)
            words.publish(slot)

    threads = [threading.Thread(target=fill, args=(slot,)) for slot in range(SLOTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [slab.verify(slot) for slot in range(SLOTS)] == [
        cache.SlotInfo(KEY, 19, words.load(slot), cache.CHUNK_BYTES) for slot in range(SLOTS)
    ]
