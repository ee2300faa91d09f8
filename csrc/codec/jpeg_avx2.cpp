// The loops of a baseline JPEG with AVX2 and BMI2: two blocks a register, one in each half. The same integers, so the
// same bits.
#include <immintrin.h>

#include "codec/jpeg_loops.hpp"
#include "codec/resample.hpp"

namespace ff {
namespace {

constexpr int kConstBits = 13, kPassBits = 2;

inline __m256i load_both(const std::int16_t* a, const std::int16_t* b) noexcept {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(a))),
                                   _mm_load_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

// 32-bit sums of eight columns a half: the lower four and the upper four.
struct Wide {
    __m256i low, high;
};
inline Wide operator+(Wide a, Wide b) noexcept {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Wide operator-(Wide a, Wide b) noexcept {
    return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}

inline __m256i factors(int a, int b) noexcept {
    return _mm256_set1_epi32(static_cast<int>(static_cast<unsigned>(a) & 0xFFFF) |
                             static_cast<int>(static_cast<unsigned>(b) << 16));
}
struct Pair {
    __m256i low, high;
};
inline Pair paired(__m256i a, __m256i b) noexcept { return {_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)}; }
inline Wide dot(Pair pair, int a, int b) noexcept {
    const __m256i both = factors(a, b);
    return {_mm256_madd_epi16(pair.low, both), _mm256_madd_epi16(pair.high, both)};
}
// a * 2^kBits.
template <int kBits>
inline Wide scaled(__m256i a) noexcept {
    const Pair upper = paired(_mm256_setzero_si256(), a);
    return {_mm256_srai_epi32(upper.low, 16 - kBits), _mm256_srai_epi32(upper.high, 16 - kBits)};
}
template <int kShift>
inline __m256i narrowed(Wide value) noexcept {
    const __m256i half = _mm256_set1_epi32(1 << (kShift - 1));
    return _mm256_packs_epi32(_mm256_srai_epi32(_mm256_add_epi32(value.low, half), kShift),
                              _mm256_srai_epi32(_mm256_add_epi32(value.high, half), kShift));
}

template <int kShift>
inline void eight_points(__m256i (&line)[8]) noexcept {
    const Pair pair26 = paired(line[2], line[6]), pair71 = paired(line[7], line[1]), pair53 = paired(line[5], line[3]);
    const Wide even2 = dot(pair26, 4433, 4433 - 15137), even3 = dot(pair26, 4433 + 6270, 4433);
    const Wide even0 = scaled<kConstBits>(_mm256_add_epi16(line[0], line[4]));
    const Wide even1 = scaled<kConstBits>(_mm256_sub_epi16(line[0], line[4]));
    const Pair z = paired(_mm256_add_epi16(line[7], line[3]), _mm256_add_epi16(line[5], line[1]));
    const Wide odd3 = dot(z, 9633 - 16069, 9633), odd4 = dot(z, 9633, 9633 - 3196);
    const auto finish = [&](int i, Wide half, Wide other) {
        line[i] = narrowed<kShift>(half + other);
        line[7 - i] = narrowed<kShift>(half - other);
    };
    const Wide other0 = dot(pair71, -7373, 12299 - 7373) + odd4, other1 = dot(pair53, -20995, 25172 - 20995) + odd3;
    const Wide other2 = dot(pair53, 16819 - 20995, -20995) + odd4, other3 = dot(pair71, 2446 - 7373, -7373) + odd3;
    finish(0, even0 + even3, other0);
    finish(1, even1 + even2, other1);
    finish(2, even1 - even2, other2);
    finish(3, even0 - even3, other3);
}

inline void transpose(__m256i (&m)[8]) noexcept {
    const __m256i a0 = _mm256_unpacklo_epi16(m[0], m[1]), a1 = _mm256_unpackhi_epi16(m[0], m[1]);
    const __m256i a2 = _mm256_unpacklo_epi16(m[2], m[3]), a3 = _mm256_unpackhi_epi16(m[2], m[3]);
    const __m256i a4 = _mm256_unpacklo_epi16(m[4], m[5]), a5 = _mm256_unpackhi_epi16(m[4], m[5]);
    const __m256i a6 = _mm256_unpacklo_epi16(m[6], m[7]), a7 = _mm256_unpackhi_epi16(m[6], m[7]);
    const __m256i b0 = _mm256_unpacklo_epi32(a0, a2), b1 = _mm256_unpackhi_epi32(a0, a2);
    const __m256i b2 = _mm256_unpacklo_epi32(a1, a3), b3 = _mm256_unpackhi_epi32(a1, a3);
    const __m256i b4 = _mm256_unpacklo_epi32(a4, a6), b5 = _mm256_unpackhi_epi32(a4, a6);
    const __m256i b6 = _mm256_unpacklo_epi32(a5, a7), b7 = _mm256_unpackhi_epi32(a5, a7);
    m[0] = _mm256_unpacklo_epi64(b0, b4);
    m[1] = _mm256_unpackhi_epi64(b0, b4);
    m[2] = _mm256_unpacklo_epi64(b1, b5);
    m[3] = _mm256_unpackhi_epi64(b1, b5);
    m[4] = _mm256_unpacklo_epi64(b2, b6);
    m[5] = _mm256_unpackhi_epi64(b2, b6);
    m[6] = _mm256_unpacklo_epi64(b3, b7);
    m[7] = _mm256_unpackhi_epi64(b3, b7);
}

// Signed samples to 0..255.
inline __m256i centered(__m256i samples) noexcept { return _mm256_xor_si256(samples, _mm256_set1_epi8(-128)); }

inline void store_two_rows(__m128i rows, Place to, std::size_t y) noexcept {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to.out + y * to.stride), rows);
    _mm_storeh_pi(reinterpret_cast<__m64*>(to.out + (y + 1) * to.stride), _mm_castsi128_ps(rows));
}

struct Avx2Transforms {
    static void side8(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        __m256i m[8];
        for (std::size_t i = 0; i < 8; ++i) m[i] = load_both(a + 8 * i, b + 8 * i);
        eight_points<kConstBits - kPassBits>(m);
        transpose(m);
        eight_points<kConstBits + kPassBits + 3>(m);
        // Columns now: as bytes, then back to rows.
        const __m256i c02 = _mm256_packs_epi16(m[0], m[2]), c13 = _mm256_packs_epi16(m[1], m[3]);
        const __m256i c46 = _mm256_packs_epi16(m[4], m[6]), c57 = _mm256_packs_epi16(m[5], m[7]);
        const __m256i c01 = _mm256_unpacklo_epi8(c02, c13), c23 = _mm256_unpackhi_epi8(c02, c13);
        const __m256i c45 = _mm256_unpacklo_epi8(c46, c57), c67 = _mm256_unpackhi_epi8(c46, c57);
        const __m256i left_top = _mm256_unpacklo_epi16(c01, c23), left_bottom = _mm256_unpackhi_epi16(c01, c23);
        const __m256i right_top = _mm256_unpacklo_epi16(c45, c67), right_bottom = _mm256_unpackhi_epi16(c45, c67);
        const __m256i rows[4] = {centered(_mm256_unpacklo_epi32(left_top, right_top)),
                                 centered(_mm256_unpackhi_epi32(left_top, right_top)),
                                 centered(_mm256_unpacklo_epi32(left_bottom, right_bottom)),
                                 centered(_mm256_unpackhi_epi32(left_bottom, right_bottom))};
        for (std::size_t i = 0; i < 4; ++i) {
            store_two_rows(_mm256_castsi256_si128(rows[i]), to_a, 2 * i);
            store_two_rows(_mm256_extracti128_si256(rows[i], 1), to_b, 2 * i);
        }
    }

    static void side4(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        const auto row = [&](std::size_t i) { return load_both(a + 8 * i, b + 8 * i); };
        constexpr int kFirst = kConstBits - kPassBits + 1, kSecond = kConstBits + kPassBits + 3 + 1;
        const Pair pair75 = paired(row(7), row(5)), pair31 = paired(row(3), row(1));
        const Wide first = scaled<kConstBits + 1>(row(0)), even = dot(paired(row(2), row(6)), 15137, -6270);
        const Wide outer = dot(pair75, -4176, -4926) + dot(pair31, 7373, 20995);
        const Wide inner = dot(pair75, -1730, 11893) + dot(pair31, -17799, 8697);
        const Pair rows01 = paired(narrowed<kFirst>(first + even + outer), narrowed<kFirst>(first - even + inner));
        const Pair rows23 = paired(narrowed<kFirst>(first - even - inner), narrowed<kFirst>(first + even - outer));
        // Each half of a half: one column's four values.
        const __m256i c01 = _mm256_unpacklo_epi32(rows01.low, rows23.low);
        const __m256i c23 = _mm256_unpackhi_epi32(rows01.low, rows23.low);
        const __m256i c45 = _mm256_unpacklo_epi32(rows01.high, rows23.high);
        const __m256i c67 = _mm256_unpackhi_epi32(rows01.high, rows23.high);
        const __m256i c75 = _mm256_unpackhi_epi16(c67, c45), c31 = _mm256_unpackhi_epi16(c23, c01);
        const __m256i c26 = _mm256_unpacklo_epi16(c23, c67);
        const __m256i c0 =
            _mm256_srai_epi32(_mm256_unpacklo_epi16(_mm256_setzero_si256(), c01), 16 - (kConstBits + 1));
        const auto sum2 = [](__m256i x, int xa, int xb, __m256i y, int ya, int yb) {
            return _mm256_add_epi32(_mm256_madd_epi16(x, factors(xa, xb)), _mm256_madd_epi16(y, factors(ya, yb)));
        };
        const __m256i across_even = _mm256_madd_epi16(c26, factors(15137, -6270));
        const __m256i across_outer = sum2(c75, -4176, -4926, c31, 7373, 20995);
        const __m256i across_inner = sum2(c75, -1730, 11893, c31, -17799, 8697);
        const __m256i high = _mm256_add_epi32(c0, across_even), low = _mm256_sub_epi32(c0, across_even);
        const __m256i columns01 =
            narrowed<kSecond>({_mm256_add_epi32(high, across_outer), _mm256_add_epi32(low, across_inner)});
        const __m256i columns23 =
            narrowed<kSecond>({_mm256_sub_epi32(low, across_inner), _mm256_sub_epi32(high, across_outer)});
        const __m256i to_rows = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
                                                 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        const __m256i rows = centered(_mm256_shuffle_epi8(_mm256_packs_epi16(columns01, columns23), to_rows));
        store_four_rows(_mm256_castsi256_si128(rows), to_a);
        store_four_rows(_mm256_extracti128_si256(rows, 1), to_b);
    }

    static void side2(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        const auto row = [&](std::size_t i) { return load_both(a + 8 * i, b + 8 * i); };
        constexpr int kFirst = kConstBits - kPassBits + 2, kSecond = kConstBits + kPassBits + 3 + 2;
        const Wide first = scaled<kConstBits + 2>(row(0));
        const Wide odd = dot(paired(row(7), row(5)), -5906, 6967) + dot(paired(row(3), row(1)), -10426, 29692);
        const __m256i row0 = narrowed<kFirst>(first + odd), row1 = narrowed<kFirst>(first - odd);
        const __m256i across = _mm256_setr_epi16(0, 29692, 0, -10426, 0, 6967, 0, -5906,
                                                 0, 29692, 0, -10426, 0, 6967, 0, -5906);
        const __m256i partial = _mm256_hadd_epi32(_mm256_madd_epi16(row0, across), _mm256_madd_epi16(row1, across));
        const __m256i sums = _mm256_hadd_epi32(partial, partial);  // row 0, row 1, row 0, row 1
        const __m256i upper = _mm256_unpacklo_epi16(_mm256_setzero_si256(), _mm256_unpacklo_epi16(row0, row1));
        const __m256i starts = _mm256_srai_epi32(_mm256_shuffle_epi32(upper, 0x44), 16 - (kConstBits + 2));
        const __m256i signs = _mm256_setr_epi32(1, 1, -1, -1, 1, 1, -1, -1);
        const __m256i values = _mm256_add_epi32(starts, _mm256_sign_epi32(sums, signs));
        const __m256i words = narrowed<kSecond>({values, values});
        const __m256i bytes = centered(_mm256_packs_epi16(words, words));  // (0,0), (1,0), (0,1), (1,1) of (row, column)
        store_two_by_two(_mm256_castsi256_si128(bytes), to_a);
        store_two_by_two(_mm256_extracti128_si256(bytes, 1), to_b);
    }

    static void side1(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        *to_a.out = only_sample(a);
        *to_b.out = only_sample(b);
    }

  private:
    static void store_four_rows(__m128i rows, Place to) noexcept {
        const std::int32_t four[4] = {_mm_cvtsi128_si32(rows), _mm_extract_epi32(rows, 1), _mm_extract_epi32(rows, 2),
                                      _mm_extract_epi32(rows, 3)};
        for (std::size_t y = 0; y < 4; ++y) std::memcpy(to.out + y * to.stride, &four[y], 4);
    }
    static void store_two_by_two(__m128i samples, Place to) noexcept {
        const auto four = static_cast<std::uint32_t>(_mm_cvtsi128_si32(samples));
        to.out[0] = static_cast<std::uint8_t>(four);
        to.out[to.stride] = static_cast<std::uint8_t>(four >> 8);
        to.out[1] = static_cast<std::uint8_t>(four >> 16);
        to.out[to.stride + 1] = static_cast<std::uint8_t>(four >> 24);
    }
};

// 16 samples, 16 bits each.
inline __m256i widened(const std::uint8_t* at) noexcept {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
inline __m256i tripled(__m256i a) noexcept { return _mm256_add_epi16(a, _mm256_add_epi16(a, a)); }

// One colour difference of 32 pixels: those of even and of odd columns.
struct Chroma {
    __m256i even, odd;
};

template <int kShift, int kEvenRounding, int kOddRounding>
inline Chroma upsampled(__m256i before, __m256i here, __m256i after) noexcept {
    const __m256i most = tripled(here);
    const __m256i even = _mm256_add_epi16(_mm256_add_epi16(most, before), _mm256_set1_epi16(kEvenRounding));
    const __m256i odd = _mm256_add_epi16(_mm256_add_epi16(most, after), _mm256_set1_epi16(kOddRounding));
    return {_mm256_srli_epi16(even, kShift), _mm256_srli_epi16(odd, kShift)};
}

// Red and green, and blue and 255, of 16 pixels: two bytes each, side by side.
struct Colors {
    __m256i red_green, blue_x;
};

inline Colors colors_of(__m256i luma, __m256i blue, __m256i red) noexcept {
    const __m256i center = _mm256_set1_epi16(128), one = _mm256_set1_epi16(1);
    blue = _mm256_sub_epi16(blue, center);
    red = _mm256_sub_epi16(red, center);
    // floor((floor(2 x f / 65536) + 1) / 2) is x f / 65536, rounded.
    const auto product = [&](__m256i x, int factor) {
        const __m256i high = _mm256_mulhi_epi16(_mm256_add_epi16(x, x), _mm256_set1_epi16(static_cast<short>(factor)));
        return _mm256_srai_epi16(_mm256_add_epi16(high, one), 1);
    };
    const __m256i r = _mm256_add_epi16(luma, _mm256_add_epi16(red, product(red, 91881 - 65536)));
    const __m256i b = _mm256_add_epi16(luma, _mm256_add_epi16(_mm256_add_epi16(blue, blue),
                                                              product(blue, 116130 - 131072)));
    const Wide mixed = dot(paired(blue, red), -22554, 65536 - 46802);
    const __m256i g = _mm256_add_epi16(luma, _mm256_sub_epi16(narrowed<16>(mixed), red));
    const __m256i side_by_side = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,
                                                  0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    return {_mm256_shuffle_epi8(_mm256_packus_epi16(r, g), side_by_side),
            _mm256_shuffle_epi8(_mm256_packus_epi16(b, _mm256_set1_epi16(255)), side_by_side)};
}

inline void store_32_pixels(const std::uint8_t* luma, Chroma blue, Chroma red, std::uint8_t* out) noexcept {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(luma));
    const Colors even = colors_of(_mm256_and_si256(both, _mm256_set1_epi16(255)), blue.even, red.even);
    const Colors odd = colors_of(_mm256_srli_epi16(both, 8), blue.odd, red.odd);
    const Pair evens = paired(even.red_green, even.blue_x), odds = paired(odd.red_green, odd.blue_x);
    const __m256i a = _mm256_unpacklo_epi32(evens.low, odds.low), b = _mm256_unpackhi_epi32(evens.low, odds.low);
    const __m256i c = _mm256_unpacklo_epi32(evens.high, odds.high), d = _mm256_unpackhi_epi32(evens.high, odds.high);
    const auto store = [&](std::size_t at, __m256i pixels) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + at), pixels);
    };
    store(0, _mm256_permute2x128_si256(a, b, 0x20));
    store(32, _mm256_permute2x128_si256(c, d, 0x20));
    store(64, _mm256_permute2x128_si256(a, b, 0x31));
    store(96, _mm256_permute2x128_si256(c, d, 0x31));
}

void color_h2v2(const std::uint8_t* luma, const std::uint8_t* const near[2], const std::uint8_t* const far[2],
                std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; i += kJpegColorStep) {
        const auto chroma = [&](int c) {
            const auto blended = [&](std::ptrdiff_t by) {
                const std::ptrdiff_t x = static_cast<std::ptrdiff_t>(i / 2) + by;
                return _mm256_add_epi16(tripled(widened(near[c] + x)), widened(far[c] + x));
            };
            return upsampled<4, 8, 7>(blended(-1), blended(0), blended(1));
        };
        store_32_pixels(luma + i, chroma(0), chroma(1), out + kPixelBytes * i);
    }
}

void color_h2v1(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; i += kJpegColorStep) {
        const auto one = [&](int c) {
            const std::uint8_t* at = chroma[c] + i / 2;
            return upsampled<2, 1, 2>(widened(at - 1), widened(at), widened(at + 1));
        };
        store_32_pixels(luma + i, one(0), one(1), out + kPixelBytes * i);
    }
}

void color(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; i += kJpegColorStep) {
        const auto one = [&](int c) -> Chroma {
            const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(chroma[c] + i));
            return {_mm256_and_si256(both, _mm256_set1_epi16(255)), _mm256_srli_epi16(both, 8)};
        };
        store_32_pixels(luma + i, one(0), one(1), out + kPixelBytes * i);
    }
}

constexpr JpegKernels kAvx2{decode_row<Avx2Transforms>, skip_row, color_h2v2, color_h2v1, color, "avx2"};

}  // namespace

const JpegKernels& avx2_jpeg_kernels() noexcept { return kAvx2; }

}  // namespace ff
