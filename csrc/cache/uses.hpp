// When chunks are used: the uses of blocks (order/epoch_order.hpp), put together for the chunks that blocks lie in.
//
// A set's bytes are one address space: object number o begins at chunk first_chunk[o], and block b lies in the bytes
// [starts[b], ends[b]), which ascend. So the blocks of a chunk are found by binary search, and everything below costs
// O(log blocks) a chunk and stores nothing.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "cache/layout.hpp"
#include "order/epoch_order.hpp"

namespace ff {

inline constexpr unsigned kChunkShift = 20;
static_assert(kChunkBytes == std::uint64_t{1} << kChunkShift);
// What blocks have of a chunk is counted in 1/256 of what all have of it: enough to tell whether fetching the whole is
// worth it, and true for the short chunk at the end of an object.
inline constexpr std::uint32_t kWholePart = 256;
inline constexpr std::int64_t kNoUse = std::numeric_limits<std::int64_t>::max();

// One use of a chunk by one block: positions [begin, end), and the part of the chunk's rows that are the block's.
struct ChunkUse {
    std::int64_t begin, end;
    std::uint32_t part;
};

// Blocks in bytes. Borrowed; `starts` and `ends` ascend, and ends[b] >= starts[b].
struct BlockBytes {
    std::span<const std::uint64_t> starts, ends;
};

// Appends the uses of `chunk` in the epoch of `order`, in no order. A block that is open over the epoch's end has two.
void append_uses(const EpochOrder& order, const BlockBytes& bytes, std::uint64_t chunk, std::vector<ChunkUse>& uses);

// What a job at `position` of the epoch `now` still does with a chunk, in positions from there, over the end of the
// epoch into `next`.
struct NextUse {
    std::int64_t until;  // 0: it is in use; kNoUse: none is known
    std::int64_t after;  // of the one that begins next behind it; kNoUse
    std::uint32_t part;  // what the use that `until` means still reads of the chunk; of one that runs, about
};

// lead: so many positions are read ahead: uses begin that much earlier. `scratch` is overwritten.
NextUse next_use(const EpochOrder& now, const EpochOrder& next, const BlockBytes& bytes, std::uint64_t position,
                 std::uint64_t lead, std::uint64_t chunk, std::vector<ChunkUse>& scratch);

}  // namespace ff
