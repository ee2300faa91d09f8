// Where time goes: thread-seconds by stage.
#pragma once

#include <chrono>

namespace ff {

struct StageTimes {
    double locate_s = 0, read_s = 0, verify_s = 0, decode_s = 0, place_s = 0;
    void add(const StageTimes& other) noexcept {
        locate_s += other.locate_s;
        read_s += other.read_s;
        verify_s += other.verify_s;
        decode_s += other.decode_s;
        place_s += other.place_s;
    }
};

// Adds the time until its end to a stage. Two clock reads, so for groups and not for samples.
class StageTimer {
  public:
    explicit StageTimer(double& into) noexcept : into_(into), start_(std::chrono::steady_clock::now()) {}
    ~StageTimer() { into_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
    StageTimer(const StageTimer&) = delete;
    StageTimer& operator=(const StageTimer&) = delete;

  private:
    double& into_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace ff
