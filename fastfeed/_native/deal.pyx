# distutils: language = c++
"""The deal of csrc/order: homes of blocks, and who takes which sample of a step. See deal.pyi."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

import numpy as np

from fastfeed._native.bytes cimport Bytes, as_bytes
from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <span>
    #include <vector>

    #include "bytes.hpp"
    #include "order/deal.hpp"
    #include "order/homes.hpp"

    namespace {

    std::uint64_t key_of_name(ff::Bytes name) {
        return ff::node_key({reinterpret_cast<const char*>(name.data()), name.size()});
    }

    std::unique_ptr<ff::Homes> make_homes(const std::vector<std::uint64_t>& node_keys) {
        return std::make_unique<ff::Homes>(std::span<const std::uint64_t>(node_keys));
    }

    void homes_of(ff::Homes& homes, const std::vector<std::uint64_t>& block_keys, std::int32_t* out) {
        homes.of_blocks(block_keys, {out, block_keys.size()});
    }

    void deal_all(const std::int32_t* homes, std::size_t count, const std::int32_t* node_of_rank, std::size_t ranks,
                  std::size_t node_count, std::int64_t* dealt) {
        ff::deal_to_homes({homes, count}, {node_of_rank, ranks}, node_count, {dealt, count});
    }

    }  // namespace
    """
    cppclass NativeHomes "ff::Homes":
        size_t node_count() noexcept nogil

    uint64_t key_of_name(Bytes name) noexcept nogil
    uint64_t native_block_key "ff::block_key"(uint64_t dataset_key, uint64_t block) noexcept nogil
    unique_ptr[NativeHomes] make_homes(const vector[uint64_t]& node_keys) except +raise_native_error
    void homes_of(NativeHomes& homes, const vector[uint64_t]& block_keys, int32_t* out) except +raise_native_error nogil
    void deal_all(const int32_t* homes, size_t count, const int32_t* node_of_rank, size_t ranks, size_t node_count,
                  int64_t* dealt) except +raise_native_error nogil

    const uint32_t native_deal_version "ff::kDealVersion"

DEAL_VERSION = int(native_deal_version)


def node_key(str name):
    cdef bytes encoded = name.encode()
    return key_of_name(as_bytes(<const char*> encoded, <size_t> len(encoded)))


cdef class Homes:
    cdef unique_ptr[NativeHomes] native
    cdef vector[uint64_t] dataset_keys
    cdef vector[uint64_t] block_rows

    def __init__(self, names, datasets):
        cdef vector[uint64_t] node_keys
        for name in names:
            node_keys.push_back(<uint64_t> node_key(name))
        self.native = make_homes(node_keys)
        for key, rows in datasets:
            if rows < 1:
                raise ConfigError(f"blocks of {rows} rows; there must be at least one")
            self.dataset_keys.push_back(<uint64_t> key)
            self.block_rows.push_back(<uint64_t> rows)

    def of_rows(self, const int64_t[::1] rows, const int32_t[::1] sources=None):
        cdef Py_ssize_t count = rows.shape[0], i, bad = -1
        if sources is not None and sources.shape[0] != count:
            raise ConfigError(f"{count} rows and {sources.shape[0]} sources; each row has one")
        if count > 0 and sources is None and self.dataset_keys.size() != 1:
            raise ConfigError(f"sources are needed: these are homes for {self.dataset_keys.size()} datasets")
        result = np.empty(count, dtype=np.int32)
        cdef int32_t[::1] out = result
        cdef vector[uint64_t] keys
        cdef size_t source = 0
        if count == 0:
            return result
        keys.resize(<size_t> count)
        with nogil:
            for i in range(count):
                if sources is not None:
                    source = <size_t> sources[i]
                if rows[i] < 0 or source >= self.dataset_keys.size():
                    bad = i
                    break
                keys[<size_t> i] = native_block_key(self.dataset_keys[source],
                                                    <uint64_t> rows[i] // self.block_rows[source])
        if bad >= 0:
            raise IndexError(f"row {rows[bad]} of source {sources[bad] if sources is not None else 0}: rows are not "
                             f"negative, and there are {self.dataset_keys.size()} datasets")
        with nogil:
            homes_of(self.native.get()[0], keys, &out[0])
        return result


cdef check_below(const int32_t[::1] nodes, size_t node_count, str what):
    cdef Py_ssize_t i, bad = -1
    for i in range(nodes.shape[0]):
        if nodes[i] < 0 or <size_t> nodes[i] >= node_count:
            bad = i
            break
    if bad >= 0:
        raise ConfigError(f"{what} {bad} is on node {nodes[bad]}, of {node_count} nodes")


def deal_to_homes(const int32_t[::1] homes, const int32_t[::1] node_of_rank, size_t node_count):
    if node_of_rank.shape[0] == 0:
        raise ConfigError("a deal needs at least one rank")
    check_below(homes, node_count, "sample")
    check_below(node_of_rank, node_count, "rank")
    result = np.empty(homes.shape[0], dtype=np.int64)
    cdef int64_t[::1] dealt = result
    if homes.shape[0] != 0:
        with nogil:
            deal_all(&homes[0], <size_t> homes.shape[0], &node_of_rank[0], <size_t> node_of_rank.shape[0], node_count,
                     &dealt[0])
    return result
