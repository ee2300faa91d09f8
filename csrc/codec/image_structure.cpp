// The structure of a whole image file, without decoding it: is every part there, and within bounds? Catches truncation
// and, for PNG, every flipped bit. Bytes after the end of the image are tolerated, as all decoders tolerate them.
#include <algorithm>

#include "codec/image.hpp"
#include "codec/image_bytes.hpp"

namespace ff {
namespace {

// The crc of PNG (zlib's), eight bytes a step.
struct PngCrcTables {
    std::uint32_t of[8][256];
    constexpr PngCrcTables() : of() {
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t crc = i;
            for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xEDB88320u : 0u);
            of[0][i] = crc;
        }
        for (std::uint32_t i = 0; i < 256; ++i)
            for (int k = 1; k < 8; ++k) of[k][i] = (of[k - 1][i] >> 8) ^ of[0][of[k - 1][i] & 255];
    }
};
constexpr PngCrcTables kPngCrc;

std::uint32_t png_crc(Bytes bytes) noexcept {
    std::uint32_t crc = 0xFFFFFFFFu;
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
        const std::uint32_t low = load_le<std::uint32_t>(bytes.data() + i) ^ crc;
        const std::uint32_t high = load_le<std::uint32_t>(bytes.data() + i + 4);
        crc = kPngCrc.of[7][low & 255] ^ kPngCrc.of[6][low >> 8 & 255] ^ kPngCrc.of[5][low >> 16 & 255] ^
              kPngCrc.of[4][low >> 24] ^ kPngCrc.of[3][high & 255] ^ kPngCrc.of[2][high >> 8 & 255] ^
              kPngCrc.of[1][high >> 16 & 255] ^ kPngCrc.of[0][high >> 24];
    }
    for (; i < bytes.size(); ++i)
        crc = (crc >> 8) ^ kPngCrc.of[0][(crc ^ std::to_integer<std::uint32_t>(bytes[i])) & 255];
    return ~crc;
}

void check_jpeg(Bytes file) {
    bool has_frame = false, has_scan = false;
    JpegWalk walk(file);
    while (const auto marker = walk.next()) {
        if (is_jpeg_frame(marker->code)) has_frame = true;
        if (marker->code == kJpegSos) {
            if (!has_frame)
                throw_corrupt("JPEG: a scan at byte " + std::to_string(marker->at) + " comes before the frame header");
            has_scan = true;
        }
        if (marker->code == kJpegSoi)
            throw_corrupt("JPEG: a second image begins at byte " + std::to_string(marker->at) +
                          " before the first ends");
        if (marker->code == kJpegEoi) {
            if (!has_scan) throw_corrupt("JPEG: ends at byte " + std::to_string(marker->at) + " without image data");
            return;
        }
    }
    throw_corrupt("JPEG: no end marker in " + std::to_string(file.size()) + " bytes: the file is truncated");
}

void check_png(Bytes file) {
    std::size_t at = 8;
    bool has_data = false;
    while (file.size() - at >= 12) {
        const std::size_t length = load_be32(file.data() + at);
        const std::string where = "chunk at byte " + std::to_string(at);
        if (length > file.size() - at - 12)
            throw_corrupt("PNG: the " + where + " declares " + std::to_string(length) + " bytes and " +
                          std::to_string(file.size() - at - 12) + " are there: the file is truncated or damaged");
        const std::uint32_t stored = load_be32(file.data() + at + 8 + length);
        const std::uint32_t computed = png_crc(file.subspan(at + 4, length + 4));
        if (stored != computed)
            throw_corrupt("PNG: the " + where + " has crc " + std::to_string(computed) + ", its file says " +
                          std::to_string(stored));
        has_data = has_data || has_text(file, at + 4, "IDAT", 4);
        if (has_text(file, at + 4, "IEND", 4)) {
            if (!has_data) throw_corrupt("PNG: ends without image data");
            return;
        }
        at += 12 + length;
    }
    throw_corrupt("PNG: no end chunk in " + std::to_string(file.size()) + " bytes: the file is truncated");
}

void check_webp(Bytes file) {
    const std::size_t riff = load_le<std::uint32_t>(file.data() + 4);
    if (riff < 4 || riff > file.size() - 8)
        throw_corrupt("WebP: declares " + std::to_string(riff) + " bytes and " + std::to_string(file.size() - 8) +
                      " are there: the file is truncated or damaged");
    const Bytes content = file.first(8 + riff);
    bool has_image = false;
    std::size_t at = 12;
    while (at < content.size()) {
        const std::size_t left = content.size() - at;
        const std::size_t length = left < 8 ? 0 : load_le<std::uint32_t>(content.data() + at + 4);
        if (left < 8 || length > left - 8)
            throw_corrupt("WebP: the chunk at byte " + std::to_string(at) + " declares " + std::to_string(length) +
                          " bytes, and " + std::to_string(left) + " are left of the file");
        has_image = has_image || has_text(content, at, "VP8 ", 4) || has_text(content, at, "VP8L", 4);
        at += std::min(left, 8 + length + (length & 1));
    }
    if (!has_image) throw_corrupt("WebP: has no image data chunk");
}

}  // namespace

void check_image_structure(Bytes encoded) {
    probe_image(encoded);
    if (is_jpeg(encoded)) return check_jpeg(encoded);
    if (is_png(encoded)) return check_png(encoded);
    check_webp(encoded);
}

}  // namespace ff
