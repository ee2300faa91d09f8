// Where the completions of one read call meet the thread that waits for them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace ff {

using Clock = std::chrono::steady_clock;

// Shared by the waiting thread and all that complete something for it, so that a completion may come after it has gone.
// Thread-safe. What a completer wrote before put() is seen after take().
class Mailbox {
  public:
    // Makes room for `count` completions, so that put() needs no memory. Throws std::bad_alloc.
    void expect(std::size_t count) {
        const std::lock_guard lock(mutex_);
        numbers_.reserve(count);
    }
    void put(std::uint32_t number) noexcept {
        {
            const std::lock_guard lock(mutex_);
            numbers_.push_back(number);
        }
        arrived_.notify_one();
    }
    // Everything that has come, into `numbers`; waits until there is something, or `until`. Empty at the latter.
    void take(Clock::time_point until, std::vector<std::uint32_t>& numbers) {
        std::unique_lock lock(mutex_);
        arrived_.wait_until(lock, until, [&] { return !numbers_.empty(); });
        numbers.assign(numbers_.begin(), numbers_.end());
        numbers_.clear();
    }

  private:
    std::mutex mutex_;  // a leaf, held for a push or a swap
    std::condition_variable arrived_;
    std::vector<std::uint32_t> numbers_;
};

}  // namespace ff
