// Memory that files are read into: whole pages, and large pages where they are allowed.
#pragma once

#include <cstddef>

#include "bytes.hpp"

namespace ff {

// Owns one block that begins at a multiple of kDirectAlign. Movable, not copyable. Not thread-safe.
class IoBuffer {
  public:
    IoBuffer() = default;
    ~IoBuffer() { release(); }
    IoBuffer(IoBuffer&& other) noexcept;
    IoBuffer& operator=(IoBuffer&& other) noexcept;

    std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    std::size_t capacity() const noexcept { return capacity_; }

    // Makes room for `bytes` and sets size to it. What was inside is lost where it must grow. Throws std::bad_alloc.
    void resize_discarding(std::size_t bytes);
    // Appends `bytes` uninitialised bytes and returns where they are. Throws std::bad_alloc.
    std::byte* append(std::size_t bytes);
    // Gives the memory back.
    void release() noexcept;

  private:
    void replace(std::size_t bytes, std::size_t keep);

    std::byte* data_ = nullptr;
    std::size_t capacity_ = 0, size_ = 0;
};

}  // namespace ff
