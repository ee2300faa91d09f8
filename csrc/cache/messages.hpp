// The messages of a read: what a client asks of the daemon, and how it answers. Little endian, one message a packet.
//
//     header  u16 type | u16 flags, zero | u32 body length | u64 request id
//     GET 0x10      u32 set | u32 object | u64 offset | u32 length | u32 flags | u64 entry | u32 deadline_ms
//     IN_SLOT 0x11  u64 entry                IN_RING 0x12  u64 at | u32 length
//     RELEASE 0x13  (the request id is that of an IN_RING; no answer)
//     ERROR 0x1F    u32 code | u16 length | UTF-8 text
// A body may be longer than what is known of it; the rest is ignored. Pure functions: no socket.
#pragma once

#include <string>

#include "cache/layout.hpp"
#include "error.hpp"

namespace ff {

inline constexpr std::size_t kMessageHeaderBytes = 16;
inline constexpr std::size_t kMessageBytesMax = 64 * 1024;

enum class MessageType : std::uint16_t { get = 0x10, in_slot = 0x11, in_ring = 0x12, release = 0x13, error = 0x1F };

// Flags of a GET.
inline constexpr std::uint32_t kByRing = 1;   // the bytes themselves, not a slot
inline constexpr std::uint32_t kBadSlot = 2;  // what `entry` names could not be read, or was not what was written

struct GetMessage {
    static constexpr std::size_t kBytes = kMessageHeaderBytes + 36;
    std::uint64_t id = 0;
    std::uint32_t set = 0, object = 0;
    std::uint64_t offset = 0;  // in the object
    std::uint32_t length = 0;  // inside one chunk
    std::uint32_t flags = 0;
    std::uint64_t entry = kNoEntry;  // the map entry that was used
    std::uint32_t deadline_ms = 0;
};

std::array<std::byte, GetMessage::kBytes> encode(const GetMessage& get) noexcept;
std::array<std::byte, kMessageHeaderBytes> encode_release(std::uint64_t id) noexcept;

// Codes of an ERROR.
enum class AnswerCode : std::uint32_t {
    unsupported = 1,
    malformed = 2,
    denied = 3,
    not_found = 4,
    origin = 5,
    origin_changed = 6,
    corrupt = 7,
    cache_full = 8,
    timeout = 9,
    draining = 10,
    internal = 11,
    config = 12,
};

struct Answer {
    enum class Kind { in_slot, in_ring, error, unknown };
    Kind kind = Kind::unknown;  // of a type that a client of this version does not know: ignored
    std::uint64_t id = 0;
    std::uint64_t entry = kNoEntry;           // in_slot
    std::uint64_t at = 0;                     // in_ring
    std::uint32_t length = 0;                 // in_ring
    AnswerCode code = AnswerCode::internal;   // error
    std::string text;                         // error
};

// What a packet from the daemon says. Throws Error(daemon) for one that no daemon sends: shorter than its header or
// body says, or than its type needs.
Answer parse_answer(Bytes packet);

// Whether an IN_RING names `wanted` bytes inside a ring of `ring_bytes`.
bool ring_range_holds(const Answer& answer, std::uint64_t wanted, std::uint64_t ring_bytes) noexcept;

// The error of an ERROR: its code says who can act, its text is the daemon's.
Error error_of(const Answer& answer);

}  // namespace ff
