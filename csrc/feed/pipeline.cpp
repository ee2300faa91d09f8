// Threads and hand-overs. Which work a thread takes:
//
//   a decoder   decodes if a group has been read; else reads a group itself; else locates a batch
//   a reader    reads a group if a buffer is free; else locates a batch
//
// So no number of readers is wrong, and how many there are is measured (feed/reader_count.hpp): none with data in the
// page cache, where reading costs processor time, and with a slow disk as many as keep the decoders busy. Decoding comes
// first, because it frees buffers.
#include "feed/pipeline.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <system_error>

#include "threads.hpp"

namespace ff {
namespace {

// Buffers beside one for each thread: a reader fills the next one while every decoder is busy.
constexpr std::size_t kSpareBuffers = 2;

// Runs one stage of a batch. What is no failure of a sample (memory, a bug) fails the batch, so that every batch comes
// out; false where that happened.
template <class Work>
bool guarded(Batch& batch, Work work) {
    try {
        work();
        return true;
    } catch (const Error& error) {
        batch.fail_whole(error);
    } catch (const std::bad_alloc&) {
        batch.fail_whole(Error(Code::no_memory, "no memory for a batch of " + std::to_string(batch.rows()) + " rows"));
    } catch (const std::exception& error) {
        batch.fail_whole(Error(Code::internal, std::string("internal error: ") + error.what()));
    }
    return false;
}

void verify_and_place(const Feed& feed, Batch& batch, std::size_t group, GroupBuffer& buffer, DecodeState& state,
                      StageTimes& times) {
    {
        const StageMark mark(feed.marks, "fastfeed verify");
        const StageTimer timer(times.verify_s);
        buffer.verify(batch, group);
    }
    const StageMark mark(feed.marks, feed.plan.decodes ? "fastfeed decode" : "fastfeed place");
    const StageTimer timer(feed.plan.decodes ? times.decode_s : times.place_s);
    buffer.place(batch, group, state);
}

void finish(Batch& batch, StageTimes& times) {
    const StageTimer timer(times.place_s);
    guarded(batch, [&] { batch.finish(); });
}

std::uint64_t now_ns() noexcept {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1));
}

// What the calling thread worked and waited, from its beginning on.
class ReadMeter {
  public:
    ReadMeter() noexcept : before_(usage()) {}
    // Of `wall_s` since then: seconds in which the thread waited, which is more than having been pushed aside.
    double wait_s(double wall_s) const noexcept {
        const rusage after = usage();
        if (after.ru_nvcsw == before_.ru_nvcsw) return 0;
        return std::max(0.0, wall_s - (work_s(after) - work_s(before_)));
    }

  private:
    static rusage usage() noexcept {
        rusage now{};
        getrusage(RUSAGE_THREAD, &now);
        return now;
    }
    static double work_s(const rusage& usage) noexcept {
        return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    }
    const rusage before_;
};

}  // namespace

void FeedStats::add_images(ImageCounts& counts) noexcept {
    images.decoded += counts.decoded;
    images.exif_rotated += counts.exif_rotated;
    images.gray += counts.gray;
    images.palette += counts.palette;
    images.alpha_dropped += counts.alpha_dropped;
    images.cmyk += counts.cmyk;
    images.sixteen_bit += counts.sixteen_bit;
    images.progressive += counts.progressive;
    images.dct_scaled += counts.dct_scaled;
    images.warnings += counts.warnings;
    counts = {};
}

void FeedStats::add_finished(const Batch& batch) {
    holes += batch.holes();
    for (const std::string& message : batch.hole_messages())
        if (first_errors.size() < Batch::kHoleMessagesMax) first_errors.push_back(message);
    if (batch.error() || batch.cancelled) return;
    batches += 1;
    samples += batch.rows();
    frame_bytes += batch.frame_bytes();
    batch_bytes += batch.slot().capacity_bytes();
}

StageTimes run_here(const Feed& feed, Batch& batch, const std::shared_ptr<SlotPool>& slots, GroupBuffer& buffer,
                    DecodeState& state) {
    StageTimes times;
    guarded(batch, [&] {
        {
            const StageTimer timer(times.locate_s);
            batch.locate(slots);
        }
        for (std::size_t group = 0; group < batch.groups(); ++group) {
            {
                const StageTimer timer(times.read_s);
                buffer.read(batch, group);
            }
            verify_and_place(feed, batch, group, buffer, state, times);
        }
    });
    finish(batch, times);
    return times;
}

Pipeline::Pipeline(const Feed& feed, std::shared_ptr<SlotPool> slots, std::size_t reader_threads_max)
    : feed_(feed),
      slots_(std::move(slots)),
      reader_threads_max_(reader_threads_max),
      readers_count_(feed.decoder_threads, reader_threads_max) {
    // Those that are never used cost nothing: the one that came back last is taken first.
    const std::size_t buffers = reader_threads_max + feed.decoder_threads + kSpareBuffers;
    for (std::size_t i = 0; i < buffers; ++i) buffers_.push_back(std::make_unique<GroupBuffer>());
}

Pipeline::~Pipeline() { stop(); }

void Pipeline::start_threads() {
    // What they need, before any runs
    workers_ = std::vector<Worker>(feed_.decoder_threads + reader_threads_max_);
    threads_.reserve(workers_.size());
    try {
        for (std::size_t i = 0; !is_parked(i); ++i) start_thread(i);
    } catch (const std::system_error& error) {
        stopping_ = true;  // some of the threads are no pipeline
        throw Error(Code::os, "cannot start " + std::to_string(workers_.size()) + " threads", {}, error.code().value());
    }
}

void Pipeline::start_thread(std::size_t worker) {
    const SignalsBlocked blocked;  // threads inherit the mask
    workers_[worker].number = static_cast<std::uint32_t>(worker);
    threads_.emplace_back([this, worker] { run(worker); });
    pthread_setname_np(threads_.back().native_handle(), decodes(worker) ? "ff-decode" : "ff-read");
}

// Under mutex_: another number of readers is wanted. They begin with the first use, and wait when they are too many.
void Pipeline::change_readers() {
    if (stopping_) return;
    try {
        while (threads_.size() < workers_.size() && !is_parked(threads_.size())) start_thread(threads_.size());
    } catch (const std::system_error&) {
        // No more threads to be had: with those that run, reading is slower and as right.
    }
    readers_.notify_all();
    parked_.notify_all();
}

void Pipeline::submit(BatchRequest request) {
    auto batch = std::make_shared<Batch>(feed_, std::move(request));
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) throw_stopped();
        if (threads_.empty()) start_threads();
        submitted_.push_back(batch);
        to_locate_.push_back(std::move(batch));
    }
    // Who is woken finds the mutex free.
    readers_.notify_one();
    decoders_.notify_one();
}

std::size_t Pipeline::pending() const {
    const std::lock_guard lock(mutex_);
    return submitted_.size();
}

std::size_t Pipeline::ready() const {
    const std::lock_guard lock(mutex_);
    std::size_t count = 0;
    while (count < submitted_.size() && submitted_[count]->done) ++count;
    return count;
}

bool Pipeline::wait_next(double wait_s) {
    std::unique_lock lock(mutex_);
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_s);
    for (;;) {
        if (stopping_) throw_stopped();
        if (submitted_.empty()) throw Error(Code::config, "next() without a submitted batch");
        if (may_deliver()) return true;
        waiting_ += 1;
        const std::cv_status status = done_.wait_until(lock, until);
        waiting_ -= 1;
        if (status == std::cv_status::timeout) return may_deliver();
    }
}

void Pipeline::throw_stopped() const {
    if (broken_) throw Error(Code::no_memory, "no memory for the reader's threads: they have ended");
    throw Error(Code::closed, "the reader is closed");
}

// A cancelled batch is done without being whole: stop() and cancel() leave it in the queue until all threads are out of
// it.
bool Pipeline::may_deliver() const {
    return !stopping_ && !submitted_.empty() && submitted_.front()->done && !submitted_.front()->cancelled;
}

std::shared_ptr<Batch> Pipeline::take_next() {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw_stopped();
    if (!may_deliver()) return nullptr;
    std::shared_ptr<Batch> batch = std::move(submitted_.front());
    submitted_.pop_front();
    if (!batch->error()) batch->slot().spent = batch->spent;
    return batch;
}

std::string Pipeline::waiting_for() const {
    const std::lock_guard lock(mutex_);
    if (submitted_.empty()) return "nothing was submitted";
    const std::shared_ptr<Batch>& oldest = submitted_.front();
    for (const Worker& worker : workers_) {
        if (worker.batch != oldest) continue;
        const Stage stage = worker.stage.load(std::memory_order_acquire);  // behind locate, its groups are there
        if (stage == Stage::locate || worker.batch->group(worker.group).empty())
            return "locate: the rows of the oldest batch";
        const Part& part = oldest->part(oldest->group(worker.group)[0]);
        return std::string(stage == Stage::read ? "read" : "decode") + ": a group that begins with row " +
               std::to_string(part.number) + " of shard " + oldest->source(part.at).snapshot->table().path(part.shard) +
               " (row " + std::to_string(oldest->row(part.at)) + " of the dataset)";
    }
    return "the oldest batch, of " + std::to_string(oldest->rows()) + " rows, waits for a thread";
}

void Pipeline::begin(Worker& worker, Stage stage, std::shared_ptr<Batch> batch, std::size_t group) {
    worker.stage = stage;
    worker.batch = std::move(batch);
    worker.group = group;
    busy_ += 1;
}

void Pipeline::end(Worker& worker) {
    worker.stage = Stage::idle;
    worker.batch.reset();
    busy_ -= 1;
    if (busy_ == 0) idle_.notify_all();
}

void Pipeline::run(std::size_t worker) {
    std::unique_lock lock(mutex_);
    try {
        while (!stopping_) {
            if (is_parked(worker) || !step(lock, workers_[worker], decodes(worker))) wait(lock, worker);
        }
    } catch (const std::exception&) {
        // Not even the memory to record a failure or to hand work on: what this thread had in hand is lost.
        if (!lock.owns_lock()) lock.lock();
        stopping_ = broken_ = true;
        for (std::condition_variable* waiting : {&readers_, &decoders_, &parked_, &done_, &idle_})
            waiting->notify_all();
    }
}

void Pipeline::wait(std::unique_lock<std::mutex>& lock, std::size_t worker) {
    if (is_parked(worker)) {
        parked_.wait(lock);
    } else if (!decodes(worker)) {
        readers_.wait(lock);
    } else {
        double idle_s = 0;
        {
            const StageTimer timer(idle_s);
            decoders_.wait(lock);
        }
        stats_.idle_s += idle_s;
    }
}

// Under mutex_: counts what a worker did for a batch.
void Pipeline::spend(Worker& worker, Batch& batch, const Work& work) {
    const StageTimes& times = work.times;
    stats_.times.add(times);
    stats_.read_wait_s += work.read_wait_s;
    batch.spent.add(times);
    if (!trace_.is_on()) return;
    const std::pair<Stage, double> stages[] = {{Stage::locate, times.locate_s},
                                               {Stage::read, times.read_s},
                                               {Stage::verify, times.verify_s},
                                               {Stage::decode, times.decode_s},
                                               {Stage::place, times.place_s}};
    std::uint64_t began_ns = work.began_ns;
    for (const auto& [stage, seconds] : stages) {
        trace_.add(worker.number, stage, began_ns, seconds);
        began_ns += static_cast<std::uint64_t>(seconds * 1e9);
    }
}

// One piece of work, if there is one for this thread. Called and returns with the lock held.
bool Pipeline::step(std::unique_lock<std::mutex>& lock, Worker& worker, bool decodes) {
    if (decodes && !to_decode_.empty()) {
        Task task = std::move(to_decode_.front());
        to_decode_.pop_front();
        decode(lock, worker, std::move(task), false);
    } else if (may_read()) {
        Task task = std::move(to_read_.front());
        to_read_.pop_front();
        task.buffer = take_buffer();
        if (decodes) {
            decode(lock, worker, std::move(task), true);
        } else {
            read(lock, worker, task);
            to_decode_.push_back(std::move(task));
            decoders_.notify_one();
        }
    } else if (may_locate()) {
        locate(lock, worker, decodes);
    } else {
        return false;
    }
    return true;
}

std::unique_ptr<GroupBuffer> Pipeline::take_buffer() {
    std::unique_ptr<GroupBuffer> buffer = std::move(buffers_.back());
    buffers_.pop_back();
    return buffer;
}

// Under mutex_, by a thread that begins to work: there may be work for another one.
void Pipeline::wake_another() {
    if (!may_locate() && !may_read()) return;
    readers_.notify_one();
    decoders_.notify_one();
}

// Locates a batch. One of a single group is not handed on: a decoder reads and decodes it, too.
void Pipeline::locate(std::unique_lock<std::mutex>& lock, Worker& worker, bool decodes) {
    const std::shared_ptr<Batch> batch = std::move(to_locate_.front());
    to_locate_.pop_front();
    std::unique_ptr<GroupBuffer> buffer = decodes && !buffers_.empty() ? take_buffer() : nullptr;
    begin(worker, Stage::locate, batch, 0);
    if (buffer) wake_another();
    lock.unlock();
    Work work;
    work.began_ns = now_ns();
    bool located;
    {
        const StageMark mark(feed_.marks, "fastfeed locate");
        const StageTimer timer(work.times.locate_s);
        located = guarded(*batch, [&] { batch->locate(slots_); });
    }
    const bool nothing_to_read = !located || batch->groups() == 0 || batch->cancelled;
    const bool at_once = !nothing_to_read && buffer && batch->groups() == 1;
    if (nothing_to_read) {
        finish(*batch, work.times);
    } else if (at_once) {
        read_group(worker, *batch, 0, *buffer, work);
        place_group(worker, *batch, 0, *buffer, work);
    }
    lock.lock();
    spend(worker, *batch, work);
    if (buffer) buffers_.push_back(std::move(buffer));
    if (at_once) count_group(worker, work);
    if (nothing_to_read || at_once) {
        finished(lock, batch);
    } else {
        for (std::size_t group = 0; group < batch->groups(); ++group) to_read_.push_back({batch, group, nullptr});
        readers_.notify_all();
        decoders_.notify_all();
    }
    end(worker);
}

void Pipeline::read_group(Worker& worker, Batch& batch, std::size_t group, GroupBuffer& buffer, Work& work) {
    worker.stage.store(Stage::read, std::memory_order_release);
    const double before_s = work.times.read_s;
    const ReadMeter meter;
    {
        const StageMark mark(feed_.marks, "fastfeed read");
        const StageTimer timer(work.times.read_s);
        if (!batch.cancelled) guarded(batch, [&] { buffer.read(batch, group); });
    }
    work.read_wait_s += meter.wait_s(work.times.read_s - before_s);
}

void Pipeline::place_group(Worker& worker, Batch& batch, std::size_t group, GroupBuffer& buffer, Work& work) {
    worker.stage.store(Stage::decode, std::memory_order_release);
    // A cancelled batch may not have been read.
    if (!batch.cancelled)
        guarded(batch, [&] { verify_and_place(feed_, batch, group, buffer, worker.state, work.times); });
    work.last = batch.group_done();
    if (work.last) finish(batch, work.times);
}

// Under mutex_: a group was read, or decoded, or both.
void Pipeline::count_group(Worker& worker, const Work& work) {
    stats_.add_images(worker.state.counts);
    readers_count_.read(work.times.read_s - work.read_wait_s, work.read_wait_s);
    if (readers_count_.decoded(work.times.verify_s + work.times.decode_s + work.times.place_s)) change_readers();
}

void Pipeline::read(std::unique_lock<std::mutex>& lock, Worker& worker, Task& task) {
    begin(worker, Stage::read, task.batch, task.group);
    wake_another();
    lock.unlock();
    Work work;
    work.began_ns = now_ns();
    read_group(worker, *task.batch, task.group, *task.buffer, work);
    lock.lock();
    spend(worker, *task.batch, work);
    readers_count_.read(work.times.read_s - work.read_wait_s, work.read_wait_s);
    end(worker);
}

void Pipeline::decode(std::unique_lock<std::mutex>& lock, Worker& worker, Task task, bool reads) {
    Batch& batch = *task.batch;
    begin(worker, reads ? Stage::read : Stage::decode, task.batch, task.group);
    if (reads) wake_another();
    lock.unlock();
    Work work;
    work.began_ns = now_ns();
    if (reads) read_group(worker, batch, task.group, *task.buffer, work);
    place_group(worker, batch, task.group, *task.buffer, work);
    lock.lock();
    spend(worker, batch, work);
    buffers_.push_back(std::move(task.buffer));
    count_group(worker, work);
    if (may_read()) readers_.notify_one();
    if (work.last) finished(lock, task.batch);
    end(worker);
}

// Lets go of the lock for a moment where the consumer waits: woken under it, he would have to wait for it at once.
void Pipeline::finished(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Batch>& batch) {
    batch->done = true;
    stats_.add_finished(*batch);
    if (waiting_ == 0 || submitted_.empty() || submitted_.front() != batch) return;
    lock.unlock();
    done_.notify_all();
    lock.lock();
}

void Pipeline::cancel() {
    std::unique_lock lock(mutex_);
    for (const auto& batch : submitted_) batch->cancelled.store(true, std::memory_order_relaxed);
    to_locate_.clear();
    to_read_.clear();
    for (Task& task : to_decode_) buffers_.push_back(std::move(task.buffer));
    to_decode_.clear();
    // A running thread may hand on one more piece of a cancelled batch: those go the normal way, doing nothing.
    idle_.wait(lock, [&] { return stopping_ || (busy_ == 0 && to_read_.empty() && to_decode_.empty()); });
    submitted_.clear();
    done_.notify_all();
}

void Pipeline::stop() {
    std::vector<std::thread> threads;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        for (const auto& batch : submitted_) batch->cancelled.store(true, std::memory_order_relaxed);
        for (std::condition_variable* waiting : {&readers_, &decoders_, &parked_, &done_, &idle_})
            waiting->notify_all();
        threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
    const std::lock_guard lock(mutex_);
    submitted_.clear();
    to_locate_.clear();
    to_read_.clear();
    to_decode_.clear();
}

FeedStats Pipeline::stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
}

FeedPulse Pipeline::pulse() const {
    const std::lock_guard lock(mutex_);
    return {stats_.batches == 0 ? 0 : stats_.batch_bytes / stats_.batches, stats_.idle_s};
}

std::size_t Pipeline::reader_count() const {
    const std::lock_guard lock(mutex_);
    return readers_count_.count();
}

void Pipeline::set_trace(bool on) {
    const std::lock_guard lock(mutex_);
    trace_.set_on(on);
}

std::vector<StageSpan> Pipeline::take_spans() {
    const std::lock_guard lock(mutex_);
    return trace_.take();
}

void Pipeline::count(const Batch& batch, const StageTimes& times, ImageCounts& images) {
    const std::lock_guard lock(mutex_);
    stats_.times.add(times);
    stats_.add_images(images);
    stats_.add_finished(batch);
}

}  // namespace ff
