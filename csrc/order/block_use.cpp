// When blocks are used: docs/order.md, section 4, read backwards a block at a time.
//
// In windows, the things that begin one after the other are called items: the tail, if there is one, and behind it the
// blocks j = 0 .. B - 1 in shuffled order. They lie on the circle of n places that starts at the turn.
#include <algorithm>

#include "order/epoch_order.hpp"

namespace ff {

PositionRange EpochOrder::widened(std::uint64_t begin, std::uint64_t end) const noexcept {
    if (begin >= end) return {0, 0};
    const std::uint64_t last = group_of(end - 1);
    return {group_of(begin) * group_size_.divisor(), last * group_size_.divisor() + group_rows(last)};
}

std::uint64_t EpochOrder::begin_place(std::uint64_t item) const noexcept {
    const std::uint64_t has_tail = tail_rows_ > 0 ? 1 : 0;
    const std::uint64_t turned =
        item < has_tail ? 0 : tail_rows_ + (item - has_tail) * block_rows_.divisor();
    const std::uint64_t place = turned + turn_;
    return place >= rows_ ? place - rows_ : place;
}

std::uint64_t EpochOrder::item_block(std::uint64_t item) const noexcept {
    const std::uint64_t has_tail = tail_rows_ > 0 ? 1 : 0;
    if (item < has_tail) return block_count_;
    return permute(block_count_, block_key_, Direction::forward, item - has_tail);
}

// The item whose place is the first at or behind `position` on the circle.
std::uint64_t EpochOrder::item_from(std::uint64_t position) const noexcept {
    const std::uint64_t has_tail = tail_rows_ > 0 ? 1 : 0;
    const std::uint64_t turned = position - turn_ + (position >= turn_ ? 0 : rows_);
    if (turned == 0) return 0;
    if (turned <= tail_rows_) return has_tail;
    const std::uint64_t item = has_tail + block_rows_.quotient(turned - tail_rows_ + block_rows_.divisor() - 1);
    return item == use_count() ? 0 : item;
}

BlockUse EpochOrder::block_use(std::uint64_t block) const noexcept {
    if (shuffle_ == Shuffle::full) return {{0, rows_}, {0, 0}};
    const std::uint64_t block_rows = block_rows_.divisor();
    if (shuffle_ == Shuffle::none)
        return {{block * block_rows, std::min(rows_, (block + 1) * block_rows)}, {0, 0}};
    std::uint64_t begin = turn_, length = tail_rows_;
    if (block < block_count_) {
        const std::uint64_t slot = permute(block_count_, block_key_, Direction::inverse, block);
        const std::uint64_t slots = delay(block_rows - 1) + 1;
        begin = begin_place(slot + (tail_rows_ > 0 ? 1 : 0));
        length = slots * block_rows + (slot + slots > block_count_ ? tail_rows_ : 0);
    }
    if (begin + length <= rows_) return {widened(begin, begin + length), {0, 0}};
    return {widened(0, begin + length - rows_), widened(begin, rows_)};
}

std::size_t EpochOrder::blocks_from(std::uint64_t position, std::span<std::uint64_t> blocks) const noexcept {
    const std::uint64_t count = use_count(), block_rows = block_rows_.divisor();
    std::size_t found = 0;
    if (shuffle_ == Shuffle::none) {
        for (std::uint64_t block = block_rows_.quotient(std::min(position, rows_) + block_rows - 1);
             block < count && found < blocks.size(); ++block)
            blocks[found++] = block;
    } else if (shuffle_ == Shuffle::window && position < rows_) {
        // From the start of a group on: its items begin there together.
        const std::uint64_t start = group_of(position) * group_size_.divisor();
        const std::uint64_t from = start == position ? start : start + group_rows(group_of(position));
        if (from >= rows_) return 0;
        std::uint64_t item = item_from(from), place = begin_place(item);
        for (std::uint64_t left = count; left > 0 && place >= from && found < blocks.size(); --left) {
            blocks[found++] = item_block(item);
            item = item + 1 == count ? 0 : item + 1;
            const std::uint64_t next = begin_place(item);
            if (next < place) break;  // over the end of the epoch
            place = next;
        }
    }
    return found;
}

std::size_t EpochOrder::blocks_at(std::uint64_t position, std::span<std::uint64_t> blocks) const noexcept {
    if (position >= rows_ || blocks.empty()) return 0;
    if (shuffle_ == Shuffle::none) {
        blocks[0] = block_rows_.quotient(position);
        return 1;
    }
    if (shuffle_ == Shuffle::full) return 0;
    const std::uint64_t count = use_count();
    const std::uint64_t group = group_of(position);
    const std::uint64_t end = group * group_size_.divisor() + group_rows(group);  // items up to here may have begun
    std::uint64_t item = item_from(end < rows_ ? end : 0);
    // Backwards over the window, and over a group and the tail more, by which uses are widened.
    const std::uint64_t look = std::min(count, window_blocks_ + 2 * block_rows_.quotient(group_rows(last_group_)) + 4);
    std::size_t found = 0;
    for (std::uint64_t left = look; left > 0 && found < blocks.size(); --left) {
        item = item == 0 ? count - 1 : item - 1;
        const std::uint64_t block = item_block(item);
        const BlockUse use = block_use(block);
        if (use.first.holds(position) || use.second.holds(position)) blocks[found++] = block;
    }
    return found;
}

}  // namespace ff
