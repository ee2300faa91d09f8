// Slots: the buffers of one batch, and the pool that hands them out again.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "feed/buffer.hpp"
#include "feed/outputs.hpp"

namespace ff {

// Buffers of one output column over the n rows of a batch.
struct OutputBuffers {
    // Fixed: n * row_bytes(); ragged: all items, one row after the other (sized when the batch is finished)
    Buffer values;
    Buffer nulls;    // n bytes of 0 or 1, where the column is nullable
    Buffer offsets;  // ragged: n + 1 int64, in items (until the batch is finished: the length of row i at i + 1)
    Buffer shapes;   // ragged with more than one dimension: n * ndim int64
};

// The memory of one batch. Not thread-safe, but different rows may be written by different threads.
struct Slot {
    std::int64_t rows_count = 0;
    Buffer rows, positions;  // int64 [n]
    Buffer valid;            // n bytes of 0 or 1
    std::vector<OutputBuffers> outputs;

    // Sizes everything for `rows` rows; lengths and nulls are 0, shapes those of empty values. Throws std::bad_alloc.
    void prepare(const OutputPlan& plan, std::int64_t rows);
    // Zeros row `at` of every fixed output and its null flags: a hole. Lengths of a hole are 0 already.
    void clear_row(const OutputPlan& plan, std::int64_t at) noexcept;
    std::size_t capacity_bytes() const noexcept;
};

// Thread-safe. Outlives its reader for as long as a lease is held.
class SlotPool {
  public:
    std::unique_ptr<Slot> acquire();
    void release(std::unique_ptr<Slot> slot) noexcept;

    std::size_t slots() const noexcept { return slots_.load(std::memory_order_relaxed); }  // that exist
    // Batches that the consumer still holds; grows without limit where it keeps them.
    std::atomic<std::size_t> held{0};

  private:
    // 8: what a consumer with a short queue of its own gives back in a burst; more would only keep memory from others.
    static constexpr std::size_t kFreeSlotsMax = 8;
    std::mutex mutex_;  // held for a push or a pop only
    std::vector<std::unique_ptr<Slot>> free_;
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
