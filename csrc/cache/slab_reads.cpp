// The threads of a slab.
#include "cache/slab_reads.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "error.hpp"
#include "threads.hpp"

namespace ff {
namespace {

// Of one slab: what a fast NVMe needs at the sizes of frames, and few enough that a process with many slabs stays
// small.
constexpr std::size_t kThreadsMax = 16;

}  // namespace

struct SlabReads::Shared {
    Shared(Slab file, std::shared_ptr<SlabDisk> its_disk) : slab(std::move(file)), disk(std::move(its_disk)) {}
    const Slab slab;
    const std::shared_ptr<SlabDisk> disk;
    mutable std::mutex mutex;  // over all below; a leaf, held for book-keeping only, never across a read
    std::condition_variable queued, ended;
    std::deque<std::shared_ptr<SlabRead>> queue;
    std::size_t threads = 0, idle = 0;
    std::size_t stuck = 0;  // threads whose read was given up
    bool stopping = false;
};

SlabReads::SlabReads(Slab slab, std::shared_ptr<SlabDisk> disk)
    : shared_(std::make_shared<Shared>(std::move(slab), std::move(disk))) {}

SlabReads::~SlabReads() {
    std::unique_lock lock(shared_->mutex);
    shared_->stopping = true;
    shared_->queue.clear();
    shared_->queued.notify_all();
    shared_->ended.wait(lock, [&] { return shared_->threads == shared_->stuck; });
}

const Slab& SlabReads::slab() const noexcept { return shared_->slab; }

std::size_t SlabReads::read_cached(std::uint64_t offset, MutableBytes into, int& os_errno) const noexcept {
    return shared_->disk->read_cached(shared_->slab.fd(), offset, into, os_errno);
}

void SlabReads::submit(const std::shared_ptr<SlabRead>& read) {
    const std::lock_guard lock(shared_->mutex);
    shared_->queue.push_back(read);
    if (shared_->idle >= shared_->queue.size() || shared_->threads == kThreadsMax) {
        shared_->queued.notify_one();
        return;
    }
    try {
        const SignalsBlocked blocked;
        std::thread thread(&SlabReads::run, shared_);
        pthread_setname_np(thread.native_handle(), "ff-slab");
        thread.detach();
        shared_->threads += 1;
    } catch (const std::system_error& error) {
        if (shared_->threads > 0) return;  // another thread will come to it
        shared_->queue.pop_back();
        throw Error(Code::os, "cannot start a thread that reads a cache slab", {}, error.code().value());
    }
}

bool SlabReads::give_up(const std::shared_ptr<SlabRead>& read) {
    const std::lock_guard lock(shared_->mutex);
    if (read->state == SlabRead::State::queued) {
        const auto found = std::find(shared_->queue.begin(), shared_->queue.end(), read);
        if (found != shared_->queue.end()) shared_->queue.erase(found);
        read->state = SlabRead::State::complete;
        return true;
    }
    if (read->state != SlabRead::State::running) return false;
    read->state = SlabRead::State::given_up;
    shared_->stuck += 1;
    shared_->ended.notify_all();
    return true;
}

bool SlabReads::stuck() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->stuck > 0;
}

void SlabReads::run(std::shared_ptr<Shared> shared) {
    std::unique_lock lock(shared->mutex);
    while (!shared->stopping) {
        if (shared->queue.empty()) {
            shared->idle += 1;
            shared->queued.wait(lock);
            shared->idle -= 1;
            continue;
        }
        const std::shared_ptr<SlabRead> read = std::move(shared->queue.front());
        shared->queue.pop_front();
        read->state = SlabRead::State::running;
        lock.unlock();
        read->bytes.reset(new (std::nothrow) std::byte[read->length]);
        const MutableBytes into{read->bytes.get(), read->length};
        read->os_errno = read->bytes ? shared->disk->read(shared->slab.fd(), read->offset, into) : ENOMEM;
        lock.lock();
        const bool wanted = read->state == SlabRead::State::running;
        read->state = SlabRead::State::complete;
        if (!wanted) {
            shared->stuck -= 1;
            continue;
        }
        lock.unlock();
        read->mailbox->put(read->number);
        lock.lock();
    }
    shared->threads -= 1;
    shared->ended.notify_all();
}

}  // namespace ff
