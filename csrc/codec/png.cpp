// PNG by libpng: palettes expanded, 16 bits divided by 257, gray repeated, alpha dropped. Rows are read until the
// region is complete; an interlaced image is read whole.
//
// As in jpeg.cpp, libpng's errors longjmp to the one setjmp below, and nothing with a destructor lives in between.
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <png.h>

#include "codec/image_bytes.hpp"
#include "codec/image_codecs.hpp"

namespace ff {
namespace {

// Metadata chunks (profiles, texts) are not needed: larger ones are passed over, more than these are an error of
// libpng's.
constexpr png_alloc_size_t kChunkBytesMax = 8 * 1024 * 1024;
constexpr png_uint_32 kChunksMax = 1000;

struct PngSession {
    png_structp png = nullptr;
    png_infop info = nullptr;
    Bytes file;
    std::size_t at = 0;
    std::uint64_t warnings = 0;
    std::jmp_buf on_error;
    char message[256] = {};

    explicit PngSession(Bytes whole);
    ~PngSession() { png_destroy_read_struct(&png, &info, nullptr); }
    PngSession(const PngSession&) = delete;

    bool run(const ImageInfo& probed, RowResampler& resampler, CodecScratch& scratch, ImageCounts& counts);

  private:
    void start(const ImageInfo& probed, ImageCounts& counts);
    void read_rows(const SourceRegion& region, RowResampler& resampler);
    void read_interlaced(const SourceRegion& region, RowResampler& resampler, CodecScratch& scratch);
};

[[noreturn]] void give_up(png_structp png, png_const_charp why) {
    auto& session = *static_cast<PngSession*>(png_get_error_ptr(png));
    std::snprintf(session.message, sizeof session.message, "%s", why);
    std::longjmp(session.on_error, 1);
}

void count_warning(png_structp png, png_const_charp) { ++static_cast<PngSession*>(png_get_error_ptr(png))->warnings; }

void read_bytes(png_structp png, png_bytep into, std::size_t length) {
    auto& session = *static_cast<PngSession*>(png_get_io_ptr(png));
    if (length > session.file.size() - session.at)
        png_error(png, "the file ends within the image data: it is truncated");
    std::memcpy(into, session.file.data() + session.at, length);
    session.at += length;
}

PngSession::PngSession(Bytes whole) : file(whole) {
    if (setjmp(on_error) != 0) throw Error(Code::internal, std::string("libpng: ") + message);
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, give_up, count_warning);
    if (png != nullptr) info = png_create_info_struct(png);
    if (info == nullptr) {
        png_destroy_read_struct(&png, nullptr, nullptr);
        throw Error(Code::no_memory, "libpng: out of memory");
    }
    png_set_read_fn(png, this, read_bytes);
    png_set_user_limits(png, kImageSideMax, kImageSideMax);
    png_set_chunk_malloc_max(png, kChunkBytesMax);
    png_set_chunk_cache_max(png, kChunksMax);
}

bool PngSession::run(const ImageInfo& probed, RowResampler& resampler, CodecScratch& scratch, ImageCounts& counts) {
    if (setjmp(on_error) != 0) return false;
    start(probed, counts);
    const SourceRegion region = resampler.region();
    if (png_get_interlace_type(png, info) == PNG_INTERLACE_NONE) read_rows(region, resampler);
    else read_interlaced(region, resampler, scratch);
    counts.warnings += warnings;
    return true;
}

void PngSession::start(const ImageInfo& probed, ImageCounts& counts) {
    png_read_info(png, info);
    // The header was probed, and every size derived from it: a second one in the file must not disagree.
    if (png_get_image_width(png, info) != probed.width || png_get_image_height(png, info) != probed.height)
        png_error(png, "the size changes within the file");
    const unsigned color_type = png_get_color_type(png, info);
    const unsigned depth = png_get_bit_depth(png, info);
    const bool transparent = png_get_valid(png, info, PNG_INFO_tRNS) != 0;
    png_set_expand(png);  // palettes, fewer than 8 bits, and transparency to alpha
    png_set_scale_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    png_set_filler(png, 255, PNG_FILLER_AFTER);
    counts.palette += color_type == PNG_COLOR_TYPE_PALETTE;
    counts.gray += (color_type & PNG_COLOR_MASK_COLOR) == 0;
    counts.alpha_dropped += (color_type & PNG_COLOR_MASK_ALPHA) != 0 || transparent;
    counts.sixteen_bit += depth == 16;
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != std::size_t{probed.width} * kPixelBytes) png_error(png, "rows are not RGBX");
}

void PngSession::read_rows(const SourceRegion& region, RowResampler& resampler) {
    resampler.reserve_slots(png_get_image_width(png, info));
    for (std::uint32_t row = 0; row < region.first_row; ++row) png_read_row(png, nullptr, nullptr);
    for (std::uint32_t row = 0; row < region.row_count; ++row) {
        std::uint8_t* slot = resampler.slot();
        png_read_row(png, slot, nullptr);
        if (!resampler.push(slot + region.first_column * kPixelBytes)) return;
    }
}

void PngSession::read_interlaced(const SourceRegion& region, RowResampler& resampler, CodecScratch& scratch) {
    const std::size_t height = png_get_image_height(png, info), row_bytes = png_get_rowbytes(png, info);
    scratch.pixels.resize(std::max(scratch.pixels.size(), height * row_bytes + kRowSlackBytes));
    scratch.row_pointers.resize(height);
    for (std::size_t row = 0; row < height; ++row) scratch.row_pointers[row] = scratch.pixels.data() + row * row_bytes;
    png_read_image(png, scratch.row_pointers.data());
    for (std::uint32_t row = 0; row < region.row_count; ++row)
        if (!resampler.push(scratch.row_pointers[region.first_row + row] + region.first_column * kPixelBytes)) return;
}

}  // namespace

void decode_png(Bytes file, const ImageInfo& info, RowResampler& resampler, CodecScratch& scratch,
                ImageCounts& counts) {
    PngSession session(file);
    if (!session.run(info, resampler, scratch, counts)) throw_corrupt(std::string("PNG: ") + session.message);
}

}  // namespace ff
