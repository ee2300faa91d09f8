// Reads by io_uring: many under way at once in one thread, past the page cache if that is wanted.
//
// Each thread has a ring of its own: shared ones need a lock and cost up to three times as much. A call submits its
// reads and returns when the last of them is reaped, so no completion can come later, whatever happened.
//
// A direct read is of whole steps of the device (File::direct_align): the prefix before the range, the range itself,
// and the suffix behind it land in one piece in the op's room. A read that comes back other than whole is finished by
// pread(2): ends of files, errors and refusals are what they are with that.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>

#include "io/device_reads.hpp"
#include "io/uring.hpp"

namespace ff {
namespace {

// Reads of one thread under way at once: what an NVMe drive wants of a process, from few threads.
constexpr unsigned kDepth = 128;
// While more are to be submitted, wait for this many completions at a time: one system call for all of them.
constexpr unsigned kRefill = 16;
// Threads with a ring of their own. A ring is 20 KB; who comes when all are in use reads with pread.
constexpr std::size_t kRingsMax = 256;
// A read's tag is its op's index, and whether it is direct: a file may be refused while reads of it are under way.
constexpr std::uint64_t kTagDirect = std::uint64_t{1} << 32;
constexpr std::uint64_t kTagIndex = kTagDirect - 1;

// Whether the kernel may take the same call again: it had no memory, a signal came, or completions wait to be reaped.
bool is_passing(int error) noexcept { return error == EINTR || error == EAGAIN || error == EBUSY; }

// A ring, and the thread that made it: no other may use it.
struct OwnedRing {
    std::thread::id thread;
    std::unique_ptr<Ring> ring;
};

// The rings of the threads that have read. Thread-safe.
class Rings {
  public:
    // This thread's, made if it has none; null where none can be made. Give it back.
    std::unique_ptr<OwnedRing> take() {
        const std::thread::id thread = std::this_thread::get_id();
        {
            const std::lock_guard lock(mutex_);
            const auto found =
                std::find_if(idle_.begin(), idle_.end(), [&](const auto& each) { return each->thread == thread; });
            if (found != idle_.end()) {
                std::unique_ptr<OwnedRing> owned = std::move(*found);
                idle_.erase(found);
                return owned;
            }
            if (made_ == kRingsMax) {
                if (idle_.empty()) return nullptr;
                idle_.erase(idle_.begin());  // the one that was not used for longest
                made_ -= 1;
            }
            idle_.reserve(made_ + 1);  // so that give() needs no memory
            made_ += 1;
        }
        try {
            return std::make_unique<OwnedRing>(OwnedRing{thread, std::make_unique<Ring>(kDepth)});
        } catch (const Error&) {  // no memory to lock, no descriptor: reading goes on without
            forget();
            return nullptr;
        } catch (...) {
            forget();
            throw;
        }
    }

    void give(std::unique_ptr<OwnedRing> owned) noexcept {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(owned));
    }

    // One that was taken does not come back.
    void forget() noexcept {
        const std::lock_guard lock(mutex_);
        made_ -= 1;
    }

  private:
    std::mutex mutex_;  // over the two below; a leaf, held for a look through the list
    std::vector<std::unique_ptr<OwnedRing>> idle_;
    std::size_t made_ = 0;
};

class UringDevice final : public DeviceReads {
  public:
    explicit UringDevice(bool direct) : direct_(direct) {}

    void read(std::span<ReadOp> ops, std::span<const std::uint32_t> which) override {
        if (which.empty()) return;
        // A thread that has ended may have had this one's id, and its ring serves nobody: then the next one is new.
        for (int attempt = 0; attempt < 2; ++attempt) {
            std::unique_ptr<OwnedRing> owned = rings_.take();
            if (!owned) break;
            if (read_by(*owned->ring, ops, which)) {
                rings_.give(std::move(owned));
                break;
            }
            rings_.forget();
        }
        for (const std::uint32_t i : which)
            if (ops[i].done < ops[i].into.size()) pread_rest(ops[i]);
    }
    const char* name() const noexcept override { return direct_ ? "uring direct" : "uring"; }

  private:
    // False where the ring is another thread's, and nothing was read.
    bool read_by(Ring& ring, std::span<ReadOp> ops, std::span<const std::uint32_t> which) const noexcept {
        std::size_t next = 0;
        while (next < which.size() || ring.open() > 0) {
            while (next < which.size() && !ring.full()) {
                queue(ring, ops[which[next]], which[next]);
                ++next;
            }
            const unsigned wait_for = next < which.size() ? std::min(kRefill, ring.open()) : ring.open();
            const int error = ring.submit(wait_for);
            if (error != 0 && !is_passing(error)) {
                // Nothing more goes out; what is under way must come in before its memory may be used again.
                ring.drop_queued();
                if (error == EEXIST) return false;
                next = which.size();
            }
            std::uint64_t tag;
            std::int32_t result;
            while (ring.reap(tag, result)) settle(ops[tag & kTagIndex], (tag & kTagDirect) != 0, result);
        }
        return true;
    }

    void queue(Ring& ring, const ReadOp& op, std::uint32_t index) const noexcept {
        const int direct_fd = direct_ && op.has_room && op.done == 0 ? op.file->direct_fd() : -1;
        if (direct_fd < 0) {
            ring.queue_read(op.file->fd(), op.offset + op.done, op.into.subspan(op.done), index);
            return;
        }
        const std::size_t align = op.file->direct_align();
        const std::size_t before = op.offset & (align - 1);
        ring.queue_read(direct_fd, op.offset - before,
                        {op.into.data() - before, round_up(before + op.into.size(), align)}, index | kTagDirect);
    }

    static void settle(ReadOp& op, bool direct, std::int32_t result) noexcept {
        if (result == -EINVAL && direct) op.file->refuse_direct();
        if (result <= 0) return;  // nothing came: pread says why
        const std::size_t before = direct ? op.offset & (op.file->direct_align() - 1) : 0;
        const std::size_t got = static_cast<std::size_t>(result);
        if (got > before) op.done = std::min(op.done + got - before, op.into.size());
    }

    const bool direct_;
    Rings rings_;
};

// A file in memory with something to read.
class ProbeFile {
  public:
    ProbeFile() : fd_(::memfd_create("ff-probe", MFD_CLOEXEC)) {
        if (fd_ < 0 || ::write(fd_, "fastfeed", 8) != 8) throw Error(Code::os, "a file in memory", {}, errno);
    }
    ~ProbeFile() {
        if (fd_ >= 0) ::close(fd_);
    }
    ProbeFile(const ProbeFile&) = delete;
    ProbeFile& operator=(const ProbeFile&) = delete;
    int fd() const noexcept { return fd_; }

  private:
    int fd_;
};

std::string refusal_of(int error) {
    if (error == ENOSYS) return "this kernel has none";
    if (error == EPERM || error == EACCES)
        return "forbidden (kernel.io_uring_disabled, or the container's seccomp profile)";
    return std::string("it does not work here: ") + std::strerror(error);
}

}  // namespace

std::string uring_refusal() {
    try {
        const ProbeFile file;
        std::byte bytes[8];
        Ring ring(1);
        ring.queue_read(file.fd(), 0, bytes, 1);
        std::uint64_t tag = 0;
        std::int32_t result = 0;
        while (!ring.reap(tag, result)) {
            const int error = ring.submit(1);
            if (error == 0 || is_passing(error)) continue;
            ring.drop_queued();
            return refusal_of(error);
        }
        if (tag != 1 || result != sizeof(bytes) || std::memcmp(bytes, "fastfeed", 8) != 0)
            return result < 0 ? refusal_of(-result) : "its reads bring wrong bytes";
        return {};
    } catch (const Error& error) {
        return refusal_of(error.os_errno());
    }
}

std::unique_ptr<DeviceReads> make_uring_device(bool direct) {
    if (const std::string refusal = uring_refusal(); !refusal.empty())
        throw Error(Code::config, "io='uring': io_uring cannot be used: " + refusal +
                                      ". Use 'pread', or 'auto' to let fastfeed choose.");
    return std::make_unique<UringDevice>(direct);
}

}  // namespace ff
