// The reader's side of the node cache, one a process: what is attached, and the calls that read through it.
#pragma once

#include <memory>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/connection.hpp"
#include "cache/slab_reads.hpp"
#include "cache/words.hpp"
#include "io/engine.hpp"

namespace ff {

struct CacheOptions {
    double deadline_s = 120;  // of a miss
    // A read from a slab's disk that takes longer is given up, and the ring is asked instead. A busy disk needs a tenth of
    // it; of one that hangs this is what its readers notice.
    double slab_read_s = 1;
    std::string slab_io = "pread";  // or "fault:<script>" (make_fault_slab_disk)
};

// What a daemon's answer to the handshake gives. Descriptors stay the caller's.
struct CacheEndpoint {
    struct SlabFile {
        int fd;
        std::uint64_t first_slot, slots;
    };
    int data_fd, ring_fd, words_fd, page_fd;
    std::uint64_t ring_bytes, slots;
    std::vector<SlabFile> slabs;
};

// Objects that are read together, and where their chunks are. Immutable but for the mapped entries.
struct CacheSet {
    CacheSet(ChunkMap chunk_map, std::vector<std::uint64_t> object_sizes, std::vector<std::uint64_t> first_chunks)
        : map(std::move(chunk_map)), sizes(std::move(object_sizes)), first_chunk(std::move(first_chunks)) {}
    const ChunkMap map;
    const std::vector<std::uint64_t> sizes;
    const std::vector<std::uint64_t> first_chunk;  // of each object, and the number of chunks
};

// A slab with its numbers beside it: a look at one line of memory a read.
struct AttachedSlab {
    std::uint64_t first_slot, slots;
    std::shared_ptr<SlabReads> reads;
    std::uint64_t offset_of(std::uint64_t slot) const noexcept { return (slot - first_slot) * kSlotBytes; }
};

// What readers see at one moment: replaced as a whole, kept by who reads.
struct CacheView {
    std::shared_ptr<const SlotWords> words;  // null before the first attach()
    std::vector<AttachedSlab> slabs;
    std::unordered_map<std::uint32_t, std::shared_ptr<const CacheSet>> sets;

    // The slab that has `slot`, null where none has.
    const AttachedSlab* slab_of(std::uint64_t slot) const noexcept {
        for (const AttachedSlab& slab : slabs)
            if (slot - slab.first_slot < slab.slots) return &slab;  // wraps around for a smaller slot
        return nullptr;
    }
};

// Counted a call, not a read.
struct CacheCounts {
    std::uint64_t slab_reads = 0, slab_bytes = 0, ring_reads = 0, ring_bytes = 0, races_lost = 0, crc_failures = 0,
                  slab_reads_given_up = 0, miss_wait_us = 0;
};

// Asked every 50 ms of a wait: true ends it with Error(closed).
using Interrupted = bool (*)();

// Thread-safe. No thread before attach().
class CacheClient {
  public:
    // Throws Error(config).
    explicit CacheClient(CacheOptions options);
    CacheClient(const CacheClient&) = delete;
    CacheClient& operator=(const CacheClient&) = delete;

    // Throw Error(config | corrupt | os | closed); what was attached before stays where they throw early.
    void attach(const CacheEndpoint& endpoint);
    void set_attached(std::uint32_t number, std::uint32_t remote, int map_fd, std::vector<std::uint64_t> sizes);
    void set_detached(std::uint32_t number);
    void detach() { connection_.detach(); }
    bool attached() const { return connection_.attached(); }
    bool wait_detached(double timeout_s) { return connection_.wait_detached(timeout_s); }
    void close();

    // Reads ranges of objects of a set; op.object and op.offset say which. Each op gets its bytes, or its error. Bytes
    // that come from a slot are of the right generation, and not checked further: the caller has a crc for them. The
    // ops of one call have one `cancelled`.
    void read(std::uint32_t set, std::span<ReadOp> ops);
    // The bytes of `op` failed the caller's crc under an unchanged word: says so to the daemon, and reads them by the
    // ring.
    void reread(std::uint32_t set, ReadOp& op);
    // [offset, offset + into.size()) of an object, checked by the trailers' crcs. Throws Error(config) outside the
    // object, else the error of the read.
    void read_checked(std::uint32_t set, std::uint32_t object, std::uint64_t offset, MutableBytes into,
                      double deadline_s, Interrupted interrupted);

    // The sizes of a set's objects. Throws Error(config) where there is no such set.
    std::shared_ptr<const CacheSet> set_of(std::uint32_t number) const;
    CacheCounts counts() const noexcept;
    const ConnectionCounts& connection_counts() const noexcept { return connection_.counts(); }

  private:
    friend class Fetch;
    std::shared_ptr<const CacheView> view() const;
    void add(const CacheCounts& counts) noexcept;

    const CacheOptions options_;
    const std::shared_ptr<SlabDisk> disk_;
    Connection connection_;
    mutable std::shared_mutex view_mutex_;  // over the pointer below, which is never null; a leaf
    std::shared_ptr<const CacheView> view_;
    mutable std::mutex page_mutex_;  // over the two below, once a call; a leaf
    CacheCounts counts_;
    Mapping page_;
};

// An engine that reads the shards of a snapshot through `client`: shard i is object i of set `set`. Throws
// Error(config) where the set has other objects than `file_bytes` says.
std::unique_ptr<ReadEngine> make_cache_engine(std::shared_ptr<CacheClient> client, std::uint32_t set,
                                              std::span<const std::uint64_t> file_bytes);

}  // namespace ff
