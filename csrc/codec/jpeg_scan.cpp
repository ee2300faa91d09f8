#include "codec/jpeg_scan.hpp"

#include <cstring>

#include "codec/image_bytes.hpp"
#include "cpu.hpp"

namespace ff {
namespace {

// Zeros behind the data: a reader looks for the end once an MCU, whose blocks hold at most 27 bits a symbol.
constexpr std::size_t kPaddingBytes = kJpegMcuBlocksMax * kJpegBlock * 4 + 64;

}  // namespace

void JpegBits::take(Bytes coded, bool restarts) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(coded.data());
    const auto* const end = at + coded.size();
    if (bytes.size() < coded.size() + kPaddingBytes) bytes.resize(coded.size() + kPaddingBytes);
    interval_ends.clear();
    std::uint8_t* out = bytes.data();
    for (;;) {
        const auto* found = static_cast<const std::uint8_t*>(std::memchr(at, 0xFF, static_cast<std::size_t>(end - at)));
        if (found == nullptr) found = end;
        std::memcpy(out, at, static_cast<std::size_t>(found - at));
        out += found - at;
        if (end - found < 2) break;
        at = found + 2;
        if (found[1] == 0) {
            *out++ = 0xFF;
        } else if (restarts && found[1] == 0xD0 + interval_ends.size() % 8) {
            interval_ends.push_back(static_cast<std::size_t>(out - bytes.data()));
        } else {
            break;
        }
    }
    size = static_cast<std::size_t>(out - bytes.data());
    interval_ends.push_back(size);
    std::memset(out, 0, kPaddingBytes);
}

void JpegScan::start() noexcept {
    window = 0;
    window_bits = 0;
    next = bits.bytes.data();
    last_dc = {};
    until_restart = restart_interval;
    interval = 0;
    mcu_row = 0;
}

bool JpegScan::restart() noexcept {
    if (until_restart == 0) {
        if (interval + 1 >= bits.interval_ends.size()) return false;
        const auto* const end = bits.bytes.data() + bits.interval_ends[interval];
        if (next - window_bits / 8 != end) return false;
        ++interval;
        next = end;
        window = 0;
        window_bits = 0;
        last_dc = {};
        until_restart = restart_interval;
    }
    --until_restart;
    return true;
}

const JpegKernels& best_jpeg_kernels() noexcept {
#if defined(__x86_64__)
    if (has_avx2()) return avx2_jpeg_kernels();
#endif
    return portable_jpeg_kernels();
}

}  // namespace ff
