# csrc/bytes.hpp: borrowed spans of bytes, and numbers out of them.
cdef extern from "<cstddef>" nogil:
    cppclass byte "std::byte":
        pass

cdef extern from "bytes.hpp" namespace "ff" nogil:
    cppclass Bytes:
        Bytes() noexcept
        size_t size() noexcept
        const byte* data() noexcept

    cppclass MutableBytes:
        MutableBytes() noexcept

    Bytes as_bytes(const void* at, size_t length) noexcept
    T load_le[T](const byte* at) noexcept


cdef extern from *:
    """
    static inline ff::MutableBytes as_mutable_bytes(void* at, std::size_t length) noexcept {
        return {static_cast<std::byte*>(at), length};
    }
    """
    MutableBytes as_mutable_bytes(void* at, size_t length) noexcept nogil
