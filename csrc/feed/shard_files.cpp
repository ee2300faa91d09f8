// Opening shards: existence, size and header, once a file.
#include "feed/shard_files.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "error.hpp"

namespace ff {
namespace {

constexpr char kMagic[] = "FFSHARD1";
constexpr std::uint16_t kMajorVersion = 1;
constexpr std::uint64_t kKnownIncompatibleFlags = 0;

std::string number(std::uint64_t value) { return std::to_string(value); }

std::shared_ptr<File> open_file(const std::string& path) {
    try {
        return File::open(path);
    } catch (const Error& error) {
        if (error.code() != Code::os || (error.os_errno() != ENOENT && error.os_errno() != ENOTDIR)) throw;
        throw Error(Code::corrupt,
                    "the manifest lists this shard, but there is no such file. Bring it back, or open a snapshot "
                    "without it, or make the dataset again.",
                    path);
    }
}

}  // namespace

void check_header(Bytes header, Bytes uid, ShardLayout layout) {
    const std::byte* at = header.data();
    if (header.size() != kHeaderSize || std::memcmp(at, kMagic, 8) != 0)
        throw Error(Code::corrupt, "is not a shard: it does not begin with FFSHARD1");
    // The crc first: a version or flag in a damaged header means nothing.
    const auto stored = load_le<std::uint32_t>(at + kHeaderSize - 4);
    const auto computed = crc32c(0, header.first(kHeaderSize - 4));
    if (stored != computed)
        throw Error(Code::corrupt, "the header's crc32c is " + number(computed) + ", stored is " + number(stored));
    if (const auto major = load_le<std::uint16_t>(at + 8); major != kMajorVersion)
        throw Error(Code::format_version, "has format version " + number(major) + ", this fastfeed reads version " +
                                              number(kMajorVersion) + ". Upgrade fastfeed.");
    if (const auto unknown = load_le<std::uint64_t>(at + 16) & ~kKnownIncompatibleFlags; unknown != 0)
        throw Error(Code::format_version, "uses features (incompatible flags " + number(unknown) +
                                              ") that this fastfeed does not know. Upgrade fastfeed.");
    if (const auto size = load_le<std::uint32_t>(at + 12); size != kHeaderSize)
        throw Error(Code::corrupt, "has a header of " + number(size) + " bytes, not 4096");
    if (std::memcmp(at + 40, uid.data(), 16) != 0)
        throw Error(Code::corrupt, "holds another shard's uid than the manifest says: a file was moved or overwritten");
    if (const auto found = load_le<std::uint32_t>(at + 72); found != static_cast<std::uint32_t>(layout))
        throw Error(Code::corrupt, "has layout " + number(found) + ", the manifest says " +
                                       number(static_cast<std::uint32_t>(layout)));
}

std::shared_ptr<const OpenShard> ShardFiles::open(std::uint32_t shard) const {
    const std::string path = table_.path(shard);
    std::shared_ptr<File> file = open_file(path);
    if (file->size() != table_.file_bytes[shard])
        throw Error(Code::corrupt, "has " + number(file->size()) + " bytes, the manifest says " +
                                       number(table_.file_bytes[shard]) + ". It was truncated or overwritten.", path);
    std::byte header[kHeaderSize];
    ReadOp op{file.get(), 0, {header, kHeaderSize}};
    engine_.read({&op, 1});
    if (op.os_errno != 0) throw Error(Code::os, "reading the shard's header", path, op.os_errno);
    if (op.done != kHeaderSize) throw Error(Code::corrupt, "ends inside its header, at byte " + number(op.done), path);
    try {
        check_header({header, kHeaderSize}, table_.uid(shard), layout_);
    } catch (const Error& error) {
        throw Error(error.code(), error.message(), path);
    }
    return std::make_shared<const OpenShard>(std::move(file), FrameSeed(table_.uid(shard)));
}

std::shared_ptr<const OpenShard> ShardFiles::get(std::uint32_t shard) {
    if (!engine_.opens_files()) return std::make_shared<const OpenShard>(nullptr, FrameSeed(table_.uid(shard)));
    {
        const std::shared_lock lock(mutex_);
        if (const auto found = entries_.find(shard); found != entries_.end()) {
            // Written only when it changes, so that a hot shard's line stays shared between cores.
            if (!found->second.used.load(std::memory_order_relaxed))
                found->second.used.store(true, std::memory_order_relaxed);
            return found->second.shard;
        }
    }
    std::shared_ptr<const OpenShard> opened = open(shard);
    const std::unique_lock lock(mutex_);
    // Another thread may have opened it meanwhile: the first one in stays.
    if (const auto found = entries_.find(shard); found != entries_.end()) return found->second.shard;
    const std::size_t files_max = engine_.reads_directly() ? std::max<std::size_t>(1, open_files_max_ / 2) : open_files_max_;
    if (entries_.size() >= files_max) evict_one();
    entries_.try_emplace(shard, opened);
    return opened;
}

// The first entry that was not used since the last pass, as CLOCK does; hash order serves as the circle.
void ShardFiles::evict_one() {
    auto victim = entries_.end();
    for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        if (!entry->second.used.exchange(false, std::memory_order_relaxed)) {
            victim = entry;
            break;
        }
    }
    entries_.erase(victim == entries_.end() ? entries_.begin() : victim);
}

}  // namespace ff
