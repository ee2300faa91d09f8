// Shared memory over a file descriptor: words, maps, rings and pages, which all lie in RAM and never on a cache's disk.
#pragma once

#include <cstdint>

#include "bytes.hpp"

namespace ff {

enum class Access { read, write };

// Maps the first `bytes` of a file, shared. Unmaps on destruction; the descriptor stays the caller's. Movable.
class Mapping {
  public:
    Mapping() = default;
    // `what` names the file in errors. Throws Error(corrupt) where the file is shorter, Error(os) where it cannot be
    // mapped.
    Mapping(int fd, std::uint64_t bytes, Access access, const char* what);
    ~Mapping();
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;

    std::byte* data() const noexcept { return at_; }
    std::uint64_t size() const noexcept { return bytes_; }

  private:
    std::byte* at_ = nullptr;
    std::uint64_t bytes_ = 0;
};

}  // namespace ff
