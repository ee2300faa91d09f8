"""The node cache's shared structures (csrc/cache): slots and their words, chunk maps, rings, and the client that reads.

Two sides. The daemon writes: `SlotWords`, `ChunkMap`, `Slab`, `Ring`. A reading process has one `CacheClient`, and
gives it to `feed.Snapshot(..., cache=(client, set_number))`. docs/cache-format.md has the layouts;
csrc/cache/words.hpp the order in which both sides touch them.

Descriptors that are given to anything here stay the caller's: what is needed later is duplicated or mapped. Everything
is thread-safe, and nothing of it works in a forked child but `close()`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Buffer = Any

CHUNK_BYTES: int  # 1 MiB: the unit of caching
TRAILER_BYTES: int  # 4096
SLOT_BYTES: int  # CHUNK_BYTES + TRAILER_BYTES; slot i of a slab begins at byte i * SLOT_BYTES
CHECK_BYTES: int  # 64 KiB: what one crc of a trailer is over
KEY_BYTES: int  # 16
SLOTS_MAX: int  # 2^26, of a pool
GENERATION_MASK: int  # 2^38 - 1

def map_entry(slot: int, generation: int) -> int:
    """The map entry of a slot that was published with `generation`: slot << 38 | generation mod 2^38. Never 0 for
    one."""

def map_bytes(chunks: int, objects: int) -> int:
    """The length of a chunk map's file: 8 bytes a chunk, then 16 bytes of key an object."""

class SlotInfo(NamedTuple):
    """What a slot's trailer says."""

    key: bytes
    chunk: int  # number in its object
    generation: int  # the slot's word when it was published
    length: int  # bytes of the chunk

class SlotWords:
    """The words of a pool's slots, mapped from `fd`: u64 each, from byte 0. Odd: being written; even: the generation.

    CorruptDataError where the file is shorter than `slots` words. A file's first words are random even numbers, written
    by whoever makes it before anyone maps it. `begin` and `publish` need writable=True (ConfigError), and one thread a
    slot at a time."""

    def __init__(self, fd: int, slots: int, *, writable: bool = False) -> None: ...
    def __len__(self) -> int: ...
    def load(self, slot: int) -> int:
        """The word now (acquire)."""
    def copy(self) -> npt.NDArray[np.uint64]:
        """All words, each as it was at some moment of the call."""
    def begin(self, slot: int) -> int:
        """Make the word odd, so that every reader misses: before a fill (`Slab.fill` does it), and to take a slot out
        of use. Returns the generation that `publish` will give."""
    def publish(self, slot: int) -> int:
        """Make the odd word even, after the slot's bytes and its table entry. Returns the generation, never 0 mod 2^38.
        FastfeedError where the word is even."""
    def close(self) -> None:
        """Unmap, once nobody in another thread uses it. Idempotent; afterwards everything raises ConfigError."""

class ChunkMap:
    """Chunk number -> map entry, of a set of objects, mapped from `fd` (`map_bytes()` long); then the objects' keys.

    Given `keys` (16 bytes an object, in the set's order) it is writable, and the keys are written first: so make it
    before the descriptor goes to any client, and seal the memfd (SHRINK, GROW, FUTURE_WRITE, SEAL) after."""

    def __init__(self, fd: int, chunks: int, objects: int, *, keys: Buffer | None = None) -> None: ...
    def __len__(self) -> int: ...
    def get(self, chunk: int) -> int:
        """The entry, 0 where the chunk is absent."""
    def set(self, chunk: int, entry: int) -> None:
        """Store an entry (release), after its slot was published; 0 to take it out."""
    def set_many(self, chunks: npt.NDArray[np.uint64], entries: npt.NDArray[np.uint64]) -> None: ...
    def copy(self) -> npt.NDArray[np.uint64]:
        """All entries, each as it was at some moment of the call."""
    def key(self, object: int) -> bytes: ...
    def close(self) -> None: ...

class Slab:
    """Slots [first_slot, first_slot + slots) of a pool, in one file. All I/O is buffered and without the GIL.

    OSError is the disk's: EIO, ENOSPC, ...; also EIO where the file ends before a slot. ConfigError for a slot that is
    not in this slab."""

    def __init__(self, fd: int, first_slot: int, slots: int) -> None: ...
    def fill(self, words: SlotWords, slot: int, key: bytes, chunk: int, data: Buffer) -> int:
        """Make the slot's word odd, write `data` (1 to CHUNK_BYTES bytes) and its trailer. Returns the generation that
        `words.publish(slot)` will give; until then no reader uses the slot. On OSError the word stays odd."""
    def trailer(self, slot: int) -> SlotInfo | None:
        """What the slot says of itself, None where its trailer is none, or another slot's. Reads 4 KiB."""
    def verify(self, slot: int) -> SlotInfo | None:
        """As `trailer`, and None too where a byte of the chunk is not what was written. Reads the whole slot."""
    def read(
        self, words: SlotWords, slot: int, generation: int, key: bytes, chunk: int, offset: int, length: int
    ) -> bytes | None:
        """`length` bytes at `offset` of the chunk, verified by the trailer's crcs of 64 KiB. `generation` is the whole
        word, not an entry's 38 bits. None where the slot holds, or came to hold, something else. CorruptDataError
        where its bytes are not what was written: the slot is to be quarantined."""
    def read_into(
        self,
        words: SlotWords,
        slot: int,
        generation: int,
        key: bytes,
        chunk: int,
        offset: int,
        ring: Ring,
        at: int,
        length: int,
    ) -> bool:
        """As `read`, into [at, at + length) of a ring. False where `read` gives None."""
    def close(self) -> None: ...

class Ring:
    """A connection's ring, mapped writable from `fd`: make it before the memfd is sealed (SHRINK, GROW, FUTURE_WRITE,
    SEAL).

    Which ranges are free is the caller's book-keeping."""

    def __init__(self, fd: int, bytes: int) -> None: ...
    def __len__(self) -> int: ...
    def write(self, at: int, data: Buffer) -> None:
        """Copy `data` to byte `at`, without the GIL where it is large. ConfigError outside the ring."""
    def close(self) -> None: ...

class CacheClient:
    """A process's reader of the node cache: one a process, for all its datasets and threads. Starts no thread before
    attach().

    A hit is no message: chunk map, word, slab, word. Everything else is asked of the daemon over the data connection,
    and comes by a slot or by the ring; at most half of the ring is asked for at a time. While no daemon is attached,
    hits go on and misses wait for the next attach() until their deadline: then DaemonUnavailableError. What the daemon
    answers instead of bytes is OriginError, CorruptDataError, CacheFullError, ConfigError or DaemonUnavailableError,
    with its text.

    `deadline_s` is the deadline of a miss of a Snapshot; `slab_read_s` the time after which a read from a slab's disk
    is given up and the ring is asked instead (the read keeps its buffer until the disk is done). `slab_io`
    "fault:<script>" fails reads of slabs on purpose, one character a piece: '.' passes, 'E' gives EIO, 'f' flips one
    bit, 'w' is not in the page cache, 'h' neither, and the disk takes 2 s."""

    def __init__(
        self, *, deadline_s: float = 120.0, slab_read_s: float = 1.0, slab_io: str = "pread"
    ) -> None: ...
    def attach(
        self,
        data_fd: int,  # SOCK_SEQPACKET, after the handshake
        ring_fd: int,
        ring_bytes: int,  # at least 2 MiB
        words_fd: int,
        slots: int,  # of the pool
        slabs: Sequence[tuple[int, int, int]],  # (fd, first_slot, slots)
        page_fd: int,  # 4096 bytes, writable
    ) -> None:
        """Use this connection from now on, in place of an earlier one. Misses of a set go on when set_attached() has
        said its number in the new session. The page's words 16 to 23 are the counters of stats(), from this call
        on."""
    def set_attached(
        self,
        number: int,
        remote: int,
        map_fd: int,
        sizes: npt.NDArray[np.uint64],  # bytes of each object
    ) -> None:
        """The set `number` (the caller's own number, that Snapshots have; it survives reconnection) is `remote` in the
        present session, with this chunk map. Chunk c of object o is entry sum(chunks of the objects before) + c.

        ConfigError where no connection is attached, or where `sizes` are not those that the set had before."""
    def set_detached(self, number: int) -> None:
        """Forget a set. Reads of it raise ConfigError from now on; nothing is said to the daemon."""
    def detach(self) -> None:
        """End the data connection. Hits go on; misses wait for the next attach()."""
    @property
    def attached(self) -> bool:
        """Whether there is a connection that has not ended."""
    def wait_detached(self, timeout_s: float) -> bool:
        """Wait until there is no connection, without the GIL and letting signals through within 50 ms. False at the
        timeout."""
    def read(self, set: int, object: int, offset: int, length: int, deadline_s: float | None = None) -> bytes:
        """Bytes of an object, verified: those of slots by the crcs of their trailers. ConfigError outside the object.
        `deadline_s` None: the client's."""
    def stats(self) -> dict[str, int]:
        """Since creation: slab_reads, slab_bytes, ring_reads, ring_bytes, races_lost, crc_failures,
        slab_reads_given_up, miss_wait_us (the eight of the page); messages (sent, RELEASE included), misses,
        sessions."""
    def close(self) -> None:
        """End the connection and join the threads. Waiting reads raise. Idempotent. A read that hangs in a disk keeps
        its thread and buffer until the disk answers; close() does not wait for it."""
