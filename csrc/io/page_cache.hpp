// What the page cache has, without waiting for a device.
#pragma once

#include <atomic>
#include <cstdint>

#include "io/engine.hpp"

namespace ff {

// Reads what of `op` is in the page cache, from its start. True where that is all of it, or its end of file. A read
// that finds less has, on today's kernels, begun to bring the rest.
bool read_cached(ReadOp& op) noexcept;

// Whether a file's ranges are in the page cache, for reads that pass by it: asking must not bring them there. Looks at
// every range while it finds some; after kMissesMax in a row only at one of kRarely, for a look costs 0.4 us.
// Thread-safe.
class CacheLooks {
  public:
    // Whether all of `op` is there. False where the kernel does not tell (before Linux 6.5, or the file is another
    // user's).
    bool has(const ReadOp& op) noexcept;

  private:
    static constexpr std::uint32_t kMissesMax = 256;
    static constexpr std::uint32_t kRarely = 64;

    std::atomic<std::uint32_t> misses_{0};  // in a row, about
};

}  // namespace ff
