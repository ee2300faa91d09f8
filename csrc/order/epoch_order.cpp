// The closed forms of docs/order.md, section 4, for one value and for many.
#include "order/epoch_order.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "error.hpp"
#include "order/key.hpp"

namespace ff {
namespace {

// Slots a group. A batch then draws from eight slots' blocks, and reading ahead costs eight blocks beyond the window of
// 1,024: under 1 %.
constexpr std::uint64_t kGroupSlots = 8;
// Values that walk through the levels together: what they need (16 KiB) stays in the first-level cache.
constexpr std::size_t kRun = 256;

// For the permuter of one key only.
constexpr std::array<std::uint64_t, kRun> kNoPlaces{};

// What a key is for. The numbers are part of the order's version.
enum class Level : std::uint64_t { full = 0, tail = 1, group = 2, block = 3, row = 4 };

std::uint64_t checked(const char* name, std::uint64_t value) {
    if (value < 1 || value > kRowCountMax)
        throw Error(Code::config, std::string(name) + " is " + std::to_string(value) + "; it must be from 1 to 2^48");
    return value;
}

std::uint64_t level_key(std::uint64_t seed, std::uint64_t epoch, Level level) noexcept {
    return derive(derive(derive(kOrderVersion, seed), epoch), static_cast<std::uint64_t>(level));
}

std::uint64_t group_slots(std::uint64_t window_blocks) noexcept {
    return std::clamp<std::uint64_t>(window_blocks, 1, kGroupSlots);
}

}  // namespace

// The permutations of one call in one direction, by level. The last group may be shorter than the others.
struct EpochOrder::Tables {
    Tables(const EpochOrder& order, Direction direction, std::size_t value_count)
        : groups(std::min(order.group_size_.divisor(), order.rows_), direction, std::min(value_count, kGroupTables)),
          last_group(std::max<std::uint64_t>(order.rows_ % order.group_size_.divisor(), 1), direction, 1),
          blocks(std::max<std::uint64_t>(order.block_count_, 1), direction, 1),
          rows(order.block_rows_.divisor(), direction, value_count) {}

    // Neighbouring positions share a group.
    static constexpr std::size_t kGroupTables = 64;

    Permuter groups, last_group, blocks, rows;
};

EpochOrder::EpochOrder(std::uint64_t rows, std::uint64_t seed, std::uint64_t epoch, Shuffle shuffle,
                       std::uint64_t window_blocks, std::uint64_t block_rows)
    : rows_(rows), shuffle_(shuffle), block_rows_(checked("block_rows", block_rows)),
      block_count_(block_rows_.quotient(std::min(rows, kRowCountMax))), blocks_end_(block_count_ * block_rows),
      window_blocks_(std::min(checked("window_blocks", window_blocks), block_count_)),
      group_size_(group_slots(window_blocks_) * block_rows),
      full_key_(derive(level_key(seed, epoch, Level::full), 0)), group_key_(level_key(seed, epoch, Level::group)),
      block_key_(derive(level_key(seed, epoch, Level::block), 0)), row_key_(level_key(seed, epoch, Level::row)),
      tail_place_(scale_to(derive(level_key(seed, epoch, Level::tail), 0), blocks_end_ + 1)) {
    if (rows > kRowCountMax)
        throw Error(Code::config, std::to_string(rows) + " rows; an order has at most 2^48");
    if (shuffle != Shuffle::none && shuffle != Shuffle::full && shuffle != Shuffle::window)
        throw Error(Code::config, "shuffle " + std::to_string(static_cast<int>(shuffle)) + " is not known");
}

std::uint64_t EpochOrder::group_rows(std::uint64_t group) const noexcept {
    return std::min(group_size_.divisor(), rows_ - group * group_size_.divisor());
}

std::uint64_t EpochOrder::delay(std::uint64_t row_in_block) const noexcept {
    return block_rows_.quotient(row_in_block * window_blocks_);  // no overflow: r < K, W <= B, so r * W < rows
}

std::uint64_t EpochOrder::row(std::uint64_t position) const noexcept {
    if (shuffle_ == Shuffle::none) return position;
    if (shuffle_ == Shuffle::full) return permute(rows_, full_key_, Direction::forward, position);
    std::uint64_t offset;
    const std::uint64_t group = group_size_.split(position, offset);
    std::uint64_t place = position - offset +
                          permute(group_rows(group), derive(group_key_, group), Direction::forward, offset);
    const std::uint64_t tail_rows = rows_ - blocks_end_;
    if (place >= tail_place_) {
        if (place - tail_place_ < tail_rows) return blocks_end_ + (place - tail_place_);
        place -= tail_rows;
    }
    std::uint64_t r;
    const std::uint64_t slot = block_rows_.split(place, r);
    const std::uint64_t late = delay(r);
    const std::uint64_t turn = slot >= late ? slot - late : slot + block_count_ - late;
    const std::uint64_t block = permute(block_count_, block_key_, Direction::forward, turn);
    return block * block_rows_.divisor() +
           permute(block_rows_.divisor(), derive(row_key_, block), Direction::forward, r);
}

std::uint64_t EpochOrder::position(std::uint64_t row) const noexcept {
    if (shuffle_ == Shuffle::none) return row;
    if (shuffle_ == Shuffle::full) return permute(rows_, full_key_, Direction::inverse, row);
    std::uint64_t place;
    if (row >= blocks_end_) {
        place = tail_place_ + (row - blocks_end_);
    } else {
        std::uint64_t x;
        const std::uint64_t block = block_rows_.split(row, x);
        const std::uint64_t r = permute(block_rows_.divisor(), derive(row_key_, block), Direction::inverse, x);
        std::uint64_t slot = permute(block_count_, block_key_, Direction::inverse, block) + delay(r);
        if (slot >= block_count_) slot -= block_count_;
        place = slot * block_rows_.divisor() + r;
        if (place >= tail_place_) place += rows_ - blocks_end_;
    }
    std::uint64_t offset;
    const std::uint64_t group = group_size_.split(place, offset);
    return place - offset + permute(group_rows(group), derive(group_key_, group), Direction::inverse, offset);
}

// Permutes each value inside its group.
void EpochOrder::mix_groups(Tables& tables, std::span<std::uint64_t> values) const {
    const std::uint64_t last_start = rows_ - rows_ % group_size_.divisor();
    std::array<std::uint64_t, kRun> groups, keys, offsets;
    std::array<std::uint16_t, kRun> inside;
    // Twice over the values: those of whole groups, then those of the last one.
    const auto pass = [&](Permuter& permuter, bool last) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            inside[count] = static_cast<std::uint16_t>(i);
            count += (values[i] >= last_start) == last;
        }
        if (count == 0) return;
        for (std::size_t at = 0; at < count; ++at) {
            std::uint64_t& value = values[inside[at]];
            groups[at] = group_size_.split(value, offsets[at]);
            keys[at] = derive(group_key_, groups[at]);
            value -= offsets[at];
        }
        permuter.apply({keys.data(), count}, groups, {offsets.data(), count});
        for (std::size_t at = 0; at < count; ++at) values[inside[at]] += offsets[at];
    };
    pass(tables.groups, false);
    pass(tables.last_group, true);
}

void EpochOrder::window_rows(Tables& tables, std::span<std::uint64_t> values) const {
    mix_groups(tables, values);
    const std::uint64_t tail_rows = rows_ - blocks_end_;
    std::array<std::uint64_t, kRun> turns, blocks, in_block, keys;
    std::array<std::uint16_t, kRun> inside;
    std::size_t count = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint64_t place = values[i];
        const bool in_tail = place - tail_place_ < tail_rows;  // below tail_place_ the difference wraps and is huge
        place -= place >= tail_place_ ? tail_rows : 0;
        const std::uint64_t slot = block_rows_.split(place, in_block[count]);
        const std::uint64_t late = delay(in_block[count]);
        turns[count] = slot - late + (slot >= late ? 0 : block_count_);
        values[i] += in_tail ? blocks_end_ - tail_place_ : 0;
        inside[count] = static_cast<std::uint16_t>(i);
        count += !in_tail;
    }
    if (count == 0) return;
    std::fill_n(keys.begin(), count, block_key_);
    std::copy_n(turns.begin(), count, blocks.begin());
    tables.blocks.apply({keys.data(), count}, kNoPlaces, {blocks.data(), count});
    for (std::size_t at = 0; at < count; ++at) keys[at] = derive(row_key_, blocks[at]);
    tables.rows.apply({keys.data(), count}, turns, {in_block.data(), count});
    for (std::size_t at = 0; at < count; ++at) values[inside[at]] = blocks[at] * block_rows_.divisor() + in_block[at];
}

void EpochOrder::window_positions(Tables& tables, std::span<std::uint64_t> values) const {
    const std::uint64_t tail_rows = rows_ - blocks_end_;
    std::array<std::uint64_t, kRun> turns, in_block, row_keys, keys;
    std::array<std::uint16_t, kRun> inside;
    std::size_t count = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const bool in_tail = values[i] >= blocks_end_;
        turns[count] = block_rows_.split(values[i], in_block[count]);  // the block, until it is permuted
        row_keys[count] = derive(row_key_, turns[count]);
        values[i] += in_tail ? tail_place_ - blocks_end_ : 0;
        inside[count] = static_cast<std::uint16_t>(i);
        count += !in_tail;
    }
    if (count > 0) {
        std::fill_n(keys.begin(), count, block_key_);
        tables.blocks.apply({keys.data(), count}, kNoPlaces, {turns.data(), count});
        tables.rows.apply({row_keys.data(), count}, turns, {in_block.data(), count});
    }
    for (std::size_t at = 0; at < count; ++at) {
        std::uint64_t slot = turns[at] + delay(in_block[at]);
        slot -= slot >= block_count_ ? block_count_ : 0;
        const std::uint64_t place = slot * block_rows_.divisor() + in_block[at];
        values[inside[at]] = place + (place >= tail_place_ ? tail_rows : 0);
    }
    mix_groups(tables, values);
}

void EpochOrder::convert(Direction direction, std::span<std::int64_t> values) const {
    if (shuffle_ == Shuffle::none || values.empty()) return;
    if (shuffle_ == Shuffle::full) {
        permute_many(rows_, full_key_, direction, values);
        return;
    }
    Tables tables(*this, direction, values.size());
    // int64 and uint64 may alias, and values are not negative.
    std::span<std::uint64_t> left(reinterpret_cast<std::uint64_t*>(values.data()), values.size());
    while (!left.empty()) {
        const auto run = left.first(std::min(kRun, left.size()));
        if (direction == Direction::forward)
            window_rows(tables, run);
        else
            window_positions(tables, run);
        left = left.subspan(run.size());
    }
}

void EpochOrder::rows_range(std::uint64_t start, std::span<std::int64_t> out) const {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int64_t>(start + i);
    convert(Direction::forward, out);
}

void EpochOrder::rows_at(std::span<std::int64_t> values) const { convert(Direction::forward, values); }

void EpochOrder::positions_of(std::span<std::int64_t> values) const { convert(Direction::inverse, values); }

}  // namespace ff
