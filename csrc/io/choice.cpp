// Turns, then the faster one.
#include "io/choice.hpp"

#include <algorithm>

namespace ff {

std::size_t Choice::next() {
    const std::lock_guard lock(mutex_);
    if (decided_ >= 0) return static_cast<std::size_t>(decided_);
    const std::size_t who = shown_[0].begun < shown_[1].begun ? 0 : 1;
    shown_[who].begun += 1;
    return who;
}

void Choice::record(std::size_t who, std::uint64_t bytes, double seconds) {
    const std::lock_guard lock(mutex_);
    Shown& shown = shown_[who];
    shown.calls += 1;
    if (shown.calls == 1 || decided_ >= 0) return;
    shown.bytes += bytes;
    shown.seconds += seconds;
    const bool enough = std::all_of(shown_.begin(), shown_.end(), [](const Shown& each) {
        return each.calls > kCallsMin && each.bytes >= kBytesMin;
    });
    if (enough) decided_ = shown_[0].rate() > kFasterBy * shown_[1].rate() ? 0 : 1;
}

int Choice::decided() const {
    const std::lock_guard lock(mutex_);
    return decided_;
}

double Choice::rate(std::size_t who) const {
    const std::lock_guard lock(mutex_);
    return shown_[who].rate();
}

}  // namespace ff
