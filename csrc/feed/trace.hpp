// For those who look at a run: which thread did which stage when, and marks for NVIDIA's tools.
#pragma once

#include <cstdint>
#include <vector>

namespace ff {

enum class Stage : std::uint8_t { idle, locate, read, verify, decode, place };

// One thread in one stage. Times are the steady clock's.
struct StageSpan {
    std::uint64_t begin_ns = 0, end_ns = 0;
    std::uint32_t thread = 0;
    Stage stage = Stage::idle;
};

// The latest spans, while somebody wants them. Not thread-safe.
class Trace {
  public:
    void set_on(bool on) {
        if (on && !on_) {
            spans_.clear();
            spans_.reserve(kSpansMax);
        }
        on_ = on;
    }
    bool is_on() const noexcept { return on_; }
    // What comes after kSpansMax spans that nobody took is left out.
    void add(std::uint32_t thread, Stage stage, std::uint64_t begin_ns, double seconds) noexcept {
        if (!on_ || seconds <= 0 || spans_.size() == kSpansMax) return;
        spans_.push_back({begin_ns, begin_ns + static_cast<std::uint64_t>(seconds * 1e9), thread, stage});
    }
    std::vector<StageSpan> take() {
        std::vector<StageSpan> taken;
        taken.reserve(on_ ? kSpansMax : 0);
        taken.swap(spans_);
        return taken;
    }

  private:
    // 2^16 spans are 1.5 MiB, and 20,000 groups: 1,000 batches of 256 photographs.
    static constexpr std::size_t kSpansMax = std::size_t{1} << 16;
    std::vector<StageSpan> spans_;
    bool on_ = false;
};

// nvtxRangePushA and nvtxRangePop, or null. Called by every thread, so they are thread-safe as NVTX's are.
struct StageMarks {
    int (*push)(const char* name) = nullptr;
    int (*pop)() = nullptr;
};

// A mark around a scope.
class StageMark {
  public:
    StageMark(const StageMarks& marks, const char* name) noexcept : marks_(marks) {
        if (marks_.push != nullptr) marks_.push(name);
    }
    ~StageMark() {
        if (marks_.push != nullptr) marks_.pop();
    }
    StageMark(const StageMark&) = delete;
    StageMark& operator=(const StageMark&) = delete;

  private:
    const StageMarks marks_;
};

}  // namespace ff
