// images-cold, small-cold: what the device gives at the sizes of the samples. Direct reads by io_uring at random
// places, at the best of several depths: only who reads more than was asked for can get more of it.
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "timed.hpp"

namespace {

constexpr std::uint64_t kStep = 512;  // of direct reads; rounded up where a device wants more
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLargePage = 2 << 20;
constexpr unsigned kDepths[] = {4, 16, 64};  // of a thread

// A ring of one thread: submissions and completions, as linux/io_uring.h has them.
class Ring {
  public:
    explicit Ring(unsigned depth) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        fd_ = static_cast<int>(::syscall(SYS_io_uring_setup, depth, &params));
        if (fd_ < 0) limits::Arguments::fail("io_uring cannot be used here: this limit needs it");
        const std::size_t ring_bytes =
            std::max<std::size_t>(params.sq_off.array + params.sq_entries * sizeof(unsigned),
                                  params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
        char* ring = map(ring_bytes, IORING_OFF_SQ_RING);
        entries_ = reinterpret_cast<io_uring_sqe*>(map(params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
        for (unsigned i = 0; i < params.sq_entries; ++i) reinterpret_cast<unsigned*>(ring + params.sq_off.array)[i] = i;
        submit_tail_ = reinterpret_cast<unsigned*>(ring + params.sq_off.tail);
        submit_mask_ = *reinterpret_cast<unsigned*>(ring + params.sq_off.ring_mask);
        complete_head_ = reinterpret_cast<unsigned*>(ring + params.cq_off.head);
        complete_tail_ = reinterpret_cast<unsigned*>(ring + params.cq_off.tail);
        complete_mask_ = *reinterpret_cast<unsigned*>(ring + params.cq_off.ring_mask);
        results_ = reinterpret_cast<io_uring_cqe*>(ring + params.cq_off.cqes);
    }
    ~Ring() { ::close(fd_); }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    void queue(int file, std::uint64_t offset, char* into, std::uint64_t size, std::uint64_t tag) {
        io_uring_sqe& entry = entries_[*submit_tail_ & submit_mask_];
        std::memset(&entry, 0, sizeof(entry));
        entry.opcode = IORING_OP_READ;
        entry.fd = file;
        entry.off = offset;
        entry.addr = reinterpret_cast<std::uint64_t>(into);
        entry.len = static_cast<unsigned>(size);
        entry.user_data = tag;
        std::atomic_ref<unsigned>(*submit_tail_).store(*submit_tail_ + 1, std::memory_order_release);
        queued_ += 1;
    }
    // Submits what is queued, waits for one read at least, and calls ended(tag) for each that has ended.
    template <class Ended>
    void wait(Ended ended) {
        const long taken = ::syscall(SYS_io_uring_enter, fd_, queued_, 1, IORING_ENTER_GETEVENTS, nullptr, 0);
        if (taken < 0) {
            if (errno == EINTR) return;
            limits::Arguments::fail("io_uring_enter failed");
        }
        queued_ -= static_cast<unsigned>(taken);
        unsigned head = *complete_head_;
        while (head != std::atomic_ref<unsigned>(*complete_tail_).load(std::memory_order_acquire)) {
            const io_uring_cqe& result = results_[head & complete_mask_];
            if (result.res <= 0) limits::Arguments::fail("a read failed");
            ended(result.user_data);
            std::atomic_ref<unsigned>(*complete_head_).store(++head, std::memory_order_release);
        }
    }

  private:
    char* map(std::size_t bytes, std::uint64_t at) {
        void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_,
                              static_cast<off_t>(at));
        if (mapped == MAP_FAILED) limits::Arguments::fail("an io_uring cannot be mapped");
        return static_cast<char*>(mapped);
    }

    int fd_;
    unsigned queued_ = 0, submit_mask_, complete_mask_;
    unsigned *submit_tail_, *complete_head_, *complete_tail_;
    io_uring_sqe* entries_;
    io_uring_cqe* results_;
};

// Memory on large pages: a device writes into one of them at once.
char* memory_of(std::uint64_t bytes) {
    const std::uint64_t all = (bytes + 2 * kLargePage) / kLargePage * kLargePage;
    void* mapped = ::mmap(nullptr, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) limits::Arguments::fail("no memory");
    const auto place = reinterpret_cast<std::uint64_t>(mapped);
    char* begin = reinterpret_cast<char*>((place + kLargePage - 1) & ~(kLargePage - 1));
    ::madvise(begin, all - kLargePage, MADV_HUGEPAGE);
    std::memset(begin, 0, bytes);
    return begin;
}

// Reads a second with `depth` of them under way in each thread.
double rate_at(limits::Arguments arguments, unsigned depth, int file, const std::vector<std::uint64_t>& sizes) {
    arguments.seconds /= std::size(kDepths);
    const std::uint64_t largest = *std::max_element(sizes.begin(), sizes.end());
    const std::uint64_t room = (largest + 2 * kPage) / kPage * kPage;
    const std::uint64_t end = limits::size_of(file) - room;
    struct Reading {
        Reading(unsigned thread, unsigned depth, std::uint64_t room)
            : ring(depth), random(thread), memory(memory_of(depth * room)) {}
        Ring ring;
        limits::Random random;
        char* memory;
        bool is_begun = false;
    };
    std::vector<std::unique_ptr<Reading>> all(arguments.threads);
    return limits::rate(arguments, [&](unsigned thread) {
        if (!all[thread])  // in its own thread: a ring serves the one that made it
            all[thread] = std::make_unique<Reading>(thread, depth, room);
        Reading& reading = *all[thread];
        const auto queue = [&](std::uint64_t tag) {
            const std::uint64_t size = sizes[reading.random.below(sizes.size())];
            const std::uint64_t from = reading.random.below(end), first = from / kStep * kStep;
            const std::uint64_t length = (from + size - first + kStep - 1) / kStep * kStep;
            reading.ring.queue(file, first, reading.memory + tag * room, length, tag);
        };
        if (!reading.is_begun)
            for (unsigned i = 0; i < depth; ++i) queue(i);
        reading.is_begun = true;
        int ended = 0;
        reading.ring.wait([&](std::uint64_t tag) {
            ended += 1;
            queue(tag);
        });
        return ended;
    });
}

}  // namespace

int main(int count, char** values) {
    const limits::Arguments arguments(count, values);
    const bool small = arguments.work == "small-cold";
    std::vector<std::uint64_t> sizes;
    std::string path;
    if (small) {
        const auto ends = limits::numbers_in(arguments.raw + "/small/offsets.npy");
        for (std::size_t i = 1; i < ends.size(); ++i)
            sizes.push_back(static_cast<std::uint64_t>(ends[i] - ends[i - 1]));
        path = arguments.raw + "/small/records.bin";
    } else if (arguments.work == "images-cold") {
        for (const auto& file : std::filesystem::recursive_directory_iterator(arguments.raw + "/images"))
            if (file.path().extension() == ".jpg") sizes.push_back(file.file_size());
        path = arguments.raw + "/small/records.bin";  // any large file will do: the places are at random
    } else {
        limits::Arguments::fail("random_reads is a limit of images-cold and small-cold");
    }
    const int file = ::open(path.c_str(), O_RDONLY | O_DIRECT);
    if (file < 0) limits::Arguments::fail(path + ": cannot be read directly");
    double best = 0;
    for (const unsigned depth : kDepths) best = std::max(best, rate_at(arguments, depth, file, sizes));
    double bytes = 0;
    for (const std::uint64_t size : sizes) bytes += static_cast<double>(size);
    limits::print(best, best * bytes / static_cast<double>(sizes.size()));
}
