// Open shard files: checked once when opened, and never more of them than a limit.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <unordered_map>

#include "feed/table.hpp"
#include "format/frame.hpp"
#include "io/engine.hpp"

namespace ff {

enum class ShardLayout : std::uint32_t { rows = 0, stream = 1 };

// A shard whose header has been checked; or, with no file, one of an engine that opens none: then the crcs of frames
// and pages, which begin with the uid, say whether bytes are this shard's. Immutable.
struct OpenShard {
    OpenShard(std::shared_ptr<File> opened, FrameSeed uid_seed) : file(std::move(opened)), seed(uid_seed) {}
    std::shared_ptr<File> file;
    FrameSeed seed;
};

// Checks the 4096 bytes of a header (docs/format.md, section 2.1). Throws Error(corrupt | format_version) without a
// path.
void check_header(Bytes header, Bytes uid, ShardLayout layout);

// Thread-safe. Keeps at most `open_files_max` files, half as many where a file may have two descriptors; those in use when they are evicted close when their last user is
// done.
class ShardFiles {
  public:
    // `table` and `engine` must outlive this.
    ShardFiles(const ShardTable& table, ReadEngine& engine, ShardLayout layout, std::size_t open_files_max)
        : table_(table), engine_(engine), layout_(layout), open_files_max_(open_files_max) {}

    // Throws Error(corrupt | format_version | os) naming the file. Neither looks nor keeps where the engine opens no
    // files.
    std::shared_ptr<const OpenShard> get(std::uint32_t shard);

  private:
    struct Entry {
        std::shared_ptr<const OpenShard> shard;
        std::atomic<bool> used{true};  // since the hand last passed
        explicit Entry(std::shared_ptr<const OpenShard> opened) : shard(std::move(opened)) {}
    };
    std::shared_ptr<const OpenShard> open(std::uint32_t shard) const;
    void evict_one();

    const ShardTable& table_;
    ReadEngine& engine_;
    const ShardLayout layout_;
    const std::size_t open_files_max_;
    // Held shared for a look-up, alone for insertion and eviction; never across I/O.
    mutable std::shared_mutex mutex_;
    std::unordered_map<std::uint32_t, Entry> entries_;
};

}  // namespace ff
