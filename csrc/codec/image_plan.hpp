// From a program and an image's size to what must be read, resampled and placed, one axis at a time. Pure functions of
// values. Internal to csrc/codec.
#pragma once

#include <cstdint>

#include "codec/image.hpp"

namespace ff {

// One axis of the stored image: `box_size` source pixels from `box_begin` on are resized to `full_size`, of which
// `window_size` from `window_begin` on are kept, in reversed order where `reversed`, and placed from `pad_before` on in
// an output of `out_size` whose other pixels are zero.
struct AxisPlan {
    std::uint32_t source_size = 0;
    std::uint32_t box_begin = 0, box_size = 0;
    std::uint32_t full_size = 0;
    std::uint32_t window_begin = 0, window_size = 0;
    std::uint32_t out_size = 0, pad_before = 0;
    bool reversed = false;

    // The same axis counted from its other end.
    AxisPlan mirrored() const noexcept;
    bool resizes() const noexcept { return full_size != box_size; }
};

// `columns` and `rows` are those of the stored image. Where `transposed` (EXIF orientations 5 to 8), its columns become
// the rows of the output.
struct ImagePlan {
    AxisPlan columns, rows;
    bool transposed = false;

    std::uint32_t out_width() const noexcept { return transposed ? rows.out_size : columns.out_size; }
    std::uint32_t out_height() const noexcept { return transposed ? columns.out_size : rows.out_size; }
};

// Throws Error(corrupt) where the output would have more than kImagePixelsMax pixels.
ImagePlan plan_image(const ImageInfo& info, const ImageProgram& program, const SampleKey& key);

}  // namespace ff
