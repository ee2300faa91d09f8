// The loops of resample.cpp with AVX2. The same integers, so the same bits.
#include <immintrin.h>

#include "codec/resample.hpp"

namespace ff {
namespace {

inline __m256i load(const void* at) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

inline __m256i rounded(__m256i sums) noexcept {
    return _mm256_srai_epi32(_mm256_add_epi32(sums, _mm256_set1_epi32(1 << (kWeightBits - 1))), kWeightBits);
}

// Two weights that lie one after the other, in every 32 bits.
inline __m256i pair_of(const std::int16_t* weights) noexcept {
    std::int32_t both;
    __builtin_memcpy(&both, weights, sizeof both);
    return _mm256_set1_epi32(both);
}

void vertical_avx2(const std::uint8_t* const* rows, const std::int16_t* weights, std::uint32_t taps, std::size_t bytes,
                   std::uint8_t* out) {
    const __m256i zero = _mm256_setzero_si256();
    for (std::size_t i = 0; i < bytes; i += 32) {
        __m256i sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;
        for (std::uint32_t t = 0; t < taps; t += 2) {
            const __m256i weight = pair_of(weights + t);
            const __m256i upper = load(rows[t] + i), lower = load(rows[t + 1] + i);
            // Bytes of the two rows side by side, then widened: each 32 bits hold one product pair.
            const __m256i low = _mm256_unpacklo_epi8(upper, lower), high = _mm256_unpackhi_epi8(upper, lower);
            sum0 = _mm256_add_epi32(sum0, _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weight));
            sum1 = _mm256_add_epi32(sum1, _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weight));
            sum2 = _mm256_add_epi32(sum2, _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weight));
            sum3 = _mm256_add_epi32(sum3, _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weight));
        }
        const __m256i low = _mm256_packs_epi32(rounded(sum0), rounded(sum1));
        const __m256i high = _mm256_packs_epi32(rounded(sum2), rounded(sum3));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_packus_epi16(low, high));
    }
}

// Groups of four weights that every output of the table has; 0: each has as many as it uses. Known counts save a loop
// that the processor cannot predict. They may read up to 7 pixels past a row: within kRowSlackBytes.
// One output pixel: red, green, blue, x as four int32 in each half, of taps 0, 1, 4, 5, ... and 2, 3, 6, 7, ...
template <std::uint32_t kGroups>
inline __m256i weighted_pixel(const std::uint8_t* row, const AxisView& table, std::uint32_t output) noexcept {
    // The first two of four pixels go to the lower half, the others to the upper; channel by channel, widened.
    const __m256i spread = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,
                                            8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
    const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    const std::uint8_t* at = row + kPixelBytes * table.starts[output];
    const std::int16_t* weights = table.weights + std::size_t{output} * table.taps;
    __m256i sum = _mm256_setzero_si256();
    const std::uint32_t taps = kGroups > 0 ? 4 * kGroups : table.used[output];
    for (std::uint32_t t = 0; t < taps; t += 4) {
        const __m256i four =
            _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + kPixelBytes * t)));
        const __m256i weight = _mm256_permutevar8x32_epi32(
            _mm256_castsi128_si256(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(weights + t))), halves);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_shuffle_epi8(four, spread), weight));
    }
    return sum;
}

// The halves of two pixels added: `a` in the lower half, `b` in the upper.
inline __m256i joined(__m256i a, __m256i b) noexcept {
    return rounded(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)));
}

template <std::uint32_t kGroups>
void horizontal_groups(const std::uint8_t* row, const AxisView& table, std::uint8_t* out) {
    std::uint32_t i = 0;
    for (; i + 8 <= table.outputs; i += 8) {
        const auto pixel = [&](std::uint32_t k) { return weighted_pixel<kGroups>(row, table, i + k); };
        const __m256i low = _mm256_packs_epi32(joined(pixel(0), pixel(4)), joined(pixel(1), pixel(5)));
        const __m256i high = _mm256_packs_epi32(joined(pixel(2), pixel(6)), joined(pixel(3), pixel(7)));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kPixelBytes * i), _mm256_packus_epi16(low, high));
    }
    for (; i < table.outputs; ++i) {
        const __m256i sum = weighted_pixel<kGroups>(row, table, i);
        const __m256i one = joined(sum, sum);
        const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(one, one), _mm256_setzero_si256());
        const int pixel = _mm256_cvtsi256_si32(bytes);
        __builtin_memcpy(out + kPixelBytes * i, &pixel, sizeof pixel);
    }
}

void horizontal_avx2(const std::uint8_t* row, const AxisView& table, std::uint8_t* out) {
    switch (table.taps) {
        case 4: return horizontal_groups<1>(row, table, out);
        case 8: return horizontal_groups<2>(row, table, out);
        default: return horizontal_groups<0>(row, table, out);
    }
}

// Eight pixels as eight reds, greens, blues and x, 8 bytes each.
inline __m256i by_channel(const std::uint8_t* row) noexcept {
    const __m256i within = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                                            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m256i across = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(load(row), within), across);
}

inline void store(std::uint8_t* at, __m256i bytes) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), bytes);
}

void planes_avx2(const std::uint8_t* row, std::size_t pixels, std::uint8_t* red, std::uint8_t* green,
                 std::uint8_t* blue) {
    std::size_t i = 0;
    for (; i + 32 <= pixels; i += 32) {
        const std::uint8_t* at = row + kPixelBytes * i;
        const __m256i a = by_channel(at), b = by_channel(at + 32), c = by_channel(at + 64), d = by_channel(at + 96);
        const __m256i red_blue_0 = _mm256_unpacklo_epi64(a, b), red_blue_1 = _mm256_unpacklo_epi64(c, d);
        store(red + i, _mm256_permute2x128_si256(red_blue_0, red_blue_1, 0x20));
        store(green + i, _mm256_permute2x128_si256(_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d), 0x20));
        store(blue + i, _mm256_permute2x128_si256(red_blue_0, red_blue_1, 0x31));
    }
    for (; i + 8 <= pixels; i += 8) {
        const __m256i split = by_channel(row + kPixelBytes * i);
        const __m128i low = _mm256_castsi256_si128(split);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(red + i), low);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(green + i), _mm_unpackhi_epi64(low, low));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(blue + i), _mm256_extracti128_si256(split, 1));
    }
    for (; i < pixels; ++i) {
        red[i] = row[kPixelBytes * i];
        green[i] = row[kPixelBytes * i + 1];
        blue[i] = row[kPixelBytes * i + 2];
    }
}

void packed_avx2(const std::uint8_t* row, std::size_t pixels, std::uint8_t* out) {
    const __m128i pack = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    std::size_t i = 0;
    // Stores 16 bytes of which 12 count: stops while four bytes more are still ours.
    for (; i + 6 <= pixels; i += 4) {
        const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + kPixelBytes * i));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 3 * i), _mm_shuffle_epi8(four, pack));
    }
    for (; i < pixels; ++i)
        for (std::size_t c = 0; c < 3; ++c) out[3 * i + c] = row[kPixelBytes * i + c];
}

constexpr ResampleKernels kAvx2{vertical_avx2, horizontal_avx2, planes_avx2, packed_avx2, "avx2"};

}  // namespace

const ResampleKernels& avx2_kernels() noexcept { return kAvx2; }

}  // namespace ff
