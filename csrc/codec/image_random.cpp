// Random crops and flips as functions of (seed, epoch, position, row) and of nothing else. docs/transforms.md describes
// every step, so that a stranger can draw the same boxes.
//
//   mix(z):  z ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27; z *= 0x94D049BB133111EB; z ^= z >> 31
//            (splitmix64's finaliser)
//   state:   h = 0; for v in (seed, epoch, position, row): h = mix((h ^ v) + G)        with G = 0x9E3779B97F4A7C15
//   draw i:  mix(h + (i + 1) * G)                                                       all modulo 2^64
//
// Draw 0 decides the flip; attempt a = 0..9 of the crop uses draws 4a + 1 (area), 4a + 2 (ratio), 4a + 3 (top), 4a + 4
// (left).
#include <algorithm>
#include <cmath>

#include "codec/image.hpp"

namespace ff {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15u;
constexpr std::uint32_t kFlipDraw = 0;
constexpr std::uint32_t kAttempts = 10;  // torchvision's

constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

// An integer in [0, count): the upper 64 bits of bits * count. The bias is below count / 2^64.
std::uint32_t below(std::uint64_t bits, std::uint32_t count) noexcept {
    return static_cast<std::uint32_t>((static_cast<unsigned __int128>(bits) * count) >> 64);
}

// Python's round(): half to even, which is the default rounding mode's.
double round_even(double value) noexcept { return std::nearbyint(value); }

CropBox central_box(const ImageProgram& program, std::uint32_t height, std::uint32_t width) noexcept {
    const double ratio = static_cast<double>(width) / height;
    double box_height = height, box_width = width;
    if (ratio < program.ratio_min) box_height = round_even(width / program.ratio_min);
    else if (ratio > program.ratio_max) box_width = round_even(height * program.ratio_max);
    CropBox box;
    box.height = static_cast<std::uint32_t>(std::clamp(box_height, 1.0, static_cast<double>(height)));
    box.width = static_cast<std::uint32_t>(std::clamp(box_width, 1.0, static_cast<double>(width)));
    box.top = (height - box.height) / 2;
    box.left = (width - box.width) / 2;
    return box;
}

}  // namespace

std::uint64_t sample_bits(const SampleKey& key, std::uint32_t index) noexcept {
    std::uint64_t state = 0;
    for (const std::uint64_t part : {key.seed, key.epoch, key.position, key.row}) state = mix((state ^ part) + kGolden);
    return mix(state + (std::uint64_t{index} + 1) * kGolden);
}

double sample_unit(const SampleKey& key, std::uint32_t index) noexcept {
    return static_cast<double>(sample_bits(key, index) >> 11) * 0x1p-53;
}

CropBox random_resized_crop_box(const ImageProgram& program, const SampleKey& key, std::uint32_t height,
                                std::uint32_t width) noexcept {
    const double area = static_cast<double>(height) * width;
    const double log_min = std::log(program.ratio_min), log_max = std::log(program.ratio_max);
    for (std::uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
        const std::uint32_t draw = 4 * attempt + 1;
        const double target =
            area * (program.scale_min + (program.scale_max - program.scale_min) * sample_unit(key, draw));
        const double ratio = std::exp(log_min + (log_max - log_min) * sample_unit(key, draw + 1));
        const double box_width = round_even(std::sqrt(target * ratio));
        const double box_height = round_even(std::sqrt(target / ratio));
        if (!(box_width >= 1 && box_width <= width && box_height >= 1 && box_height <= height)) continue;
        CropBox box;
        box.height = static_cast<std::uint32_t>(box_height);
        box.width = static_cast<std::uint32_t>(box_width);
        box.top = below(sample_bits(key, draw + 2), height - box.height + 1);
        box.left = below(sample_bits(key, draw + 3), width - box.width + 1);
        return box;
    }
    return central_box(program, height, width);
}

bool random_flip(const ImageProgram& program, const SampleKey& key) noexcept {
    return sample_unit(key, kFlipDraw) < program.flip_probability;
}

}  // namespace ff
