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

// Positions begin .. end - 1.
struct PositionRange {
    std::uint64_t begin, end;

    bool empty() const noexcept { return begin >= end; }
    bool holds(std::uint64_t position) const noexcept { return begin <= position && position < end; }
};

// When the rows of one block come: only inside of these ranges, the first of which comes first. The second is empty
// unless the block is open over the end of the epoch.
struct BlockUse {
    PositionRange first, second;
};

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

    // How positions are drawn, where a window that holds the whole dataset is a full shuffle.
    Shuffle shuffle() const noexcept { return shuffle_; }
    std::uint64_t block_rows() const noexcept { return block_rows_.divisor(); }
    // Blocks of rows, a short last one included.
    std::uint64_t use_count() const noexcept { return block_count_ + (tail_rows_ > 0 ? 1 : 0); }
    // The use of block `block`, below use_count(): the ranges, widened to whole groups, hold every position of its rows.
    // In a full shuffle that is the epoch. O(1).
    BlockUse block_use(std::uint64_t block) const noexcept;
    // The blocks whose uses begin at `position` or later in this epoch, in that order and at most blocks.size() of them;
    // returns how many. None in a full shuffle, where all begin at 0. O(1) each.
    std::size_t blocks_from(std::uint64_t position, std::span<std::uint64_t> blocks) const noexcept;
    // The blocks whose uses hold `position`, last begun first; at most blocks.size(). None in a full shuffle.
    std::size_t blocks_at(std::uint64_t position, std::span<std::uint64_t> blocks) const noexcept;

  private:
    struct Tables;

    PositionRange widened(std::uint64_t begin, std::uint64_t end) const noexcept;
    std::uint64_t begin_place(std::uint64_t item) const noexcept;
    std::uint64_t item_from(std::uint64_t position) const noexcept;
    std::uint64_t item_block(std::uint64_t item) const noexcept;
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
