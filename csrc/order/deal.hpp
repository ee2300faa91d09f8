// Which rank takes which sample of a global step (docs/deal.md, section 3). Pure: the same answer on every rank.
#pragma once

#include <cstdint>
#include <span>

namespace ff {

// Deals m = homes.size() samples to node_of_rank.size() ranks: the samples of rank r of R are
// dealt[floor(rm/R)], ..., dealt[floor((r+1)m/R) - 1], in ascending order.
//
// Each rank gets exactly its share, and as many samples as shares allow are dealt to a rank of their home. `homes` and
// `node_of_rank` are numbers of nodes below `node_count`; `dealt` has m places and becomes a permutation of 0..m-1.
// O(m + R + node_count). May throw std::bad_alloc.
void deal_to_homes(std::span<const std::int32_t> homes, std::span<const std::int32_t> node_of_rank,
                   std::size_t node_count, std::span<std::int64_t> dealt);

}  // namespace ff
