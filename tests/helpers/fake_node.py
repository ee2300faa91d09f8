"""A cache daemon in miniature: one thread, objects in memory, slots in a file, and answers that a test chooses.

It speaks the messages of a read only (csrc/cache/messages.hpp); what a handshake would give goes straight to `attach`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastfeed._native import cache

HEADER = struct.Struct("<HHIQ")
GET = struct.Struct("<IIQIIQI")
GET_TYPE, IN_SLOT_TYPE, IN_RING_TYPE, RELEASE_TYPE, ERROR_TYPE = 0x10, 0x11, 0x12, 0x13, 0x1F
BY_RING, BAD_SLOT = 1, 2
RING_BYTES = 8 << 20
PAGE_BYTES = 4096
REMOTE_SET = 77  # what the node calls its one set


@dataclass(frozen=True)
class Get:
    """One GET as it came."""

    id: int
    set: int
    object: int
    offset: int
    length: int
    flags: int
    entry: int
    deadline_ms: int


# What a test wants done with a GET: True when it was answered (or is to stay without an answer), False for the default.
Answering = Callable[["FakeNode", Get], bool]


def random_words(slots: int) -> bytes:
    """Return the first words of a pool: random and even."""
    words = np.frombuffer(os.urandom(slots * 8), dtype=np.uint64) & ~np.uint64(1)
    return words.tobytes()


class FakeNode:
    """Objects, a slab of `slots` slots that are filled round and round, and the daemon's end of one connection."""

    def __init__(
        self, folder: Path, objects: Sequence[bytes], *, slots: int = 8, answering: Answering | None = None
    ) -> None:
        self.objects = list(objects)
        self.sizes = np.array([len(data) for data in objects], dtype=np.uint64)
        chunks = [-(-len(data) // cache.CHUNK_BYTES) for data in objects]
        self.first_chunk = np.concatenate([[0], np.cumsum(chunks)]).astype(int)
        self.slots = slots
        self.answering = answering
        self.gets: list[Get] = []
        self.counts: Counter[str] = Counter()
        self.slab_fd = os.open(folder / "slab.0", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.slab_fd, slots * cache.SLOT_BYTES)
        self.words_fd = self._memfd(slots * 8)
        os.pwrite(self.words_fd, random_words(slots), 0)
        self.map_fd = self._memfd(cache.map_bytes(int(self.first_chunk[-1]), len(objects)))
        self.page_fd = self._memfd(PAGE_BYTES)
        self.words = cache.SlotWords(self.words_fd, slots, writable=True)
        keys = b"".join(self.key(number) for number in range(len(objects)))
        self.map = cache.ChunkMap(self.map_fd, int(self.first_chunk[-1]), len(objects), keys=keys)
        self.slab = cache.Slab(self.slab_fd, 0, slots)
        self.holds: dict[int, int] = {}  # slot -> chunk of the set
        self.next_slot = 0
        self.ring_fd = -1
        self.ring_in_use: dict[int, tuple[int, int]] = {}  # request -> range
        self.ring_high = 0  # most bytes that were in use at once
        self.end: socket.socket | None = None
        self.thread: threading.Thread | None = None

    @staticmethod
    def _memfd(size: int) -> int:
        fd = os.memfd_create("fake-node", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        return fd

    @staticmethod
    def key(number: int) -> bytes:
        return b"object " + number.to_bytes(9, "little")

    def connect(self, client: cache.CacheClient, number: int = 0) -> None:
        """Attach `client` to a new connection; its set `number` is this node's."""
        self.stop()
        self.ring_fd = self._memfd(RING_BYTES)
        self.ring = cache.Ring(self.ring_fd, RING_BYTES)
        self.ring_in_use.clear()
        self.end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.thread = threading.Thread(target=self._serve, args=(self.end,), daemon=True)
        self.thread.start()
        slabs = [(self.slab_fd, 0, self.slots)]
        with theirs:
            client.attach(theirs.fileno(), self.ring_fd, RING_BYTES, self.words_fd, self.slots, slabs, self.page_fd)
        client.set_attached(number, REMOTE_SET, self.map_fd, self.sizes)

    def fill(self, object: int, chunk: int, *, slot: int | None = None) -> int:
        """Put a chunk into a slot (the next one, round and round), and into the map. Returns the map entry."""
        if slot is None:
            slot, self.next_slot = self.next_slot, (self.next_slot + 1) % self.slots
        before = self.holds.pop(slot, None)
        if before is not None:
            self.map.set(before, 0)
        data = self.objects[object][chunk * cache.CHUNK_BYTES :][: cache.CHUNK_BYTES]
        self.slab.fill(self.words, slot, self.key(object), chunk, data)
        entry = cache.map_entry(slot, self.words.publish(slot))
        number = int(self.first_chunk[object]) + chunk
        self.map.set(number, entry)
        self.holds[slot] = number
        return entry

    def fill_all(self) -> None:
        """Every chunk of every object, where there are slots for all."""
        for number, data in enumerate(self.objects):
            for chunk in range(-(-len(data) // cache.CHUNK_BYTES)):
                self.fill(number, chunk)

    def damage(self, at: int) -> None:
        """Flip a bit of byte `at` of the slab."""
        byte = os.pread(self.slab_fd, 1, at)
        os.pwrite(self.slab_fd, bytes([byte[0] ^ 0x10]), at)

    def entry_of(self, object: int, chunk: int) -> int:
        return self.map.get(int(self.first_chunk[object]) + chunk)

    def send(self, kind: int, request: int, body: bytes) -> None:
        assert self.end is not None
        self.counts["answers"] += 1
        self.end.send(HEADER.pack(kind, 0, len(body), request) + body)

    def answer_slot(self, get: Get, entry: int) -> None:
        self.send(IN_SLOT_TYPE, get.id, struct.pack("<Q", entry))

    def answer_error(self, get: Get, code: int, text: str) -> None:
        raw = text.encode()
        self.send(ERROR_TYPE, get.id, struct.pack("<IH", code, len(raw)) + raw)

    def answer_ring(self, get: Get, data: bytes | None = None) -> None:
        if data is None:
            data = self.objects[get.object][get.offset : get.offset + get.length]
        at = self._ring_place(len(data))
        self.ring_in_use[get.id] = (at, len(data))
        self.ring_high = max(self.ring_high, sum(length for _, length in self.ring_in_use.values()))
        self.ring.write(at, data)
        self.send(IN_RING_TYPE, get.id, struct.pack("<QI", at, len(data)))

    def _ring_place(self, length: int) -> int:
        """The first gap; clients ask for at most half of the ring at a time, in pieces of at most a chunk."""
        at = 0
        for begin, used in sorted(self.ring_in_use.values()):
            if begin - at >= length:
                break
            at = begin + used
        assert at + length <= RING_BYTES
        return at

    def _serve(self, end: socket.socket) -> None:
        while True:
            try:
                packet = end.recv(65536)
            except OSError:
                return
            if not packet:
                return
            kind, _, length, request = HEADER.unpack_from(packet)
            assert length == len(packet) - HEADER.size
            if kind == RELEASE_TYPE:
                self.counts["releases"] += 1
                del self.ring_in_use[request]
                continue
            assert kind == GET_TYPE
            get = Get(request, *GET.unpack_from(packet, HEADER.size))
            self.gets.append(get)
            self.counts["gets"] += 1
            assert get.set == REMOTE_SET
            try:
                if self.answering is None or not self.answering(self, get):
                    self.answer(get)
            except BrokenPipeError:
                return  # the client has gone meanwhile

    def answer(self, get: Get) -> None:
        """By the ring where that is asked for, else by a slot that is filled now."""
        if get.flags & BY_RING:
            self.answer_ring(get)
        else:
            self.answer_slot(get, self.fill(get.object, get.offset // cache.CHUNK_BYTES))

    def stop(self) -> None:
        """End the connection."""
        if self.end is None or self.thread is None:
            return
        self.end.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.end.close()
        os.close(self.ring_fd)
        self.ring.close()
        self.end = self.thread = None

    def close(self) -> None:
        self.stop()
        for fd in (self.slab_fd, self.words_fd, self.map_fd, self.page_fd):
            os.close(fd)
