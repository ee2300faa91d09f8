# distutils: language = c++
"""The node cache's shared structures (csrc/cache). See cache.pyi for the contract of each."""

import atexit
import time
import weakref
from collections import namedtuple

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.optional cimport optional
from libcpp.string cimport string
from libcpp.vector cimport vector
from posix.unistd cimport getpid

import numpy as np

from fastfeed._native.bytes cimport Bytes, MutableBytes, as_bytes, as_mutable_bytes
from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError, FastfeedError

cdef extern from *:
    """
    #include <algorithm>
    #include <memory>

    #include "cache/client.hpp"
    #include "cache/ring.hpp"
    #include "cache/slab.hpp"

    namespace {

    ff::Access access_of(bool writable) { return writable ? ff::Access::write : ff::Access::read; }

    std::shared_ptr<ff::SlotWords> make_words(int fd, std::uint64_t slots, bool writable) {
        return std::make_shared<ff::SlotWords>(fd, slots, access_of(writable));
    }
    std::shared_ptr<ff::ChunkMap> make_map(int fd, std::uint64_t chunks, std::uint64_t objects, bool writable) {
        return std::make_shared<ff::ChunkMap>(fd, chunks, objects, access_of(writable));
    }
    std::shared_ptr<ff::Slab> make_slab(int fd, std::uint64_t first_slot, std::uint64_t slots) {
        return std::make_shared<ff::Slab>(ff::Descriptor::copy_of(fd), first_slot, slots);
    }
    std::shared_ptr<ff::Ring> make_ring(int fd, std::uint64_t bytes) { return std::make_shared<ff::Ring>(fd, bytes); }

    ff::Key key_at(const char* bytes) {
        ff::Key key;
        std::memcpy(key.data(), bytes, key.size());
        return key;
    }
    const char* bytes_of(const ff::Key& key) { return reinterpret_cast<const char*>(key.data()); }

    std::optional<ff::Trailer> verified_slot(const ff::Slab& slab, std::uint64_t slot) {
        const auto scratch = std::make_unique_for_overwrite<std::byte[]>(ff::kChunkBytes);
        return slab.verified(slot, {scratch.get(), ff::kChunkBytes});
    }

    std::shared_ptr<ff::CacheClient> make_client(double deadline_s, double slab_read_s, const std::string& slab_io) {
        return std::make_shared<ff::CacheClient>(ff::CacheOptions{deadline_s, slab_read_s, slab_io});
    }
    std::uint64_t messages_of(const ff::CacheClient& client) { return client.connection_counts().messages; }
    std::uint64_t misses_of(const ff::CacheClient& client) { return client.connection_counts().misses; }
    std::uint64_t sessions_of(const ff::CacheClient& client) { return client.connection_counts().sessions; }

    // In a forked child: locks may be held by threads that do not exist here, so nothing may be destroyed.
    void forget(std::shared_ptr<ff::CacheClient>& client) noexcept {
        new (std::nothrow) std::shared_ptr<ff::CacheClient>(std::move(client));
    }

    // Whether a signal's handler has raised: its exception stays set, and raise_native_error() leaves it.
    bool signal_raised() {
        const PyGILState_STATE gil = PyGILState_Ensure();
        const bool raised = PyErr_CheckSignals() != 0;
        PyGILState_Release(gil);
        return raised;
    }

    void copy_into(ff::MutableBytes into, ff::Bytes from) { std::memcpy(into.data(), from.data(), from.size()); }

    }  // namespace
    """
    shared_ptr[NativeSlotWords] make_words(int fd, uint64_t slots, cbool writable) except +raise_native_error nogil
    shared_ptr[NativeChunkMap] make_map(int fd, uint64_t chunks, uint64_t objects,
                                        cbool writable) except +raise_native_error nogil
    shared_ptr[NativeSlab] make_slab(int fd, uint64_t first_slot, uint64_t slots) except +raise_native_error nogil
    shared_ptr[NativeRing] make_ring(int fd, uint64_t bytes) except +raise_native_error nogil
    Key key_at(const char* bytes) noexcept nogil
    const char* bytes_of(const Key& key) noexcept nogil
    optional[Trailer] verified_slot(const NativeSlab& slab, uint64_t slot) except +raise_native_error nogil
    shared_ptr[NativeCacheClient] make_client(double deadline_s, double slab_read_s,
                                              const string& slab_io) except +raise_native_error nogil
    uint64_t messages_of(const NativeCacheClient& client) noexcept
    uint64_t misses_of(const NativeCacheClient& client) noexcept
    uint64_t sessions_of(const NativeCacheClient& client) noexcept
    void forget(shared_ptr[NativeCacheClient]& client) noexcept
    cbool signal_raised() noexcept nogil
    void copy_into(MutableBytes into, Bytes data) noexcept nogil

CHUNK_BYTES = kChunkBytes
TRAILER_BYTES = kTrailerBytes
SLOT_BYTES = kSlotBytes
CHECK_BYTES = kCheckBytes
KEY_BYTES = kKeyBytes
SLOTS_MAX = kSlotsMax
GENERATION_MASK = kGenerationMask

SlotInfo = namedtuple("SlotInfo", ["key", "chunk", "generation", "length"], module=__name__)

# Below this, dropping the GIL costs more than the copy.
cdef Py_ssize_t COPY_WITHOUT_GIL = 65536


def map_entry(uint64_t slot, uint64_t generation):
    if slot >= kSlotsMax:
        raise ConfigError(f"slot {slot}: a pool has at most {kSlotsMax}")
    return native_map_entry(slot, generation)


def map_bytes(uint64_t chunks, uint64_t objects):
    return chunks * 8 + objects * kKeyBytes


cdef Key key_of(object key) except *:
    if not isinstance(key, bytes) or len(key) != <Py_ssize_t> kKeyBytes:
        raise ConfigError(f"a key is {kKeyBytes} bytes, not {key!r}")
    return key_at(PyBytes_AS_STRING(key))


cdef object closed(str what):
    return ConfigError(f"the {what} is closed")


cdef class SlotWords:
    def __init__(self, int fd, uint64_t slots, *, bint writable=False):
        with nogil:
            self.native = make_words(fd, slots, writable)
        self.writable = writable

    cdef shared_ptr[NativeSlotWords] opened(self) except *:
        if self.native.get() == NULL:
            raise closed("file of slot words")
        return self.native

    cdef int check_slot(self, uint64_t slot) except -1:
        cdef uint64_t slots = self.opened().get().slots()
        if slot >= slots:
            raise ConfigError(f"slot {slot} has no word: there are {slots}")
        return 0

    cdef int check_writable(self, uint64_t slot) except -1:
        self.check_slot(slot)
        if not self.writable:
            raise ConfigError("these slot words were opened for reading")
        return 0

    def __len__(self):
        return self.opened().get().slots()

    def load(self, uint64_t slot):
        self.check_slot(slot)
        return self.native.get().load(slot)

    def copy(self):
        cdef shared_ptr[NativeSlotWords] native = self.opened()
        result = np.empty(native.get().slots(), dtype=np.uint64)
        cdef uint64_t[::1] words = result
        cdef Py_ssize_t slot
        with nogil:
            for slot in range(words.shape[0]):
                words[slot] = native.get().load(<uint64_t> slot)
        return result

    def begin(self, uint64_t slot):
        self.check_writable(slot)
        return self.native.get().begin(slot)

    def publish(self, uint64_t slot):
        self.check_writable(slot)
        return self.native.get().publish(slot)

    def close(self):
        self.native.reset()


cdef class ChunkMap:
    cdef shared_ptr[NativeChunkMap] native
    cdef bint writable

    def __init__(self, int fd, uint64_t chunks, uint64_t objects, *, keys=None):
        cdef bint writable = keys is not None
        cdef const unsigned char[::1] all_keys
        cdef uint64_t i
        with nogil:
            self.native = make_map(fd, chunks, objects, writable)
        self.writable = writable
        if keys is None:
            return
        if memoryview(keys).nbytes != objects * kKeyBytes:
            raise ConfigError(f"{memoryview(keys).nbytes} bytes of keys for {objects} objects; one has {kKeyBytes}")
        if objects:
            all_keys = memoryview(keys).cast("B")
            for i in range(objects):
                self.native.get().set_key(i, key_at(<const char*> &all_keys[<Py_ssize_t> (i * kKeyBytes)]))

    cdef shared_ptr[NativeChunkMap] opened(self) except *:
        if self.native.get() == NULL:
            raise closed("chunk map")
        return self.native

    cdef int check_chunk(self, uint64_t chunk, bint write) except -1:
        cdef uint64_t chunks = self.opened().get().chunks()
        if chunk >= chunks:
            raise ConfigError(f"chunk {chunk} of a map of {chunks}")
        if write and not self.writable:
            raise ConfigError("this chunk map was opened for reading")
        return 0

    def __len__(self):
        return self.opened().get().chunks()

    def get(self, uint64_t chunk):
        self.check_chunk(chunk, False)
        return self.native.get().entry(chunk)

    def set(self, uint64_t chunk, uint64_t entry):
        self.check_chunk(chunk, True)
        self.native.get().set(chunk, entry)

    def set_many(self, const uint64_t[::1] chunks, const uint64_t[::1] entries):
        cdef shared_ptr[NativeChunkMap] native = self.opened()
        cdef Py_ssize_t i
        if chunks.shape[0] != entries.shape[0]:
            raise ConfigError(f"{entries.shape[0]} entries for {chunks.shape[0]} chunks")
        for i in range(chunks.shape[0]):
            self.check_chunk(chunks[i], True)
        with nogil:
            for i in range(chunks.shape[0]):
                native.get().set(chunks[i], entries[i])

    def copy(self):
        cdef shared_ptr[NativeChunkMap] native = self.opened()
        result = np.empty(native.get().chunks(), dtype=np.uint64)
        cdef uint64_t[::1] entries = result
        cdef Py_ssize_t chunk
        with nogil:
            for chunk in range(entries.shape[0]):
                entries[chunk] = native.get().entry(<uint64_t> chunk)
        return result

    def key(self, uint64_t object):
        cdef uint64_t objects = self.opened().get().objects()
        if object >= objects:
            raise ConfigError(f"object {object} of a set of {objects}")
        cdef Key key = self.native.get().key(object)
        return PyBytes_FromStringAndSize(bytes_of(key), <Py_ssize_t> kKeyBytes)

    def close(self):
        self.native.reset()


cdef class Ring:
    cdef shared_ptr[NativeRing] native

    def __init__(self, int fd, uint64_t bytes):
        with nogil:
            self.native = make_ring(fd, bytes)

    cdef shared_ptr[NativeRing] opened(self) except *:
        if self.native.get() == NULL:
            raise closed("ring")
        return self.native

    def __len__(self):
        return self.opened().get().bytes()

    def write(self, uint64_t at, data):
        cdef shared_ptr[NativeRing] native = self.opened()
        cdef Py_buffer view
        cdef MutableBytes into
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            into = native.get().range(at, <uint64_t> view.len)
            if view.len < COPY_WITHOUT_GIL:
                copy_into(into, as_bytes(view.buf, <size_t> view.len))
            else:
                with nogil:
                    copy_into(into, as_bytes(view.buf, <size_t> view.len))
        finally:
            PyBuffer_Release(&view)

    def close(self):
        self.native.reset()


cdef object slot_info(const optional[Trailer]& found):
    if not found.has_value():
        return None
    cdef const Trailer* trailer = &found.value()
    key = PyBytes_FromStringAndSize(bytes_of(trailer.key), <Py_ssize_t> kKeyBytes)
    return SlotInfo(key, trailer.chunk, trailer.generation, trailer.length)


cdef class Slab:
    cdef shared_ptr[NativeSlab] native

    def __init__(self, int fd, uint64_t first_slot, uint64_t slots):
        with nogil:
            self.native = make_slab(fd, first_slot, slots)

    cdef shared_ptr[NativeSlab] opened(self) except *:
        if self.native.get() == NULL:
            raise closed("slab")
        return self.native

    def fill(self, SlotWords words not None, uint64_t slot, key, uint64_t chunk, data):
        cdef shared_ptr[NativeSlab] native = self.opened()
        cdef shared_ptr[NativeSlotWords] its_words
        cdef Key its_key = key_of(key)
        cdef Py_buffer view
        cdef uint64_t generation
        words.check_writable(slot)
        its_words = words.opened()
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                generation = native.get().fill(its_words.get()[0], slot, its_key, chunk,
                                               as_bytes(view.buf, <size_t> view.len))
        finally:
            PyBuffer_Release(&view)
        return generation

    def trailer(self, uint64_t slot):
        cdef shared_ptr[NativeSlab] native = self.opened()
        cdef optional[Trailer] found
        with nogil:
            found = native.get().trailer(slot)
        return slot_info(found)

    def verify(self, uint64_t slot):
        cdef shared_ptr[NativeSlab] native = self.opened()
        cdef optional[Trailer] found
        with nogil:
            found = verified_slot(native.get()[0], slot)
        return slot_info(found)

    cdef bint read_range(self, SlotWords words, const SlotRange& wanted, MutableBytes into) except *:
        cdef shared_ptr[NativeSlab] native = self.opened()
        cdef shared_ptr[NativeSlotWords] its_words = words.opened()
        cdef cbool whole
        if wanted.length == 0:
            raise ConfigError("a read of no bytes")
        with nogil:
            whole = native.get().read(its_words.get()[0], wanted, into)
        return whole

    def read(self, SlotWords words not None, uint64_t slot, uint64_t generation, key, uint64_t chunk, uint32_t offset,
             uint32_t length):
        cdef SlotRange wanted = slot_range(slot, generation, key, chunk, offset, length)
        result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> length)
        if self.read_range(words, wanted, as_mutable_bytes(PyBytes_AS_STRING(result), length)):
            return result
        return None

    def read_into(self, SlotWords words not None, uint64_t slot, uint64_t generation, key, uint64_t chunk,
                  uint32_t offset, Ring ring not None, uint64_t at, uint32_t length):
        cdef SlotRange wanted = slot_range(slot, generation, key, chunk, offset, length)
        cdef shared_ptr[NativeRing] its_ring = ring.opened()
        cdef MutableBytes into = its_ring.get().range(at, length)
        return self.read_range(words, wanted, into)

    def close(self):
        self.native.reset()


cdef SlotRange slot_range(uint64_t slot, uint64_t generation, object key, uint64_t chunk, uint32_t offset,
                          uint32_t length) except *:
    cdef SlotRange wanted
    wanted.slot = slot
    wanted.generation = generation
    wanted.key = key_of(key)
    wanted.chunk = chunk
    wanted.offset = offset
    wanted.length = length
    return wanted


# Signals get through a waiting call within this time.
cdef double WAIT_SLICE_S = 0.05


# Clients that were not closed: their threads are joined before the interpreter goes.
_open_clients = weakref.WeakSet()


@atexit.register
def _close_clients():
    for client in list(_open_clients):
        client.close()


@cython.no_gc_clear
cdef class CacheClient:
    def __init__(self, *, double deadline_s=120.0, double slab_read_s=1.0, str slab_io="pread"):
        self.pid = getpid()
        self.native = make_client(deadline_s, slab_read_s, slab_io.encode("utf-8", "surrogateescape"))
        self.deadline_s = deadline_s
        _open_clients.add(self)

    def __dealloc__(self):
        if self.pid != getpid():
            forget(self.native)

    cdef shared_ptr[NativeCacheClient] opened(self) except *:
        if self.pid != getpid():
            raise FastfeedError(f"this cache client was made by process {self.pid} and belongs to it; a forked child "
                                "makes its own")
        return self.native

    def attach(self, int data_fd, int ring_fd, uint64_t ring_bytes, int words_fd, uint64_t slots, slabs, int page_fd):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        cdef CacheEndpoint endpoint
        cdef SlabFile slab
        endpoint.data_fd = data_fd
        endpoint.ring_fd = ring_fd
        endpoint.ring_bytes = ring_bytes
        endpoint.words_fd = words_fd
        endpoint.slots = slots
        endpoint.page_fd = page_fd
        for fd, first_slot, count in slabs:
            slab.fd = fd
            slab.first_slot = first_slot
            slab.slots = count
            endpoint.slabs.push_back(slab)
        with nogil:
            native.get().attach(endpoint)

    def set_attached(self, uint32_t number, uint32_t remote, int map_fd, const uint64_t[::1] sizes):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        cdef vector[uint64_t] all_sizes
        if sizes.shape[0]:
            all_sizes.assign(&sizes[0], &sizes[0] + sizes.shape[0])
        with nogil:
            native.get().set_attached(number, remote, map_fd, all_sizes)

    def set_detached(self, uint32_t number):
        self.opened().get().set_detached(number)

    def detach(self):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        with nogil:
            native.get().detach()

    @property
    def attached(self):
        return bool(self.opened().get().attached())

    def wait_detached(self, double timeout_s):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        cdef double until = time.monotonic() + timeout_s
        cdef double left = timeout_s
        cdef cbool ended
        while True:
            with nogil:
                ended = native.get().wait_detached(max(0.0, min(left, WAIT_SLICE_S)))
            PyErr_CheckSignals()
            left = until - time.monotonic()
            if ended or left <= 0:
                return bool(ended)

    def read(self, uint32_t set, uint32_t object, uint64_t offset, uint64_t length, deadline_s=None):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        cdef double deadline = self.deadline_s if deadline_s is None else deadline_s
        cdef MutableBytes into
        result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> length)
        into = as_mutable_bytes(PyBytes_AS_STRING(result), length)
        with nogil:
            native.get().read_checked(set, object, offset, into, deadline, signal_raised)
        return result

    def stats(self):
        cdef shared_ptr[NativeCacheClient] native = self.opened()
        cdef CacheCounts counts = native.get().counts()
        return {
            "slab_reads": counts.slab_reads, "slab_bytes": counts.slab_bytes,
            "ring_reads": counts.ring_reads, "ring_bytes": counts.ring_bytes,
            "races_lost": counts.races_lost, "crc_failures": counts.crc_failures,
            "slab_reads_given_up": counts.slab_reads_given_up, "miss_wait_us": counts.miss_wait_us,
            "messages": messages_of(native.get()[0]), "misses": misses_of(native.get()[0]),
            "sessions": sessions_of(native.get()[0]),
        }

    def close(self):
        if self.pid != getpid():
            return
        _open_clients.discard(self)
        with nogil:
            self.native.get().close()
