// JPEG by the libjpeg API of libjpeg-turbo: only the region is transformed, up- and downsampled and converted.
//
// libjpeg reports errors by a callback that must not return: ours longjmps to the one setjmp below. Nothing with a
// destructor lives in a frame between the two; what must be released belongs to JpegSession, whose owner stands outside
// of the setjmp.
//
// A fresh decompressor for each image: a reused one would lend the tables of the last image to one that lacks its own.
#include <algorithm>
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include "codec/image_bytes.hpp"
#include "codec/image_codecs.hpp"

namespace ff {
namespace {

// Coefficients of the largest progressive image (four components of kImagePixelsMax, 16 bits each) fit.
constexpr long kMemoryMax = long{1} << 31;
// Encoders write about ten scans; a hostile file of a few KB can have thousands, each of which passes over the whole
// image.
constexpr int kScansMax = 100;
// Fancy upsampling looks one chroma sample to each side: so much more than the region is decoded, and the region is
// exact.
constexpr std::uint32_t kColumnMargin = 4;

struct JpegSession {
    jpeg_decompress_struct decompress;
    jpeg_error_mgr errors;
    jpeg_source_mgr source;
    jpeg_progress_mgr progress;
    std::jmp_buf on_error;
    char message[JMSG_LENGTH_MAX];

    explicit JpegSession(Bytes file);
    ~JpegSession() { jpeg_destroy_decompress(&decompress); }
    JpegSession(const JpegSession&) = delete;

    // False where libjpeg gave up; `message` says why.
    bool run(const ImageInfo& info, std::uint32_t reduction, RowResampler& resampler, CodecScratch& scratch,
             ImageCounts& counts);

  private:
    void read_header(const ImageInfo& info, std::uint32_t reduction, ImageCounts& counts);
    void read_region(RowResampler& resampler, CodecScratch& scratch);
    const std::uint8_t* read_row(RowResampler& resampler, std::uint8_t* cmyk, std::size_t skip_pixels);
};

// `client_data` is the session.
JpegSession& session_of(j_common_ptr common) { return *static_cast<JpegSession*>(common->client_data); }

[[noreturn]] void give_up(j_common_ptr common) {
    JpegSession& session = session_of(common);
    common->err->format_message(common, session.message);
    std::longjmp(session.on_error, 1);
}

[[noreturn]] void give_up_because(j_common_ptr common, const char* why) {
    JpegSession& session = session_of(common);
    std::snprintf(session.message, sizeof session.message, "%s", why);
    std::longjmp(session.on_error, 1);
}

void count_warning(j_common_ptr common, int level) {
    if (level < 0) ++common->err->num_warnings;
}
void print_nothing(j_common_ptr) {}

// The whole file is in the buffer from the start: whoever asks for more has passed its end.
boolean at_end(j_decompress_ptr decompress) {
    give_up_because(reinterpret_cast<j_common_ptr>(decompress), "the file ends within the image data: it is truncated");
}
void do_nothing(j_decompress_ptr) {}
void skip_input(j_decompress_ptr decompress, long count) {
    auto& source = *decompress->src;
    if (count <= 0) return;
    if (static_cast<std::size_t>(count) > source.bytes_in_buffer) at_end(decompress);
    source.next_input_byte += count;
    source.bytes_in_buffer -= static_cast<std::size_t>(count);
}

void check_scans(j_common_ptr common) {
    if (reinterpret_cast<j_decompress_ptr>(common)->input_scan_number > kScansMax)
        give_up_because(common, "more than 100 scans: a file made to waste time");
}

JpegSession::JpegSession(Bytes file) {
    message[0] = 0;
    decompress.err = jpeg_std_error(&errors);
    errors.error_exit = give_up;
    errors.emit_message = count_warning;
    errors.output_message = print_nothing;
    // Fails only where the library's version or structures differ from the header's, or memory is out: before any file
    // is looked at.
    if (setjmp(on_error) != 0) throw Error(Code::internal, std::string("libjpeg: ") + message);
    decompress.client_data = this;
    jpeg_create_decompress(&decompress);  // keeps err and client_data
    decompress.mem->max_memory_to_use = kMemoryMax;
    source.next_input_byte = reinterpret_cast<const JOCTET*>(file.data());
    source.bytes_in_buffer = file.size();
    source.init_source = do_nothing;
    source.fill_input_buffer = at_end;
    source.skip_input_data = skip_input;
    source.resync_to_restart = jpeg_resync_to_restart;
    source.term_source = do_nothing;
    decompress.src = &source;
    progress = {};
    progress.progress_monitor = check_scans;
    decompress.progress = &progress;
}

bool JpegSession::run(const ImageInfo& info, std::uint32_t reduction, RowResampler& resampler, CodecScratch& scratch,
                      ImageCounts& counts) {
    if (setjmp(on_error) != 0) return false;
    read_header(info, reduction, counts);
    if (!scratch.baseline.decode(decompress, reduction, resampler)) {
        resampler.rewind();
        jpeg_start_decompress(&decompress);
        read_region(resampler, scratch);
    }
    counts.warnings += static_cast<std::uint64_t>(errors.num_warnings);
    return true;
}

void JpegSession::read_header(const ImageInfo& info, std::uint32_t reduction, ImageCounts& counts) {
    jpeg_read_header(&decompress, TRUE);
    // Every size was derived from the probed header: libjpeg must have found the same one.
    if (decompress.image_width != info.width || decompress.image_height != info.height)
        give_up_because(reinterpret_cast<j_common_ptr>(&decompress), "it has more than one frame header");
    decompress.scale_num = 8 / reduction;
    decompress.scale_denom = 8;
    // Gray is repeated by libjpeg itself; four components have no conversion there.
    const bool four = decompress.num_components == 4;
    decompress.out_color_space = four ? JCS_CMYK : JCS_EXT_RGBX;
    counts.gray += decompress.num_components == 1;
    counts.cmyk += four;
    counts.progressive += decompress.progressive_mode != 0;
    counts.dct_scaled += reduction > 1;
}

// a * b / 255, rounded, as Pillow computes it.
inline int multiplied(int a, int b) noexcept {
    const int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

// Pillow's rule: the four inks of a JPEG are stored inverted (Adobe's custom), whatever the file says.
void cmyk_to_rgb(const std::uint8_t* cmyk, std::size_t pixels, std::uint8_t* out) noexcept {
    for (std::size_t i = 0; i < pixels; ++i, cmyk += 4, out += kPixelBytes) {
        const int black = cmyk[3];
        for (int c = 0; c < 3; ++c) out[c] = static_cast<std::uint8_t>(black - multiplied(255 - cmyk[c], black));
        out[3] = 255;
    }
}

void JpegSession::read_region(RowResampler& resampler, CodecScratch& scratch) {
    const SourceRegion region = resampler.region();
    // Rounds down to a block's edge, and gives back where it begins.
    JDIMENSION begin = region.first_column > kColumnMargin ? region.first_column - kColumnMargin : 0;
    const JDIMENSION end = std::min(decompress.output_width, region.first_column + region.column_count + kColumnMargin);
    JDIMENSION width = end - begin;
    if (width < decompress.output_width) jpeg_crop_scanline(&decompress, &begin, &width);
    resampler.reserve_slots(width);
    std::uint8_t* cmyk = nullptr;
    if (decompress.out_color_space == JCS_CMYK) {
        scratch.pixels.resize(std::max(scratch.pixels.size(), width * kPixelBytes));
        cmyk = scratch.pixels.data();
    }
    if (region.first_row > 0) jpeg_skip_scanlines(&decompress, region.first_row);
    for (std::uint32_t row = 0; row < region.row_count; ++row)
        if (!resampler.push(read_row(resampler, cmyk, region.first_column - begin))) return;
}

const std::uint8_t* JpegSession::read_row(RowResampler& resampler, std::uint8_t* cmyk, std::size_t skip_pixels) {
    std::uint8_t* slot = resampler.slot();
    JSAMPROW line = cmyk != nullptr ? cmyk : slot;
    if (jpeg_read_scanlines(&decompress, &line, 1) != 1)
        give_up_because(reinterpret_cast<j_common_ptr>(&decompress), "no more rows");
    if (cmyk != nullptr) cmyk_to_rgb(cmyk, decompress.output_width, slot);
    return slot + skip_pixels * kPixelBytes;
}

// A crop near the top never meets a missing end: so that the same file fails for every crop, the end is looked for
// first.
void check_end(Bytes file) {
    if (file.size() < 2 || !has_text(file, file.size() - 2, "\xFF\xD9", 2)) check_image_structure(file);
}

}  // namespace

void decode_jpeg(Bytes file, const ImageInfo& info, std::uint32_t reduction, RowResampler& resampler,
                 CodecScratch& scratch, ImageCounts& counts) {
    check_end(file);
    JpegSession session(file);
    if (!session.run(info, reduction, resampler, scratch, counts))
        throw_corrupt(std::string("JPEG: ") + session.message);
}

}  // namespace ff
