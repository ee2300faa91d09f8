// preadv2(RWF_NOWAIT) for what is in memory, pread(2) for what is not; and a disk that fails on purpose.
#include <atomic>
#include <cerrno>
#include <sys/uio.h>
#include <thread>
#include <unistd.h>

#include "cache/slab_reads.hpp"
#include "error.hpp"

namespace ff {
namespace {

constexpr const char* kFaultKinds = ".Efwh";

class PosixDisk final : public SlabDisk {
  public:
    std::size_t read_cached(int fd, std::uint64_t offset, MutableBytes into, int& os_errno) noexcept override {
        std::size_t done = 0;
        while (done < into.size()) {
            const iovec part{into.data() + done, into.size() - done};
            const ssize_t got = ::preadv2(fd, &part, 1, static_cast<off_t>(offset + done), RWF_NOWAIT);
            if (got > 0) {
                done += static_cast<std::size_t>(got);
            } else if (got == 0) {
                os_errno = EIO;
                break;
            } else if (errno != EINTR) {
                // EOPNOTSUPP: a file system that cannot tell; all its reads wait.
                if (errno != EAGAIN && errno != EOPNOTSUPP) os_errno = errno;
                break;
            }
        }
        return done;
    }

    int read(int fd, std::uint64_t offset, MutableBytes into) noexcept override {
        std::size_t done = 0;
        while (done < into.size()) {
            const ssize_t got = ::pread(fd, into.data() + done, into.size() - done, static_cast<off_t>(offset + done));
            if (got > 0)
                done += static_cast<std::size_t>(got);
            else if (got == 0)
                return EIO;
            else if (errno != EINTR)
                return errno;
        }
        return 0;
    }
};

class FaultDisk final : public SlabDisk {
  public:
    explicit FaultDisk(std::string script) : script_(std::move(script)) {}

    std::size_t read_cached(int fd, std::uint64_t offset, MutableBytes into, int& os_errno) noexcept override {
        const char kind = script_[next_.fetch_add(1, std::memory_order_relaxed) % script_.size()];
        if (kind == 'E') os_errno = EIO;
        if (kind == 'h') hangs_.fetch_add(1, std::memory_order_relaxed);
        if (kind == 'E' || kind == 'h' || kind == 'w') return 0;
        const std::size_t done = disk_.read_cached(fd, offset, into, os_errno);
        if (kind == 'f' && done > 0) into[done / 2] ^= std::byte{0x10};
        return done;
    }

    int read(int fd, std::uint64_t offset, MutableBytes into) noexcept override {
        for (int left = hangs_.load(std::memory_order_relaxed); left > 0;)
            if (hangs_.compare_exchange_weak(left, left - 1, std::memory_order_relaxed)) {
                std::this_thread::sleep_for(kSlabHang);
                break;
            }
        return disk_.read(fd, offset, into);
    }

  private:
    PosixDisk disk_;
    const std::string script_;
    std::atomic<std::uint64_t> next_{0};
    std::atomic<int> hangs_{0};
};

}  // namespace

std::shared_ptr<SlabDisk> make_slab_disk() { return std::make_shared<PosixDisk>(); }

std::shared_ptr<SlabDisk> make_fault_slab_disk(const std::string& script) {
    if (script.empty() || script.find_first_not_of(kFaultKinds) != std::string::npos)
        throw Error(Code::config, "slab_io='fault:" + script + "': the script must be one or more of the characters " +
                                      kFaultKinds);
    return std::make_shared<FaultDisk>(script);
}

}  // namespace ff
