// Which node keeps a block (docs/deal.md, section 2): rendezvous hashing of block keys over node keys. Integers only.
//
// The home of a block is the node with the highest score. A score depends on one block and one node and on nothing
// else, so a node that leaves or joins moves its own homes only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "order/key.hpp"

namespace ff {

// The formulas of docs/deal.md. Changes when any home or any share of any step does.
inline constexpr std::uint32_t kDealVersion = 1;
// A list longer than this is a mistake; numbers of nodes fit 32 bits with room.
inline constexpr std::size_t kNodeCountMax = std::size_t{1} << 20;

// The key of the node called `name` (its UTF-8 bytes).
std::uint64_t node_key(std::string_view name) noexcept;

// The key of block `block` of the dataset with `dataset_key`.
constexpr std::uint64_t block_key(std::uint64_t dataset_key, std::uint64_t block) noexcept {
    return derive(dataset_key, block);
}

namespace homes {

// What runs of blocks are compared with: node keys cut into halves, so that a score needs 32-bit arithmetic only.
struct NodeHalves {
    const std::uint32_t* low;
    const std::uint32_t* high;
    std::size_t count;
};

constexpr std::uint32_t kScoreFirst = 0x7FEB352Du;  // the multipliers of the "lowbias32" hash
constexpr std::uint32_t kScoreSecond = 0x846CA68Bu;
// Blocks that walk along the nodes together: two AVX2 registers of each number.
constexpr std::size_t kLanes = 16;

static inline std::uint32_t score(std::uint32_t block_low, std::uint32_t block_high, std::uint32_t node_low,
                                  std::uint32_t node_high) noexcept {
    std::uint32_t z = (block_low + node_low) * kScoreFirst;
    z ^= z >> 16;
    z = (z + (block_high ^ node_high)) * kScoreSecond;
    z ^= z >> 15;
    return z * kScoreFirst;
}

// home[i] = the number of the node with the highest score for block i, the lowest number of several; kLanes blocks.
// `static`: each file that includes this compiles its own copy for its own instruction set.
static inline void best_nodes(NodeHalves nodes, const std::uint64_t* block_keys, std::int32_t* home) noexcept {
    std::uint32_t low[kLanes], high[kLanes], best[kLanes];
    std::int32_t at[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
        low[i] = static_cast<std::uint32_t>(block_keys[i]);
        high[i] = static_cast<std::uint32_t>(block_keys[i] >> 32);
        best[i] = score(low[i], high[i], nodes.low[0], nodes.high[0]);
        at[i] = 0;
    }
    for (std::size_t node = 1; node < nodes.count; ++node) {
        const std::uint32_t node_low = nodes.low[node], node_high = nodes.high[node];
        for (std::size_t i = 0; i < kLanes; ++i) {
            const std::uint32_t s = score(low[i], high[i], node_low, node_high);
            at[i] = s > best[i] ? static_cast<std::int32_t>(node) : at[i];
            best[i] = s > best[i] ? s : best[i];
        }
    }
    for (std::size_t i = 0; i < kLanes; ++i) home[i] = at[i];
}

void best_nodes_avx2(NodeHalves nodes, const std::uint64_t* block_keys, std::int32_t* home) noexcept;

}  // namespace homes

// The homes of blocks over one list of nodes, the last ones kept. One thread at a time. Memory: 8 bytes a node and
// 768 KiB.
class Homes {
  public:
    // `node_keys`: 1 to kNodeCountMax of them, in the order that numbers them. Throws Error(config).
    explicit Homes(std::span<const std::uint64_t> node_keys);

    std::size_t node_count() const noexcept { return low_.size(); }

    // out[i] = the number of the node that is home of the block with block_keys[i]. May throw std::bad_alloc.
    void of_blocks(std::span<const std::uint64_t> block_keys, std::span<std::int32_t> out);

  private:
    void compute(std::span<const std::uint64_t> block_keys, std::span<std::int32_t> out) const;

    std::vector<std::uint32_t> low_, high_;
    // Direct-mapped by the low bits of the block's key. 64 times the blocks of a default window, so that few of those
    // that are being read push each other out.
    static constexpr std::size_t kKeptCount = std::size_t{1} << 16;
    std::vector<std::uint64_t> kept_keys_;
    std::vector<std::int32_t> kept_homes_;  // -1: nothing is kept here
    std::vector<std::size_t> missing_;      // scratch of of_blocks
    std::vector<std::uint64_t> missing_keys_;
    std::vector<std::int32_t> missing_homes_;
};

}  // namespace ff
