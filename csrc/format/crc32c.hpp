// crc32c (Castagnoli) over bytes, by the best implementation of this processor; all are bit-identical.
#pragma once

#include <cstdint>

#include "bytes.hpp"

namespace ff {

// The crc32c of everything that `crc` was the crc32c of, followed by `bytes`. Begin with 0. Thread-safe.
std::uint32_t crc32c(std::uint32_t crc, Bytes bytes) noexcept;

// crc32c(A ‖ B) from crc32c(A), crc32c(B) and B's length. O(log length).
std::uint32_t crc32c_combine(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t length_b) noexcept;

// What crc32c() uses here: "sse4.2", "armv8" or "portable".
const char* crc32c_implementation() noexcept;

// The implementation without special instructions, for tests and for the comparison in `fastfeed doctor`.
std::uint32_t crc32c_portable(std::uint32_t crc, Bytes bytes) noexcept;

// The first 16 bytes of every seed are the shard's uid: state after them, so that a row costs 8 bytes more.
class FrameSeed {
  public:
    explicit FrameSeed(Bytes uid) noexcept : after_uid_(crc32c(0, uid)) {}
    // crc32c(uid ‖ u64 number): the seed of row `number`, or of page `number` of a stream.
    std::uint32_t of(std::uint64_t number) const noexcept {
        std::byte raw[8];
        store_le(raw, number);
        return crc32c(after_uid_, {raw, 8});
    }

  private:
    std::uint32_t after_uid_;
};

}  // namespace ff
