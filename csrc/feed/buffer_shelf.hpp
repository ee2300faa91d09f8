// Buffers between two uses, so that small ones need not be allocated, and their pages not be made, for every batch.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "feed/buffer.hpp"

namespace ff {

// Thread-safe.
class BufferShelf {
  public:
    BufferShelf() { kept_.reserve(kKeptMax); }  // so that give() never allocates

    // An empty buffer, with memory if there is one.
    Buffer take() {
        const std::lock_guard lock(mutex_);
        if (kept_.empty()) return {};
        Buffer buffer = std::move(kept_.back());
        kept_.pop_back();
        kept_bytes_ -= buffer.capacity();
        buffer.truncate(0);
        return buffer;
    }
    // Keeps the buffer, or frees it where enough are kept.
    void give(Buffer buffer) noexcept {
        if (buffer.capacity() == 0) return;
        const std::lock_guard lock(mutex_);
        if (kept_.size() == kKeptMax || kept_bytes_ + buffer.capacity() > kKeptBytesMax) return;
        kept_bytes_ += buffer.capacity();
        kept_.push_back(std::move(buffer));
    }

  private:
    // Of the groups that are in work at once, two or three a thread; more would only keep memory from others.
    static constexpr std::size_t kKeptMax = 64;
    static constexpr std::size_t kKeptBytesMax = std::size_t{8} << 20;
    std::mutex mutex_;  // a leaf; held for a push or a pop only
    std::vector<Buffer> kept_;
    std::size_t kept_bytes_ = 0;
};

}  // namespace ff
