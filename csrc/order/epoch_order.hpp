// One epoch's order: the bijection from position (when) to row (which), and back (docs/order.md, section 4).
#pragma once

#include <cstdint>
#include <span>

#include "order/divide.hpp"
#include "order/permutation.hpp"

namespace ff {

// The formulas below. It changes when any position of any order does, and is part of every loader's state.
inline constexpr std::uint32_t kOrderVersion = 2;
inline constexpr std::uint64_t kRowCountMax = kPermutationSizeMax;

// The numbers are shared with fastfeed/order.py.
enum class Shuffle : int { none = 0, full = 1, window = 2 };

// Immutable, O(1) memory, shared by all threads.
class EpochOrder {
  public:
    // `rows` <= 2^48; `window_blocks` and `block_rows` from 1 to 2^48. Throws Error(config).
    EpochOrder(std::uint64_t rows, std::uint64_t seed, std::uint64_t epoch, Shuffle shuffle,
               std::uint64_t window_blocks, std::uint64_t block_rows);

    std::uint64_t rows() const noexcept { return rows_; }

    // The row at `position` and the position of `row`, both below rows().
    std::uint64_t row(std::uint64_t position) const noexcept;
    std::uint64_t position(std::uint64_t row) const noexcept;

    // out[i] = row(start + i). Allocates where tables are worth keeping; may throw std::bad_alloc, as the next two.
    void rows_range(std::uint64_t start, std::span<std::int64_t> out) const;
    // In place: positions become rows, rows become positions.
    void rows_at(std::span<std::int64_t> values) const;
    void positions_of(std::span<std::int64_t> values) const;

  private:
    struct Tables;

    std::uint64_t group_of(std::uint64_t position) const noexcept;
    std::uint64_t group_rows(std::uint64_t group) const noexcept;
    std::uint64_t delay(std::uint64_t row_in_block) const noexcept;
    void mix_groups(Tables& tables, std::span<std::uint64_t> values) const;
    void window_rows(Tables& tables, std::span<std::uint64_t> values) const;
    void window_positions(Tables& tables, std::span<std::uint64_t> values) const;
    void convert(Direction direction, std::span<std::int64_t> values) const;

    std::uint64_t rows_;
    Shuffle shuffle_;
    Divider block_rows_;            // K
    std::uint64_t block_count_;     // B: whole blocks
    std::uint64_t blocks_end_;      // B * K: the tail's first row
    std::uint64_t tail_rows_;       // t: rows behind the last whole block
    std::uint64_t window_blocks_;   // W, below B where windows are used at all
    Divider group_size_;            // S * K positions
    std::uint64_t last_group_;      // takes what does not fill a group of its own
    std::uint64_t full_key_, group_key_, block_key_, row_key_;
    std::uint64_t turn_;            // q: where the tail begins and the slots follow, before groups are mixed
};

}  // namespace ff
