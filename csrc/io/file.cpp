// Opening and closing of read-only files.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.hpp"
#include "io/engine.hpp"

namespace ff {
namespace {

int open_read_only(const std::string& path, int flags) noexcept {
    int fd;
    do {
        // O_NONBLOCK means nothing for regular files; without it, opening a FIFO waits for a writer for ever.
        fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | flags);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

bool is_same_file(int fd, int other) noexcept {
    struct stat a {}, b {};
    return ::fstat(fd, &a) == 0 && ::fstat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// 0 where the file system says that it has no direct reads, or only with larger steps than we make.
std::size_t direct_align_of(int fd) noexcept {
#ifdef STATX_DIOALIGN
    struct statx status {};
    // Kernels before 6.1, and file systems that do not say, leave the bit out: the largest step is right everywhere.
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0 || (status.stx_mask & STATX_DIOALIGN) == 0)
        return kDirectAlign;
    const std::size_t align = std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
    return align <= kDirectAlign ? align : 0;
#else
    static_cast<void>(fd);
    return kDirectAlign;
#endif
}

}  // namespace

std::shared_ptr<File> File::open(const std::string& path) {
    const int fd = open_read_only(path, 0);
    if (fd < 0) throw Error(Code::os, "cannot open the file", path, errno);
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        const int error = errno;
        ::close(fd);
        throw Error(Code::os, "cannot stat the file", path, error);
    }
    if (!S_ISREG(status.st_mode)) {
        ::close(fd);
        throw Error(Code::corrupt, "is not a regular file", path);
    }
    return std::make_shared<File>(fd, path, static_cast<std::uint64_t>(status.st_size));
}

File::~File() {
    ::close(fd_);
    if (const int direct = direct_fd_.load(std::memory_order_relaxed); direct >= 0) ::close(direct);
}

int File::direct_fd() const noexcept {
    if (direct_refused_.load(std::memory_order_relaxed)) return -1;
    int known = direct_fd_.load(std::memory_order_acquire);
    if (known != kNotTried) return known;
    int fd = open_read_only(path_, O_DIRECT);
    const std::size_t align = fd < 0 ? 0 : direct_align_of(fd);
    if (fd >= 0 && (align == 0 || !is_same_file(fd_, fd))) {
        ::close(fd);
        fd = -1;
    }
    if (align != 0) direct_align_.store(align, std::memory_order_relaxed);  // the same, whoever finds it out
    // Threads may come here at once: the first one's stays.
    if (direct_fd_.compare_exchange_strong(known, fd, std::memory_order_acq_rel)) return fd;
    if (fd >= 0) ::close(fd);
    return known;
}

}  // namespace ff
