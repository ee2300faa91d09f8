// Whole files into one buffer.
#include "io/whole_files.hpp"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "error.hpp"

namespace ff {
namespace {

class Descriptor {
  public:
    explicit Descriptor(const std::string& path) {
        do {
            fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // as in File::open
        } while (fd_ < 0 && errno == EINTR);
        if (fd_ < 0) throw Error(Code::os, "cannot open the file", path, errno);
    }
    ~Descriptor() { ::close(fd_); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const noexcept { return fd_; }

  private:
    int fd_;
};

// Reads until `expected` bytes are there, the file ends, or it shows one byte more. Returns the bytes read.
std::uint64_t read_whole(const std::string& path, std::uint64_t expected, std::byte* into) {
    const Descriptor file(path);
    std::uint64_t done = 0;
    while (true) {
        // One byte more than expected, so that a file that has grown shows itself in the read that fetches it.
        const ssize_t got = ::read(file.get(), into + done, expected + 1 - done);
        if (got < 0) {
            if (errno == EINTR) continue;
            throw Error(Code::os, "cannot read the file", path, errno);
        }
        done += static_cast<std::uint64_t>(got);
        // All that was expected and nothing more in one read is the end on every file system that knows sizes.
        if (got == 0 || done >= expected) return done;
    }
}

}  // namespace

OddFile read_whole_files(std::span<const std::string> files, std::span<const std::int64_t> offsets, MutableBytes into) {
    for (std::size_t i = 0; i < files.size(); ++i) {
        const auto expected = static_cast<std::uint64_t>(offsets[i + 1] - offsets[i]);
        const std::uint64_t found = read_whole(files[i], expected, into.data() + offsets[i]);
        if (found != expected) return {i, found};
    }
    return {files.size(), 0};
}

}  // namespace ff
