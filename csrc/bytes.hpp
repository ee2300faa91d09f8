// Little-endian loads and stores on byte spans, and checked arithmetic. Nothing here depends on alignment.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ff {

static_assert(std::endian::native == std::endian::little, "fastfeed runs on little-endian machines only");

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

template <class T>
inline T load_le(const std::byte* at) noexcept {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

template <class T>
inline void store_le(std::byte* at, T value) noexcept {
    std::memcpy(at, &value, sizeof value);
}

// `value` rounded up to a multiple of `unit`, a power of two. The caller bounds `value` below 2^63.
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) noexcept {
    return (value + unit - 1) & ~(unit - 1);
}

// a + b and a * b; false where they do not fit 64 bits.
inline bool add_fits(std::uint64_t a, std::uint64_t b, std::uint64_t& sum) noexcept {
    return !__builtin_add_overflow(a, b, &sum);
}
inline bool mul_fits(std::uint64_t a, std::uint64_t b, std::uint64_t& product) noexcept {
    return !__builtin_mul_overflow(a, b, &product);
}

inline Bytes as_bytes(const void* at, std::size_t length) noexcept {
    return {static_cast<const std::byte*>(at), length};
}

}  // namespace ff
