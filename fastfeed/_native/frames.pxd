# csrc/format/frame.hpp and crc32c.hpp, and the layout that other modules share by `cimport`.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastfeed._native.bytes cimport Bytes, MutableBytes, byte


cdef extern from "format/frame.hpp" namespace "ff" nogil:
    enum class Kind(uint8_t):
        pass

    enum class Codec(uint8_t):
        pass

    cppclass Column:
        string name
        Kind kind
        Codec codec
        cbool nullable
        uint32_t item_size
        uint64_t step_size
        uint32_t fixed_size
        cbool variable() noexcept

    cppclass NativeFrameLayout "ff::FrameLayout":
        const vector[Column]& columns() noexcept
        uint64_t head_size() noexcept
        uint64_t stride() noexcept

    cppclass FrameSeed:
        FrameSeed(Bytes uid) noexcept

    cppclass ColumnData:
        const byte* fixed
        const byte* values
        const int64_t* value_offsets
        const uint8_t* nulls


# The columns of ColumnSpecs. Numbers that do not fit raise ConfigError; the rest is FrameLayout's to check.
cdef vector[Column] columns_of(object specs) except *


cdef class FrameLayout:
    cdef shared_ptr[const NativeFrameLayout] native
    cdef readonly tuple specs
    cdef readonly uint64_t head_size
    cdef readonly uint64_t stride
