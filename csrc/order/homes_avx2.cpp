// Scores of blocks and nodes, compiled for AVX2.
#include "order/homes.hpp"

namespace ff::homes {

void best_nodes_avx2(NodeHalves nodes, const std::uint64_t* block_keys, std::int32_t* home) noexcept {
    best_nodes(nodes, block_keys, home);
}

}  // namespace ff::homes
