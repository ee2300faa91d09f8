#include "order/homes.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "bytes.hpp"
#include "cpu.hpp"
#include "error.hpp"

namespace ff {
namespace {

using BestNodes = void (*)(homes::NodeHalves nodes, const std::uint64_t* block_keys, std::int32_t* home) noexcept;

void best_nodes_portable(homes::NodeHalves nodes, const std::uint64_t* block_keys, std::int32_t* home) noexcept {
    homes::best_nodes(nodes, block_keys, home);
}

BestNodes best_nodes() noexcept {
#if defined(__x86_64__)
    if (has_avx2()) return homes::best_nodes_avx2;
#endif
    return best_nodes_portable;
}

}  // namespace

std::uint64_t node_key(std::string_view name) noexcept {
    std::uint64_t key = derive(kDealVersion, name.size());
    for (std::size_t start = 0; start < name.size(); start += 8) {
        std::uint64_t word = 0;  // little endian, filled up with zeros
        for (std::size_t i = 0; i < std::min<std::size_t>(8, name.size() - start); ++i)
            word |= static_cast<std::uint64_t>(static_cast<unsigned char>(name[start + i])) << (8 * i);
        key = derive(key, word);
    }
    return key;
}

Homes::Homes(std::span<const std::uint64_t> node_keys) : kept_keys_(kKeptCount), kept_homes_(kKeptCount, -1) {
    if (node_keys.empty() || node_keys.size() > kNodeCountMax)
        throw Error(Code::config, std::to_string(node_keys.size()) + " nodes; there must be from 1 to 2^20");
    for (const std::uint64_t key : node_keys) {
        low_.push_back(static_cast<std::uint32_t>(key));
        high_.push_back(static_cast<std::uint32_t>(key >> 32));
    }
}

void Homes::of_blocks(std::span<const std::uint64_t> block_keys, std::span<std::int32_t> out) {
    missing_.clear();
    missing_keys_.clear();
    for (std::size_t i = 0; i < block_keys.size(); ++i) {
        const std::size_t place = block_keys[i] % kKeptCount;
        const bool is_kept = kept_homes_[place] >= 0 && kept_keys_[place] == block_keys[i];
        out[i] = is_kept ? kept_homes_[place] : -1;
        if (is_kept) continue;
        missing_.push_back(i);
        missing_keys_.push_back(block_keys[i]);
    }
    if (missing_.empty()) return;
    missing_homes_.resize(missing_.size());
    compute(missing_keys_, missing_homes_);
    for (std::size_t at = 0; at < missing_.size(); ++at) {
        const std::size_t place = missing_keys_[at] % kKeptCount;
        out[missing_[at]] = kept_homes_[place] = missing_homes_[at];
        kept_keys_[place] = missing_keys_[at];
    }
}

void Homes::compute(std::span<const std::uint64_t> block_keys, std::span<std::int32_t> out) const {
    const homes::NodeHalves nodes{low_.data(), high_.data(), low_.size()};
    const BestNodes run = best_nodes();
    std::array<std::uint64_t, homes::kLanes> keys{};
    std::array<std::int32_t, homes::kLanes> found;
    for (std::size_t start = 0; start < block_keys.size(); start += homes::kLanes) {
        const std::size_t count = std::min(homes::kLanes, block_keys.size() - start);
        std::copy_n(block_keys.begin() + static_cast<std::ptrdiff_t>(start), count, keys.begin());
        run(nodes, keys.data(), found.data());
        std::copy_n(found.begin(), count, out.begin() + static_cast<std::ptrdiff_t>(start));
    }
}

}  // namespace ff
