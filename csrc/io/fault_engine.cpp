// An engine that fails on purpose, by a script: for tests, and for trying out an error policy on real data.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "error.hpp"
#include "io/engine.hpp"

namespace ff {
namespace {

constexpr std::chrono::milliseconds kFaultDelay{20};  // 'd': long beside a read, short beside a test
constexpr const char* kFaultPrefix = "fault:";
constexpr const char* kFaultKinds = ".Esfzd";

class FaultEngine final : public ReadEngine {
  public:
    FaultEngine(std::unique_ptr<ReadEngine> inner, std::string script)
        : inner_(std::move(inner)), script_(std::move(script)), name_(kFaultPrefix + script_) {}

    void read(std::span<ReadOp> ops) override {
        for (ReadOp& op : ops) {
            const auto turn = next_.fetch_add(1, std::memory_order_relaxed);
            read_one(op, script_[turn % script_.size()]);
        }
    }
    bool reread(ReadOp& op) override { return inner_->reread(op); }
    bool opens_files() const noexcept override { return inner_->opens_files(); }
    bool reads_directly() const noexcept override { return inner_->reads_directly(); }
    IoReport report() const override {
        IoReport report = inner_->report();
        report.engine = name_;
        return report;
    }

  private:
    void read_one(ReadOp& op, char kind) {
        if (kind == 'E') {
            op.done = 0;
            op.os_errno = EIO;
            return;
        }
        if (kind == 'd') std::this_thread::sleep_for(kFaultDelay);
        inner_->read({&op, 1});
        const std::size_t half = op.done / 2;
        if (kind == 's') op.done = half;
        if (kind == 'z') std::memset(op.into.data() + half, 0, op.done - half);
        if (kind == 'f' && op.done > 0) op.into[half] ^= std::byte{0x10};
    }

    std::unique_ptr<ReadEngine> inner_;
    std::string script_, name_;
    std::atomic<std::uint64_t> next_{0};
};

}  // namespace

std::unique_ptr<ReadEngine> make_fault_engine(std::unique_ptr<ReadEngine> inner, const std::string& script) {
    if (script.empty() || script.find_first_not_of(kFaultKinds) != std::string::npos)
        throw Error(Code::config,
                    "io='fault:" + script + "': the script must be one or more of the characters " + kFaultKinds);
    return std::make_unique<FaultEngine>(std::move(inner), script);
}

std::string fault_script(const std::string& engine) {
    const std::string prefix = kFaultPrefix;
    return engine.compare(0, prefix.size(), prefix) == 0 ? engine.substr(prefix.size()) : std::string();
}

}  // namespace ff
