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

// Every device and file system that reads directly does so at multiples of this; most at multiples of 512.
inline constexpr std::size_t kDirectAlign = 4096;

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

    // A descriptor of the same file whose reads pass by the page cache, opened when first asked for; -1 where there is
    // none: the file system cannot, or the path is another file's by now.
    int direct_fd() const noexcept;
    // What offsets, lengths and addresses of such reads are multiples of; a power of two, at most kDirectAlign.
    std::size_t direct_align() const noexcept { return direct_align_.load(std::memory_order_relaxed); }
    // No reads pass by the page cache any more: one was refused.
    void refuse_direct() const noexcept { direct_refused_.store(true, std::memory_order_relaxed); }

    // Whether a read that must not wait is known here. Some network file systems have none.
    bool knows_nowait() const noexcept { return knows_nowait_.load(std::memory_order_relaxed); }
    void has_no_nowait() const noexcept { knows_nowait_.store(false, std::memory_order_relaxed); }

  private:
    static constexpr int kNotTried = -2;

    int fd_;
    std::string path_;
    std::uint64_t size_;
    mutable std::atomic<int> direct_fd_{kNotTried};
    mutable std::atomic<std::size_t> direct_align_{kDirectAlign};
    mutable std::atomic<bool> direct_refused_{false}, knows_nowait_{true};
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
    // The bytes around `into` are free to be overwritten, to the next multiples of kDirectAlign of the file, and
    // `into` lies as far behind one in memory as `offset` does in the file: the engine may read directly.
    bool has_room = false;
};

// How an engine reads, and what it found. Counted since it was made.
struct IoReport {
    std::string engine;  // "pread", "uring", "uring direct", "cache", "fault:<script>"
    std::string why;     // what chose it: a wish, a measurement with its figures, or what is still missing for one
    std::uint64_t cached_bytes = 0;  // came from the page cache, without waiting
    std::uint64_t device_bytes = 0;  // had to be waited for
    std::uint64_t device_reads = 0;
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
    // Whether reads may pass by the page cache: then ops should have room, and a file has two descriptors.
    virtual bool reads_directly() const noexcept { return false; }
    virtual IoReport report() const = 0;
};

// How files are read.
struct IoOptions {
    std::string engine = "auto";  // "auto", "pread", "uring", or "fault:<script>" over "pread"
    // The data is larger than what the page cache may hold: reads that miss it pass by it, where io_uring is used.
    bool direct = false;
};

// Reads what the page cache has in the calling thread, and the rest as `options` say ("auto": by what is measured to be
// faster). Throws Error(config) for an engine that there is not, or that this kernel or container forbids.
std::unique_ptr<ReadEngine> make_file_engine(const IoOptions& options);

// Wraps `inner` and fails by `script`, one character a read op, repeated from its start when used up: '.' passes, 'E'
// gives EIO, 's' a short read (half), 'f' flips one bit, 'z' zeroes the second half, 'd' waits 20 ms. Shipped for tests
// and for trying out an error policy. Throws Error(config) for another character.
std::unique_ptr<ReadEngine> make_fault_engine(std::unique_ptr<ReadEngine> inner, const std::string& script);

// The script of "fault:<script>"; empty where `engine` is none of these.
std::string fault_script(const std::string& engine);

}  // namespace ff
