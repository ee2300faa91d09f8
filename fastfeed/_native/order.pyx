# distutils: language = c++
"""The order of csrc/order: keyed permutations and the epoch's order, both ways. See order.pyi."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp.memory cimport unique_ptr

import numpy as np

from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <span>

    #include "order/epoch_order.hpp"

    namespace {

    void permute_all(std::uint64_t m, std::uint64_t key, bool inverse, std::int64_t* values, std::size_t count) {
        const auto direction = inverse ? ff::Direction::inverse : ff::Direction::forward;
        ff::permute_many(m, key, direction, {values, count});
    }

    void rows_range(const ff::EpochOrder& order, std::uint64_t start, std::int64_t* out, std::size_t count) {
        order.rows_range(start, {out, count});
    }

    void rows_at(const ff::EpochOrder& order, std::int64_t* values, std::size_t count) {
        order.rows_at({values, count});
    }

    void positions_of(const ff::EpochOrder& order, std::int64_t* values, std::size_t count) {
        order.positions_of({values, count});
    }

    }  // namespace
    """
    cppclass Shuffle "ff::Shuffle":
        pass

    cppclass NativeOrder "ff::EpochOrder":
        NativeOrder(uint64_t rows, uint64_t seed, uint64_t epoch, Shuffle shuffle, uint64_t window_blocks,
                    uint64_t block_rows) except +raise_native_error
        uint64_t rows() noexcept nogil
        uint64_t row(uint64_t position) noexcept nogil
        uint64_t position(uint64_t row) noexcept nogil

    void permute_all(uint64_t m, uint64_t key, bint inverse, int64_t* values,
                     size_t count) except +raise_native_error nogil
    void rows_range(const NativeOrder& order, uint64_t start, int64_t* out,
                    size_t count) except +raise_native_error nogil
    void rows_at(const NativeOrder& order, int64_t* values, size_t count) except +raise_native_error nogil
    void positions_of(const NativeOrder& order, int64_t* values, size_t count) except +raise_native_error nogil

    const uint32_t native_order_version "ff::kOrderVersion"
    const uint64_t native_row_count_max "ff::kRowCountMax"

ORDER_VERSION = int(native_order_version)
ROW_COUNT_MAX = int(native_row_count_max)


cdef copy_in_range(object values, uint64_t limit, str what):
    """A contiguous int64 copy of `values`, all in [0, limit); IndexError names the first that is not."""
    copy = np.array(values, dtype=np.int64, order="C", ndmin=1)
    if copy.ndim != 1:
        raise ConfigError(f"{what}s have {copy.ndim} dimensions; give one")
    cdef const int64_t[::1] checked = copy
    cdef Py_ssize_t i, bad = -1
    with nogil:
        for i in range(checked.shape[0]):
            if checked[i] < 0 or <uint64_t> checked[i] >= limit:
                bad = i
                break
    if bad >= 0:
        raise IndexError(f"{what} {checked[bad]} is outside of the {limit} that there are (0 to {int(limit) - 1})")
    return copy


def keyed_permutation(uint64_t m, uint64_t key, positions, bint inverse=False):
    if m < 1 or m > native_row_count_max:
        raise ConfigError(f"a permutation of {m} numbers; it must be from 1 to 2^48")
    result = copy_in_range(positions, m, "row" if inverse else "position")
    cdef int64_t[::1] values = result
    if values.shape[0] != 0:
        with nogil:
            permute_all(m, key, inverse, &values[0], <size_t> values.shape[0])
    return result


cdef class EpochOrder:
    cdef unique_ptr[NativeOrder] native

    def __init__(self, uint64_t n, uint64_t seed, uint64_t epoch, int shuffle, uint64_t window_blocks,
                 uint64_t block_rows):
        self.native.reset(new NativeOrder(n, seed, epoch, <Shuffle> shuffle, window_blocks, block_rows))

    def row(self, position):
        if not 0 <= position < self.native.get().rows():
            raise IndexError(f"position {position} is outside of the {self.native.get().rows()} that there are")
        return self.native.get().row(position)

    def position(self, row):
        if not 0 <= row < self.native.get().rows():
            raise IndexError(f"row {row} is outside of the {self.native.get().rows()} that there are")
        return self.native.get().position(row)

    def rows_range(self, start, stop):
        if not 0 <= start <= stop <= self.native.get().rows():
            raise IndexError(f"positions {start} to {stop} are not a range of the {self.native.get().rows()} that "
                             "there are")
        cdef uint64_t first = start
        result = np.empty(stop - start, dtype=np.int64)
        cdef int64_t[::1] out = result
        if out.shape[0] != 0:
            with nogil:
                rows_range(self.native.get()[0], first, &out[0], <size_t> out.shape[0])
        return result

    def rows_at(self, positions):
        result = copy_in_range(positions, self.native.get().rows(), "position")
        cdef int64_t[::1] values = result
        if values.shape[0] != 0:
            with nogil:
                rows_at(self.native.get()[0], &values[0], <size_t> values.shape[0])
        return result

    def positions_of(self, rows):
        result = copy_in_range(rows, self.native.get().rows(), "row")
        cdef int64_t[::1] values = result
        if values.shape[0] != 0:
            with nogil:
                positions_of(self.native.get()[0], &values[0], <size_t> values.shape[0])
        return result
