# distutils: language = c++
"""A mixture's epoch of csrc/order: from positions to samples of sources, and back. See mixture.pyi."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

import numpy as np

from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <span>

    #include "order/mixture.hpp"

    namespace {

    void picks_of(const ff::MixtureEpoch& epoch, const std::int64_t* positions, std::int32_t* sources,
                  std::int64_t* indexes, std::size_t count) {
        epoch.picks({positions, count}, {sources, count}, {indexes, count});
    }

    void mixture_positions(const ff::MixtureEpoch& epoch, const std::int32_t* sources, std::int64_t* values,
                           std::size_t count) {
        epoch.positions_of({sources, count}, {values, count});
    }

    }  // namespace
    """
    cppclass MixtureSegment "ff::MixtureSegment":
        uint64_t periods
        uint64_t denominator
        vector[uint64_t] counts

    cppclass NativeMixture "ff::MixtureEpoch":
        NativeMixture(uint64_t seed, uint64_t epoch, bint shuffled,
                      const vector[MixtureSegment]& segments) except +raise_native_error
        size_t sources() noexcept nogil
        uint64_t length() noexcept nogil
        uint64_t total(size_t source) noexcept nogil

    void picks_of(const NativeMixture& epoch, const int64_t* positions, int32_t* sources, int64_t* indexes,
                  size_t count) except +raise_native_error nogil
    void mixture_positions(const NativeMixture& epoch, const int32_t* sources, int64_t* values,
                           size_t count) except +raise_native_error nogil
    uint64_t mixture_source_seed "ff::mixture_source_seed"(uint64_t seed, uint64_t source) noexcept

    const uint64_t native_length_max "ff::kMixtureLengthMax"
    const size_t native_sources_max "ff::kMixtureSourcesMax"
    const size_t native_segments_max "ff::kMixtureSegmentsMax"

LENGTH_MAX = int(native_length_max)
SOURCES_MAX = int(native_sources_max)
SEGMENTS_MAX = int(native_segments_max)


def source_seed(uint64_t seed, uint64_t source):
    return mixture_source_seed(seed, source)


cdef class MixtureEpoch:
    cdef unique_ptr[NativeMixture] native

    def __init__(self, uint64_t seed, uint64_t epoch, bint shuffled, segments):
        cdef vector[MixtureSegment] made
        cdef MixtureSegment segment
        for periods, denominator, counts in segments:
            segment.periods = periods
            segment.denominator = denominator
            segment.counts = counts
            made.push_back(segment)
        self.native.reset(new NativeMixture(seed, epoch, shuffled, made))

    @property
    def length(self):
        return self.native.get().length()

    @property
    def totals(self):
        return tuple([self.native.get().total(source) for source in range(self.native.get().sources())])

    def picks(self, positions):
        wanted = np.ascontiguousarray(positions, dtype=np.int64)
        cdef const int64_t[::1] given = wanted
        cdef Py_ssize_t i, count = given.shape[0]
        cdef uint64_t length = self.native.get().length()
        for i in range(count):
            if <uint64_t> given[i] >= length:   # negative ones wrap
                raise IndexError(f"position {given[i]} is outside of the {length} that there are")
        numbers, indexes = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int64)
        cdef int32_t[::1] sources_out = numbers
        cdef int64_t[::1] indexes_out = indexes
        if count:
            with nogil:
                picks_of(self.native.get()[0], &given[0], &sources_out[0], &indexes_out[0], <size_t> count)
        return numbers, indexes

    def positions_of(self, sources, indexes):
        result = np.array(indexes, dtype=np.int64, order="C", ndmin=1)
        numbers = np.ascontiguousarray(sources, dtype=np.int32)
        cdef const int32_t[::1] of = numbers
        cdef int64_t[::1] values = result
        cdef Py_ssize_t i, count = values.shape[0]
        if of.shape[0] != count:
            raise ConfigError(f"{of.shape[0]} sources for {count} samples")
        for i in range(count):
            if of[i] < 0 or <size_t> of[i] >= self.native.get().sources():
                raise IndexError(f"source {of[i]} is not one of the {self.native.get().sources()} of the mixture")
            if <uint64_t> values[i] >= self.native.get().total(of[i]):
                raise IndexError(f"sample {values[i]} is outside of the {self.native.get().total(of[i])} that source "
                                 f"{of[i]} gives an epoch")
        if count:
            with nogil:
                mixture_positions(self.native.get()[0], &of[0], &values[0], <size_t> count)
        return result
