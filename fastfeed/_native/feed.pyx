# distutils: language = c++
"""The reader: rows in, batches out (csrc/feed). See feed.pyi and csrc/README.md.

Every call checks its arguments, drops the GIL for what may take long, and wraps. No Python object is made per
sample on the way of a batch.
"""

import atexit
import time
import weakref
from collections import namedtuple

cimport cython
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memchr
from libcpp.memory cimport shared_ptr, unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport move
from libcpp.vector cimport vector
from posix.unistd cimport getpid

import numpy as np

from fastfeed._native.bytes cimport Bytes, as_bytes, byte, load_le
from fastfeed._native.cache cimport CacheClient, NativeCacheClient
from fastfeed._native.errors cimport raise_native_error
from fastfeed._native.frames cimport Column, columns_of
from fastfeed._native.image cimport native_program
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError

cdef extern from *:
    """
    #include <memory>
    #include <utility>
    #include <vector>

    #include "cache/client.hpp"
    #include "feed/reader.hpp"
    #include "io/device_reads.hpp"

    namespace {

    // The columns of a table, `shards` long each (path_offsets one longer, uids 16 times), borrowed.
    void set_columns(ff::ShardTable& table, std::size_t shards, const std::int32_t* path_offsets, const void* path_data,
                     std::size_t path_bytes, const void* uids, const std::uint64_t* file_bytes,
                     const std::int64_t* row_ends, const std::int64_t* token_ends, const std::uint64_t* payload_ends,
                     const std::uint32_t* index_file, const std::uint64_t* row_index_at,
                     const std::uint64_t* page_checksums_at, const std::uint32_t* dictionary_set) {
        table.path_offsets = {path_offsets, shards + 1};
        table.path_data = {static_cast<const char*>(path_data), path_bytes};
        table.uids = ff::as_bytes(uids, shards * 16);
        table.file_bytes = {file_bytes, shards};
        table.row_ends = {row_ends, shards};
        if (token_ends != nullptr) table.token_ends = {token_ends, shards};
        table.payload_ends = {payload_ends, shards};
        table.index_file = {index_file, shards};
        table.row_index_at = {row_index_at, shards};
        table.page_checksums_at = {page_checksums_at, shards};
        table.dictionary_set = {dictionary_set, shards};
    }

    std::shared_ptr<const ff::Snapshot> make_snapshot(ff::ShardTable& table, std::vector<ff::Column>& columns,
                                                      const ff::StreamShape& stream,
                                                      const std::vector<std::vector<ff::DictionaryEntry>>& dictionaries,
                                                      std::size_t open_files_max, const ff::IoOptions& io,
                                                      std::shared_ptr<ff::CacheClient> client, std::uint32_t set) {
        std::unique_ptr<ff::ReadEngine> engine;
        if (!client) {
            engine = ff::make_file_engine(io);
        } else {
            engine = ff::make_cache_engine(std::move(client), set, table.file_bytes);
            const std::string script = ff::fault_script(io.engine);
            if (!script.empty())
                engine = ff::make_fault_engine(std::move(engine), script);
            else if (io.engine != "auto" && io.engine != "pread")
                throw ff::Error(ff::Code::config, "io='" + io.engine + "': this dataset is read through the node's "
                                                  "cache, not from files. Use 'auto'.");
        }
        return std::make_shared<const ff::Snapshot>(std::move(table), std::move(columns), stream, dictionaries,
                                                    open_files_max, std::move(engine));
    }

    // In a forked child: the owner's locks may be held by threads that do not exist here, so nothing may be destroyed.
    template <class Pointer>
    void forget(Pointer& pointer) noexcept {
        new (std::nothrow) Pointer(std::move(pointer));
    }

    // Functions of a C library, by their addresses.
    ff::StageMarks marks_at(std::size_t push, std::size_t pop) noexcept {
        return {reinterpret_cast<int (*)(const char*)>(push), reinterpret_cast<int (*)()>(pop)};
    }

    const char* data_of(const ff::Bytes& bytes) { return reinterpret_cast<const char*>(bytes.data()); }

    }  // namespace
    """
    void set_columns(ShardTable& table, size_t shards, const int32_t* path_offsets, const void* path_data,
                     size_t path_bytes, const void* uids, const uint64_t* file_bytes, const int64_t* row_ends,
                     const int64_t* token_ends, const uint64_t* payload_ends, const uint32_t* index_file,
                     const uint64_t* row_index_at, const uint64_t* page_checksums_at,
                     const uint32_t* dictionary_set) noexcept
    shared_ptr[const NativeSnapshot] make_snapshot(
        ShardTable& table, vector[Column]& columns, const StreamShape& stream,
        const vector[vector[DictionaryEntry]]& dictionaries, size_t open_files_max, const IoOptions& io,
        shared_ptr[NativeCacheClient] client, uint32_t set) except +raise_native_error nogil
    void forget_snapshot "forget"(shared_ptr[const NativeSnapshot]& pointer) noexcept
    void forget_reader "forget"(unique_ptr[NativeReader]& pointer) noexcept
    void forget_pool "forget"(shared_ptr[SlotPool]& pointer) noexcept
    StageMarks marks_at(size_t push, size_t pop) noexcept
    void forget_lease "forget"(unique_ptr[Lease]& pointer) noexcept
    const char* data_of(const Bytes& bytes) noexcept
    string uring_refusal "ff::uring_refusal"() except +raise_native_error nogil


# Signals get through a waiting next() within this time.
cdef double WAIT_SLICE_S = 0.05

# In the order of csrc's ItemType.
cdef tuple DTYPES = tuple(np.dtype(name) for name in (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"))

cdef enum:
    KIND_SCALAR = 0
    KIND_TENSOR = 1
    KIND_ARRAY = 2
    KIND_TEXT = 4
    KIND_JSON = 5

ShardTable_ = namedtuple(
    "ShardTable",
    ["root", "path_offsets", "path_data", "uids", "file_bytes", "row_ends", "payload_ends", "index_file",
     "row_index_at", "page_checksums_at", "dictionary_set", "index_maps", "dictionary_sets", "token_ends"],
    defaults=[None], module=__name__)
OutputSpec = namedtuple(
    "OutputSpec", ["column", "image", "cast", "dtype", "shape"], defaults=[None, None, "uint8", ()], module=__name__)
RaggedArrays = namedtuple("RaggedArrays", ["values", "offsets", "shapes"], module=__name__)
NativeBatch = namedtuple("NativeBatch", ["columns", "nulls", "rows", "positions", "valid", "whole", "spent_s"],
                         module=__name__)
Pulse = namedtuple("Pulse", ["batch_bytes", "idle_s", "slots_held"], module=__name__)

# A stage of csrc's enum: number 0 is none. As the names of `spent_s`.
STAGES = ("locate", "read", "verify", "decode", "place")
globals()["ShardTable"] = ShardTable_


cdef object flat_bytes(object values):
    """A read-only uint8 array over any C-contiguous buffer, which it borrows."""
    view = memoryview(values)
    return np.frombuffer(view, dtype=np.uint8) if view.nbytes else np.empty(0, dtype=np.uint8)


cdef Bytes borrow(object array) except *:
    cdef const uint8_t[::1] flat = array
    return as_bytes(&flat[0] if flat.shape[0] else NULL, <size_t> flat.shape[0])


cdef int expect_length(str name, Py_ssize_t found, Py_ssize_t expected) except -1:
    if found != expected:
        raise ConfigError(f"the shard table's {name} has {found} elements, not {expected}")
    return 0


def io_uring_refusal():
    cdef string refusal
    with nogil:
        refusal = uring_refusal()
    return refusal.decode("utf-8", "surrogateescape") or None


# Threads read what `held` refers to until the last reader is gone: the garbage collector must not clear a snapshot or
# a reader that it finds in a cycle before it deallocates them. `held` is a tuple because it would empty a list.
@cython.no_gc_clear
cdef class Snapshot:
    def __init__(self, table, specs, *, uint32_t token_bytes=0, uint64_t window=0, uint64_t stride=0,
                 size_t open_files_max=512, str io="auto", bint direct=False, cache=None):
        cdef ShardTable native
        cdef vector[Column] columns = columns_of(specs)
        cdef StreamShape stream
        cdef vector[vector[DictionaryEntry]] dictionaries
        cdef IoOptions engine
        cdef shared_ptr[NativeCacheClient] client
        cdef uint32_t cache_set = 0
        self.pid = getpid()
        held = []
        engine.engine = io.encode("utf-8", "surrogateescape")
        engine.direct = direct
        stream.token_bytes = token_bytes
        stream.window = window
        stream.stride = stride
        fill_table(native, table, held)
        fill_dictionaries(dictionaries, table.dictionary_sets, held)
        if cache is not None:
            client = (<CacheClient?> cache[0]).opened()
            cache_set = cache[1]
        self.held = tuple(held)
        with nogil:
            self.native = make_snapshot(native, columns, stream, dictionaries, open_files_max, engine, client,
                                        cache_set)

    def __dealloc__(self):
        if self.pid != getpid():
            forget_snapshot(self.native)

    cdef check_process(self):
        if self.pid != getpid():
            raise FastfeedError(f"this snapshot was opened by process {self.pid} and belongs to it; a forked child "
                                "opens its own")

    def __len__(self):
        return self.native.get().rows()


cdef fill_table(ShardTable& native, object table, list held):
    """The table's columns as spans. What they point into is appended to `held`."""
    cdef const int32_t[::1] path_offsets = table.path_offsets
    cdef const uint64_t[::1] file_bytes = table.file_bytes
    cdef const int64_t[::1] row_ends = table.row_ends
    cdef const int64_t[::1] token_ends
    cdef const uint64_t[::1] payload_ends = table.payload_ends
    cdef const uint32_t[::1] index_file = table.index_file
    cdef const uint64_t[::1] row_index_at = table.row_index_at
    cdef const uint64_t[::1] page_checksums_at = table.page_checksums_at
    cdef const uint32_t[::1] dictionary_set = table.dictionary_set
    cdef Py_ssize_t shards = file_bytes.shape[0]
    cdef const int64_t* token_ends_at = NULL
    path_data = flat_bytes(table.path_data)
    uids = flat_bytes(table.uids)
    cdef Bytes path_bytes = borrow(path_data)
    cdef Bytes uid_bytes = borrow(uids)
    expect_length("path_offsets", path_offsets.shape[0], shards + 1)
    expect_length("uids", uids.shape[0], shards * 16)
    expect_length("row_ends", row_ends.shape[0], shards)
    expect_length("payload_ends", payload_ends.shape[0], shards)
    expect_length("index_file", index_file.shape[0], shards)
    expect_length("row_index_at", row_index_at.shape[0], shards)
    expect_length("page_checksums_at", page_checksums_at.shape[0], shards)
    expect_length("dictionary_set", dictionary_set.shape[0], shards)
    if table.token_ends is not None:
        token_ends = table.token_ends
        expect_length("token_ends", token_ends.shape[0], shards)
        if shards:
            token_ends_at = &token_ends[0]
    held.append((path_data, uids, table))
    native.root = table.root.encode("utf-8", "surrogateescape")
    if shards:
        set_columns(native, <size_t> shards, &path_offsets[0], data_of(path_bytes), path_bytes.size(),
                    data_of(uid_bytes), &file_bytes[0], &row_ends[0], token_ends_at, &payload_ends[0], &index_file[0],
                    &row_index_at[0], &page_checksums_at[0], &dictionary_set[0])
    else:
        set_columns(native, 0, &path_offsets[0], NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
    for index_map in table.index_maps:
        array = flat_bytes(index_map)
        held.append(array)
        native.index_maps.push_back(borrow(array))


cdef fill_dictionaries(vector[vector[DictionaryEntry]]& native, object dictionary_sets, list held):
    cdef vector[DictionaryEntry] entries
    cdef DictionaryEntry entry
    for dictionary_set in dictionary_sets:
        entries.clear()
        for column, dictionary in dictionary_set.items():
            array = flat_bytes(dictionary)
            held.append(array)
            entry.column = column
            entry.bytes = borrow(array)
            entries.push_back(entry)
        native.push_back(entries)


@cython.no_gc_clear
cdef class SlotMemory:
    def __dealloc__(self):
        if self.pid != getpid():
            forget_pool(self.pool)
        elif self.pool.get() is not NULL:
            self.pool.get().clear()   # every lease refers to this, so all slots are back
            self.unpin_retired()

    cdef pin(self, Slot* slot):
        """Register the pages of `slot` that the device does not know yet."""
        cdef BlockSpan blocks = slot.blocks()
        cdef size_t i
        self.unpin_retired()
        for i in range(blocks.size()):
            if blocks[i].at is not NULL and not blocks[i].pinned:
                blocks[i].pinned = self.pinner.pin(<size_t> blocks[i].at, blocks[i].bytes)

    cdef unpin_retired(self):
        cdef Block block = self.pool.get().arena().take_retired()
        while block.at is not NULL:
            self.pinner.unpin(<size_t> block.at)
            self.pool.get().arena().unmap(block)
            block = self.pool.get().arena().take_retired()


@cython.no_gc_clear
cdef class HeldMemory:
    def __dealloc__(self):
        if self.pid != getpid():
            forget_lease(self.lease)
        self.lease.reset()   # before the memory that it is of


@cython.no_gc_clear
cdef class BatchMemory:
    def __dealloc__(self):
        cdef HeldMemory held
        if self.pid != getpid():
            forget_lease(self.lease)
        elif self.lease.get() is not NULL and self.memory.pinner is not None:
            held = HeldMemory.__new__(HeldMemory)
            held.pid = self.pid
            held.memory = self.memory
            held.lease = move(self.lease)
            self.memory.pinner.hold(held)   # until copies that are under way are done
        self.lease.reset()   # before the memory that it is of


cdef class MemoryView:
    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.bytes, False, flags)


cdef array_over(BatchMemory owner, const BatchBytes& buffer, object dtype, object shape):
    cdef MemoryView view = MemoryView.__new__(MemoryView)
    view.owner = owner
    view.at = buffer.data()
    view.bytes = <Py_ssize_t> buffer.size()
    return np.ndarray(shape, dtype, view)


cdef OutputRequest output_request(object spec) except *:
    cdef OutputRequest request
    request.column = spec.column
    request.stored = item_type_of(spec.dtype.encode("utf-8"))
    if spec.cast is not None:
        request.cast = item_type_of(spec.cast.encode("utf-8"))
    if spec.image is not None:
        request.image = native_program(spec.image)
    for extent in spec.shape:
        request.shape.push_back(-1 if extent is None else extent)
    return request


cdef vector[OutputRequest] output_requests(object outputs) except *:
    cdef vector[OutputRequest] requests
    for spec in outputs:
        requests.push_back(output_request(spec))
    return requests


cdef vector[SourceRequest] source_requests(tuple snapshots, list outputs) except *:
    cdef vector[SourceRequest] requests
    cdef SourceRequest request
    for snapshot, specs in zip(snapshots, outputs, strict=True):
        if not isinstance(snapshot, Snapshot):
            raise ConfigError(f"a reader reads Snapshots, not {type(snapshot).__name__}")
        (<Snapshot> snapshot).check_process()
        request.snapshot = (<Snapshot> snapshot).native
        request.outputs = output_requests(specs)
        requests.push_back(request)
    return requests


cdef fill_request(BatchRequest& request, const int64_t[::1] rows, const int64_t[::1] positions, uint64_t seed,
                  uint64_t epoch, object sources):
    cdef const int32_t[::1] numbers
    if positions.shape[0] != rows.shape[0]:
        raise ConfigError(f"{positions.shape[0]} positions for {rows.shape[0]} rows")
    if rows.shape[0]:
        request.rows.assign(&rows[0], &rows[0] + rows.shape[0])
        request.positions.assign(&positions[0], &positions[0] + positions.shape[0])
    if sources is not None:
        numbers = sources
        if numbers.shape[0] != rows.shape[0]:
            raise ConfigError(f"{numbers.shape[0]} sources for {rows.shape[0]} rows")
        if rows.shape[0]:
            request.sources.assign(&numbers[0], &numbers[0] + numbers.shape[0])
    request.seed.seed = seed
    request.seed.epoch = epoch


# Readers that were not closed: their threads are joined before the interpreter goes.
_open_readers = weakref.WeakSet()


@atexit.register
def _close_readers():
    for reader in list(_open_readers):
        reader.close()


@cython.no_gc_clear
cdef class Reader:
    def __init__(self, snapshots, outputs, *, size_t threads=1, size_t reader_threads=1, str on_error="raise",
                 pinner=None, marks=None):
        cdef ReaderOptions options
        cdef const OutputPlan* plan
        cdef size_t source
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error={on_error!r}: must be 'raise' or 'skip'")
        if isinstance(snapshots, Snapshot):
            snapshots, outputs = [snapshots], [outputs]
        if len(snapshots) != len(outputs):
            raise ConfigError(f"{len(snapshots)} snapshots with outputs for {len(outputs)}")
        self.snapshots = tuple(snapshots)
        options.threads = threads
        options.reader_threads = reader_threads
        options.on_error = <OnError> <uint8_t> (1 if on_error == "skip" else 0)
        if marks is not None:
            options.marks = marks_at(marks[0], marks[1])
        self.pid = getpid()
        self.native.reset(new NativeReader(source_requests(self.snapshots, list(outputs)), options))
        self.memory = SlotMemory.__new__(SlotMemory)
        self.memory.pid = self.pid
        self.memory.pinner = pinner
        self.memory.pool = self.native.get().slots()
        plan = &self.native.get().plan()
        self.dtypes = [DTYPES[<int> plan.outputs[i].delivered] for i in range(plan.outputs.size())]
        self.shapes = [tuple(plan.outputs[i].shape) for i in range(plan.outputs.size())]
        self.stored_dtypes = []
        for source in range(self.native.get().sources()):
            plan = &self.native.get().source_plan(source)
            self.stored_dtypes.append([DTYPES[<int> plan.outputs[i].stored] for i in range(plan.outputs.size())])
        _open_readers.add(self)

    def __dealloc__(self):
        if self.pid != getpid():
            forget_reader(self.native)
            return
        with nogil:   # joins the threads
            self.native.reset()

    cdef check(self):
        if self.pid != getpid():
            raise FastfeedError(f"this reader belongs to process {self.pid}, which started its threads; a forked "
                                "child makes its own")
        if self.closed:
            raise FastfeedError("the reader is closed")

    def submit(self, const int64_t[::1] rows, const int64_t[::1] positions, uint64_t seed, uint64_t epoch, valid=None,
               sources=None):
        cdef BatchRequest request
        cdef const uint8_t[::1] flags
        self.check()
        fill_request(request, rows, positions, seed, epoch, sources)
        if valid is not None:
            flags = np.ascontiguousarray(valid, dtype=np.bool_).view(np.uint8)
            if flags.shape[0] != rows.shape[0]:
                raise ConfigError(f"{flags.shape[0]} valid flags for {rows.shape[0]} rows")
            if rows.shape[0]:
                request.valid.assign(&flags[0], &flags[0] + flags.shape[0])
        with nogil:   # a thread that has the pipeline's lock may have been pushed aside
            self.native.get().submit(move(request))

    def pending(self):
        self.check()
        return self.native.get().pending()

    def ready(self):
        self.check()
        return self.native.get().ready()

    def next(self, double timeout_s):
        cdef unique_ptr[Lease] lease
        cdef double now, deadline
        self.check()
        with nogil:
            lease = self.native.get().take_next()
        if lease.get() is NULL:
            now = time.monotonic()
            deadline = now + timeout_s
            while True:
                with nogil:
                    self.native.get().wait_next(max(0.0, min(WAIT_SLICE_S, deadline - now)))
                    lease = self.native.get().take_next()
                if lease.get() is not NULL:
                    break
                PyErr_CheckSignals()
                now = time.monotonic()
                if now >= deadline:
                    self.native.get().time_out(timeout_s)
        return self.wrap(move(lease))

    def cancel(self):
        self.check()
        with nogil:
            self.native.get().cancel()

    def take(self, const int64_t[::1] rows, positions=None, uint64_t seed=0, uint64_t epoch=0, sources=None):
        cdef BatchRequest request
        cdef unique_ptr[Lease] lease
        self.check()
        if positions is None:
            fill_request(request, rows, rows, seed, epoch, sources)
        else:
            fill_request(request, rows, positions, seed, epoch, sources)
        with nogil:
            lease = self.native.get().take(move(request))
        return self.wrap(move(lease))

    cdef wrap(self, unique_ptr[Lease] lease):
        cdef BatchMemory memory = BatchMemory.__new__(BatchMemory)
        memory.pid = self.pid
        memory.memory = self.memory
        memory.lease = move(lease)
        cdef Slot* slot = &memory.lease.get().slot()
        if self.memory.pinner is not None:
            self.memory.pin(slot)
        cdef const OutputPlan* plan = &self.native.get().plan()
        cdef Py_ssize_t count = slot.rows_count
        cdef size_t i
        columns, nulls = [], []
        for i in range(plan.outputs.size()):
            if plan.outputs[i].ragged:
                columns.append(RaggedArrays(
                    array_over(memory, slot.outputs[i].values, self.dtypes[i],
                               slot.outputs[i].values.size() // plan.outputs[i].item),
                    array_over(memory, slot.outputs[i].offsets, np.int64, count + 1),
                    array_over(memory, slot.outputs[i].shapes, np.int64, (count, plan.outputs[i].shape.size()))
                    if plan.outputs[i].with_shapes else None))
            else:
                columns.append(array_over(memory, slot.outputs[i].values, self.dtypes[i], (count, *self.shapes[i])))
            nulls.append(array_over(memory, slot.outputs[i].nulls, np.bool_, count)
                         if plan.outputs[i].nullable else None)
        return NativeBatch(columns, nulls, array_over(memory, slot.rows, np.int64, count),
                           array_over(memory, slot.positions, np.int64, count),
                           array_over(memory, slot.valid, np.bool_, count),
                           memchr(slot.valid.data(), 0, <size_t> count) is NULL,
                           (slot.spent.locate_s, slot.spent.read_s, slot.spent.verify_s, slot.spent.decode_s,
                            slot.spent.place_s))

    def sample(self, int64_t row, int32_t source=0):
        cdef unique_ptr[Sample] sample
        cdef size_t i
        self.check()
        with nogil:
            sample = self.native.get().sample(row, source)
        try:
            return tuple([self.value_of(<size_t> source, i, sample.get().items[i])
                          for i in range(sample.get().items.size())])
        except UnicodeDecodeError as error:
            raise CorruptDataError(f"row {row} of the dataset: a text is not UTF-8: {error}") from error
        finally:
            self.native.get().give_back(move(sample))

    cdef value_of(self, size_t source, size_t index, SampleItem item):
        cdef const Output* output = &self.native.get().source_plan(source).outputs[index]
        cdef int kind = <int> output.kind
        cdef const char* at = data_of(item.bytes)
        cdef Py_ssize_t size = <Py_ssize_t> item.bytes.size()
        if item.null:
            return None
        if kind == KIND_SCALAR:
            return scalar_of(<int> output.stored, item.bytes.data())
        if kind == KIND_TEXT or kind == KIND_JSON:
            return PyUnicode_DecodeUTF8(at, size, "strict") if size else ""
        if kind != KIND_TENSOR and kind != KIND_ARRAY:
            return PyBytes_FromStringAndSize(at, size)
        # A bytearray below the array makes it writable without a second copy.
        dtype = self.stored_dtypes[source][index]
        array = np.ndarray(size // dtype.itemsize, dtype, PyByteArray_FromStringAndSize(at, size))
        return array if output.shape.size() == 1 else array.reshape(self.shape_of(index, size))

    def shape_of(self, size_t index, Py_ssize_t size):
        """The shape of a value of `size` bytes: -1 is only unknown to numpy where other dimensions are 0."""
        shape = self.shapes[index]
        return shape if size else tuple(0 if extent == -1 else extent for extent in shape)

    def pulse(self):
        self.check()
        cdef FeedPulse pulse = self.native.get().pulse()
        return Pulse(pulse.batch_bytes, pulse.idle_s, self.native.get().slots_held())

    def set_trace(self, bint on):
        self.check()
        self.native.get().set_trace(on)

    def take_spans(self):
        cdef vector[StageSpan] spans
        cdef size_t i
        self.check()
        spans = self.native.get().take_spans()
        return [(STAGES[<int> spans[i].stage - 1], spans[i].thread, spans[i].begin_ns, spans[i].end_ns)
                for i in range(spans.size())]

    def stats(self):
        self.check()
        cdef FeedStats stats = self.native.get().stats()
        cdef IoReport io = self.native.get().io_report()
        images = stats.images
        return {
            "samples": stats.samples, "batches": stats.batches, "frame_bytes": stats.frame_bytes, "holes": stats.holes,
            "locate_s": stats.times.locate_s, "read_s": stats.times.read_s, "verify_s": stats.times.verify_s,
            "decode_s": stats.times.decode_s, "place_s": stats.times.place_s,
            "idle_s": stats.idle_s, "read_wait_s": stats.read_wait_s, "readers": self.native.get().reader_count(),
            "slots": self.native.get().slots().get().slots(), "slots_held": self.native.get().slots_held(),
            "slot_bytes": self.native.get().slots().get().arena().bytes(),
            "images": {
                "decoded": images.decoded, "exif_rotated": images.exif_rotated, "gray": images.gray,
                "palette": images.palette, "alpha_dropped": images.alpha_dropped, "cmyk": images.cmyk,
                "sixteen_bit": images.sixteen_bit, "progressive": images.progressive,
                "dct_scaled": images.dct_scaled, "warnings": images.warnings},
            "first_errors": [message.decode("utf-8", "surrogateescape") for message in stats.first_errors],
            "io": io.engine.decode("utf-8", "surrogateescape"),
            "io_choice": io.why.decode("utf-8", "surrogateescape"),
            "io_bytes": {"cached": io.cached_bytes, "device": io.device_bytes}, "io_device_reads": io.device_reads,
        }

    def close(self):
        if self.closed:
            return
        self.closed = True
        if self.pid == getpid():
            with nogil:
                self.native.get().stop()


cdef scalar_of(int item_type, const byte* at):
    """The item at `at`, which need not be aligned, as a Python number. Numbers of types: csrc's ItemType."""
    if item_type == 0:
        return load_le[uint8_t](at) != 0
    if item_type == 1:
        return load_le[int8_t](at)
    if item_type == 2:
        return load_le[int16_t](at)
    if item_type == 3:
        return load_le[int32_t](at)
    if item_type == 4:
        return load_le[int64_t](at)
    if item_type == 5:
        return load_le[uint8_t](at)
    if item_type == 6:
        return load_le[uint16_t](at)
    if item_type == 7:
        return load_le[uint32_t](at)
    if item_type == 8:
        return load_le[uint64_t](at)
    if item_type == 9:
        return half_to_float(load_le[uint16_t](at))
    if item_type == 10:
        return load_le[float](at)
    return load_le[double](at)
