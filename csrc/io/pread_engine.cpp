// The engine that every machine has: pread(2) in the calling thread.
#include <cerrno>
#include <unistd.h>

#include "io/engine.hpp"

namespace ff {
namespace {

void read_one(ReadOp& op) {
    op.done = 0;
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

class PreadEngine final : public ReadEngine {
  public:
    void read(std::span<ReadOp> ops) override {
        for (ReadOp& op : ops) read_one(op);
    }
    const char* name() const noexcept override { return "pread"; }
};

}  // namespace

std::unique_ptr<ReadEngine> make_pread_engine() { return std::make_unique<PreadEngine>(); }

}  // namespace ff
