// Splits of a dataset (docs/views.md): which part a row belongs to is a keyed hash of the shard's uid and the row in it.
// So rows keep their part when others are appended, merged or deleted.
#pragma once

#include <cstdint>
#include <span>

#include "order/key.hpp"

namespace ff {

// "split" in ASCII: separates these keys from those of the order, which begin at its version.
inline constexpr std::uint64_t kSplitKey = 0x73706C6974u;

// found[i] = whether the hash of row first_row + i, a number below 2^63, is in [low, high).
inline void split_mask(std::uint64_t seed, std::uint64_t uid_low, std::uint64_t uid_high, std::uint64_t first_row,
                       std::uint64_t low, std::uint64_t high, std::span<std::uint8_t> found) noexcept {
    const std::uint64_t key = derive(derive(derive(kSplitKey, seed), uid_low), uid_high);
    for (std::size_t i = 0; i < found.size(); ++i) {
        const std::uint64_t hash = derive(key, first_row + i) >> 1;
        found[i] = (hash >= low) & (hash < high);
    }
}

}  // namespace ff
