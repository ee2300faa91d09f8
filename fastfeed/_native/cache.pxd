# csrc/cache as the Python doors of cache and feed need it.
from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.optional cimport optional
from libcpp.vector cimport vector

from fastfeed._native.bytes cimport Bytes, MutableBytes
from fastfeed._native.errors cimport raise_native_error


cdef extern from "cache/layout.hpp" namespace "ff" nogil:
    cppclass Key "ff::Key":
        Key() noexcept

    uint64_t kChunkBytes, kTrailerBytes, kSlotBytes, kCheckBytes, kSlotsMax, kGenerationMask
    size_t kKeyBytes
    uint64_t native_map_entry "ff::map_entry"(uint64_t slot, uint64_t generation) noexcept


cdef extern from "cache/mapping.hpp" namespace "ff" nogil:
    enum class Access:
        read
        write


cdef extern from "cache/trailer.hpp" namespace "ff" nogil:
    cppclass Trailer:
        Key key
        uint64_t chunk, generation, slot
        uint32_t length


cdef extern from "cache/words.hpp" namespace "ff" nogil:
    cppclass NativeSlotWords "ff::SlotWords":
        uint64_t slots() noexcept
        uint64_t load(uint64_t slot) noexcept
        uint64_t begin(uint64_t slot) noexcept
        uint64_t publish(uint64_t slot) except +raise_native_error

    cppclass NativeChunkMap "ff::ChunkMap":
        uint64_t chunks() noexcept
        uint64_t objects() noexcept
        uint64_t entry(uint64_t chunk) noexcept
        void set(uint64_t chunk, uint64_t entry) noexcept
        Key key(uint64_t object) noexcept
        void set_key(uint64_t object, const Key& key) noexcept


cdef extern from "cache/slab.hpp" namespace "ff" nogil:
    cppclass SlotRange:
        uint64_t slot, generation
        Key key
        uint64_t chunk
        uint32_t offset, length

    cppclass NativeSlab "ff::Slab":
        uint64_t fill(NativeSlotWords& words, uint64_t slot, const Key& key, uint64_t chunk,
                      Bytes data) except +raise_native_error
        optional[Trailer] trailer(uint64_t slot) except +raise_native_error
        optional[Trailer] verified(uint64_t slot, MutableBytes scratch) except +raise_native_error
        cbool read(const NativeSlotWords& words, const SlotRange& slot_range,
                   MutableBytes into) except +raise_native_error


cdef extern from "cache/ring.hpp" namespace "ff" nogil:
    cppclass NativeRing "ff::Ring":
        uint64_t bytes() noexcept
        MutableBytes range(uint64_t at, uint64_t length) except +raise_native_error


cdef extern from "cache/client.hpp" namespace "ff" nogil:
    cppclass CacheOptions:
        double deadline_s
        double slab_read_s

    cppclass SlabFile "ff::CacheEndpoint::SlabFile":
        int fd
        uint64_t first_slot, slots

    cppclass CacheEndpoint:
        int data_fd, ring_fd, words_fd, page_fd
        uint64_t ring_bytes, slots
        vector[SlabFile] slabs

    cppclass CacheCounts:
        uint64_t slab_reads, slab_bytes, ring_reads, ring_bytes, races_lost, crc_failures, slab_reads_given_up
        uint64_t miss_wait_us

    ctypedef cbool (*Interrupted)() noexcept

    cppclass NativeCacheClient "ff::CacheClient":
        void attach(const CacheEndpoint& endpoint) except +raise_native_error
        void set_attached(uint32_t number, uint32_t remote, int map_fd,
                          vector[uint64_t] sizes) except +raise_native_error
        void set_detached(uint32_t number) except +raise_native_error
        void detach() except +raise_native_error
        cbool attached() except +raise_native_error
        cbool wait_detached(double timeout_s) except +raise_native_error
        void close() except +raise_native_error
        void read_checked(uint32_t set, uint32_t object, uint64_t offset, MutableBytes into, double deadline_s,
                          Interrupted interrupted) except +raise_native_error
        CacheCounts counts() noexcept


cdef class SlotWords:
    cdef shared_ptr[NativeSlotWords] native
    cdef bint writable
    cdef shared_ptr[NativeSlotWords] opened(self) except *
    cdef int check_slot(self, uint64_t slot) except -1
    cdef int check_writable(self, uint64_t slot) except -1


cdef class CacheClient:
    cdef shared_ptr[NativeCacheClient] native
    cdef double deadline_s
    cdef int pid
    cdef object __weakref__
    cdef shared_ptr[NativeCacheClient] opened(self) except *
