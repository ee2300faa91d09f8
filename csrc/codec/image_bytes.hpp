// Big-endian loads and the walk over a JPEG's marker segments, shared by probing and checking. Internal to csrc/codec.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "bytes.hpp"
#include "error.hpp"

namespace ff {

inline std::uint32_t load_be16(const std::byte* at) noexcept {
    return std::to_integer<std::uint32_t>(at[0]) << 8 | std::to_integer<std::uint32_t>(at[1]);
}
inline std::uint32_t load_be32(const std::byte* at) noexcept { return load_be16(at) << 16 | load_be16(at + 2); }

[[noreturn]] inline void throw_corrupt(std::string what) { throw Error(Code::corrupt, std::move(what)); }

// Bytes at `offset` equal `text`; false where they would pass the end.
inline bool has_text(Bytes bytes, std::size_t offset, const char* text, std::size_t length) noexcept {
    return offset <= bytes.size() && length <= bytes.size() - offset &&
           std::memcmp(bytes.data() + offset, text, length) == 0;
}

inline bool is_jpeg(Bytes file) noexcept { return has_text(file, 0, "\xFF\xD8\xFF", 3); }
inline bool is_png(Bytes file) noexcept { return has_text(file, 0, "\x89PNG\r\n\x1A\n", 8); }
inline bool is_webp(Bytes file) noexcept { return has_text(file, 0, "RIFF", 4) && has_text(file, 8, "WEBP", 4); }

// One marker of a JPEG: its code (the byte after FF), where the FF of it is, and its segment without the length field.
struct JpegMarker {
    std::uint8_t code = 0;
    std::size_t at = 0;
    Bytes segment;
};

inline constexpr std::uint8_t kJpegSof0 = 0xC0, kJpegDht = 0xC4, kJpegSoi = 0xD8, kJpegEoi = 0xD9, kJpegSos = 0xDA,
                              kJpegApp1 = 0xE1;

// C0..CF are frame headers, but for three.
constexpr bool is_jpeg_frame(std::uint8_t code) noexcept {
    return code >= kJpegSof0 && code <= 0xCF && code != kJpegDht && code != 0xC8 && code != 0xCC;
}

// Walks markers one after the other, as libjpeg does: bytes between segments are skipped, fill bytes allowed. After a
// scan header, next() passes over its entropy-coded data.
class JpegWalk {
  public:
    explicit JpegWalk(Bytes file) : file_(file), at_(2) {}

    // The next marker; nothing at the end of the file. Throws Error(corrupt) where a segment passes the end.
    std::optional<JpegMarker> next() {
        for (;;) {
            const auto left = file_.size() - at_;
            const void* found = left == 0 ? nullptr : std::memchr(file_.data() + at_, 0xFF, left);
            if (found == nullptr) return std::nullopt;
            at_ = static_cast<std::size_t>(static_cast<const std::byte*>(found) - file_.data()) + 1;
            if (at_ == file_.size()) return std::nullopt;
            const auto code = std::to_integer<std::uint8_t>(file_[at_]);
            if (code == 0xFF) continue;  // a fill byte: this FF may begin the marker
            ++at_;
            // 00 is a stuffed byte of entropy-coded data; 01 and D0..D7 (restart) have no segment.
            if (code == 0 || code == 1 || (code >= 0xD0 && code <= 0xD7)) continue;
            if (code == kJpegSoi || code == kJpegEoi) return JpegMarker{code, at_ - 2, {}};
            return JpegMarker{code, at_ - 2, take_segment(code)};
        }
    }

  private:
    Bytes take_segment(std::uint8_t code) {
        const auto left = file_.size() - at_;
        const std::size_t length = left < 2 ? 0 : load_be16(file_.data() + at_);
        if (length < 2 || length > left)
            throw_corrupt("JPEG: the segment of marker " + std::to_string(code) + " at byte " +
                          std::to_string(at_ - 2) + " declares " + std::to_string(length) +
                          " bytes, and the file has " + std::to_string(left) + " more: it is truncated or damaged");
        const Bytes segment = file_.subspan(at_ + 2, length - 2);
        at_ += length;
        return segment;
    }

    Bytes file_;
    std::size_t at_;
};

}  // namespace ff
