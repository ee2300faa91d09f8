// Which of two ways to read a device: by what their reads took so far. Pure: no clock, no files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

namespace ff {

// Two contenders, 0 and 1. They take turns until each has shown enough; then the faster one stays, and 1 where they are
// as good as each other: it is io_uring, which needs less of the processor. Thread-safe.
class Choice {
  public:
    // Calls and bytes that a contender must have read. A first call opens rings and files and warms the device, so it
    // does not count; the calls of several threads overlap, for both contenders alike.
    static constexpr std::uint32_t kCallsMin = 8;
    static constexpr std::uint64_t kBytesMin = 1 << 20;
    // Of a shared device, smaller differences mean nothing.
    static constexpr double kFasterBy = 1.1;

    // Who reads next.
    std::size_t next();
    // Contender `who` has read `bytes` in `seconds`.
    void record(std::size_t who, std::uint64_t bytes, double seconds);
    // The one that stays, or -1.
    int decided() const;
    // Bytes a second of contender `who`; 0 before it has shown any.
    double rate(std::size_t who) const;

  private:
    struct Shown {
        std::uint32_t calls = 0, begun = 0;
        std::uint64_t bytes = 0;
        double seconds = 0;
        double rate() const noexcept { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
    };
    mutable std::mutex mutex_;  // over the two below; a leaf, held for arithmetic only
    std::array<Shown, 2> shown_;
    int decided_ = -1;
};

}  // namespace ff
