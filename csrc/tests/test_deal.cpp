// The deal: homes kept as computed, and shares that are a partition. The formulas are held by golden vectors and by an
// oracle in Python.
#include "order/deal.hpp"

#include <vector>

#include "order/homes.hpp"
#include "tests/check.hpp"

using namespace ff;

namespace {

std::vector<std::uint64_t> keys(std::uint64_t seed, std::size_t count) {
    std::vector<std::uint64_t> found(count);
    for (std::size_t i = 0; i < count; ++i) found[i] = derive(seed, i);
    return found;
}

// Written the slow way.
std::int32_t home(const std::vector<std::uint64_t>& nodes, std::uint64_t block) {
    std::int32_t best = 0;
    std::uint32_t highest = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
        const std::uint32_t score =
            homes::score(static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                         static_cast<std::uint32_t>(nodes[i]), static_cast<std::uint32_t>(nodes[i] >> 32));
        if (i > 0 && score <= highest) continue;
        best = static_cast<std::int32_t>(i);
        highest = score;
    }
    return best;
}

}  // namespace

TEST(homes_are_the_highest_score_for_any_number_of_blocks_and_nodes) {
    for (const std::size_t node_count : {1u, 2u, 15u, 512u}) {
        const auto nodes = keys(node_count, node_count);
        Homes table(nodes);
        for (const std::size_t block_count : {0u, 1u, 15u, 16u, 17u, 1000u}) {
            const auto blocks = keys(99 + block_count, block_count);
            std::vector<std::int32_t> found(block_count);
            for (int turn = 0; turn < 2; ++turn) {  // computed, then kept
                table.of_blocks(blocks, found);
                for (std::size_t i = 0; i < block_count; ++i) CHECK_EQ(found[i], home(nodes, blocks[i]));
            }
        }
    }
}

TEST(homes_that_push_each_other_out_stay_right) {
    const auto nodes = keys(1, 7);
    Homes table(nodes);
    std::vector<std::uint64_t> blocks;  // all kept at the same place
    for (std::uint64_t i = 0; i < 50; ++i) blocks.push_back(5 + (derive(3, i) << 16));
    std::vector<std::int32_t> found(blocks.size());
    for (int turn = 0; turn < 2; ++turn) {
        table.of_blocks(blocks, found);
        for (std::size_t i = 0; i < blocks.size(); ++i) CHECK_EQ(found[i], home(nodes, blocks[i]));
    }
}

TEST(a_list_of_no_nodes_is_refused) { CHECK_THROWS(Code::config, "0 nodes", Homes({})); }

TEST(deals_are_permutations_with_exact_shares) {
    for (std::uint64_t i = 0; i < 200; ++i) {
        const std::size_t nodes = 1 + derive(1, i) % 9, ranks = nodes + derive(2, i) % 20, samples = derive(3, i) % 300;
        std::vector<std::int32_t> node_of_rank(ranks), homes(samples);
        for (std::size_t r = 0; r < ranks; ++r) node_of_rank[r] = static_cast<std::int32_t>(r % nodes);
        for (std::size_t s = 0; s < samples; ++s) homes[s] = static_cast<std::int32_t>(derive(i, s) % nodes);
        std::vector<std::int64_t> dealt(samples);
        deal_to_homes(homes, node_of_rank, nodes, dealt);
        std::vector<bool> seen(samples);
        for (const std::int64_t sample : dealt) {
            CHECK(!seen[static_cast<std::size_t>(sample)]);
            seen[static_cast<std::size_t>(sample)] = true;
        }
    }
}

TEST_MAIN
