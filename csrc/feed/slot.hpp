// Slots: the memory of one batch, and the pool that hands them out again.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "feed/arena.hpp"
#include "feed/outputs.hpp"
#include "feed/times.hpp"

namespace ff {

// 64 bytes: a cache line, and what AVX-512 and DLPack consumers want.
inline constexpr std::size_t kSlotAlign = 64;

// A part of a slot's memory: aligned, borrowed from the slot.
class BatchBytes {
  public:
    BatchBytes() = default;
    BatchBytes(std::byte* at, std::size_t bytes) noexcept : at_(at), bytes_(bytes) {}
    std::byte* data() const noexcept { return at_; }
    std::size_t size() const noexcept { return bytes_; }
    template <class T>
    T* as() const noexcept {
        return reinterpret_cast<T*>(at_);
    }
    void zero() const noexcept {
        if (bytes_ != 0) std::memset(at_, 0, bytes_);
    }

  private:
    std::byte* at_ = nullptr;
    std::size_t bytes_ = 0;
};

// One output column over the n rows of a batch.
struct OutputBuffers {
    // Fixed: n * row_bytes(); ragged: all items, one row after the other (sized when the batch is finished)
    BatchBytes values;
    BatchBytes nulls;    // n bytes of 0 or 1, where the column is nullable
    BatchBytes offsets;  // ragged: n + 1 int64, in items (until the batch is finished: the length of row i at i + 1)
    BatchBytes shapes;   // ragged with more than one dimension: n * ndim int64
};

// The memory of one batch: a block for all whose size is known before reading, and one for each ragged output. Blocks
// grow and do not shrink. Not thread-safe, but different rows may be written by different threads.
class Slot {
  public:
    explicit Slot(Arena& arena) noexcept : arena_(arena) {}
    ~Slot();
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    std::int64_t rows_count = 0;
    BatchBytes rows, positions;  // int64 [n]
    BatchBytes valid;            // n bytes of 0 or 1
    std::vector<OutputBuffers> outputs;
    StageTimes spent;  // thread-seconds that this batch took

    // Sizes everything for `rows` rows; lengths and nulls are 0, shapes those of empty values. Throws std::bad_alloc.
    void prepare(const OutputPlan& plan, std::int64_t rows);
    // Memory for all values of ragged output `index`. What was in it is lost. Throws std::bad_alloc.
    void resize_values(std::size_t index, std::size_t bytes);
    // Zeros row `at` of every fixed output and its null flags: a hole. Lengths of a hole are 0 already.
    void clear_row(const OutputPlan& plan, std::int64_t at) noexcept;

    // The first is the fixed part, then one an output, empty where it is not ragged.
    std::span<Block> blocks() noexcept { return blocks_; }
    std::size_t capacity_bytes() const noexcept;

  private:
    std::uint64_t lay_out(const OutputPlan& plan, std::uint64_t count, std::byte* base);
    void grow(Block& block, std::size_t bytes, std::size_t spare);

    Arena& arena_;
    std::vector<Block> blocks_;
};

// Thread-safe. Outlives its reader for as long as a lease is held.
class SlotPool {
  public:
    std::unique_ptr<Slot> acquire();
    void release(std::unique_ptr<Slot> slot) noexcept;

    // Gives the memory of free slots back to the arena.
    void clear() noexcept;

    Arena& arena() noexcept { return arena_; }
    std::size_t slots() const noexcept { return slots_.load(std::memory_order_relaxed); }  // that exist
    // Batches that the consumer still holds; grows without limit where it keeps them.
    std::atomic<std::size_t> held{0};

  private:
    // Free slots that are kept: 8 of any size, what a consumer with a short queue of its own gives back in a burst; and
    // of small batches as many as a loader has on their way, which it uses up and gives back in bursts too. Mapping one
    // again costs more than filling it. More would only keep memory from others.
    static constexpr std::size_t kFreeSlotsMin = 8, kFreeSlotsMax = 64;
    static constexpr std::size_t kFreeBytesMax = std::size_t{16} << 20;  // of all free ones, above kFreeSlotsMin
    Arena arena_;       // outlives the slots
    std::mutex mutex_;  // held for a push or a pop only
    std::vector<std::unique_ptr<Slot>> free_;
    std::size_t free_bytes_ = 0;  // of free_
    std::atomic<std::size_t> slots_{0};
};

// A slot on loan: back to its pool on destruction.
class Lease {
  public:
    explicit Lease(std::shared_ptr<SlotPool> pool) : pool_(std::move(pool)), slot_(pool_->acquire()) {}
    ~Lease() {
        if (held_) pool_->held.fetch_sub(1, std::memory_order_relaxed);
        pool_->release(std::move(slot_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Slot& slot() const noexcept { return *slot_; }
    // From now on the consumer has it.
    void hand_over() noexcept {
        held_ = true;
        pool_->held.fetch_add(1, std::memory_order_relaxed);
    }

  private:
    std::shared_ptr<SlotPool> pool_;
    std::unique_ptr<Slot> slot_;
    bool held_ = false;
};

}  // namespace ff
