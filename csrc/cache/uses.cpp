#include "cache/uses.hpp"

#include <algorithm>

namespace ff {
namespace {

std::uint64_t bytes_in(const BlockBytes& bytes, std::size_t block, std::uint64_t chunk) noexcept {
    const std::uint64_t first = chunk << kChunkShift, last = (chunk + 1) << kChunkShift;
    const std::uint64_t begin = std::max(first, bytes.starts[block]), end = std::min(last, bytes.ends[block]);
    return begin < end ? end - begin : 0;
}

}  // namespace

void append_uses(const EpochOrder& order, const BlockBytes& bytes, std::uint64_t chunk, std::vector<ChunkUse>& uses) {
    const std::uint64_t last = (chunk + 1) << kChunkShift;
    const auto first_block = static_cast<std::size_t>(
        std::upper_bound(bytes.ends.begin(), bytes.ends.end(), chunk << kChunkShift) - bytes.ends.begin());
    std::uint64_t in_blocks = 0;
    for (std::size_t block = first_block; block < bytes.starts.size() && bytes.starts[block] < last; ++block)
        in_blocks += bytes_in(bytes, block, chunk);
    for (std::size_t block = first_block; block < bytes.starts.size() && bytes.starts[block] < last; ++block) {
        const std::uint64_t mine = bytes_in(bytes, block, chunk);
        if (mine == 0) continue;
        // Rounded up: what is read at all is not nothing.
        const auto part = static_cast<std::uint32_t>((mine * kWholePart + in_blocks - 1) / in_blocks);
        const BlockUse use = order.block_use(block);
        for (const PositionRange& range : {use.first, use.second})
            if (!range.empty())
                uses.push_back({static_cast<std::int64_t>(range.begin), static_cast<std::int64_t>(range.end), part});
    }
}

NextUse next_use(const EpochOrder& now, const EpochOrder& next, const BlockBytes& bytes, std::uint64_t position,
                 std::uint64_t lead, std::uint64_t chunk, std::vector<ChunkUse>& scratch) {
    scratch.clear();
    append_uses(now, bytes, chunk, scratch);
    const std::size_t of_now = scratch.size();
    append_uses(next, bytes, chunk, scratch);
    for (std::size_t i = of_now; i < scratch.size(); ++i) {
        scratch[i].begin += static_cast<std::int64_t>(now.rows());
        scratch[i].end += static_cast<std::int64_t>(now.rows());
    }
    const auto at = static_cast<std::int64_t>(position), reads_at = static_cast<std::int64_t>(position + lead);
    NextUse found{kNoUse, kNoUse, 0};
    for (const ChunkUse& use : scratch)
        if (use.end > at) found.until = std::min(found.until, std::max<std::int64_t>(0, use.begin - reads_at));
    std::uint64_t part = 0;
    for (const ChunkUse& use : scratch) {
        const std::int64_t distance = use.begin - reads_at;
        if (distance > found.until) {
            found.after = std::min(found.after, distance);
        } else if (use.end > at) {
            // Rows of a use come evenly, and a use below 2^48 positions times 256 fits.
            const auto left = static_cast<std::uint64_t>(use.end - std::max(at, use.begin));
            part += use.part * left / static_cast<std::uint64_t>(use.end - use.begin);
        }
    }
    found.part = static_cast<std::uint32_t>(std::min<std::uint64_t>(kWholePart, part));
    return found;
}

}  // namespace ff
