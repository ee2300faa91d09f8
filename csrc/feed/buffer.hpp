// Memory that is reused: aligned, never initialised, grown and not shrunk.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "bytes.hpp"

namespace ff {

// 64 bytes: a cache line, and what AVX-512 and DLPack consumers want.
inline constexpr std::size_t kBufferAlign = 64;

// Owns one aligned block. Movable, not copyable. Not thread-safe.
class Buffer {
  public:
    Buffer() = default;
    ~Buffer() { std::free(data_); }
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)),
          size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
        std::swap(size_, other.size_);
        return *this;
    }

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return capacity_; }
    template <class T>
    T* as() const noexcept {
        return reinterpret_cast<T*>(data_);
    }

    // Makes room for `bytes` and sets size to it. What was inside is lost where it must grow. Throws std::bad_alloc.
    void resize_discarding(std::size_t bytes) {
        if (bytes > capacity_ || data_ == nullptr) replace(bytes, 0);
        size_ = bytes;
    }
    void zero() noexcept {
        if (size_ != 0) std::memset(data_, 0, size_);
    }

    // Appends `bytes` uninitialised bytes and returns where they are. Throws std::bad_alloc.
    std::byte* append(std::size_t bytes) {
        if (size_ + bytes > capacity_ || data_ == nullptr)
            replace(size_ + bytes + (size_ + bytes) / 2, size_);  // by half, so that appends cost O(1) a byte
        std::byte* at = data_ + size_;
        size_ += bytes;
        return at;
    }
    void truncate(std::size_t bytes) noexcept { size_ = bytes; }

    void release() noexcept {
        std::free(data_);
        data_ = nullptr;
        capacity_ = size_ = 0;
    }

  private:
    void replace(std::size_t bytes, std::size_t keep) {
        const std::size_t wanted = round_up(bytes == 0 ? 1 : bytes, kBufferAlign);
        void* fresh = std::aligned_alloc(kBufferAlign, wanted);
        if (fresh == nullptr) throw std::bad_alloc();
        if (keep != 0) std::memcpy(fresh, data_, keep);
        std::free(data_);
        data_ = static_cast<std::byte*>(fresh);
        capacity_ = wanted;
    }

    std::byte* data_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t size_ = 0;
};

}  // namespace ff
