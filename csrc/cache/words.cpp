// Words and maps over shared memory.
#include "cache/words.hpp"

#include <algorithm>
#include <string>

#include "error.hpp"

namespace ff {
namespace {

constexpr std::uint64_t kChunksMax = std::uint64_t{1} << 40;  // an exbibyte: sums below stay far from overflow
constexpr std::uint64_t kObjectsMax = std::uint64_t{1} << 32;

std::uint64_t checked_slots(std::uint64_t slots) {
    if (slots > kSlotsMax)
        throw Error(Code::config, std::to_string(slots) + " slots; a pool has at most " + std::to_string(kSlotsMax));
    return slots;
}

std::uint64_t checked_map_bytes(std::uint64_t chunks, std::uint64_t objects) {
    if (chunks > kChunksMax || objects > kObjectsMax)
        throw Error(Code::config, "a chunk map of " + std::to_string(chunks) + " chunks and " +
                                      std::to_string(objects) + " objects is too large");
    return ChunkMap::bytes(chunks, objects);
}

}  // namespace

SlotWords::SlotWords(int fd, std::uint64_t slots, Access access)
    : slots_(checked_slots(slots)), mapping_(fd, slots * 8, access, "the file of slot words") {}

std::uint64_t SlotWords::begin(std::uint64_t slot) noexcept {
    const std::uint64_t odd = writing_word(at(slot).load(std::memory_order_relaxed));
    at(slot).store(odd, std::memory_order_relaxed);
    // A release store would let the writes of the bytes, which come later, be seen first.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return published_word(odd);
}

std::uint64_t SlotWords::publish(std::uint64_t slot) {
    const std::uint64_t odd = at(slot).load(std::memory_order_relaxed);
    if (is_published(odd))
        throw Error(Code::internal, "slot " + std::to_string(slot) + " was published without having been written");
    const std::uint64_t even = published_word(odd);
    at(slot).store(even, std::memory_order_release);
    return even;
}

ChunkMap::ChunkMap(int fd, std::uint64_t chunks, std::uint64_t objects, Access access)
    : chunks_(chunks), objects_(objects), mapping_(fd, checked_map_bytes(chunks, objects), access, "the chunk map") {}

Key ChunkMap::key(std::uint64_t object) const noexcept {
    Key key;
    const std::byte* from = mapping_.data() + chunks_ * 8 + object * kKeyBytes;
    std::copy(from, from + kKeyBytes, key.begin());
    return key;
}

void ChunkMap::set_key(std::uint64_t object, const Key& key) noexcept {
    std::copy(key.begin(), key.end(), mapping_.data() + chunks_ * 8 + object * kKeyBytes);
}

}  // namespace ff
