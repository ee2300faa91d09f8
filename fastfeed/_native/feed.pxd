# csrc/feed: the part of it that the reader's Python door needs.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.optional cimport optional
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastfeed._native.bytes cimport Bytes, byte
from fastfeed._native.errors cimport raise_native_error
from fastfeed._native.frames cimport Column, Kind
from fastfeed._native.image cimport CImageProgram, ImageCounts


cdef extern from "feed/convert.hpp" namespace "ff" nogil:
    enum class ItemType(uint8_t):
        pass

    ItemType item_type_of(const string& numpy_name) except +raise_native_error
    float half_to_float(int bits) noexcept


cdef extern from "feed/snapshot.hpp" namespace "ff" nogil:
    cppclass ShardTable:
        string root
        vector[Bytes] index_maps

    cppclass StreamShape:
        uint32_t token_bytes
        uint64_t window
        uint64_t stride

    cppclass DictionaryEntry:
        uint32_t column
        Bytes bytes

    cppclass NativeSnapshot "ff::Snapshot":
        int64_t rows() noexcept


cdef extern from "feed/reader.hpp" namespace "ff" nogil:
    enum class OnError(uint8_t):
        pass   # 0 raise, 1 skip

    cppclass OutputRequest:
        uint32_t column
        optional[CImageProgram] image
        optional[ItemType] cast
        ItemType stored
        vector[int64_t] shape

    cppclass Output:
        Kind kind
        cbool nullable
        cbool ragged
        cbool with_shapes
        cbool decodes_image
        ItemType stored
        ItemType delivered
        size_t item
        vector[int64_t] shape

    cppclass OutputPlan:
        vector[Output] outputs

    cppclass BatchBytes:
        void* data() noexcept
        size_t size() noexcept

    cppclass OutputBuffers:
        BatchBytes values, nulls, offsets, shapes

    cppclass Block:
        byte* at
        size_t bytes
        cbool pinned

    cppclass BlockSpan "std::span<ff::Block>":
        size_t size() noexcept
        Block& operator[](size_t index) noexcept

    cppclass Arena:
        size_t bytes() noexcept
        Block take_retired() noexcept
        void unmap(const Block& block) noexcept

    cppclass StageTimes:
        double locate_s, read_s, verify_s, decode_s, place_s

    cppclass Slot:
        int64_t rows_count
        StageTimes spent
        BlockSpan blocks() noexcept
        BatchBytes rows, positions, valid
        vector[OutputBuffers] outputs

    cppclass SlotPool:
        size_t slots() noexcept
        Arena& arena() noexcept
        void clear() noexcept

    cppclass Lease:
        Slot& slot() noexcept

    cppclass BatchSeed:
        uint64_t seed
        uint64_t epoch

    cppclass BatchRequest:
        vector[int64_t] rows
        vector[int64_t] positions
        vector[int32_t] sources
        vector[uint8_t] valid
        BatchSeed seed

    cppclass SampleItem "ff::Sample::Item":
        Bytes bytes
        cbool null

    cppclass Sample:
        vector[SampleItem] items

    cppclass IoOptions:
        string engine
        cbool direct

    cppclass IoReport:
        string engine, why
        uint64_t cached_bytes, device_bytes, device_reads

    cppclass FeedStats:
        uint64_t samples, batches, frame_bytes, holes, batch_bytes
        StageTimes times
        double idle_s, read_wait_s
        ImageCounts images
        vector[string] first_errors

    cppclass FeedPulse:
        uint64_t batch_bytes
        double idle_s

    cppclass SourceRequest:
        shared_ptr[const NativeSnapshot] snapshot
        vector[OutputRequest] outputs

    cppclass StageMarks:
        int (*push)(const char*) noexcept nogil
        int (*pop)() noexcept nogil

    enum class Stage(uint8_t):
        pass

    cppclass StageSpan:
        uint64_t begin_ns, end_ns
        uint32_t thread
        Stage stage

    cppclass ReaderOptions:
        size_t threads
        size_t reader_threads
        OnError on_error
        StageMarks marks

    cppclass NativeReader "ff::Reader":
        NativeReader(const vector[SourceRequest]& sources, const ReaderOptions& options) except +raise_native_error
        const OutputPlan& plan() noexcept
        const OutputPlan& source_plan(size_t source) noexcept
        size_t sources() noexcept
        void submit(BatchRequest request) except +raise_native_error
        size_t pending() except +raise_native_error
        size_t ready() except +raise_native_error
        cbool wait_next(double wait_s) except +raise_native_error
        unique_ptr[Lease] take_next() except +raise_native_error
        void time_out(double timeout_s) except +raise_native_error
        void cancel() except +raise_native_error
        void stop() except +raise_native_error
        unique_ptr[Lease] take(BatchRequest request) except +raise_native_error
        unique_ptr[Sample] sample(int64_t row, int32_t source) except +raise_native_error
        void give_back(unique_ptr[Sample] sample) except +raise_native_error
        FeedStats stats() except +raise_native_error
        FeedPulse pulse() except +raise_native_error
        const shared_ptr[SlotPool]& slots() noexcept
        size_t reader_count() except +raise_native_error
        void set_trace(cbool on) except +raise_native_error
        vector[StageSpan] take_spans() except +raise_native_error
        size_t slots_held() noexcept
        IoReport io_report() except +raise_native_error


cdef class Snapshot:
    cdef shared_ptr[const NativeSnapshot] native
    cdef tuple held   # what the native table borrows
    cdef int pid
    cdef check_process(self)


# The memory of all batches of a reader, and who registers it with a device: the last of reader and batches frees it.
cdef class SlotMemory:
    cdef shared_ptr[SlotPool] pool
    cdef object pinner
    cdef int pid
    cdef pin(self, Slot* slot)
    cdef unpin_retired(self)


# The memory of one batch: every array of it refers to this.
cdef class BatchMemory:
    cdef unique_ptr[Lease] lease
    cdef SlotMemory memory
    cdef int pid


# A batch that nobody refers to, while a device may still read it.
cdef class HeldMemory:
    cdef unique_ptr[Lease] lease
    cdef SlotMemory memory
    cdef int pid


# A writable buffer inside a BatchMemory.
cdef class MemoryView:
    cdef BatchMemory owner
    cdef void* at
    cdef Py_ssize_t bytes


cdef class Reader:
    cdef unique_ptr[NativeReader] native
    cdef SlotMemory memory
    cdef tuple snapshots      # what the native reader reads, kept alive
    cdef int pid
    cdef bint closed
    cdef list dtypes          # numpy dtype of each output as delivered
    cdef list stored_dtypes   # and as stored: a list for each source
    cdef list shapes          # tuple: the shape of one row, -1 for the free dimension
    cdef object __weakref__
    cdef check(self)
    cdef wrap(self, unique_ptr[Lease] lease)
    cdef value_of(self, size_t source, size_t index, SampleItem item)
