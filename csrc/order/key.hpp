// Keys of the order (docs/order.md, section 2): which permutation is used where. Integers only.
#pragma once

#include <cstdint>

namespace ff {

inline constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15u;  // 2^64 / golden ratio, odd: SplitMix64's step
inline constexpr std::uint64_t kMixFirst = 0xBF58476D1CE4E5B9u;
inline constexpr std::uint64_t kMixSecond = 0x94D049BB133111EBu;

// SplitMix64's finaliser: a bijection of 64 bits in which every bit of z moves about half of the result's.
constexpr std::uint64_t mix64(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * kMixFirst;
    z = (z ^ (z >> 27)) * kMixSecond;
    return z ^ (z >> 31);
}

// Output number `index` of SplitMix64 seeded with `key`: both how keys branch and how numbers are drawn.
constexpr std::uint64_t derive(std::uint64_t key, std::uint64_t index) noexcept {
    return mix64(key + (index + 1) * kGolden);
}

// floor(draw * bound / 2^64): a number in [0, bound) from 64 random bits.
constexpr std::uint64_t scale_to(std::uint64_t draw, std::uint64_t bound) noexcept {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(draw) * bound) >> 64);
}

}  // namespace ff
