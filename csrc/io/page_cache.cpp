// Reads that do not wait: preadv2(RWF_NOWAIT); and cachestat(2), which only asks.
#include "io/page_cache.hpp"

#include <cerrno>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace ff {
namespace {

// In every architecture's table at this number, and in headers since Linux 6.5.
constexpr long kCachestat = 451;
constexpr std::uint64_t kPage = 4096;

struct CachestatRange {
    std::uint64_t offset, length;
};
struct Cachestat {
    std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

}  // namespace

bool read_cached(ReadOp& op) noexcept {
    if (!op.file->knows_nowait()) return false;
    while (op.done < op.into.size()) {
        const iovec into{op.into.data() + op.done, op.into.size() - op.done};
        const ssize_t got =
            ::preadv2(op.file->fd(), &into, 1, static_cast<off_t>(op.offset + op.done), RWF_NOWAIT);
        if (got > 0) {
            op.done += static_cast<std::size_t>(got);
        } else if (got == 0) {
            return true;
        } else if (errno == EINTR) {
            continue;
        } else {
            if (errno == EOPNOTSUPP || errno == ENOSYS) op.file->has_no_nowait();
            return false;  // a read that may wait says what is wrong, if anything is
        }
    }
    return true;
}

bool CacheLooks::has(const ReadOp& op) noexcept {
    const std::uint32_t misses = misses_.load(std::memory_order_relaxed);
    if (misses >= kMissesMax && misses % kRarely != 0) {
        misses_.store(misses + 1, std::memory_order_relaxed);
        return false;
    }
    CachestatRange range{op.offset, op.into.size()};
    Cachestat found{};
    const std::uint64_t pages = (op.offset + op.into.size() + kPage - 1) / kPage - op.offset / kPage;
    const bool all = !op.into.empty() && ::syscall(kCachestat, op.file->fd(), &range, &found, 0) == 0 &&
                     found.cached >= pages;
    // Wraps after 2^32 misses to one more series of looks.
    misses_.store(all ? 0 : misses + 1, std::memory_order_relaxed);
    return all;
}

}  // namespace ff
