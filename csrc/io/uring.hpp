// One io_uring of one thread, by raw system calls: no liburing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bytes.hpp"

struct io_uring_sqe;
struct io_uring_cqe;

namespace ff {

// Reads that are under way at once, of one thread. Not thread-safe: where the kernel knows SINGLE_ISSUER, a ring serves
// the thread that made it and no other. Who destroys it has reaped all that it submitted: the kernel writes into the
// memory of a read until then.
class Ring {
  public:
    // Room for `depth` reads, rounded up to a power of two. Throws Error(os): ENOSYS, EPERM and EACCES mean that this
    // kernel or container has no io_uring for us.
    explicit Ring(unsigned depth);
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    unsigned depth() const noexcept { return depth_; }
    // Queued or submitted, and not reaped.
    unsigned open() const noexcept { return open_; }
    bool full() const noexcept { return open_ == depth_; }
    // Queues a read; nothing begins before submit(). Not when full().
    void queue_read(int fd, std::uint64_t offset, MutableBytes into, std::uint64_t tag) noexcept;
    // Submits what is queued and waits until `wait_for` completions are there (or fewer, after a signal). Returns 0 or
    // an errno; what the kernel did not take stays queued.
    int submit(unsigned wait_for) noexcept;
    // The oldest completion: its tag, and the bytes read or a negative errno. False where there is none.
    bool reap(std::uint64_t& tag, std::int32_t& result) noexcept;
    // Forgets the reads that are queued and that the kernel has not taken. Returns how many: the last ones queued.
    unsigned drop_queued() noexcept;

  private:
    class Mapping {
      public:
        Mapping() = default;
        ~Mapping();
        Mapping(const Mapping&) = delete;
        Mapping& operator=(const Mapping&) = delete;
        // Maps a part of the ring. Throws Error(os).
        void map(int fd, std::size_t size, std::uint64_t at);
        std::byte* data() const noexcept { return data_; }

      private:
        std::byte* data_ = nullptr;
        std::size_t size_ = 0;
    };

    class Descriptor {
      public:
        explicit Descriptor(int fd) noexcept : fd_(fd) {}
        ~Descriptor();
        Descriptor(const Descriptor&) = delete;
        Descriptor& operator=(const Descriptor&) = delete;
        int get() const noexcept { return fd_; }

      private:
        int fd_;
    };

    struct Made;
    explicit Ring(Made made);

    Descriptor fd_;  // closed after the mappings are gone
    Mapping queues_, completions_, entries_;
    unsigned depth_ = 0, open_ = 0, queued_ = 0;
    // In the kernel's memory: it moves the head of the submissions and the tail of the completions, we the others.
    std::uint32_t *submit_head_ = nullptr, *submit_tail_ = nullptr;
    std::uint32_t *complete_head_ = nullptr, *complete_tail_ = nullptr;
    std::uint32_t submit_mask_ = 0, complete_mask_ = 0;
    io_uring_sqe* submissions_ = nullptr;
    io_uring_cqe* results_ = nullptr;
};

}  // namespace ff
