// The engine for local files: what the page cache has is copied by the calling thread, the rest comes by the way that
// was asked for, or that is measured to be faster.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <vector>

#include "io/choice.hpp"
#include "io/device_reads.hpp"
#include "io/engine.hpp"
#include "io/page_cache.hpp"

namespace ff {
namespace {

constexpr std::size_t kPread = 0, kUring = 1;  // contenders of the Choice
// Data that the page cache can hold is brought in steps of this size, though a group may ask for less: what lies around
// is needed in the same epoch, and a device brings it in little more time. mmap's readahead is as large.
constexpr std::uint64_t kAround = 128 * 1024;
// After so many ranges in a row that the page cache had, only the first few of a group are asked for without waiting,
// and tell if that has changed: a plain read takes 0.1 of 1.1 us less.
constexpr std::uint32_t kTrustAfter = 4096;
constexpr std::size_t kDetectors = 8;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string megabytes(double bytes_per_s) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.0f MB/s", bytes_per_s / 1e6);
    return text;
}

class FileEngine final : public ReadEngine {
  public:
    explicit FileEngine(const IoOptions& options)
        : direct_(options.direct && options.engine != "pread"), chooses_(options.engine == "auto") {
        if (options.engine != "uring") devices_[kPread] = make_pread_device();
        if (options.engine == "uring") devices_[kUring] = make_uring_device(direct_);
    }

    void read(std::span<ReadOp> ops) override {
        // One range that needs no room is read as simply as can be: ds[i], a header, a part that is tried again.
        if (ops.size() == 1 && !ops[0].has_room) {
            ops[0].done = 0;
            pread_rest(ops[0]);
            return;
        }
        std::vector<std::uint32_t> missing;
        std::uint64_t cached = 0, waited = 0;
        const bool direct = direct_ && chosen() == kUring;
        const bool trusts = !direct && cached_in_row_.load(std::memory_order_relaxed) >= kTrustAfter;
        for (std::uint32_t i = 0; i < ops.size(); ++i) {
            ReadOp& op = ops[i];
            op.done = 0;
            op.os_errno = 0;
            if (trusts && i >= kDetectors && missing.empty()) {
                pread_rest(op);
                cached += op.done;
                continue;
            }
            // Where reads pass by the page cache, a try would bring there what it does not find.
            const bool tries = !direct || op.file->direct_fd() < 0 || looks_.has(op);
            if (!tries || !read_cached(op)) missing.push_back(i);
            cached += op.done;
            waited += op.into.size() - op.done;
        }
        cached_bytes_.fetch_add(cached, std::memory_order_relaxed);
        note_cached(missing.empty(), ops.size());
        if (missing.empty()) return;
        device_bytes_.fetch_add(waited, std::memory_order_relaxed);
        device_reads_.fetch_add(missing.size(), std::memory_order_relaxed);
        // Where reads pass by the page cache, this is only for those who read by it all the same.
        if (!direct) begin_reads(ops, missing, direct_ ? 1 : kAround);
        read_missing(ops, missing, waited);
    }

    bool reads_directly() const noexcept override { return direct_; }

    IoReport report() const override {
        IoReport report;
        report.engine = chosen() == kPread ? "pread" : direct_ ? "uring direct" : "uring";
        report.why = chooses_ ? reason() : "as asked for";
        report.cached_bytes = cached_bytes_.load(std::memory_order_relaxed);
        report.device_bytes = device_bytes_.load(std::memory_order_relaxed);
        report.device_reads = device_reads_.load(std::memory_order_relaxed);
        return report;
    }

  private:
    void note_cached(bool all, std::size_t count) noexcept {
        const std::uint32_t before = cached_in_row_.load(std::memory_order_relaxed);
        if (all && before >= kTrustAfter) return;  // the line stays shared between cores
        // Other threads' counts may be lost: the number is a hint.
        cached_in_row_.store(all ? before + static_cast<std::uint32_t>(count) : 0, std::memory_order_relaxed);
    }

    void read_missing(std::span<ReadOp> ops, std::span<const std::uint32_t> missing, std::uint64_t bytes) {
        if (!chooses_) {
            (devices_[kUring] ? devices_[kUring] : devices_[kPread])->read(ops, missing);
            return;
        }
        std::call_once(probed_, [this] { probe(); });
        if (!devices_[kUring]) {
            devices_[kPread]->read(ops, missing);
            return;
        }
        const std::size_t who = choice_.next();
        const auto start = std::chrono::steady_clock::now();
        devices_[who]->read(ops, missing);
        choice_.record(who, bytes, seconds_since(start));
    }

    // At the first read that must wait: who reads from memory only never asks for a ring.
    void probe() {
        refusal_ = uring_refusal();
        if (refusal_.empty()) {
            // It asks once more, and others may have taken the last descriptor meanwhile.
            try {
                devices_[kUring] = make_uring_device(direct_);
            } catch (const Error& error) {
                refusal_ = error.message();
            }
        }
        is_probed_.store(true, std::memory_order_release);
    }

    // The one in use; while it is measured, the one that is used if both are as good.
    std::size_t chosen() const {
        if (!chooses_) return devices_[kUring] ? kUring : kPread;
        if (!is_probed_.load(std::memory_order_acquire) || !devices_[kUring]) return kPread;
        return choice_.decided() == static_cast<int>(kPread) ? kPread : kUring;
    }

    std::string reason() const {
        if (!is_probed_.load(std::memory_order_acquire)) return "auto: nothing had to be waited for yet";
        if (!refusal_.empty()) return "auto: io_uring: " + refusal_;
        const std::string rates =
            "uring " + megabytes(choice_.rate(kUring)) + ", pread " + megabytes(choice_.rate(kPread));
        return choice_.decided() < 0 ? "auto: still measuring: " + rates : "auto: measured a thread: " + rates;
    }

    const bool direct_, chooses_;
    std::unique_ptr<DeviceReads> devices_[2];
    CacheLooks looks_;
    Choice choice_;
    std::once_flag probed_;
    std::string refusal_;                  // and devices_[kUring] of "auto": written before is_probed_
    std::atomic<bool> is_probed_{false};
    std::atomic<std::uint32_t> cached_in_row_{0};
    std::atomic<std::uint64_t> cached_bytes_{0}, device_bytes_{0}, device_reads_{0};
};

}  // namespace

std::unique_ptr<ReadEngine> make_file_engine(const IoOptions& options) {
    if (const std::string script = fault_script(options.engine); !script.empty())
        return make_fault_engine(make_file_engine({"pread", false}), script);
    if (options.engine != "auto" && options.engine != "pread" && options.engine != "uring")
        throw Error(Code::config, "io='" + options.engine + "' is not an engine. Use 'auto', 'pread' or 'uring', or "
                                                            "'fault:<script>' in tests.");
    return std::make_unique<FileEngine>(options);
}

}  // namespace ff
