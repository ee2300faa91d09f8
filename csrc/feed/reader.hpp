// The reader: rows in, batches out. What `_native` calls.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "feed/pipeline.hpp"

namespace ff {

inline constexpr std::size_t kThreadsMax = 1024;  // of one kind in one reader

// Snapshots of one reader: a mixture of more would have batches with a row of each.
inline constexpr std::size_t kSourcesMax = 4096;

// One snapshot to read, and what of it: outputs of the same number, types and shapes from every one.
struct SourceRequest {
    std::shared_ptr<const Snapshot> snapshot;
    std::vector<OutputRequest> outputs;
};

struct ReaderOptions {
    std::size_t threads = 1;         // decoders
    std::size_t reader_threads = 1;  // at most: as many run as reads wait for storage
    OnError on_error = OnError::raise;
    StageMarks marks = {};
};

// One row's values in their raw form, and the memory they lie in.
struct Sample {
    struct Item {
        Bytes bytes;
        bool null = false;
    };
    std::vector<Item> items;  // as the outputs; valid until the next use of this Sample

  private:
    friend class Reader;
    std::vector<Part> parts_;
    std::vector<Value> values_;
    std::vector<Buffer> decoded_;
    Buffer bytes_;
    ZstdDecoder zstd_;
    std::uint32_t hint_ = 0;   // shard of the last use
    std::int32_t source_ = 0;  // and source
};

// Keeps objects that are costly to make for the next user. Thread-safe.
template <class T>
class Shelf {
  public:
    std::unique_ptr<T> take() {
        const std::lock_guard lock(mutex_);
        if (kept_.empty()) return std::make_unique<T>();
        std::unique_ptr<T> item = std::move(kept_.back());
        kept_.pop_back();
        return item;
    }
    void give(std::unique_ptr<T> item) {
        const std::lock_guard lock(mutex_);
        if (kept_.size() < kKeptMax) kept_.push_back(std::move(item));
    }

  private:
    static constexpr std::size_t kKeptMax = 16;  // threads that call take() or sample() at once and find one ready
    std::mutex mutex_;                           // held for a push or a pop only
    std::vector<std::unique_ptr<T>> kept_;
};

// Thread-safe, except that destruction must be alone.
class Reader {
  public:
    // Throws Error(config). Starts no thread.
    Reader(const std::vector<SourceRequest>& sources, const ReaderOptions& options);

    // What batches look like, and how one source's columns become that.
    const OutputPlan& plan() const noexcept { return feed_.plan; }
    const OutputPlan& source_plan(std::size_t source) const noexcept { return feed_.sources[source].plan; }
    std::size_t sources() const noexcept { return feed_.sources.size(); }
    void submit(BatchRequest request);
    std::size_t pending() const { return pipeline_.pending(); }
    std::size_t ready() const { return pipeline_.ready(); }
    // As Pipeline::wait_next().
    bool wait_next(double wait_s) { return pipeline_.wait_next(wait_s); }
    // The oldest batch, null if it is not done. Throws its error, once.
    std::unique_ptr<Lease> take_next();
    // Throws Error(timeout) that says what the oldest batch waits for.
    [[noreturn]] void time_out(double timeout_s) const;
    void cancel() { pipeline_.cancel(); }
    void stop() { pipeline_.stop(); }

    // One batch in the calling thread. Throws its error.
    std::unique_ptr<Lease> take(BatchRequest request);
    // One row of a source in the calling thread; neither image programs nor casts are applied. Throws Error(config |
    // corrupt | os).
    std::unique_ptr<Sample> sample(std::int64_t row, std::int32_t source = 0);
    void give_back(std::unique_ptr<Sample> sample) { samples_.give(std::move(sample)); }

    FeedStats stats() const { return pipeline_.stats(); }
    FeedPulse pulse() const { return pipeline_.pulse(); }
    const std::shared_ptr<SlotPool>& slots() const noexcept { return slots_; }
    std::size_t reader_count() const { return pipeline_.reader_count(); }
    void set_trace(bool on) { pipeline_.set_trace(on); }
    std::vector<StageSpan> take_spans() { return pipeline_.take_spans(); }
    std::size_t slots_held() const noexcept { return slots_->held.load(std::memory_order_relaxed); }
    // How the first snapshot is read, with the counts of all.
    IoReport io_report() const;

  private:
    struct Bench {
        GroupBuffer buffer;
        DecodeState state;
    };

    static void sample_frame(const FeedSource& source, std::int64_t row, Sample& sample);
    static void sample_tokens(const FeedSource& source, std::int64_t row, Sample& sample);

    Feed feed_;
    std::shared_ptr<SlotPool> slots_;
    Pipeline pipeline_;  // refers to feed_
    Shelf<Bench> benches_;
    Shelf<Sample> samples_;
};

}  // namespace ff
