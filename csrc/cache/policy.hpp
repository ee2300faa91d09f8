// What a cache of some chunks would do with known uses: simulations of policies, to choose between them.
//
// A use is [begin, end) in ticks of a common clock: the chunk must be there, and stays once it is. Where a use finds its
// chunk, that is a hit. Else the chunk is fetched whole and kept, fetched whole and staged (kept for the use only), or
// only what the use reads of it is fetched and nothing is kept. Exact: O(log chunks) a use; no clock, no chance.
#pragma once

#include <cstdint>
#include <span>

namespace ff {

// The numbers are shared with fastfeed/cache/policy.py.
enum class CachePolicy : int {
    resident = 0,  // chunks have ranks, and those of the lowest stay
    min = 1,       // who is needed last goes first (Belady), over all uses
    lru = 2,       // who was used longest ago goes first; everything is admitted
    s3fifo = 3,    // three queues (s3fifo.com); everything is admitted
};

struct PlannedUse {
    std::int64_t begin, end;  // begin <= end; equal: read at once, nothing need stay
    std::uint32_t chunk;
    std::uint32_t part;       // of kWholePart, what is read of the chunk
    bool dense;               // read in few large requests: staging would save no request
};

struct PolicyCost {
    std::uint64_t demand = 0;    // in 1/kWholePart chunks: what the uses read
    std::uint64_t origin = 0;    // the same: what was fetched
    std::uint64_t writes = 0;    // chunks written into the cache
    std::uint64_t uses = 0, hits = 0;
    std::uint64_t exact = 0;     // uses that were read past the cache
};

// Uses that read less than this of a chunk are not staged: fetching what they read is cheaper than the whole chunk.
inline constexpr std::uint32_t kStagePartMin = 192;
// Uses that read less than this of a chunk do not bring it in, either: whoever reads the rest of it will, and if it does
// not stay for so long, two have fetched the whole for a part.
inline constexpr std::uint32_t kKeptPartMin = 64;

// Ticks from first on and before last.
struct TickRange {
    std::int64_t first, last;

    bool holds(std::int64_t tick) const noexcept { return first <= tick && tick < last; }
};

// `uses` ascend by begin; chunks are below ranks.size(), and ranks differ. Costs are those of uses that begin in `counted`.
// Throws Error(config) where arguments contradict each other, std::bad_alloc.
PolicyCost simulate(CachePolicy policy, std::span<const PlannedUse> uses, std::span<const std::uint64_t> ranks,
                    std::uint64_t capacity_chunks, TickRange counted);

}  // namespace ff
