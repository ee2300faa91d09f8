// How many threads read ahead of the decoders.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace ff {

// Decides from what reading and decoding took. A decoder that reads from the page cache works, and one that waits for
// storage does not; so that D decoders are always busy, D * wait / work groups must be on their way beside theirs
// (Little's law). In the page cache that is none: then who reads a group also decodes it, while it is in his cache.
//
// Pure arithmetic: no clock, not thread-safe. What it decides changes when things are read, never what comes out.
class ReaderCount {
  public:
    // Begins with as many readers as decoders: nothing is known, and a reader too many costs less than one too few.
    ReaderCount(std::size_t decoders, std::size_t most) noexcept
        : decoders_(decoders), most_(most), count_(std::min(decoders, most)) {}

    std::size_t count() const noexcept { return count_; }

    // A group was read: the thread worked for `work_s` and waited for `wait_s`.
    void read(double work_s, double wait_s) noexcept {
        work_s_ += work_s;
        wait_s_ += wait_s;
    }
    // A group was verified, decoded and placed. True where another number of readers is wanted from now on.
    bool decoded(double work_s) noexcept {
        work_s_ += work_s;
        if (++groups_ < kWindowGroups) return false;
        const std::size_t wanted = wanted_readers();
        groups_ = 0;
        work_s_ = wait_s_ = 0;
        const bool changed = wanted != count_;
        count_ = wanted;
        return changed;
    }

  private:
    // 32: two batches of 256 photographs. Long enough for a mean, short enough that a cold start is soon over.
    static constexpr std::size_t kWindowGroups = 32;
    // Below a twentieth, waits cost less than the hand-overs that would hide them.
    static constexpr double kWaitShareMin = 0.05;

    std::size_t wanted_readers() const noexcept {
        if (wait_s_ <= kWaitShareMin * work_s_) return 0;
        const double wanted = std::ceil(static_cast<double>(decoders_) * wait_s_ / std::max(work_s_, 1e-9));
        return wanted >= static_cast<double>(most_) ? most_ : static_cast<std::size_t>(wanted);
    }

    std::size_t decoders_, most_, count_;
    std::size_t groups_ = 0;
    double work_s_ = 0, wait_s_ = 0;
};

}  // namespace ff
