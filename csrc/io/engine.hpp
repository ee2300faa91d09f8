// Read engines behind one interface: blocking reads of many byte ranges at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "bytes.hpp"
#include "error.hpp"

namespace ff {

// An open, read-only file. Closes on destruction. Thread-safe.
class File {
  public:
    // Throws Error(os) with the path.
    static std::shared_ptr<File> open(const std::string& path);
    File(int fd, std::string path, std::uint64_t size) : fd_(fd), path_(std::move(path)), size_(size) {}
    ~File();
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    int fd() const noexcept { return fd_; }
    const std::string& path() const noexcept { return path_; }
    std::uint64_t size() const noexcept { return size_; }  // when it was opened

  private:
    int fd_;
    std::string path_;
    std::uint64_t size_;
};

// One range to read, of a file, or of an object where the engine opens no files. The engine sets `done` and
// `os_errno`; a short read (end of file) is done < into.size() with os_errno 0. What failed in another way than a
// system call is in `error`, and nothing was read.
struct ReadOp {
    const File* file = nullptr;
    std::uint64_t offset = 0;
    MutableBytes into;
    std::uint32_t object = 0;  // number of the shard in its snapshot
    std::size_t done = 0;
    int os_errno = 0;
    std::shared_ptr<const Error> error = {};
    // Set by another thread: nobody needs the bytes any more. An engine that waits for another process then ends the
    // read with Error(closed), soon; the file system's reads end by themselves.
    const std::atomic<bool>* cancelled = nullptr;
};

// Reads ranges. Thread-safe: many threads call read() at once.
class ReadEngine {
  public:
    virtual ~ReadEngine() = default;
    // Fills every op; returns when all are complete, so no completion can come later. Never throws for a failed op.
    virtual void read(std::span<ReadOp> ops) = 0;
    // The bytes of `op` came, and failed the caller's check: reads them again from another place, if the engine has one
    // (and says there that the first is bad). False where it has none.
    virtual bool reread(ReadOp& op) {
        static_cast<void>(op);
        return false;
    }
    // Whether ops name files; else they name objects, and nobody opens or checks files.
    virtual bool opens_files() const noexcept { return true; }
    virtual const char* name() const noexcept = 0;
};

// pread(2), one after the other in the calling thread; EINTR and partial reads are continued.
std::unique_ptr<ReadEngine> make_pread_engine();

// Wraps `inner` and fails by `script`, one character a read op, repeated from its start when used up: '.' passes, 'E'
// gives EIO, 's' a short read (half), 'f' flips one bit, 'z' zeroes the second half, 'd' waits 20 ms. Shipped for tests
// and for trying out an error policy. Throws Error(config) for another character.
std::unique_ptr<ReadEngine> make_fault_engine(std::unique_ptr<ReadEngine> inner, const std::string& script);

// `inner` itself for io "pread", or failing for "fault:<script>". Throws Error(config) for anything else.
std::unique_ptr<ReadEngine> engine_named(const std::string& io, std::unique_ptr<ReadEngine> inner);

}  // namespace ff
