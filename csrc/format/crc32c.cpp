// crc32c: the choice of an implementation, the portable one, and combining.
#include "format/crc32c.hpp"

#include "format/crc32c_math.hpp"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace ff {
namespace {

using namespace crc32c_math;

#if defined(__x86_64__)
// Two loads from what libgcc found out at start-up: as cheap as a flag of our own.
bool has_crc() noexcept { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }
constexpr const char* kHardwareName = "sse4.2";
#elif defined(__aarch64__)
bool has_crc() noexcept {
    static const bool has = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
    return has;
}
constexpr const char* kHardwareName = "armv8";
#else
bool has_crc() noexcept { return false; }
constexpr const char* kHardwareName = "portable";
#endif

}  // namespace

std::uint32_t crc32c(std::uint32_t crc, Bytes bytes) noexcept {
#if defined(__x86_64__)
    if (has_crc()) [[likely]] return crc32c_sse42(crc, bytes);
#elif defined(__aarch64__)
    if (has_crc()) [[likely]] return crc32c_armv8(crc, bytes);
#endif
    return crc32c_portable(crc, bytes);
}

const char* crc32c_implementation() noexcept { return has_crc() ? kHardwareName : "portable"; }

std::uint32_t crc32c_portable(std::uint32_t crc, Bytes bytes) noexcept {
    std::uint32_t state = ~crc;
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    for (; left >= 8; at += 8, left -= 8) {
        const auto word = load_le<std::uint64_t>(at) ^ state;
        state = 0;
        for (unsigned i = 0; i < 8; ++i) state ^= kSlices[7 - i][(word >> (8 * i)) & 255];
    }
    for (; left > 0; ++at, --left) state = (state >> 8) ^ kSlices[0][(state ^ std::to_integer<unsigned>(*at)) & 255];
    return ~state;
}

std::uint32_t crc32c_combine(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t length_b) noexcept {
    // The initial and the final inversions cancel: crc(A) moves over B's length as a register does.
    return multiply(power_of_zero_bytes(length_b), crc_a) ^ crc_b;
}

}  // namespace ff
