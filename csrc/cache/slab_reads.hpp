// Reads of one slab that have to wait for its disk: by a few threads, into buffers of their own.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "cache/mailbox.hpp"
#include "cache/slab.hpp"

namespace ff {

// How a slab's file is read. Thread-safe.
class SlabDisk {
  public:
    virtual ~SlabDisk() = default;
    // Reads into the front of `into` what is in the page cache, now, and returns how much that was; never waits for the
    // disk. `os_errno` is set where the disk has failed, EIO also at the end of the file.
    virtual std::size_t read_cached(int fd, std::uint64_t offset, MutableBytes into, int& os_errno) noexcept = 0;
    // Reads all of `into`, waiting for the disk. 0 or an errno, EIO also at the end of the file.
    virtual int read(int fd, std::uint64_t offset, MutableBytes into) noexcept = 0;
};

// preadv2(2) and pread(2).
std::shared_ptr<SlabDisk> make_slab_disk();

// Fails by `script`, one character a piece of a read, repeated from its start when used up: '.' passes, 'E' gives EIO,
// 'f' flips one bit, 'w' is not in the page cache, 'h' neither, and its disk takes kSlabHang. For tests, shipped.
// Throws Error(config) for another character.
inline constexpr std::chrono::milliseconds kSlabHang{2000};
std::shared_ptr<SlabDisk> make_fault_slab_disk(const std::string& script);

// One read. It owns its bytes, so that a completion that comes after everybody has gone writes into nothing else.
struct SlabRead {
    SlabRead(std::uint64_t from, std::size_t count, std::shared_ptr<Mailbox> box, std::uint32_t box_number)
        : offset(from), length(count), mailbox(std::move(box)), number(box_number) {}
    const std::uint64_t offset;  // in the slab's file
    const std::size_t length;
    const std::shared_ptr<Mailbox> mailbox;  // gets `number` when the read is complete
    const std::uint32_t number;
    // Of the reading thread until the mailbox has `number`; after that of whoever took it out.
    std::unique_ptr<std::byte[]> bytes;
    int os_errno = 0;  // EIO also where the file ends before the range

  private:
    friend class SlabReads;
    enum class State { queued, running, given_up, complete };
    State state = State::queued;  // guarded by the mutex of SlabReads
};

// A slab and the threads that wait for its disk. A disk that hangs holds at most these threads, and no other slab.
// Thread-safe. Destruction waits for reads that run, except for those that were given up: their threads end by
// themselves when the disk answers.
class SlabReads {
  public:
    SlabReads(Slab slab, std::shared_ptr<SlabDisk> disk);
    ~SlabReads();
    SlabReads(const SlabReads&) = delete;
    SlabReads& operator=(const SlabReads&) = delete;
    const Slab& slab() const noexcept;

    // As SlabDisk::read_cached.
    std::size_t read_cached(std::uint64_t offset, MutableBytes into, int& os_errno) const noexcept;
    // Queues a read; it completes by its mailbox. Throws Error(os) where no thread can be started.
    void submit(const std::shared_ptr<SlabRead>& read);
    // Nobody waits for `read` any more: it completes to nobody. False where it is complete already: its mailbox has
    // it, or will at once.
    bool give_up(const std::shared_ptr<SlabRead>& read);
    // Whether a read that was given up is still with the disk: then another would only wait behind it.
    bool stuck() const;

  private:
    struct Shared;  // with the threads, which may outlive this
    static void run(std::shared_ptr<Shared> shared);
    std::shared_ptr<Shared> shared_;
};

}  // namespace ff
