// Opening and closing of read-only files.
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.hpp"
#include "io/engine.hpp"

namespace ff {

std::shared_ptr<File> File::open(const std::string& path) {
    int fd;
    do {
        // O_NONBLOCK means nothing for regular files; without it, opening a FIFO waits for a writer for ever.
        fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
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

File::~File() { ::close(fd_); }

}  // namespace ff
