// The threads of a reader, and the bounded stages between them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "feed/batch.hpp"
#include "feed/group.hpp"
#include "feed/reader_count.hpp"

namespace ff {

// Counters since creation.
struct FeedStats {
    std::uint64_t samples = 0, batches = 0, frame_bytes = 0, holes = 0, batch_bytes = 0;
    StageTimes times;
    double idle_s = 0;       // of the decoders: they had nothing to do
    double read_wait_s = 0;  // of read_s: the storage was waited for
    ImageCounts images;
    std::vector<std::string> first_errors;

    void add_images(ImageCounts& counts) noexcept;  // and zeroes them
    void add_finished(const Batch& batch);
};

// What is asked for every step.
struct FeedPulse {
    std::uint64_t batch_bytes = 0;  // of a mean batch
    double idle_s = 0;
};

// Submitted batches go through locate -> read -> verify -> decode -> place on threads of their own and come out in the
// order of submission. One mutex guards all stages: it is taken a few times a group, that is every few hundred
// microseconds, and once a batch of one group.
class Pipeline {
  public:
    // At most `reader_threads_max` threads read beside the decoders: as many as ReaderCount says.
    Pipeline(const Feed& feed, std::shared_ptr<SlotPool> slots, std::size_t reader_threads_max);
    ~Pipeline();  // stop()
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    // Queues a batch; starts the threads at the first. Never waits for reading. Throws Error(closed).
    void submit(BatchRequest request);
    std::size_t pending() const;
    std::size_t ready() const;

    // Waits at most `wait_s` for the oldest batch; true when take_next() would return at once. Throws Error(closed)
    // when stopped, Error(config) when nothing was submitted.
    bool wait_next(double wait_s);
    // The oldest batch if it is done, else null. Throws Error(closed) when stopped.
    std::shared_ptr<Batch> take_next();
    // Which stage, shard and row the oldest batch waits for, in words.
    std::string waiting_for() const;

    // Forgets all batches; waits for running work, at most one sample a thread (and one read).
    void cancel();
    // Joins the threads. Idempotent. Waiting calls throw Error(closed).
    void stop();

    FeedStats stats() const;
    FeedPulse pulse() const;
    // How many threads read ahead at the moment.
    std::size_t reader_count() const;
    // Whether spans are kept, and those that were since the last call.
    void set_trace(bool on);
    std::vector<StageSpan> take_spans();
    // Adds what another thread did by itself (Reader::take).
    void count(const Batch& finished, const StageTimes& times, ImageCounts& images);

  private:
    struct Task {
        std::shared_ptr<Batch> batch;
        std::size_t group = 0;
        std::unique_ptr<GroupBuffer> buffer;  // from read to place
    };
    // One thread. What it does is written and read under mutex_; `state` is its own.
    struct Worker {
        std::uint32_t number = 0;
        std::atomic<Stage> stage{Stage::idle};  // a thread goes on to its next stage without mutex_
        std::shared_ptr<Batch> batch;
        std::size_t group = 0;
        DecodeState state;
    };

    void start_threads();
    void start_thread(std::size_t worker);
    void run(std::size_t worker);
    void wait(std::unique_lock<std::mutex>& lock, std::size_t worker);
    void change_readers();
    bool step(std::unique_lock<std::mutex>& lock, Worker& worker, bool decodes);
    void locate(std::unique_lock<std::mutex>& lock, Worker& worker, bool decodes);
    void read(std::unique_lock<std::mutex>& lock, Worker& worker, Task& task);
    void decode(std::unique_lock<std::mutex>& lock, Worker& worker, Task task, bool reads);
    // What a thread does for a batch without mutex_, and what that took.
    struct Work {
        StageTimes times;
        double read_wait_s = 0;
        std::uint64_t began_ns = 0;
        bool last = false;  // of the batch's groups
    };
    void read_group(Worker& worker, Batch& batch, std::size_t group, GroupBuffer& buffer, Work& work);
    void place_group(Worker& worker, Batch& batch, std::size_t group, GroupBuffer& buffer, Work& work);
    void count_group(Worker& worker, const Work& work);
    std::unique_ptr<GroupBuffer> take_buffer();
    void wake_another();
    void finished(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Batch>& batch);
    void spend(Worker& worker, Batch& batch, const Work& work);
    void begin(Worker& worker, Stage stage, std::shared_ptr<Batch> batch, std::size_t group);
    void end(Worker& worker);
    bool may_deliver() const;
    [[noreturn]] void throw_stopped() const;
    bool may_read() const noexcept { return !to_read_.empty() && !buffers_.empty(); }
    // A batch is located while fewer groups than threads wait to be read.
    bool may_locate() const noexcept {
        return !to_locate_.empty() && to_read_.size() < readers_count_.count() + feed_.decoder_threads;
    }
    bool decodes(std::size_t worker) const noexcept { return worker < feed_.decoder_threads; }
    bool is_parked(std::size_t worker) const noexcept {
        return worker >= feed_.decoder_threads + readers_count_.count();
    }

    const Feed& feed_;
    std::shared_ptr<SlotPool> slots_;
    const std::size_t reader_threads_max_;

    mutable std::mutex mutex_;  // over everything below; never held across I/O, decoding or a join
    std::condition_variable readers_, decoders_, parked_, done_, idle_;
    std::deque<std::shared_ptr<Batch>> submitted_;  // all, oldest first, until next()
    std::deque<std::shared_ptr<Batch>> to_locate_;
    std::deque<Task> to_read_, to_decode_;
    // Free ones: their number bounds what is between read and place
    std::vector<std::unique_ptr<GroupBuffer>> buffers_;
    std::vector<Worker> workers_;  // decoders first, then readers, those not started yet included
    std::vector<std::thread> threads_;
    std::size_t busy_ = 0;
    std::size_t waiting_ = 0;  // threads in wait_next()
    bool stopping_ = false;
    bool broken_ = false;  // a thread had no memory to hand its work on, and stopped all of them
    ReaderCount readers_count_;
    FeedStats stats_;
    Trace trace_;
};

// The stages of one batch, in the calling thread. Returns its times.
StageTimes run_here(const Feed& feed, Batch& batch, const std::shared_ptr<SlotPool>& slots, GroupBuffer& buffer,
                    DecodeState& state);

}  // namespace ff
