// crc32c with SSE4.2's crc32 and PCLMULQDQ.
//
// The crc32 instruction starts once a cycle and takes three, so three lanes run side by side; their registers are
// joined by carry-less products with constants. Big lanes make joining cheap, small ones serve short inputs.
#include <immintrin.h>

#include "format/crc32c_math.hpp"

namespace ff {
namespace {

// A 64-bit product of a register with this, as the next word into crc32, moves the register over `bytes` zero bytes
// (counting that word): the word's own 64 bits and the product's missing one are taken off the exponent.
constexpr std::uint32_t shift_constant(std::uint64_t bytes) { return crc32c_math::power_of_x(bytes * 8 - 33); }

inline std::uint64_t load_word(const std::byte* at) noexcept {
    std::uint64_t word;
    __builtin_memcpy(&word, at, sizeof word);
    return word;
}

inline __m128i product(std::uint64_t a, std::uint32_t b) noexcept {
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(a)), _mm_cvtsi32_si128(static_cast<int>(b)),
                                0);
}

// The register after 3 * kLane bytes at `at`.
template <std::size_t kLane>
inline std::uint64_t three_lanes(std::uint64_t a, const std::byte* at) noexcept {
    static_assert(kLane % 8 == 0 && kLane >= 16);
    std::uint64_t b = 0, c = 0;
    for (std::size_t i = 0; i < kLane - 8; i += 8) {
        a = _mm_crc32_u64(a, load_word(at + i));
        b = _mm_crc32_u64(b, load_word(at + kLane + i));
        c = _mm_crc32_u64(c, load_word(at + 2 * kLane + i));
    }
    a = _mm_crc32_u64(a, load_word(at + kLane - 8));
    b = _mm_crc32_u64(b, load_word(at + 2 * kLane - 8));
    // a moves over lanes b and c, b over lane c; both enter with the last word of lane c.
    const __m128i joined = _mm_xor_si128(product(a, shift_constant(2 * kLane)), product(b, shift_constant(kLane)));
    return _mm_crc32_u64(c, load_word(at + 3 * kLane - 8) ^ static_cast<std::uint64_t>(_mm_cvtsi128_si64(joined)));
}

template <std::size_t kLane>
inline void run_lanes(std::uint64_t& state, const std::byte*& at, std::size_t& left) noexcept {
    for (; left >= 3 * kLane; at += 3 * kLane, left -= 3 * kLane) state = three_lanes<kLane>(state, at);
}

}  // namespace

std::uint32_t crc32c_sse42(std::uint32_t crc, Bytes bytes) noexcept {
    std::uint64_t state = ~crc;
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    if (left >= 3 * 64) {
        run_lanes<4096>(state, at, left);
        run_lanes<512>(state, at, left);
        run_lanes<64>(state, at, left);
    }
    for (; left >= 8; at += 8, left -= 8) state = _mm_crc32_u64(state, load_word(at));
    auto last = static_cast<std::uint32_t>(state);
    if (left >= 4) {
        std::uint32_t half;
        __builtin_memcpy(&half, at, sizeof half);
        last = _mm_crc32_u32(last, half);
        at += 4;
        left -= 4;
    }
    for (; left > 0; ++at, --left) last = _mm_crc32_u8(last, std::to_integer<unsigned char>(*at));
    return ~last;
}

}  // namespace ff
