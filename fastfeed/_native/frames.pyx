# distutils: language = c++
"""Frames out of columns, and single frames back (csrc/format/frame.hpp, csrc/codec/zstd.hpp). See frames.pyi."""

from collections import namedtuple

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy
from libcpp.memory cimport unique_ptr
from libcpp.utility cimport pair

import numpy as np

from fastfeed._native.bytes cimport as_bytes, as_mutable_bytes
from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <memory>
    #include <new>
    #include <span>
    #include <string>
    #include <utility>
    #include <vector>

    #include "codec/zstd.hpp"
    #include "error.hpp"
    #include "format/frame.hpp"

    namespace {

    constexpr std::size_t kFindingCountMax = 100;

    std::shared_ptr<const ff::FrameLayout> make_layout(std::vector<ff::Column> columns) {
        return std::make_shared<const ff::FrameLayout>(std::move(columns));
    }

    std::uint64_t measure(const ff::FrameLayout& layout, std::size_t rows, const std::vector<ff::ColumnData>& columns,
                          std::uint64_t* sizes) {
        return ff::measure_frames(layout, rows, columns, {sizes, rows});
    }

    void write(const ff::FrameLayout& layout, std::size_t rows, const std::vector<ff::ColumnData>& columns,
               const std::uint64_t* sizes, void* out, std::uint64_t out_size, std::uint32_t* body_crcs) {
        ff::write_frames(layout, rows, columns, {sizes, rows}, {static_cast<std::byte*>(out), out_size},
                         {body_crcs, rows});
    }

    // (i, what is wrong) of the bad frames among data[offsets[i], offsets[i + 1]).
    std::vector<std::pair<std::size_t, std::string>> check_many(const ff::FrameLayout& layout, ff::Bytes data,
                                                                const std::uint64_t* offsets, std::size_t count,
                                                                ff::Bytes uid, std::uint64_t first_row) {
        std::vector<std::pair<std::size_t, std::string>> findings;
        const ff::FrameSeed seed(uid);
        for (std::size_t i = 0; i < count && findings.size() < kFindingCountMax; ++i) {
            const std::uint64_t start = offsets[i], end = offsets[i + 1];
            if (start > end || end > data.size()) {
                findings.emplace_back(i, "the frame is at bytes " + std::to_string(start) + " to " +
                                             std::to_string(end) + " of " + std::to_string(data.size()));
                continue;
            }
            try {
                ff::check_frame(layout, seed, first_row + i, data.subspan(start, end - start));
            } catch (const ff::Error& error) {
                findings.emplace_back(i, error.message());
            }
        }
        return findings;
    }

    void seal(ff::Bytes uid, std::uint64_t first_row, const std::uint32_t* body_crcs, const std::uint64_t* sizes,
              std::uint32_t* crcs, std::size_t count) {
        const ff::FrameSeed seed(uid);
        for (std::size_t i = 0; i < count; ++i) crcs[i] = ff::seal_crc(seed, first_row + i, body_crcs[i], sizes[i]);
    }

    void encode_values(ff::ZstdEncoder& encoder, const unsigned char* values, const std::int64_t* offsets,
                       std::size_t count, std::vector<std::byte>& stored, std::int64_t* stored_offsets) {
        stored_offsets[0] = 0;
        for (std::size_t i = 0; i < count; ++i) {
            encoder.encode(ff::as_bytes(values + offsets[i], static_cast<std::size_t>(offsets[i + 1] - offsets[i])),
                           stored);
            stored_offsets[i + 1] = static_cast<std::int64_t>(stored.size());
        }
    }

    }  // namespace
    """
    shared_ptr[const NativeFrameLayout] make_layout(vector[Column] columns) except +raise_native_error
    uint64_t measure(const NativeFrameLayout& layout, size_t rows, const vector[ColumnData]& columns,
                     uint64_t* sizes) except +raise_native_error nogil
    void write(const NativeFrameLayout& layout, size_t rows, const vector[ColumnData]& columns, const uint64_t* sizes,
               void* out, uint64_t out_size, uint32_t* body_crcs) except +raise_native_error nogil
    vector[pair[size_t, string]] native_check_many "check_many"(
        const NativeFrameLayout& layout, Bytes data, const uint64_t* offsets, size_t count, Bytes uid,
        uint64_t first_row) except +raise_native_error nogil
    void seal(Bytes uid, uint64_t first_row, const uint32_t* body_crcs, const uint64_t* sizes, uint32_t* crcs,
              size_t count) noexcept nogil

    cppclass NativeEncoder "ff::ZstdEncoder":
        NativeEncoder(int level, Bytes dictionary) except +raise_native_error

    cppclass NativeDecoder "ff::ZstdDecoder":
        NativeDecoder() except +raise_native_error
        void decode(Bytes stored, const NativeDictionary* dictionary, MutableBytes out) except +raise_native_error nogil

    cppclass NativeDictionary "ff::ZstdDictionary":
        NativeDictionary(Bytes dictionary) except +raise_native_error

    void encode_values(NativeEncoder& encoder, const unsigned char* values, const int64_t* offsets, size_t count,
                       vector[byte]& stored, int64_t* stored_offsets) except +raise_native_error nogil

cdef extern from "format/frame.hpp" namespace "ff" nogil:
    void check_frame(const NativeFrameLayout& layout, const FrameSeed& seed, uint64_t row_in_shard,
                     Bytes frame) except +raise_native_error

cdef enum:
    UID_BYTES = 16
    VALUE_BYTES_MAX = 0x7FFFFFFF

ColumnSpec = namedtuple(
    "ColumnSpec", ["name", "kind", "codec", "nullable", "item_size", "step_size", "fixed_size"], module=__name__)
ColumnSpec.__doc__ = "csrc's Column. `kind` and `codec` are the numbers of csrc/format/frame.hpp."
EncodedColumn = namedtuple("EncodedColumn", ["fixed", "values", "value_offsets", "nulls"], module=__name__)
EncodedColumn.__doc__ = "One column of n samples as frames hold it. Arrays are C-contiguous and borrowed during calls."


cdef vector[Column] columns_of(object specs) except *:
    cdef vector[Column] columns
    cdef Column column
    for spec in specs:
        try:
            column.name = spec.name.encode("utf-8")
            column.kind = <Kind> <uint8_t> spec.kind
            column.codec = <Codec> <uint8_t> spec.codec
            column.nullable = spec.nullable
            column.item_size = spec.item_size
            column.step_size = spec.step_size
            column.fixed_size = spec.fixed_size
        except OverflowError as error:
            raise ConfigError(f"column {spec.name!r}: a number of {tuple(spec)} does not fit: {error}") from error
        columns.push_back(column)
    return columns


cdef check_uid(bytes uid):
    if len(uid) != UID_BYTES:
        raise ConfigError(f"a uid has {UID_BYTES} bytes, this one {len(uid)}")


cdef check_offsets(const int64_t[::1] offsets, Py_ssize_t count, Py_ssize_t value_bytes, str name):
    """ConfigError unless offsets are count + 1 ascending positions in value_bytes bytes."""
    cdef Py_ssize_t i
    if offsets.shape[0] != count + 1:
        raise ConfigError(f"{name}: {offsets.shape[0]} offsets for {count} values; there must be one more than values")
    if offsets[0] < 0 or offsets[count] > value_bytes:
        raise ConfigError(f"{name}: offsets {offsets[0]} to {offsets[count]} leave the {value_bytes} bytes of values")
    for i in range(count):
        if offsets[i] > offsets[i + 1]:
            raise ConfigError(f"{name}: offset {i + 1} is {offsets[i + 1]}, below the one before, {offsets[i]}")


cdef class FrameLayout:
    def __init__(self, specs):
        self.specs = tuple(ColumnSpec(*spec) for spec in specs)
        self.native = make_layout(columns_of(self.specs))
        self.head_size = self.native.get().head_size()
        self.stride = self.native.get().stride()

    def __reduce__(self):
        return FrameLayout, (self.specs,)

    def encode(self, Py_ssize_t rows, columns):
        if rows < 0 or len(columns) != len(self.specs):
            raise ConfigError(f"{rows} rows of {len(columns)} columns for a schema of {len(self.specs)} columns")
        cdef vector[ColumnData] data
        cdef uint64_t total
        cdef uint64_t[::1] sizes
        cdef uint32_t[::1] body_crcs
        cdef unsigned char[::1] frames
        held = []   # views of the callers' buffers, until the frames are written
        for spec, column in zip(self.specs, columns, strict=True):
            data.push_back(column_data(spec, column, rows, held))
        sizes_array = np.empty(rows, dtype=np.uint64)
        body_crcs_array = np.empty(rows, dtype=np.uint32)
        if rows == 0:
            return np.empty(0, dtype=np.uint8), sizes_array, body_crcs_array
        sizes = sizes_array
        body_crcs = body_crcs_array
        with nogil:
            total = measure(self.native.get()[0], <size_t> rows, data, &sizes[0])
        frames_array = np.empty(total, dtype=np.uint8)
        frames = frames_array
        with nogil:
            write(self.native.get()[0], <size_t> rows, data, &sizes[0], &frames[0], total, &body_crcs[0])
        return frames_array, sizes_array, body_crcs_array

    def check(self, frame, bytes uid, uint64_t row):
        check_uid(uid)
        cdef Py_buffer view
        cdef const char* uid_bytes = uid
        cdef unique_ptr[FrameSeed] seed
        seed.reset(new FrameSeed(as_bytes(uid_bytes, UID_BYTES)))
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                check_frame(self.native.get()[0], seed.get()[0], row, as_bytes(view.buf, <size_t> view.len))
        finally:
            PyBuffer_Release(&view)

    def check_many(self, data, const uint64_t[::1] offsets, bytes uid, uint64_t first_row):
        check_uid(uid)
        if offsets.shape[0] < 2:
            return []
        cdef Py_buffer view
        cdef const char* uid_bytes = uid
        cdef size_t count = <size_t> offsets.shape[0] - 1
        cdef vector[pair[size_t, string]] findings
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                findings = native_check_many(self.native.get()[0], as_bytes(view.buf, <size_t> view.len), &offsets[0],
                                             count, as_bytes(uid_bytes, UID_BYTES), first_row)
        finally:
            PyBuffer_Release(&view)
        return [(finding.first, finding.second.decode("utf-8", "replace")) for finding in findings]


cdef ColumnData column_data(object spec, object column, Py_ssize_t rows, list held) except *:
    """What the core needs of `column`, checked. The arrays that it points into are appended to `held`."""
    cdef ColumnData data
    cdef const unsigned char[::1] flat
    cdef const int64_t[::1] offsets
    name = f"column {spec.name!r}"
    data.fixed = NULL
    data.values = NULL
    data.value_offsets = NULL
    data.nulls = NULL
    if column.fixed is not None:
        flat = column.fixed
        if flat.shape[0] != rows * spec.fixed_size:
            raise ConfigError(f"{name}: {flat.shape[0]} bytes of fixed parts; {rows} rows need "
                              f"{rows * spec.fixed_size}")
        held.append(column.fixed)
        if flat.shape[0] != 0:
            data.fixed = <const byte*> &flat[0]
    if column.value_offsets is not None:
        offsets = column.value_offsets
        flat = as_flat_bytes(column.values)
        check_offsets(offsets, rows, flat.shape[0], name)
        held.append(column.value_offsets)
        held.append(flat)
        data.value_offsets = &offsets[0]
        if flat.shape[0] != 0:
            data.values = <const byte*> &flat[0]
    if column.nulls is not None:
        flat = column.nulls
        if flat.shape[0] != rows:
            raise ConfigError(f"{name}: {flat.shape[0]} null flags for {rows} rows")
        held.append(column.nulls)
        if rows != 0:
            data.nulls = &flat[0]
    return data


cdef as_flat_bytes(object values):
    """A uint8 array over any C-contiguous buffer. Borrows it."""
    if values is None:
        return np.empty(0, dtype=np.uint8)
    view = memoryview(values)
    if view.nbytes == 0:
        return np.empty(0, dtype=np.uint8)
    return np.frombuffer(view, dtype=np.uint8)


def seal_crcs(bytes uid, uint64_t first_row, const uint32_t[::1] body_crcs, const uint64_t[::1] sizes):
    check_uid(uid)
    cdef Py_ssize_t count = body_crcs.shape[0]
    if sizes.shape[0] != count:
        raise ConfigError(f"{sizes.shape[0]} sizes for {count} crcs")
    result = np.empty(count, dtype=np.uint32)
    if count == 0:
        return result
    cdef uint32_t[::1] crcs = result
    cdef const char* uid_bytes = uid
    with nogil:
        seal(as_bytes(uid_bytes, UID_BYTES), first_row, &body_crcs[0], &sizes[0], &crcs[0], <size_t> count)
    return result


cdef class ZstdEncoder:
    cdef unique_ptr[NativeEncoder] native

    def __init__(self, int level=3, bytes dictionary=b""):
        cdef const char* at = dictionary
        self.native.reset(new NativeEncoder(level, as_bytes(at, <size_t> len(dictionary))))

    def encode(self, values, const int64_t[::1] value_offsets):
        cdef Py_ssize_t count = value_offsets.shape[0] - 1
        cdef const unsigned char[::1] flat = as_flat_bytes(values)
        if count < 0:
            raise ConfigError("value_offsets is empty; there must be one more offset than values")
        check_offsets(value_offsets, count, flat.shape[0], "values")
        cdef vector[byte] stored
        cdef const unsigned char* at = &flat[0] if flat.shape[0] != 0 else NULL
        stored_offsets_array = np.zeros(count + 1, dtype=np.int64)
        cdef int64_t[::1] stored_offsets = stored_offsets_array
        with nogil:
            encode_values(self.native.get()[0], at, &value_offsets[0], <size_t> count, stored, &stored_offsets[0])
        result = np.empty(stored.size(), dtype=np.uint8)
        cdef unsigned char[::1] out = result
        if stored.size() != 0:
            memcpy(&out[0], stored.data(), stored.size())
        return result, stored_offsets_array


cdef class ZstdDecoder:
    cdef unique_ptr[NativeDecoder] native
    cdef unique_ptr[NativeDictionary] dictionary

    def __init__(self, bytes dictionary=b""):
        cdef const char* at = dictionary
        self.native.reset(new NativeDecoder())
        if dictionary:
            self.dictionary.reset(new NativeDictionary(as_bytes(at, <size_t> len(dictionary))))

    def decode(self, stored, Py_ssize_t raw_length):
        if raw_length < 0 or raw_length > VALUE_BYTES_MAX:
            raise ConfigError(f"a raw length of {raw_length} bytes; it must be from 0 to {VALUE_BYTES_MAX}")
        cdef bytes result = PyBytes_FromStringAndSize(NULL, raw_length)
        cdef char* out = PyBytes_AS_STRING(result)
        cdef Py_buffer view
        PyObject_GetBuffer(stored, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                self.native.get().decode(as_bytes(view.buf, <size_t> view.len), self.dictionary.get(),
                                         as_mutable_bytes(out, <size_t> raw_length))
        finally:
            PyBuffer_Release(&view)
        return result
