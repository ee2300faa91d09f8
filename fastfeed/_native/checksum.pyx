# distutils: language = c++
"""crc32c of the core (docs/format.md). See checksum.pyi for the contract of each function."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t

import numpy as np

from fastfeed._native.bytes cimport Bytes, as_bytes
from fastfeed.errors import ConfigError

cdef extern from "format/crc32c.hpp" namespace "ff" nogil:
    uint32_t native_crc32c "ff::crc32c"(uint32_t crc, Bytes data) noexcept
    uint32_t native_crc32c_portable "ff::crc32c_portable"(uint32_t crc, Bytes data) noexcept
    uint32_t native_crc32c_combine "ff::crc32c_combine"(uint32_t crc_a, uint32_t crc_b, uint64_t length_b) noexcept
    const char* native_crc32c_implementation "ff::crc32c_implementation"() noexcept

    cppclass FrameSeed:
        FrameSeed(Bytes uid) noexcept
        uint32_t of(uint64_t number) noexcept

cdef enum:
    PAGE_BYTES = 4096   # of a stream
    UID_BYTES = 16


def crc32c(data, uint32_t value=0):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = native_crc32c(value, as_bytes(view.buf, <size_t> view.len))
    finally:
        PyBuffer_Release(&view)
    return value


def crc32c_portable(data, uint32_t value=0):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        with nogil:
            value = native_crc32c_portable(value, as_bytes(view.buf, <size_t> view.len))
    finally:
        PyBuffer_Release(&view)
    return value


def crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b):
    return native_crc32c_combine(crc_a, crc_b, length_b)


def crc32c_blocks(data, Py_ssize_t block_bytes):
    if block_bytes <= 0:
        raise ConfigError(f"block_bytes is {block_bytes}; it must be positive")
    cdef Py_buffer view
    cdef Py_ssize_t i, start, count
    cdef uint32_t[::1] crcs
    cdef const unsigned char* at
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        at = <const unsigned char*> view.buf
        count = view.len // block_bytes + (view.len % block_bytes != 0)
        result = np.empty(count, dtype=np.uint32)
        crcs = result
        with nogil:
            for i in range(count):
                start = i * block_bytes
                crcs[i] = native_crc32c(0, as_bytes(at + start, <size_t> min(block_bytes, view.len - start)))
    finally:
        PyBuffer_Release(&view)
    return result


def crc32c_seeded_pages(data, bytes uid, uint64_t first_page):
    if len(uid) != UID_BYTES:
        raise ConfigError(f"a uid has {UID_BYTES} bytes, this one {len(uid)}")
    cdef Py_buffer view
    cdef Py_ssize_t count
    cdef uint32_t[::1] crcs
    cdef const unsigned char* at
    cdef const unsigned char* uid_bytes = uid
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len % PAGE_BYTES != 0:
            raise ConfigError(f"{view.len} bytes are not whole pages of {PAGE_BYTES}; pad the last with zeros")
        at = <const unsigned char*> view.buf
        count = view.len // PAGE_BYTES
        result = np.empty(count, dtype=np.uint32)
        crcs = result
        with nogil:
            seeded_pages(at, count, uid_bytes, first_page, crcs)
    finally:
        PyBuffer_Release(&view)
    return result


cdef void seeded_pages(
    const unsigned char* at, Py_ssize_t count, const unsigned char* uid, uint64_t first_page, uint32_t[::1] crcs
) noexcept nogil:
    cdef FrameSeed* seed = new FrameSeed(as_bytes(uid, UID_BYTES))
    cdef Py_ssize_t i
    for i in range(count):
        crcs[i] = native_crc32c(seed.of(first_page + <uint64_t> i), as_bytes(at + i * PAGE_BYTES, PAGE_BYTES))
    del seed


def implementation():
    return native_crc32c_implementation().decode("ascii")
