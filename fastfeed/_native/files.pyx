# distutils: language = c++
"""Many small files at once. See files.pyi."""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastfeed._native.bytes cimport MutableBytes, as_mutable_bytes
from fastfeed._native.errors cimport raise_native_error
from fastfeed.errors import ConfigError

cdef extern from *:
    """
    #include <string>
    #include <vector>

    #include "io/whole_files.hpp"

    namespace {

    ff::OddFile read_files(const std::vector<std::string>& files, const std::int64_t* offsets, ff::MutableBytes into) {
        return ff::read_whole_files(files, {offsets, files.size() + 1}, into);
    }

    }  // namespace
    """
    cppclass OddFile "ff::OddFile":
        size_t index
        uint64_t size

    OddFile read_files(const vector[string]& files, const int64_t* offsets,
                       MutableBytes into) except +raise_native_error nogil


def read_whole_files(paths, const int64_t[::1] offsets, into):
    cdef vector[string] files
    cdef Py_buffer view
    cdef OddFile odd
    cdef Py_ssize_t i
    for path in paths:
        files.push_back(<bytes> path)
    if offsets.shape[0] != <Py_ssize_t> files.size() + 1 or offsets[0] < 0:
        raise ConfigError(f"{offsets.shape[0]} offsets for {files.size()} files; there must be one more")
    for i in range(<Py_ssize_t> files.size()):
        if offsets[i] > offsets[i + 1]:
            raise ConfigError(f"offset {i + 1} is {offsets[i + 1]}, below the one before, {offsets[i]}")
    PyObject_GetBuffer(into, &view, PyBUF_WRITABLE)
    try:
        if view.len <= offsets[offsets.shape[0] - 1]:
            raise ConfigError(f"a buffer of {view.len} bytes for files up to {offsets[offsets.shape[0] - 1]}; it must "
                              "have one byte more")
        with nogil:
            odd = read_files(files, &offsets[0], as_mutable_bytes(view.buf, <size_t> view.len))
    finally:
        PyBuffer_Release(&view)
    return None if odd.index == files.size() else (odd.index, odd.size)
