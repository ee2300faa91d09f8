// JPEG, PNG and WebP straight into a batch: decode what the crop needs, resize, flip, normalise, lay out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "bytes.hpp"

namespace ff {

inline constexpr std::uint32_t kImageSideMax = 65535;
inline constexpr std::uint64_t kImagePixelsMax = std::uint64_t{1} << 28;

enum class ImageEncoding : std::uint8_t { jpeg = 1, png = 2, webp = 3 };

// What the file's own header says. `orientation` is EXIF's, 1..8 (1 where there is none).
struct ImageInfo {
    std::uint32_t width = 0, height = 0;
    std::uint8_t channels = 0;  // 1 gray, 2 gray and alpha, 3, 4; a palette counts as 3, or 4 with transparency
    ImageEncoding encoding = ImageEncoding::jpeg;
    std::uint8_t orientation = 1;
};

// Reads headers only. Throws Error(corrupt) where `encoded` is none of the three or breaks a limit.
ImageInfo probe_image(Bytes encoded);

// The structure of the whole file: JPEG markers to the end, PNG chunk crcs, RIFF sizes. Throws Error(corrupt).
void check_image_structure(Bytes encoded);

enum class PixelType : std::uint8_t { u8 = 0, f32 = 1, f16 = 2 };
enum class PixelLayout : std::uint8_t { chw = 0, hwc = 1 };
enum class Sizing : std::uint8_t {
    none = 0,                // as large as it is
    random_resized_crop = 1, // torchvision's RandomResizedCrop
    resize_exact = 2,        // Resize((h, w))
    resize_short = 3,        // Resize(s): the shorter side becomes s; alone it gives different shapes
    resize_short_center_crop = 4,  // Resize(s), then CenterCrop((h, w))
    center_crop = 5,         // CenterCrop((h, w)); zero padding where the image is smaller
};

// What to do with each image of a column. Immutable; shared by all threads.
struct ImageProgram {
    bool decode = true;      // false: the encoded bytes are the value
    bool apply_exif = true;
    Sizing sizing = Sizing::none;
    std::uint32_t out_height = 0, out_width = 0;   // where the shape is fixed
    std::uint32_t short_side = 0;
    double scale_min = 0.08, scale_max = 1.0, ratio_min = 3.0 / 4.0, ratio_max = 4.0 / 3.0;
    double flip_probability = 0.0;
    bool normalize = false;                         // (v / 255 - mean) / std, float output; without it, the levels
    std::array<float, 3> mean{0, 0, 0}, stddev{1, 1, 1};
    PixelType type = PixelType::u8;
    PixelLayout layout = PixelLayout::chw;
    // Let libjpeg decode at 1/2, 1/4, 1/8 where the target is that much smaller
    bool dct_scaling = true;

    bool fixed_shape() const noexcept { return sizing != Sizing::none && sizing != Sizing::resize_short; }
    std::size_t pixel_bytes() const noexcept { return type == PixelType::u8 ? 1 : type == PixelType::f16 ? 2 : 4; }
    // Bytes of one output image where fixed_shape().
    std::size_t out_bytes() const noexcept { return std::size_t{3} * out_height * out_width * pixel_bytes(); }
};

// The random numbers of one sample: a counter-based generator keyed by (seed, epoch, position, row), so that they
// depend on nothing else. Draw i is splitmix-finalised; the exact function is documented in image_random.cpp and
// docs/transforms.md.
struct SampleKey {
    std::uint64_t seed = 0, epoch = 0, position = 0, row = 0;
};
// Draw number `index` of this key: 64 uniform bits. Stateless.
std::uint64_t sample_bits(const SampleKey& key, std::uint32_t index) noexcept;
// Draw number `index` as a double in [0, 1): the upper 53 bits.
double sample_unit(const SampleKey& key, std::uint32_t index) noexcept;

struct CropBox {
    std::uint32_t top = 0, left = 0, height = 0, width = 0;
};
// torchvision's RandomResizedCrop.get_params with the draws of `key` (10 attempts, then the central fallback), in the
// oriented image.
CropBox random_resized_crop_box(const ImageProgram& program, const SampleKey& key, std::uint32_t height,
                                std::uint32_t width) noexcept;
bool random_flip(const ImageProgram& program, const SampleKey& key) noexcept;

// What decoding met; summed over threads into stats().
struct ImageCounts {
    std::uint64_t decoded = 0, exif_rotated = 0, gray = 0, palette = 0, alpha_dropped = 0, cmyk = 0, sixteen_bit = 0,
                  progressive = 0, dct_scaled = 0, warnings = 0;
};

// Decodes images one at a time. One per thread: it owns the codecs' state and scratch memory, which it reuses and never
// shrinks below what the largest image so far needed (at most kImagePixelsMax * 4 bytes plus rows).
class ImageDecoder {
  public:
    ImageDecoder();
    ~ImageDecoder();
    ImageDecoder(const ImageDecoder&) = delete;
    ImageDecoder& operator=(const ImageDecoder&) = delete;

    // Shape of the output for this image under `program`: {height, width}. Reads headers only.
    std::array<std::uint32_t, 2> out_shape(Bytes encoded, const ImageProgram& program);

    // Decodes into `out`, exactly 3 * h * w * pixel_bytes() bytes in program.layout. Throws Error(corrupt).
    void decode(Bytes encoded, const ImageProgram& program, const SampleKey& key, MutableBytes out,
                ImageCounts& counts);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ff
