# distutils: language = c++
"""When chunks are used, and what policies would make of it: csrc/cache/uses and policy. See policy.pyi."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

import numpy as np

from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <span>
    #include <vector>

    #include "cache/policy.hpp"
    #include "cache/uses.hpp"
    #include "order/epoch_order.hpp"

    namespace {

    void uses_of(const ff::EpochOrder& order, const std::uint64_t* starts, const std::uint64_t* ends,
                 std::size_t blocks, std::uint64_t chunk, std::vector<ff::ChunkUse>& uses) {
        ff::append_uses(order, {{starts, blocks}, {ends, blocks}}, chunk, uses);
    }

    ff::NextUse next_of(const ff::EpochOrder& now, const ff::EpochOrder& next, const std::uint64_t* starts,
                        const std::uint64_t* ends, std::size_t blocks, std::uint64_t position, std::uint64_t lead,
                        std::uint64_t chunk, std::vector<ff::ChunkUse>& scratch) {
        return ff::next_use(now, next, {{starts, blocks}, {ends, blocks}}, position, lead, chunk, scratch);
    }

    std::size_t from_position(const ff::EpochOrder& order, std::uint64_t position, std::uint64_t* out,
                              std::size_t count) {
        return order.blocks_from(position, {out, count});
    }

    std::size_t at_position(const ff::EpochOrder& order, std::uint64_t position, std::uint64_t* out,
                            std::size_t count) {
        return order.blocks_at(position, {out, count});
    }

    ff::PolicyCost run_policy(int policy, const std::vector<ff::PlannedUse>& uses, const std::uint64_t* ranks,
                              std::size_t chunks, std::uint64_t capacity, std::int64_t first,
                              std::int64_t last) {
        return ff::simulate(static_cast<ff::CachePolicy>(policy), uses, {ranks, chunks}, capacity, {first, last});
    }

    }  // namespace
    """
    cppclass Shuffle "ff::Shuffle":
        pass

    struct PositionRange "ff::PositionRange":
        uint64_t begin
        uint64_t end

    struct BlockUse "ff::BlockUse":
        PositionRange first
        PositionRange second

    cppclass NativeOrder "ff::EpochOrder":
        NativeOrder(uint64_t rows, uint64_t seed, uint64_t epoch, Shuffle shuffle, uint64_t window_blocks,
                    uint64_t block_rows) except +raise_native_error
        uint64_t use_count() noexcept nogil
        BlockUse block_use(uint64_t block) noexcept nogil

    struct ChunkUse "ff::ChunkUse":
        int64_t begin
        int64_t end
        uint32_t part

    struct NextUse "ff::NextUse":
        int64_t until
        int64_t after
        uint32_t part

    cppclass PlannedUse "ff::PlannedUse":
        int64_t begin
        int64_t end
        uint32_t chunk
        uint32_t part
        bint dense

    struct PolicyCost "ff::PolicyCost":
        uint64_t demand
        uint64_t origin
        uint64_t writes
        uint64_t uses
        uint64_t hits
        uint64_t exact

    void uses_of(const NativeOrder& order, const uint64_t* starts, const uint64_t* ends, size_t blocks,
                 uint64_t chunk, vector[ChunkUse]& uses) except +raise_native_error nogil
    NextUse next_of(const NativeOrder& now, const NativeOrder& next, const uint64_t* starts, const uint64_t* ends,
                    size_t blocks, uint64_t position, uint64_t lead, uint64_t chunk,
                    vector[ChunkUse]& scratch) except +raise_native_error nogil
    size_t from_position(const NativeOrder& order, uint64_t position, uint64_t* out, size_t count) noexcept nogil
    size_t at_position(const NativeOrder& order, uint64_t position, uint64_t* out, size_t count) noexcept nogil
    PolicyCost run_policy(int policy, const vector[PlannedUse]& uses, const uint64_t* ranks, size_t chunks,
                          uint64_t capacity, int64_t first, int64_t last) except +raise_native_error nogil

    const int64_t native_no_use "ff::kNoUse"
    const uint32_t native_whole_part "ff::kWholePart"
    const uint32_t native_stage_part_min "ff::kStagePartMin"
    const uint32_t native_kept_part_min "ff::kKeptPartMin"

NO_USE = int(native_no_use)
WHOLE_PART = int(native_whole_part)
STAGE_PART_MIN = int(native_stage_part_min)
KEPT_PART_MIN = int(native_kept_part_min)


cdef class ChunkUses:
    cdef const uint64_t[::1] starts
    cdef const uint64_t[::1] ends
    cdef readonly uint64_t n
    cdef readonly uint64_t seed
    cdef readonly int shuffle
    cdef readonly uint64_t window_blocks
    cdef readonly uint64_t block_rows
    cdef readonly uint64_t epoch
    cdef unique_ptr[NativeOrder] now
    cdef unique_ptr[NativeOrder] after
    cdef vector[ChunkUse] scratch

    def __init__(self, uint64_t n, uint64_t seed, uint64_t epoch, int shuffle, uint64_t window_blocks,
                 uint64_t block_rows, const uint64_t[::1] starts, const uint64_t[::1] ends):
        self.n, self.seed, self.epoch, self.shuffle = n, seed, epoch, shuffle
        self.window_blocks, self.block_rows = window_blocks, block_rows
        self.now.reset(new NativeOrder(n, seed, epoch, <Shuffle> shuffle, window_blocks, block_rows))
        self.after.reset(new NativeOrder(n, seed, epoch + 1, <Shuffle> shuffle, window_blocks, block_rows))
        cdef size_t blocks = <size_t> self.now.get().use_count()
        if <size_t> starts.shape[0] != blocks or <size_t> ends.shape[0] != blocks:
            raise ConfigError(f"bytes of {starts.shape[0]} and {ends.shape[0]} blocks; the order has {blocks}")
        cdef Py_ssize_t i
        cdef bint ascend = True
        with nogil:
            for i in range(starts.shape[0]):
                if ends[i] < starts[i] or (i > 0 and (starts[i] < starts[i - 1] or ends[i] < ends[i - 1])):
                    ascend = False
                    break
        if not ascend:
            raise ConfigError(f"the bytes of block {i} begin or end before those of the one before it")
        self.starts, self.ends = starts, ends

    @property
    def block_count(self):
        return self.starts.shape[0]

    def block_use(self, uint64_t block):
        if block >= <uint64_t> self.starts.shape[0]:
            raise IndexError(f"block {block} of {self.starts.shape[0]}")
        cdef BlockUse use = self.now.get().block_use(block)
        found = [(use.first.begin, use.first.end)]
        if use.second.end > use.second.begin:
            found.append((use.second.begin, use.second.end))
        return found

    def in_epoch(self, const int64_t[::1] chunks):
        cdef vector[ChunkUse] uses
        cdef vector[int64_t] which
        cdef Py_ssize_t i
        cdef size_t k
        with nogil:
            for i in range(chunks.shape[0]):
                if chunks[i] < 0 or self.starts.shape[0] == 0:
                    continue
                uses_of(self.now.get()[0], &self.starts[0], &self.ends[0], <size_t> self.starts.shape[0],
                        <uint64_t> chunks[i], uses)
                while which.size() < uses.size():
                    which.push_back(i)
        cdef Py_ssize_t count = <Py_ssize_t> uses.size()
        number, begin, end = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
        part = np.empty(count, np.uint16)
        cdef int64_t[::1] number_out = number, begin_out = begin, end_out = end
        cdef uint16_t[::1] part_out = part
        for k in range(uses.size()):
            number_out[k] = which[k]
            begin_out[k], end_out[k], part_out[k] = uses[k].begin, uses[k].end, <uint16_t> uses[k].part
        return number, begin, end, part

    def next(self, uint64_t position, const int64_t[::1] chunks, uint64_t lead=0):
        cdef Py_ssize_t count = chunks.shape[0], i
        until, after, part = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.uint16)
        cdef int64_t[::1] until_out = until, after_out = after
        cdef uint16_t[::1] part_out = part
        cdef vector[ChunkUse] scratch
        cdef NextUse found
        with nogil:
            for i in range(count):
                if chunks[i] < 0 or self.starts.shape[0] == 0:
                    until_out[i], after_out[i], part_out[i] = native_no_use, native_no_use, 0
                    continue
                found = next_of(self.now.get()[0], self.after.get()[0], &self.starts[0], &self.ends[0],
                                <size_t> self.starts.shape[0], position, lead, <uint64_t> chunks[i],
                                scratch)
                until_out[i], after_out[i], part_out[i] = found.until, found.after, <uint16_t> found.part
        return until, after, part

    def next_one(self, uint64_t position, uint64_t chunk, uint64_t lead=0):
        cdef NextUse found
        if self.starts.shape[0] == 0:
            return native_no_use, native_no_use, 0
        found = next_of(self.now.get()[0], self.after.get()[0], &self.starts[0], &self.ends[0],
                        <size_t> self.starts.shape[0], position, lead, chunk, self.scratch)
        return found.until, found.after, found.part

    def blocks_from(self, uint64_t position, size_t count):
        result = np.empty(count, np.uint64)
        cdef uint64_t[::1] out = result
        cdef size_t found = 0
        if count != 0:
            with nogil:
                found = from_position(self.now.get()[0], position, &out[0], count)
        return result[:found].astype(np.int64)

    def blocks_at(self, uint64_t position, size_t count):
        result = np.empty(count, np.uint64)
        cdef uint64_t[::1] out = result
        cdef size_t found = 0
        if count != 0:
            with nogil:
                found = at_position(self.now.get()[0], position, &out[0], count)
        return result[:found].astype(np.int64)


def simulate(int policy, const uint32_t[::1] chunks, const int64_t[::1] begins, const int64_t[::1] ends,
             const uint16_t[::1] parts, const uint8_t[::1] dense, const uint64_t[::1] ranks, uint64_t capacity_chunks,
             int64_t count_from=0, count_until=NO_USE):
    cdef Py_ssize_t count = chunks.shape[0], i
    if not begins.shape[0] == ends.shape[0] == parts.shape[0] == dense.shape[0] == count:
        raise ConfigError("columns of uses differ in length")
    cdef vector[PlannedUse] uses
    cdef PolicyCost cost
    cdef int64_t until = count_until
    uses.resize(<size_t> count)
    with nogil:
        for i in range(count):
            uses[i].begin, uses[i].end, uses[i].chunk = begins[i], ends[i], chunks[i]
            uses[i].part, uses[i].dense = parts[i], dense[i] != 0
        cost = run_policy(policy, uses, &ranks[0] if ranks.shape[0] > 0 else NULL, <size_t> ranks.shape[0],
                          capacity_chunks, count_from, until)
    return {"demand": cost.demand, "origin": cost.origin, "writes": cost.writes, "uses": cost.uses,
            "hits": cost.hits, "exact": cost.exact}
