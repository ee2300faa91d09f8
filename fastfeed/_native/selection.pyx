# distutils: language = c++
"""Selections of csrc/order: a subset of rows as a bitmap with rank and select; and the hash of splits. See the .pyi."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp.memory cimport unique_ptr

import numpy as np
import xxhash

from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError, FastfeedError

cdef extern from *:
    """
    #include <memory>
    #include <span>

    #include "order/selection.hpp"
    #include "order/split.hpp"

    namespace {

    void fill_split_mask(std::uint64_t seed, std::uint64_t uid_low, std::uint64_t uid_high, std::uint64_t first_row,
                         std::uint64_t low, std::uint64_t high, std::uint8_t* found, std::size_t count) {
        ff::split_mask(seed, uid_low, uid_high, first_row, low, high, {found, count});
    }

    using SelectionPtr = std::unique_ptr<ff::Selection>;

    SelectionPtr selection_from_bits(const std::uint8_t* bits, std::size_t size, std::uint64_t universe) {
        return std::make_unique<ff::Selection>(ff::Selection::from_bits(ff::as_bytes(bits, size), universe));
    }

    SelectionPtr selection_from_rows(const std::int64_t* rows, std::size_t count, std::uint64_t universe) {
        return std::make_unique<ff::Selection>(ff::Selection::from_rows({rows, count}, universe));
    }

    void select_rows(const ff::Selection& selection, std::int64_t* values, std::size_t count) {
        selection.rows_at({values, count});
    }

    void rank_rows(const ff::Selection& selection, std::int64_t* values, std::size_t count) {
        selection.ranks_of({values, count});
    }

    void find_rows(const ff::Selection& selection, const std::int64_t* rows, std::uint8_t* found, std::size_t count) {
        selection.contains({rows, count}, {found, count});
    }

    const char* selection_bits(const ff::Selection& selection) {
        return reinterpret_cast<const char*>(selection.bits().data());
    }

    std::size_t selection_bytes(const ff::Selection& selection) { return selection.bits().size(); }

    }  // namespace
    """
    cppclass NativeSelection "ff::Selection":
        uint64_t size() noexcept nogil
        uint64_t universe() noexcept nogil
        size_t memory_bytes() noexcept nogil

    unique_ptr[NativeSelection] selection_from_bits(const uint8_t* bits, size_t size,
                                                    uint64_t universe) except +raise_native_error nogil
    unique_ptr[NativeSelection] selection_from_rows(const int64_t* rows, size_t count,
                                                    uint64_t universe) except +raise_native_error nogil
    void select_rows(const NativeSelection& selection, int64_t* values, size_t count) noexcept nogil
    void rank_rows(const NativeSelection& selection, int64_t* values, size_t count) noexcept nogil
    void find_rows(const NativeSelection& selection, const int64_t* rows, uint8_t* found, size_t count) noexcept nogil
    const char* selection_bits(const NativeSelection& selection) noexcept nogil
    size_t selection_bytes(const NativeSelection& selection) noexcept nogil

    void fill_split_mask(uint64_t seed, uint64_t uid_low, uint64_t uid_high, uint64_t first_row, uint64_t low,
                         uint64_t high, uint8_t* found, size_t count) noexcept nogil

    const uint64_t native_universe_max "ff::kUniverseMax"


cdef int64_t first_outside(const int64_t[::1] values, uint64_t limit) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(values.shape[0]):
        if values[i] < 0 or <uint64_t> values[i] >= limit:
            return i
    return -1


cdef copy_in_range(object values, uint64_t limit, str what):
    """A contiguous int64 copy of `values`, all in [0, limit); IndexError names the first that is not."""
    copy = np.array(values, dtype=np.int64, order="C", ndmin=1)
    if copy.ndim != 1:
        raise ConfigError(f"{what}s have {copy.ndim} dimensions; give one")
    cdef const int64_t[::1] checked = copy
    cdef int64_t bad
    with nogil:
        bad = first_outside(checked, limit)
    if bad >= 0:
        raise IndexError(f"{what} {checked[bad]} is outside of the {limit} that there are (0 to {int(limit) - 1})")
    return copy


def split_mask(uint64_t seed, uid, uint64_t first_row, Py_ssize_t row_count, uint64_t low, uint64_t high):
    if len(uid) != 16:
        raise ConfigError(f"a uid of {len(uid)} bytes; it has 16")
    cdef uint64_t uid_low = int.from_bytes(uid[:8], "little")
    cdef uint64_t uid_high = int.from_bytes(uid[8:], "little")
    result = np.empty(row_count, dtype=np.uint8)
    cdef uint8_t[::1] found = result
    if row_count > 0:
        with nogil:
            fill_split_mask(seed, uid_low, uid_high, first_row, low, high, &found[0], <size_t> row_count)
    return result.view(np.bool_)


cdef uint64_t checked_universe(object universe) except? 0:
    if not 0 <= universe <= native_universe_max:
        raise ConfigError(f"a selection of {universe} rows; it has 0 to 2^48")
    return universe


cdef class Selection:
    cdef unique_ptr[NativeSelection] native

    def __init__(self):
        raise FastfeedError("make a Selection by from_bits() or from_rows()")

    @staticmethod
    def from_bits(bits, universe):
        cdef const uint8_t[::1] given = np.frombuffer(bits, dtype=np.uint8)
        cdef const uint8_t* data = &given[0] if given.shape[0] != 0 else NULL
        cdef size_t size = <size_t> given.shape[0]
        cdef uint64_t row_count = checked_universe(universe)
        cdef Selection made = Selection.__new__(Selection)
        with nogil:
            made.native = selection_from_bits(data, size, row_count)
        return made

    @staticmethod
    def from_rows(rows, universe):
        array = np.ascontiguousarray(rows, dtype=np.int64)
        if array.ndim != 1:
            raise ConfigError(f"rows have {array.ndim} dimensions; give one")
        cdef const int64_t[::1] given = array
        cdef const int64_t* data = &given[0] if given.shape[0] != 0 else NULL
        cdef size_t count = <size_t> given.shape[0]
        cdef uint64_t row_count = checked_universe(universe)
        cdef Selection made = Selection.__new__(Selection)
        with nogil:
            made.native = selection_from_rows(data, count, row_count)
        return made

    def __len__(self):
        return <Py_ssize_t> self.native.get().size()

    @property
    def universe(self):
        return self.native.get().universe()

    @property
    def memory_bytes(self):
        return self.native.get().memory_bytes()

    def rows_at(self, numbers):
        result = copy_in_range(numbers, self.native.get().size(), "number")
        cdef int64_t[::1] values = result
        if values.shape[0] != 0:
            with nogil:
                select_rows(self.native.get()[0], &values[0], <size_t> values.shape[0])
        return result

    def ranks_of(self, rows):
        result = copy_in_range(rows, self.native.get().universe() + 1, "row")
        cdef int64_t[::1] values = result
        if values.shape[0] != 0:
            with nogil:
                rank_rows(self.native.get()[0], &values[0], <size_t> values.shape[0])
        return result

    def contains(self, rows):
        cdef const int64_t[::1] wanted = copy_in_range(rows, self.native.get().universe(), "row")
        result = np.zeros(wanted.shape[0], dtype=np.uint8)
        cdef uint8_t[::1] found = result
        if wanted.shape[0] != 0:
            with nogil:
                find_rows(self.native.get()[0], &wanted[0], &found[0], <size_t> wanted.shape[0])
        return result.view(np.bool_)

    def bits(self):
        return selection_bits(self.native.get()[0])[:selection_bytes(self.native.get()[0])]

    def digest(self):
        digest = xxhash.xxh3_128(b"fastfeed selection 1")
        digest.update(int(self.universe).to_bytes(8, "little"))
        digest.update(self.bits())
        return digest.digest()

    def __eq__(self, other):
        if not isinstance(other, Selection):
            return NotImplemented
        return self.universe == other.universe and len(self) == len(other) and self.bits() == other.bits()

    def __hash__(self):
        return hash(self.digest())

    def __reduce__(self):
        return Selection.from_bits, (self.bits(), self.universe)

    def __repr__(self):
        return f"Selection({len(self)} of {self.universe} rows)"
