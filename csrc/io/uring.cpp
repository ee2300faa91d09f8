// The rings that we share with the kernel.
//
// Submissions: we fill an entry, then move the tail (release); the kernel takes entries from the head during
// io_uring_enter. Completions: the kernel fills an entry, then moves the tail; we load it (acquire), read the entry,
// and move the head (release), after which the kernel may use the entry again. The index array between tail and
// entries is the identity, written once.
#include "io/uring.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "error.hpp"

namespace ff {
namespace {

// By definition a u32, so that builds against old kernel headers have them: Linux 6.0 and 6.1.
constexpr std::uint32_t kSetupSingleIssuer = 1u << 12;
constexpr std::uint32_t kSetupDeferTaskrun = 1u << 13;

std::uint32_t load(std::uint32_t* word) noexcept {
    return std::atomic_ref<std::uint32_t>(*word).load(std::memory_order_acquire);
}

void store(std::uint32_t* word, std::uint32_t value) noexcept {
    std::atomic_ref<std::uint32_t>(*word).store(value, std::memory_order_release);
}

}  // namespace

struct Ring::Made {
    io_uring_params params{};
    int fd = -1;

    explicit Made(unsigned depth) {
        // Completions are then worked on when we wait for them, in this thread, and nobody interrupts it for them: 8.9
        // instead of 13.5 us of processor time a read of 128 KiB. Kernels before 6.1 say EINVAL.
        for (const std::uint32_t flags : {kSetupSingleIssuer | kSetupDeferTaskrun, std::uint32_t{0}}) {
            params = {};
            params.flags = IORING_SETUP_CLAMP | flags;
            fd = static_cast<int>(::syscall(SYS_io_uring_setup, depth, &params));
            if (fd >= 0 || errno != EINVAL) break;
        }
        if (fd < 0) throw Error(Code::os, "io_uring_setup", {}, errno);
    }
};

Ring::Mapping::~Mapping() {
    if (data_ != nullptr) ::munmap(data_, size_);
}

void Ring::Mapping::map(int fd, std::size_t size, std::uint64_t at) {
    void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(at));
    if (mapped == MAP_FAILED) throw Error(Code::os, "mapping an io_uring", {}, errno);
    data_ = static_cast<std::byte*>(mapped);
    size_ = size;
}

Ring::Descriptor::~Descriptor() { ::close(fd_); }

Ring::Ring(unsigned depth) : Ring(Made(depth)) {}

Ring::Ring(Made made) : fd_(made.fd), depth_(made.params.sq_entries) {
    const io_uring_params& params = made.params;
    const std::size_t submissions = params.sq_off.array + params.sq_entries * sizeof(std::uint32_t);
    const std::size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    queues_.map(fd_.get(), submissions, IORING_OFF_SQ_RING);
    completions_.map(fd_.get(), completions, IORING_OFF_CQ_RING);
    entries_.map(fd_.get(), params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
    const auto word = [](std::byte* at) { return reinterpret_cast<std::uint32_t*>(at); };
    submit_head_ = word(queues_.data() + params.sq_off.head);
    submit_tail_ = word(queues_.data() + params.sq_off.tail);
    submit_mask_ = *word(queues_.data() + params.sq_off.ring_mask);
    for (std::uint32_t i = 0; i < params.sq_entries; ++i) word(queues_.data() + params.sq_off.array)[i] = i;
    complete_head_ = word(completions_.data() + params.cq_off.head);
    complete_tail_ = word(completions_.data() + params.cq_off.tail);
    complete_mask_ = *word(completions_.data() + params.cq_off.ring_mask);
    submissions_ = reinterpret_cast<io_uring_sqe*>(entries_.data());
    results_ = reinterpret_cast<io_uring_cqe*>(completions_.data() + params.cq_off.cqes);
}

Ring::~Ring() = default;

void Ring::queue_read(int fd, std::uint64_t offset, MutableBytes into, std::uint64_t tag) noexcept {
    const std::uint32_t tail = *submit_tail_;  // only we write it
    io_uring_sqe& entry = submissions_[tail & submit_mask_];
    std::memset(&entry, 0, sizeof(entry));
    entry.opcode = IORING_OP_READ;
    entry.fd = fd;
    entry.off = offset;
    entry.addr = reinterpret_cast<std::uint64_t>(into.data());
    entry.len = static_cast<std::uint32_t>(into.size());
    entry.user_data = tag;
    store(submit_tail_, tail + 1);
    open_ += 1;
    queued_ += 1;
}

int Ring::submit(unsigned wait_for) noexcept {
    const long taken = ::syscall(SYS_io_uring_enter, fd_.get(), queued_, wait_for, IORING_ENTER_GETEVENTS, nullptr, 0);
    if (taken < 0) return errno;
    queued_ -= static_cast<unsigned>(taken);
    return 0;
}

bool Ring::reap(std::uint64_t& tag, std::int32_t& result) noexcept {
    const std::uint32_t head = *complete_head_;  // only we write it
    if (head == load(complete_tail_)) return false;
    const io_uring_cqe& entry = results_[head & complete_mask_];
    tag = entry.user_data;
    result = entry.res;
    store(complete_head_, head + 1);
    open_ -= 1;
    return true;
}

unsigned Ring::drop_queued() noexcept {
    const unsigned dropped = queued_;
    store(submit_tail_, *submit_tail_ - dropped);
    open_ -= dropped;
    queued_ = 0;
    return dropped;
}

}  // namespace ff
