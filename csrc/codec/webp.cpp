// WebP by libwebp, which decodes a crop into memory of ours. Alpha is dropped, not blended.
#include <algorithm>

#include <webp/decode.h>

#include "codec/image_bytes.hpp"
#include "codec/image_codecs.hpp"

namespace ff {
namespace {

// Chroma is interpolated over one sample to each side, and libwebp does not look past the crop: so much more is
// decoded.
constexpr std::uint32_t kMargin = 2;

struct Span {
    std::uint32_t begin, size;
};

// [first, first + count) with its margin, within `limit`. It begins at an even pixel: libwebp would round an odd one
// down.
Span widened(std::uint32_t first, std::uint32_t count, std::uint32_t limit) noexcept {
    const std::uint32_t begin = (first > kMargin ? first - kMargin : 0) & ~1u;
    return {begin, std::min(limit, first + count + kMargin) - begin};
}

const char* status_name(VP8StatusCode status) noexcept {
    switch (status) {
        case VP8_STATUS_NOT_ENOUGH_DATA: return "the file ends within the image data: it is truncated";
        case VP8_STATUS_BITSTREAM_ERROR: return "its image data is damaged";
        case VP8_STATUS_UNSUPPORTED_FEATURE: return "it uses a feature that libwebp does not know";
        case VP8_STATUS_OUT_OF_MEMORY: return "out of memory while decoding";
        default: return "it cannot be decoded";
    }
}

}  // namespace

void decode_webp(Bytes file, const ImageInfo& info, RowResampler& resampler, CodecScratch& scratch,
                 ImageCounts& counts) {
    const SourceRegion region = resampler.region();
    const Span columns = widened(region.first_column, region.column_count, info.width);
    const Span rows = widened(region.first_row, region.row_count, info.height);
    const std::size_t stride = columns.size * kPixelBytes, bytes = stride * rows.size;
    scratch.pixels.resize(std::max(scratch.pixels.size(), bytes + kRowSlackBytes));

    WebPDecoderConfig config;
    if (WebPInitDecoderConfig(&config) == 0) throw Error(Code::internal, "libwebp's version differs from its header's");
    config.options.use_cropping = 1;
    config.options.crop_left = static_cast<int>(columns.begin);
    config.options.crop_top = static_cast<int>(rows.begin);
    config.options.crop_width = static_cast<int>(columns.size);
    config.options.crop_height = static_cast<int>(rows.size);
    config.output.colorspace = MODE_RGBA;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = {scratch.pixels.data(), static_cast<int>(stride), bytes};
    const auto status = WebPDecode(reinterpret_cast<const std::uint8_t*>(file.data()), file.size(), &config);
    WebPFreeDecBuffer(&config.output);
    if (status == VP8_STATUS_OUT_OF_MEMORY) throw Error(Code::no_memory, std::string("WebP: ") + status_name(status));
    if (status != VP8_STATUS_OK) throw_corrupt(std::string("WebP: ") + status_name(status));
    counts.alpha_dropped += info.channels == 4;

    const std::uint8_t* row = scratch.pixels.data() + stride * (region.first_row - rows.begin) +
                              kPixelBytes * (region.first_column - columns.begin);
    for (std::uint32_t i = 0; i < region.row_count; ++i, row += stride)
        if (!resampler.push(row)) return;
}

}  // namespace ff
