// What the cache's files look like: chunks, slots, words, map entries. docs/cache-format.md is the prose of it.
//
// A slab is slots one after the other, from byte 0. A slot is a chunk's bytes, room for the rest of 1 MiB, and a
// trailer. A words file is one u64 a slot. A chunk map is one u64 a chunk of a set of objects, then 16 bytes of key an
// object.
#pragma once

#include <array>
#include <cstdint>

#include "bytes.hpp"

namespace ff {

inline constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;  // the unit of caching, checking and evicting
inline constexpr std::uint64_t kTrailerBytes = 4096;                   // a page, so that slots stay aligned to pages
inline constexpr std::uint64_t kSlotBytes = kChunkBytes + kTrailerBytes;
inline constexpr std::uint64_t kCheckBytes = std::uint64_t{64} << 10;  // what one crc of a trailer is over
inline constexpr std::size_t kChecks = kChunkBytes / kCheckBytes;
inline constexpr std::size_t kKeyBytes = 16;  // xxh3-128 over pool, endpoint, URL and version

// Map entry: slot number above, generation below. 2^26 slots are 64 TiB a pool; 2^38 generations pass a slot after
// 4,000 years of a fill a second.
inline constexpr unsigned kSlotBits = 26, kGenerationBits = 38;
inline constexpr std::uint64_t kSlotsMax = std::uint64_t{1} << kSlotBits;
inline constexpr std::uint64_t kGenerationMask = (std::uint64_t{1} << kGenerationBits) - 1;
inline constexpr std::uint64_t kNoEntry = 0;

using Key = std::array<std::byte, kKeyBytes>;

// A word is odd while its slot is written; even, it is the generation of what the slot holds.
constexpr bool is_published(std::uint64_t word) noexcept { return (word & 1) == 0; }
// The word while a slot is written that had `word`. A slot that was left odd (its writer died) gets another odd word.
constexpr std::uint64_t writing_word(std::uint64_t word) noexcept { return is_published(word) ? word + 1 : word + 2; }
// The even word after the odd `word`. Its low bits are never all zero, so that no map entry is 0.
constexpr std::uint64_t published_word(std::uint64_t word) noexcept {
    return ((word + 1) & kGenerationMask) == 0 ? word + 3 : word + 1;
}

constexpr std::uint64_t map_entry(std::uint64_t slot, std::uint64_t generation) noexcept {
    return (slot << kGenerationBits) | (generation & kGenerationMask);
}
constexpr std::uint64_t slot_of(std::uint64_t entry) noexcept { return entry >> kGenerationBits; }
// Whether a slot with `word` holds what `entry` promises.
constexpr bool accepts(std::uint64_t entry, std::uint64_t word) noexcept {
    return is_published(word) && ((word ^ entry) & kGenerationMask) == 0;
}

constexpr std::uint64_t chunks_of(std::uint64_t object_bytes) noexcept {
    return object_bytes / kChunkBytes + (object_bytes % kChunkBytes != 0);
}

}  // namespace ff
