// A slot's trailer: what the slot holds, so that slabs describe themselves, and a crc for each 64 KiB of it.
#pragma once

#include <optional>

#include "cache/layout.hpp"

namespace ff {

struct Trailer {
    Key key{};
    std::uint64_t chunk = 0;       // number in its object
    std::uint64_t generation = 0;  // the slot's word when it was published
    std::uint64_t slot = 0;        // number in the pool: a slot that was copied elsewhere is no slot
    std::uint32_t length = 0;      // bytes of the chunk, 1 .. 1 MiB
    std::array<std::uint32_t, kChecks> checks{};

    std::size_t check_count() const noexcept { return (length + kCheckBytes - 1) / kCheckBytes; }
    bool names(const Key& of, std::uint64_t number) const noexcept { return key == of && chunk == number; }
};

// Sets `checks` from the chunk's bytes (`length` of them). Each begins with key, slot, generation, chunk and its own
// number: right bytes of a wrong place fail.
void set_checks(Trailer& trailer, Bytes chunk) noexcept;
// Whether check `index` holds for its bytes: 64 KiB, or what is left of the chunk.
bool check_holds(const Trailer& trailer, std::size_t index, Bytes bytes) noexcept;
// Whether all checks hold for the chunk's bytes (`length` of them).
bool checks_hold(const Trailer& trailer, Bytes chunk) noexcept;

void store_trailer(const Trailer& trailer, std::span<std::byte, kTrailerBytes> into) noexcept;
// Nothing where the bytes are no whole trailer: wrong magic, crc, length or generation.
std::optional<Trailer> parse_trailer(std::span<const std::byte, kTrailerBytes> bytes) noexcept;

}  // namespace ff
