// The memory of batches: whole pages from the system, in huge pages where the kernel allows them.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "bytes.hpp"

namespace ff {

// Pages of one mapping. A value: who has it gives it back to its arena, once.
struct Block {
    std::byte* at = nullptr;
    std::size_t bytes = 0;
    bool pinned = false;  // somebody registered these pages with a device
};

// Hands out blocks and takes them back. Pages that a device knows are not given back to the system before it has been
// told: they wait in a list for whoever registered them (take_retired), since only he can. Thread-safe.
//
// A block is not kept for the next one: slots keep theirs, so that the arena is asked only when batches grow.
class Arena {
  public:
    Arena() = default;
    ~Arena();  // unmaps what is retired; every block was given back before
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    // At least `bytes`, which may be 0; zeroed by the kernel. Throws std::bad_alloc.
    Block take(std::size_t bytes);
    void give(Block block) noexcept;

    // A pinned block that was given back, or an empty one. The caller tells the device, then calls unmap().
    Block take_retired() noexcept;
    void unmap(const Block& block) noexcept;

    std::size_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }  // mapped

  private:
    // Lies at the beginning of each retired block, so that giving one back never needs memory.
    struct Retired {
        Retired* next;
        std::size_t bytes;
    };
    std::mutex mutex_;  // over retired_, for a push or a pop only; a leaf
    Retired* retired_ = nullptr;
    std::atomic<std::size_t> bytes_{0};
};

}  // namespace ff
