#include "order/selection.hpp"

#include <bit>
#include <cstring>
#include <string>

#include "cpu.hpp"
#include "error.hpp"

namespace ff {
namespace {

SelectionPass select_pass(SelectionLoops loops) noexcept {
#if defined(__x86_64__)
    if (loops == SelectionLoops::best && has_avx2())
        return selection_select_avx2;
#endif
    (void)loops;
    return selection::select_run;
}

SelectionPass rank_pass(SelectionLoops loops) noexcept {
#if defined(__x86_64__)
    if (loops == SelectionLoops::best && has_avx2())
        return selection_rank_avx2;
#endif
    (void)loops;
    return selection::rank_run;
}

std::size_t byte_count(std::uint64_t universe) noexcept { return static_cast<std::size_t>((universe + 7) / 8); }

}  // namespace

Selection::Selection(std::uint64_t universe) : universe_(universe) {
    if (universe > kUniverseMax)
        throw Error(Code::config, "a selection of " + std::to_string(universe) + " rows; it has at most 2^48");
    // One block more than needed: the rank of row `universe` needs no case of its own.
    words_.resize(static_cast<std::size_t>(universe / kBlockBits + 1) * kBlockWords);
}

Selection Selection::from_bits(Bytes bits, std::uint64_t universe) {
    // Before memory is taken for so many rows. A universe beyond the limit is the constructor's business.
    if (universe <= kUniverseMax && bits.size() != byte_count(universe))
        throw Error(Code::config, "a bitmap of " + std::to_string(universe) + " rows has " +
                                      std::to_string(byte_count(universe)) + " bytes, not " +
                                      std::to_string(bits.size()));
    if (!bits.empty() && universe % 8 != 0 && (std::to_integer<unsigned>(bits.back()) >> (universe % 8)) != 0)
        throw Error(Code::config, "the bitmap has bits beyond its " + std::to_string(universe) + " rows");
    Selection made(universe);
    if (!bits.empty()) std::memcpy(made.words_.data(), bits.data(), bits.size());
    made.count();
    return made;
}

Selection Selection::from_rows(std::span<const std::int64_t> rows, std::uint64_t universe) {
    Selection made(universe);
    std::int64_t last = -1;
    for (const std::int64_t row : rows) {
        if (row <= last || static_cast<std::uint64_t>(row) >= universe)
            throw Error(Code::config, "row " + std::to_string(row) + " after row " + std::to_string(last) + " of " +
                                          std::to_string(universe) + ": rows of a selection ascend");
        made.words_[static_cast<std::uint64_t>(row) / 64] |= std::uint64_t{1} << (row % 64);
        last = row;
    }
    made.count();
    return made;
}

void Selection::count() {
    const std::size_t block_count = words_.size() / kBlockWords;
    counts_.resize(block_count + 1);
    std::uint64_t ones = 0;
    for (std::size_t block = 0; block < block_count; ++block) {
        counts_[block] = ones;
        std::uint64_t in_block = 0;
        for (std::size_t i = 0; i < kBlockWords; ++i)
            in_block += static_cast<unsigned>(std::popcount(words_[block * kBlockWords + i]));
        // A block has at most 512 ones, so it holds at most one of the ones that have a hint.
        if (in_block != 0 && hints_.size() * kHintOnes < ones + in_block) hints_.push_back(block);
        ones += in_block;
    }
    counts_.back() = ones;
    hints_.push_back(block_count - 1);
    hints_.shrink_to_fit();
}

void Selection::rows_at(std::span<std::int64_t> values, SelectionLoops loops) const noexcept {
    select_pass(loops)(arrays(), values.data(), values.size());
}

void Selection::ranks_of(std::span<std::int64_t> values, SelectionLoops loops) const noexcept {
    rank_pass(loops)(arrays(), values.data(), values.size());
}

void Selection::contains(std::span<const std::int64_t> rows, std::span<std::uint8_t> found) const noexcept {
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto row = static_cast<std::uint64_t>(rows[i]);
        found[i] = (words_[row / 64] >> (row % 64)) & 1;
    }
}

Bytes Selection::bits() const noexcept { return as_bytes(words_.data(), byte_count(universe_)); }

std::size_t Selection::memory_bytes() const noexcept {
    return (words_.capacity() + counts_.capacity() + hints_.capacity()) * sizeof(std::uint64_t);
}

}  // namespace ff
