// The loops of a baseline JPEG in plain C++, and what the others are held against.
#include <algorithm>

#include "codec/jpeg_loops.hpp"
#include "codec/resample.hpp"

namespace ff {
namespace {

// libjpeg's fixed point: constants with 13 bits after the point, and two more bits between the passes.
constexpr int kConstBits = 13, kPassBits = 2;

// Sums of coefficients wrap and results of a pass saturate at 16 bits, as in the vectors of libjpeg-turbo: only
// coefficients that no encoder makes get there.
inline std::int32_t wrapped(std::int32_t value) noexcept { return static_cast<std::int16_t>(value); }
inline std::uint8_t sample_of(std::int32_t value) noexcept {
    return static_cast<std::uint8_t>(std::clamp(value, -128, 127) + 128);
}

// Sums of products of 16 bits may pass 32 bits for such coefficients, and wrap as a processor's do.
inline std::int32_t sum(std::int64_t a, std::int64_t b) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
inline std::int32_t difference(std::int64_t a, std::int64_t b) noexcept { return sum(a, -b); }
// Two products at once, as vectors compute them.
inline std::int32_t dot(std::int64_t a, std::int64_t b, std::int64_t fa, std::int64_t fb) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint64_t>(a * fa + b * fb));
}

inline std::int32_t narrowed(std::int32_t value, int shift) noexcept {
    return std::clamp(sum(value, 1 << (shift - 1)) >> shift, -32768, 32767);
}

// jidctint's eight points of a line, in place and `step` apart.
void eight_points(std::int32_t* line, std::size_t step, int shift) noexcept {
    const auto in = [&](std::size_t i) { return line[i * step]; };
    const std::int32_t even2 = dot(in(2), in(6), 4433, 4433 - 15137), even3 = dot(in(2), in(6), 4433 + 6270, 4433);
    const std::int32_t even0 = wrapped(in(0) + in(4)) * (1 << kConstBits);
    const std::int32_t even1 = wrapped(in(0) - in(4)) * (1 << kConstBits);
    const std::int32_t half[4] = {sum(even0, even3), sum(even1, even2), difference(even1, even2),
                                  difference(even0, even3)};
    const std::int32_t z3 = wrapped(in(7) + in(3)), z4 = wrapped(in(5) + in(1));
    const std::int32_t odd3 = dot(z3, z4, 9633 - 16069, 9633), odd4 = dot(z3, z4, 9633, 9633 - 3196);
    const std::int32_t other[4] = {sum(dot(in(7), in(1), -7373, 12299 - 7373), odd4),
                                   sum(dot(in(5), in(3), -20995, 25172 - 20995), odd3),
                                   sum(dot(in(5), in(3), 16819 - 20995, -20995), odd4),
                                   sum(dot(in(7), in(1), 2446 - 7373, -7373), odd3)};
    for (std::size_t i = 0; i < 4; ++i) {
        line[i * step] = narrowed(sum(half[i], other[i]), shift);
        line[(7 - i) * step] = narrowed(difference(half[i], other[i]), shift);
    }
}

// jidctred's four points from eight.
void four_points(std::int32_t* line, std::size_t step, int shift) noexcept {
    const auto in = [&](std::size_t i) { return line[i * step]; };
    const std::int32_t first = in(0) * (1 << (kConstBits + 1));
    const std::int32_t even = dot(in(2), in(6), 15137, -6270);
    const std::int32_t outer = sum(dot(in(7), in(5), -4176, -4926), dot(in(3), in(1), 7373, 20995));
    const std::int32_t inner = sum(dot(in(7), in(5), -1730, 11893), dot(in(3), in(1), -17799, 8697));
    const std::int32_t high = sum(first, even), low = difference(first, even);
    line[0] = narrowed(sum(high, outer), shift);
    line[step] = narrowed(sum(low, inner), shift);
    line[2 * step] = narrowed(difference(low, inner), shift);
    line[3 * step] = narrowed(difference(high, outer), shift);
}

// jidctred's two points from eight, of which it reads five.
void two_points(std::int32_t* line, std::size_t step, int shift) noexcept {
    const auto in = [&](std::size_t i) { return line[i * step]; };
    const std::int32_t first = in(0) * (1 << (kConstBits + 2));
    const std::int32_t odd = sum(dot(in(7), in(5), -5906, 6967), dot(in(3), in(1), -10426, 29692));
    line[0] = narrowed(sum(first, odd), shift);
    line[step] = narrowed(difference(first, odd), shift);
}

// Columns, then rows, of one block; `points` gives `kSide` results a line.
template <std::size_t kSide, class Points>
void transform_block(const Block& block, Place to, Points points) noexcept {
    constexpr int kReduction = kSide == 8 ? 0 : kSide == 4 ? 1 : 2;
    std::int32_t lines[kJpegBlock];
    std::copy_n(block, kJpegBlock, lines);
    for (std::size_t x = 0; x < 8; ++x) points(lines + x, 8, kConstBits - kPassBits + kReduction);
    for (std::size_t y = 0; y < kSide; ++y) {
        points(lines + 8 * y, 1, kConstBits + kPassBits + 3 + kReduction);
        for (std::size_t x = 0; x < kSide; ++x) to.out[y * to.stride + x] = sample_of(lines[8 * y + x]);
    }
}

struct PortableTransforms {
    static void side8(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        transform_block<8>(a, to_a, eight_points);
        transform_block<8>(b, to_b, eight_points);
    }
    static void side4(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        transform_block<4>(a, to_a, four_points);
        transform_block<4>(b, to_b, four_points);
    }
    static void side2(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        transform_block<2>(a, to_a, two_points);
        transform_block<2>(b, to_b, two_points);
    }
    static void side1(const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
        *to_a.out = only_sample(a);
        *to_b.out = only_sample(b);
    }
};

// jdcolor's YCbCr to RGB: constants with 16 bits after the point.
inline void put_pixel(int luma, int blue, int red, std::uint8_t* out) noexcept {
    blue -= 128;
    red -= 128;
    const auto level = [](int value) { return static_cast<std::uint8_t>(std::clamp(value, 0, 255)); };
    out[0] = level(luma + ((91881 * red + 32768) >> 16));
    out[1] = level(luma + ((-22554 * blue - 46802 * red + 32768) >> 16));
    out[2] = level(luma + ((116130 * blue + 32768) >> 16));
    out[3] = 255;
}

// jdsample's triangle filter: three quarters of the nearer, one of the farther, on each axis.
void color_h2v2(const std::uint8_t* luma, const std::uint8_t* const near[2], const std::uint8_t* const far[2],
                std::size_t pixels, std::uint8_t* out) {
    const auto blended = [&](int c, std::ptrdiff_t x) { return 3 * near[c][x] + far[c][x]; };
    for (std::size_t i = 0; i < pixels; ++i) {
        const auto x = static_cast<std::ptrdiff_t>(i / 2), beside = i % 2 == 0 ? x - 1 : x + 1;
        int chroma[2];
        for (int c = 0; c < 2; ++c)
            chroma[c] = (3 * blended(c, x) + blended(c, beside) + (i % 2 == 0 ? 8 : 7)) >> 4;
        put_pixel(luma[i], chroma[0], chroma[1], out + kPixelBytes * i);
    }
}

void color_h2v1(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; ++i) {
        const auto x = static_cast<std::ptrdiff_t>(i / 2), beside = i % 2 == 0 ? x - 1 : x + 1;
        int both[2];
        for (int c = 0; c < 2; ++c) both[c] = (3 * chroma[c][x] + chroma[c][beside] + (i % 2 == 0 ? 1 : 2)) >> 2;
        put_pixel(luma[i], both[0], both[1], out + kPixelBytes * i);
    }
}

void color(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; ++i)
        put_pixel(luma[i], chroma[0][i], chroma[1][i], out + kPixelBytes * i);
}

constexpr JpegKernels kPortable{decode_row<PortableTransforms>, skip_row, color_h2v2, color_h2v1, color, "portable"};

}  // namespace

const JpegKernels& portable_jpeg_kernels() noexcept { return kPortable; }

}  // namespace ff
