// Slot words and chunk maps, and the order in which writer and readers touch them.
//
// Writer, for one slot (one thread a slot at a time; the pool sees to that)
//   1. store the word odd            begin(): readers who come now see a miss
//   2. fence (seq_cst)               no byte of 3 is visible before 1
//   3. write chunk and trailer; wait until the writes are complete
//   4. store the word even, release  publish(): who sees 4 sees 3
//   5. store the map entries         ChunkMap::set(), release
// Reader
//   1. load the map entry            a hint: slot and generation
//   2. load the word, acquire        must be even and of that generation
//   3. read the bytes, and have the read's completion
//   4. fence (acquire)               the loads of 3 are before that of 5
//   5. load the word again           must be unchanged
//   6. check the crc                 the caller
// If 5 sees the word of 2, no writer's step 3 began before the reader's step 3 ended: a byte of a later fill in the
// reader's hands means that the writer's step 1 is visible in 5 (2 and 4 order it). So 5 finds every race, and a crc
// that fails after it is damage. csrc/tests/test_cache_model.cpp tries every interleaving of these steps.
#pragma once

#include <atomic>

#include "cache/layout.hpp"
#include "cache/mapping.hpp"

namespace ff {

// The words of a pool's slots. Thread-safe.
class SlotWords {
  public:
    // Maps `slots` words. Throws as Mapping, and Error(config) for more slots than an entry can name.
    SlotWords(int fd, std::uint64_t slots, Access access);
    std::uint64_t slots() const noexcept { return slots_; }

    // `slot` < slots() in all of these; the last two need Access::write.
    std::uint64_t load(std::uint64_t slot) const noexcept { return at(slot).load(std::memory_order_acquire); }
    // After the read of a slot's bytes: the word that decides whether they are of the generation that was asked for.
    std::uint64_t load_after_read(std::uint64_t slot) const noexcept {
        std::atomic_thread_fence(std::memory_order_acquire);
        return at(slot).load(std::memory_order_relaxed);
    }
    // Makes the word odd, for every reader before any byte that is written later. Returns the generation to publish.
    std::uint64_t begin(std::uint64_t slot) noexcept;
    // Makes the odd word even, for every reader after all bytes that were written before. Returns the generation.
    // Throws Error(internal) where the word is even: nothing was begun.
    std::uint64_t publish(std::uint64_t slot);

  private:
    std::atomic_ref<std::uint64_t> at(std::uint64_t slot) const noexcept {
        return std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t*>(mapping_.data())[slot]);
    }
    std::uint64_t slots_;
    Mapping mapping_;
};

// Where the chunks of a set of objects are. Thread-safe.
class ChunkMap {
  public:
    // Maps `chunks` entries and the keys of `objects` behind them. Throws as Mapping.
    ChunkMap(int fd, std::uint64_t chunks, std::uint64_t objects, Access access);
    std::uint64_t chunks() const noexcept { return chunks_; }
    std::uint64_t objects() const noexcept { return objects_; }

    std::uint64_t entry(std::uint64_t chunk) const noexcept { return at(chunk).load(std::memory_order_acquire); }
    void set(std::uint64_t chunk, std::uint64_t entry) noexcept { at(chunk).store(entry, std::memory_order_release); }
    Key key(std::uint64_t object) const noexcept;
    void set_key(std::uint64_t object, const Key& key) noexcept;  // before the map is given to anyone

    static std::uint64_t bytes(std::uint64_t chunks, std::uint64_t objects) noexcept {
        return chunks * 8 + objects * kKeyBytes;
    }

  private:
    std::atomic_ref<std::uint64_t> at(std::uint64_t chunk) const noexcept {
        return std::atomic_ref<std::uint64_t>(reinterpret_cast<std::uint64_t*>(mapping_.data())[chunk]);
    }
    std::uint64_t chunks_, objects_;
    Mapping mapping_;
};

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free, "words are shared between processes");

}  // namespace ff
