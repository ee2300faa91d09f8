// The daemon's side of a connection's ring: shared memory into which it puts answers. Who owns which range is the
// daemon's book-keeping; a client gives a range back with RELEASE.
#pragma once

#include <cstring>
#include <string>

#include "cache/mapping.hpp"
#include "error.hpp"

namespace ff {

// Thread-safe for ranges that do not overlap.
class Ring {
  public:
    // Throws as Mapping.
    Ring(int fd, std::uint64_t bytes) : mapping_(fd, bytes, Access::write, "the ring") {}
    std::uint64_t bytes() const noexcept { return mapping_.size(); }
    // [at, at + length) to write into. Throws Error(config) outside the ring.
    MutableBytes range(std::uint64_t at, std::uint64_t length) const {
        if (at > bytes() || length > bytes() - at)
            throw Error(Code::config, std::to_string(length) + " bytes at " + std::to_string(at) + " of a ring of " +
                                          std::to_string(bytes()));
        return {mapping_.data() + at, length};
    }

  private:
    Mapping mapping_;
};

}  // namespace ff
