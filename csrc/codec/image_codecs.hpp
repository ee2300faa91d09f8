// One decoder a file format: each delivers the rows of a region to a RowResampler. All throw Error(corrupt). Internal
// to csrc/codec.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/image.hpp"
#include "codec/jpeg_baseline.hpp"
#include "codec/resample.hpp"

namespace ff {

// Memory that decoding needs besides the resampler's; kept from image to image.
struct CodecScratch {
    std::vector<std::uint8_t> pixels;          // a decoded image, where the codec cannot give it row by row
    std::vector<std::uint8_t*> row_pointers;
    BaselineJpeg baseline{best_jpeg_kernels()};
};

// Decodes at 1/`reduction` (1, 2, 4, 8) of the size; begin() was called on `resampler` with tables for that size.
// Reads, skips and stops so that only the region costs more than its entropy coding; the pixels are those of a full
// decode.
void decode_jpeg(Bytes file, const ImageInfo& info, std::uint32_t reduction, RowResampler& resampler,
                 CodecScratch& scratch, ImageCounts& counts);
void decode_png(Bytes file, const ImageInfo& info, RowResampler& resampler, CodecScratch& scratch, ImageCounts& counts);
void decode_webp(Bytes file, const ImageInfo& info, RowResampler& resampler, CodecScratch& scratch,
                 ImageCounts& counts);

}  // namespace ff
