// Trailers, bytewise.
//
//     0  "FFSLOT01"     8  u64 generation   16  key (16)       32  u64 chunk     40  u64 slot
//    48  u32 length    52  u32 zero         56  u32 checks[16]  ..  zeros       4092  u32 crc32c of all before
#include "cache/trailer.hpp"

#include <algorithm>

#include "format/crc32c.hpp"

namespace ff {
namespace {

constexpr char kMagic[] = "FFSLOT01";
constexpr std::size_t kGenerationAt = 8, kKeyAt = 16, kChunkAt = 32, kSlotAt = 40, kLengthAt = 48, kZeroAt = 52,
                      kChecksAt = 56, kChecksEnd = kChecksAt + 4 * kChecks, kCrcAt = kTrailerBytes - 4;
static_assert(kChecksEnd <= kCrcAt, "sixteen checks fit a trailer");

std::uint32_t seed_of(const Trailer& trailer, std::uint64_t index) noexcept {
    std::byte place[kKeyBytes + 32];
    std::copy(trailer.key.begin(), trailer.key.end(), place);
    store_le(place + kKeyBytes, trailer.slot);
    store_le(place + kKeyBytes + 8, trailer.generation);
    store_le(place + kKeyBytes + 16, trailer.chunk);
    store_le(place + kKeyBytes + 24, index);
    return crc32c(0, {place, sizeof place});
}

Bytes part_of(Bytes chunk, std::size_t index) noexcept {
    const std::size_t begin = index * kCheckBytes;
    return chunk.subspan(begin, std::min<std::size_t>(kCheckBytes, chunk.size() - begin));
}

}  // namespace

void set_checks(Trailer& trailer, Bytes chunk) noexcept {
    trailer.checks.fill(0);
    for (std::size_t i = 0; i < trailer.check_count(); ++i)
        trailer.checks[i] = crc32c(seed_of(trailer, i), part_of(chunk, i));
}

bool check_holds(const Trailer& trailer, std::size_t index, Bytes bytes) noexcept {
    return crc32c(seed_of(trailer, index), bytes) == trailer.checks[index];
}

bool checks_hold(const Trailer& trailer, Bytes chunk) noexcept {
    for (std::size_t i = 0; i < trailer.check_count(); ++i)
        if (!check_holds(trailer, i, part_of(chunk, i))) return false;
    return true;
}

void store_trailer(const Trailer& trailer, std::span<std::byte, kTrailerBytes> into) noexcept {
    std::byte* at = into.data();
    std::memset(at, 0, kTrailerBytes);
    std::memcpy(at, kMagic, 8);
    store_le(at + kGenerationAt, trailer.generation);
    std::copy(trailer.key.begin(), trailer.key.end(), at + kKeyAt);
    store_le(at + kChunkAt, trailer.chunk);
    store_le(at + kSlotAt, trailer.slot);
    store_le(at + kLengthAt, trailer.length);
    for (std::size_t i = 0; i < kChecks; ++i) store_le(at + kChecksAt + 4 * i, trailer.checks[i]);
    store_le(at + kCrcAt, crc32c(0, {at, kCrcAt}));
}

std::optional<Trailer> parse_trailer(std::span<const std::byte, kTrailerBytes> bytes) noexcept {
    const std::byte* at = bytes.data();
    if (std::memcmp(at, kMagic, 8) != 0) return {};
    if (load_le<std::uint32_t>(at + kCrcAt) != crc32c(0, {at, kCrcAt})) return {};
    Trailer trailer;
    trailer.generation = load_le<std::uint64_t>(at + kGenerationAt);
    std::copy(at + kKeyAt, at + kKeyAt + kKeyBytes, trailer.key.begin());
    trailer.chunk = load_le<std::uint64_t>(at + kChunkAt);
    trailer.slot = load_le<std::uint64_t>(at + kSlotAt);
    trailer.length = load_le<std::uint32_t>(at + kLengthAt);
    for (std::size_t i = 0; i < kChecks; ++i) trailer.checks[i] = load_le<std::uint32_t>(at + kChecksAt + 4 * i);
    const bool sane = trailer.length >= 1 && trailer.length <= kChunkBytes && is_published(trailer.generation) &&
                      trailer.slot < kSlotsMax && load_le<std::uint32_t>(at + kZeroAt) == 0;
    if (!sane) return {};
    return trailer;
}

}  // namespace ff
