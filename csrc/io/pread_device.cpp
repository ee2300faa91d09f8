// Reads that every machine can do: the kernel is told of all of them, then each is waited for.
//
// There is no pool of threads: 16 of them, each with one read of 600 B at a time, brought 46,000 a second for 12.9 us of
// processor time each, and 4 that tell the kernel first 62,000 for 9.0 us (docs/decisions/0047-reads-that-wait.md).
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

#include "io/device_reads.hpp"

namespace ff {
namespace {

class PreadDevice final : public DeviceReads {
  public:
    void read(std::span<ReadOp> ops, std::span<const std::uint32_t> which) override {
        for (const std::uint32_t i : which) pread_rest(ops[i]);
    }
    const char* name() const noexcept override { return "pread"; }
};

}  // namespace

void begin_reads(std::span<const ReadOp> ops, std::span<const std::uint32_t> which, std::uint64_t step) noexcept {
    const File* file = nullptr;
    std::uint64_t begun = 0;  // of `file`, by the step before: ops mostly come in the order of their offsets
    for (const std::uint32_t i : which) {
        const ReadOp& op = ops[i];
        std::uint64_t from = (op.offset + op.done) & ~(step - 1);
        const std::uint64_t to = round_up(op.offset + op.into.size(), step);
        if (op.file == file && from < begun && op.offset < begun) from = begun;
        if (from >= to) continue;
        // A hint: where it is not taken, the read that waits does all of the work.
        static_cast<void>(::posix_fadvise(op.file->fd(), static_cast<off_t>(from), static_cast<off_t>(to - from),
                                          POSIX_FADV_WILLNEED));
        file = op.file;
        begun = to;
    }
}

void pread_rest(ReadOp& op) noexcept {
    op.os_errno = 0;
    while (op.done < op.into.size()) {
        const ssize_t got = ::pread(op.file->fd(), op.into.data() + op.done, op.into.size() - op.done,
                                    static_cast<off_t>(op.offset + op.done));
        if (got > 0) {
            op.done += static_cast<std::size_t>(got);
        } else if (got == 0) {
            return;  // end of file: the caller sees done < into.size()
        } else if (errno != EINTR) {
            op.os_errno = errno;
            return;
        }
    }
}

std::unique_ptr<DeviceReads> make_pread_device() { return std::make_unique<PreadDevice>(); }

}  // namespace ff
