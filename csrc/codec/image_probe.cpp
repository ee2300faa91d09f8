// What an image's own header says: size, channels, encoding and EXIF orientation. Reads headers only, allocates
// nothing, and checks every declared length against the file before it follows it.
#include <webp/decode.h>

#include "codec/image.hpp"
#include "codec/image_bytes.hpp"

namespace ff {
namespace {

constexpr std::uint32_t kTagOrientation = 0x0112;
constexpr std::uint32_t kTypeShort = 3, kTypeLong = 4;

// The orientation in a TIFF block (what EXIF is inside), 1 where it has none or is damaged: metadata never spoils
// pixels.
std::uint8_t tiff_orientation(Bytes tiff) noexcept {
    if (tiff.size() < 8) return 1;
    const bool little = has_text(tiff, 0, "II*\0", 4);
    if (!little && !has_text(tiff, 0, "MM\0*", 4)) return 1;
    const auto u16 = [&](std::size_t at) {
        return little ? load_le<std::uint16_t>(tiff.data() + at) : load_be16(tiff.data() + at);
    };
    const auto u32 = [&](std::size_t at) {
        return little ? load_le<std::uint32_t>(tiff.data() + at) : load_be32(tiff.data() + at);
    };
    const std::size_t directory = u32(4);
    if (directory > tiff.size() - 2) return 1;
    const std::size_t entries = u16(directory);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t at = directory + 2 + 12 * i;
        if (at + 12 > tiff.size()) return 1;
        if (u16(at) != kTagOrientation) continue;
        const std::uint32_t type = u16(at + 2);
        if ((type != kTypeShort && type != kTypeLong) || u32(at + 4) != 1) return 1;
        const std::uint32_t value = type == kTypeShort ? u16(at + 8) : u32(at + 8);
        return value >= 1 && value <= 8 ? static_cast<std::uint8_t>(value) : 1;
    }
    return 1;
}

constexpr std::size_t kExifPrefix = 6;  // "Exif\0\0" before the TIFF block in a JPEG, and in some WebP files

void check_size(const ImageInfo& info, const char* name) {
    const std::string size = std::to_string(info.width) + " x " + std::to_string(info.height);
    if (info.width == 0 || info.height == 0) throw_corrupt(std::string(name) + ": declares a size of " + size);
    if (info.width > kImageSideMax || info.height > kImageSideMax ||
        std::uint64_t{info.width} * info.height > kImagePixelsMax)
        throw_corrupt(std::string(name) + ": declares " + size + " pixels; the limit is " +
                      std::to_string(kImagePixelsMax) + " pixels and " + std::to_string(kImageSideMax) + " a side");
}

void read_jpeg_frame(Bytes segment, ImageInfo& info) {
    if (segment.size() < 6)
        throw_corrupt("JPEG: the frame header is " + std::to_string(segment.size()) + " bytes long");
    const auto precision = std::to_integer<unsigned>(segment[0]);
    if (precision != 8) throw_corrupt("JPEG: " + std::to_string(precision) + " bits a sample; only 8 can be decoded");
    info.height = load_be16(segment.data() + 1);
    info.width = load_be16(segment.data() + 3);
    info.channels = std::to_integer<std::uint8_t>(segment[5]);
    if (info.channels != 1 && info.channels != 3 && info.channels != 4)
        throw_corrupt("JPEG: " + std::to_string(info.channels) + " components; 1, 3 and 4 can be decoded");
}

ImageInfo probe_jpeg(Bytes file) {
    ImageInfo info;
    info.encoding = ImageEncoding::jpeg;
    bool has_frame = false, has_exif = false;
    JpegWalk walk(file);
    while (const auto marker = walk.next()) {
        if (is_jpeg_frame(marker->code) && !has_frame) {
            read_jpeg_frame(marker->segment, info);
            has_frame = true;
        } else if (marker->code == kJpegApp1 && !has_exif && has_text(marker->segment, 0, "Exif\0\0", kExifPrefix)) {
            info.orientation = tiff_orientation(marker->segment.subspan(kExifPrefix));
            has_exif = true;
        } else if (marker->code == kJpegEoi) {
            break;
        } else if (marker->code == kJpegSos) {
            if (!has_frame) throw_corrupt("JPEG: a scan comes before the frame header");
            check_size(info, "JPEG");
            return info;
        }
    }
    throw_corrupt("JPEG: ends without image data after " + std::to_string(file.size()) + " bytes");
}

std::uint8_t png_channels(unsigned color_type) {
    switch (color_type) {
        case 0: return 1;
        case 2: case 3: return 3;
        case 4: return 2;
        case 6: return 4;
        default: throw_corrupt("PNG: color type " + std::to_string(color_type) + " does not exist");
    }
}

// The orientation is taken from an eXIf chunk that comes before the image data.
ImageInfo probe_png(Bytes file) {
    ImageInfo info;
    info.encoding = ImageEncoding::png;
    bool is_palette = false;
    std::size_t at = 8;
    for (bool first = true; file.size() - at >= 12; first = false) {
        const std::size_t length = load_be32(file.data() + at);
        if (length > file.size() - at - 12)
            throw_corrupt("PNG: the chunk at byte " + std::to_string(at) + " declares " + std::to_string(length) +
                          " bytes, more than the file has");
        const Bytes body = file.subspan(at + 8, length);
        if (first) {
            if (!has_text(file, at + 4, "IHDR", 4) || length != 13)
                throw_corrupt("PNG: does not begin with a header chunk");
            info.width = load_be32(body.data());
            info.height = load_be32(body.data() + 4);
            const auto color_type = std::to_integer<unsigned>(body[9]);
            info.channels = png_channels(color_type);
            is_palette = color_type == 3;
            check_size(info, "PNG");
        } else if (has_text(file, at + 4, "tRNS", 4)) {
            if (is_palette) info.channels = 4;
        } else if (has_text(file, at + 4, "eXIf", 4)) {
            info.orientation = tiff_orientation(body);
        } else if (has_text(file, at + 4, "IDAT", 4)) {
            return info;
        }
        at += 12 + length;
    }
    throw_corrupt("PNG: ends without image data after " + std::to_string(file.size()) + " bytes");
}

std::uint8_t webp_orientation(Bytes file) noexcept {
    constexpr unsigned kFlagExif = 0x08;
    if (!has_text(file, 12, "VP8X", 4) || file.size() < 30) return 1;
    if ((std::to_integer<unsigned>(file[20]) & kFlagExif) == 0) return 1;
    std::size_t at = 12;
    while (file.size() - at >= 8) {
        const std::size_t length = load_le<std::uint32_t>(file.data() + at + 4);
        if (length > file.size() - at - 8) return 1;
        if (has_text(file, at, "EXIF", 4)) {
            const Bytes body = file.subspan(at + 8, length);
            return tiff_orientation(has_text(body, 0, "Exif\0\0", kExifPrefix) ? body.subspan(kExifPrefix) : body);
        }
        const std::size_t step = 8 + length + (length & 1);
        if (step > file.size() - at) return 1;
        at += step;
    }
    return 1;
}

ImageInfo probe_webp(Bytes file) {
    WebPBitstreamFeatures features;
    const auto status = WebPGetFeatures(reinterpret_cast<const std::uint8_t*>(file.data()), file.size(), &features);
    if (status == VP8_STATUS_NOT_ENOUGH_DATA)
        throw_corrupt("WebP: ends within its header after " + std::to_string(file.size()) + " bytes");
    if (status != VP8_STATUS_OK) throw_corrupt("WebP: its header is damaged (status " + std::to_string(status) + ")");
    if (features.has_animation != 0) throw_corrupt("WebP: an animation; only still images can be decoded");
    ImageInfo info;
    info.encoding = ImageEncoding::webp;
    info.width = static_cast<std::uint32_t>(features.width);
    info.height = static_cast<std::uint32_t>(features.height);
    info.channels = features.has_alpha != 0 ? 4 : 3;
    check_size(info, "WebP");
    info.orientation = webp_orientation(file);
    return info;
}

}  // namespace

ImageInfo probe_image(Bytes encoded) {
    if (is_jpeg(encoded)) return probe_jpeg(encoded);
    if (is_png(encoded)) return probe_png(encoded);
    if (is_webp(encoded)) return probe_webp(encoded);
    std::string start;
    for (std::size_t i = 0; i < encoded.size() && i < 4; ++i) {
        constexpr char digits[] = "0123456789abcdef";
        const auto value = std::to_integer<unsigned>(encoded[i]);
        start += {digits[value >> 4], digits[value & 15]};
    }
    throw_corrupt("no JPEG, PNG or WebP: " + std::to_string(encoded.size()) + " bytes that begin with '" + start + "'");
}

}  // namespace ff
