// One pass through the Feistel network (docs/order.md, section 3.2), for one value and for runs of values.
//
// Everything is `static`: each file that includes this compiles its own copy for its own instruction set. The halves of
// a value have at most 24 bits, so that a round needs 32-bit arithmetic only and the compiler makes vectors of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ff {

// How a value of w bits is cut: the right half has floor(w / 2) bits, the left one the rest.
struct FeistelShape {
    unsigned left_bits, right_bits;
};

namespace feistel {

constexpr unsigned kRoundCount = 8;
constexpr std::uint32_t kRoundStep = 0x9E3779B9u;    // 2^32 / golden ratio
constexpr std::uint32_t kMixFirst32 = 0x7FEB352Du;   // the multipliers of the "lowbias32" hash
constexpr std::uint32_t kMixSecond32 = 0x846CA68Bu;

static inline std::uint32_t mix_half(std::uint32_t key, unsigned round, std::uint32_t half) noexcept {
    std::uint32_t z = (half + key + round * kRoundStep) * kMixFirst32;
    z ^= z >> 16;
    return z * kMixSecond32;  // the high bits are used
}

static inline std::uint64_t forward(FeistelShape shape, std::uint64_t key, std::uint64_t value) noexcept {
    const auto even_key = static_cast<std::uint32_t>(key), odd_key = static_cast<std::uint32_t>(key >> 32);
    auto right = static_cast<std::uint32_t>(value) & ((1u << shape.right_bits) - 1);
    auto left = static_cast<std::uint32_t>(value >> shape.right_bits);
    for (unsigned round = 0; round < kRoundCount; round += 2) {
        left ^= mix_half(even_key, round, right) >> (32 - shape.left_bits);
        right ^= mix_half(odd_key, round + 1, left) >> (32 - shape.right_bits);
    }
    return (static_cast<std::uint64_t>(left) << shape.right_bits) | right;
}

static inline std::uint64_t inverse(FeistelShape shape, std::uint64_t key, std::uint64_t value) noexcept {
    const auto even_key = static_cast<std::uint32_t>(key), odd_key = static_cast<std::uint32_t>(key >> 32);
    auto right = static_cast<std::uint32_t>(value) & ((1u << shape.right_bits) - 1);
    auto left = static_cast<std::uint32_t>(value >> shape.right_bits);
    for (unsigned round = kRoundCount; round > 0; round -= 2) {
        right ^= mix_half(odd_key, round - 1, left) >> (32 - shape.right_bits);
        left ^= mix_half(even_key, round - 2, right) >> (32 - shape.left_bits);
    }
    return (static_cast<std::uint64_t>(left) << shape.right_bits) | right;
}

}  // namespace feistel

// values[i] = forward (inverse) of values[i] under keys[i], once, without cycle walking.
using FeistelPass = void (*)(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count);

void feistel_forward_avx2(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count);
void feistel_inverse_avx2(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count);

}  // namespace ff
