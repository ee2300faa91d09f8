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
enum class Level : std::uint64_t { full = 0, turn = 1, group = 2, block = 3, row = 4 };

std::uint64_t checked(const char* name, std::uint64_t value) {
    if (value < 1 || value > kRowCountMax)
        throw Error(Code::config, std::string(name) + " is " + std::to_string(value) + "; it must be from 1 to 2^48");
    return value;
}

std::uint64_t level_key(std::uint64_t seed, std::uint64_t epoch, Level level) noexcept {
    return derive(derive(derive(kOrderVersion, seed), epoch), static_cast<std::uint64_t>(level));
}

// A window that holds all whole blocks is one permutation of all rows: nothing would be gained by cutting it up.
Shuffle effective(Shuffle shuffle, std::uint64_t window_blocks, std::uint64_t block_count) noexcept {
    return shuffle == Shuffle::window && window_blocks >= block_count ? Shuffle::full : shuffle;
}

}  // namespace

// The permutations of one call in one direction, by level. The last group may be larger than the others.
struct EpochOrder::Tables {
    Tables(const EpochOrder& order, Direction direction, std::size_t value_count)
        : groups(order.group_size_.divisor(), direction, std::min(value_count, kGroupTables)),
          last_group(order.group_rows(order.last_group_), direction, 1), blocks(order.block_count_, direction, 1),
          rows(order.block_rows_.divisor(), direction, value_count) {}

    // Neighbouring positions share a group.
    static constexpr std::size_t kGroupTables = 64;

    Permuter groups, last_group, blocks, rows;
};

EpochOrder::EpochOrder(std::uint64_t rows, std::uint64_t seed, std::uint64_t epoch, Shuffle shuffle,
                       std::uint64_t window_blocks, std::uint64_t block_rows)
    : rows_(rows), block_rows_(checked("block_rows", block_rows)),
      block_count_(block_rows_.quotient(std::min(rows, kRowCountMax))),
      tail_rows_(rows - block_count_ * block_rows), window_blocks_(checked("window_blocks", window_blocks)),
      group_size_(std::min(window_blocks_, kGroupSlots) * block_rows),
      last_group_(std::max<std::uint64_t>(group_size_.quotient(std::min(rows, kRowCountMax)), 1) - 1),
      full_key_(derive(level_key(seed, epoch, Level::full), 0)), group_key_(level_key(seed, epoch, Level::group)),
      block_key_(derive(level_key(seed, epoch, Level::block), 0)), row_key_(level_key(seed, epoch, Level::row)),
      turn_(scale_to(derive(level_key(seed, epoch, Level::turn), 0), rows)) {
    if (rows > kRowCountMax)
        throw Error(Code::config, std::to_string(rows) + " rows; an order has at most 2^48");
    if (shuffle != Shuffle::none && shuffle != Shuffle::full && shuffle != Shuffle::window)
        throw Error(Code::config, "shuffle " + std::to_string(static_cast<int>(shuffle)) + " is not known");
    shuffle_ = effective(shuffle, window_blocks_, block_count_);
}

std::uint64_t EpochOrder::group_of(std::uint64_t position) const noexcept {
    return std::min(group_size_.quotient(position), last_group_);
}

std::uint64_t EpochOrder::group_rows(std::uint64_t group) const noexcept {
    return group < last_group_ ? group_size_.divisor() : rows_ - group * group_size_.divisor();
}

std::uint64_t EpochOrder::delay(std::uint64_t row_in_block) const noexcept {
    return block_rows_.quotient(row_in_block * window_blocks_);  // no overflow: r < K, W < B, so r * W < rows
}

std::uint64_t EpochOrder::row(std::uint64_t position) const noexcept {
    if (shuffle_ == Shuffle::none) return position;
    if (shuffle_ == Shuffle::full) return permute(rows_, full_key_, Direction::forward, position);
    const std::uint64_t group = group_of(position), start = group * group_size_.divisor();
    const std::uint64_t place =
        start + permute(group_rows(group), derive(group_key_, group), Direction::forward, position - start);
    const std::uint64_t turned = place - turn_ + (place >= turn_ ? 0 : rows_);
    if (turned < tail_rows_) return rows_ - tail_rows_ + turned;
    std::uint64_t r;
    const std::uint64_t slot = block_rows_.split(turned - tail_rows_, r);
    const std::uint64_t late = delay(r);
    const std::uint64_t begun = slot >= late ? slot - late : slot + block_count_ - late;
    const std::uint64_t block = permute(block_count_, block_key_, Direction::forward, begun);
    return block * block_rows_.divisor() +
           permute(block_rows_.divisor(), derive(row_key_, block), Direction::forward, r);
}

std::uint64_t EpochOrder::position(std::uint64_t row) const noexcept {
    if (shuffle_ == Shuffle::none) return row;
    if (shuffle_ == Shuffle::full) return permute(rows_, full_key_, Direction::inverse, row);
    std::uint64_t turned = row - (rows_ - tail_rows_);  // of a row of the tail
    if (row < rows_ - tail_rows_) {
        std::uint64_t x;
        const std::uint64_t block = block_rows_.split(row, x);
        const std::uint64_t r = permute(block_rows_.divisor(), derive(row_key_, block), Direction::inverse, x);
        std::uint64_t slot = permute(block_count_, block_key_, Direction::inverse, block) + delay(r);
        if (slot >= block_count_) slot -= block_count_;
        turned = tail_rows_ + slot * block_rows_.divisor() + r;
    }
    std::uint64_t place = turned + turn_;
    if (place >= rows_) place -= rows_;
    const std::uint64_t group = group_of(place), start = group * group_size_.divisor();
    return start + permute(group_rows(group), derive(group_key_, group), Direction::inverse, place - start);
}

// Permutes each value inside its group.
void EpochOrder::mix_groups(Tables& tables, std::span<std::uint64_t> values) const {
    const std::uint64_t last_start = last_group_ * group_size_.divisor();
    std::array<std::uint64_t, kRun> groups, keys, offsets;
    std::array<std::uint16_t, kRun> inside;
    // Twice over the values: those of the last group apart, whose size is another.
    const auto pass = [&](Permuter& permuter, bool last) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
            inside[count] = static_cast<std::uint16_t>(i);
            count += (values[i] >= last_start) == last;
        }
        if (count == 0) return;
        for (std::size_t at = 0; at < count; ++at) {
            std::uint64_t& value = values[inside[at]];
            groups[at] = last ? last_group_ : group_size_.quotient(value);
            keys[at] = derive(group_key_, groups[at]);
            offsets[at] = value - groups[at] * group_size_.divisor();
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
    const std::uint64_t tail_start = rows_ - tail_rows_;
    std::array<std::uint64_t, kRun> begun, blocks, in_block, keys;
    std::array<std::uint16_t, kRun> inside;
    std::size_t count = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint64_t turned = values[i] - turn_ + (values[i] >= turn_ ? 0 : rows_);
        const bool in_tail = turned < tail_rows_;
        const std::uint64_t slot = block_rows_.split(turned - (in_tail ? 0 : tail_rows_), in_block[count]);
        const std::uint64_t late = delay(in_block[count]);
        begun[count] = slot - late + (slot >= late ? 0 : block_count_);
        values[i] = tail_start + turned;  // which is right for the tail, and replaced for the others
        inside[count] = static_cast<std::uint16_t>(i);
        count += !in_tail;
    }
    if (count == 0) return;
    std::fill_n(keys.begin(), count, block_key_);
    std::copy_n(begun.begin(), count, blocks.begin());
    tables.blocks.apply({keys.data(), count}, kNoPlaces, {blocks.data(), count});
    for (std::size_t at = 0; at < count; ++at) keys[at] = derive(row_key_, blocks[at]);
    tables.rows.apply({keys.data(), count}, begun, {in_block.data(), count});
    for (std::size_t at = 0; at < count; ++at) values[inside[at]] = blocks[at] * block_rows_.divisor() + in_block[at];
}

void EpochOrder::window_positions(Tables& tables, std::span<std::uint64_t> values) const {
    const std::uint64_t tail_start = rows_ - tail_rows_;
    std::array<std::uint64_t, kRun> begun, in_block, row_keys, keys;
    std::array<std::uint16_t, kRun> inside;
    std::size_t count = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const bool in_tail = values[i] >= tail_start;
        begun[count] = block_rows_.split(values[i], in_block[count]);  // the block, until it is permuted
        row_keys[count] = derive(row_key_, begun[count]);
        values[i] -= in_tail ? tail_start : 0;
        inside[count] = static_cast<std::uint16_t>(i);
        count += !in_tail;
    }
    if (count > 0) {
        std::fill_n(keys.begin(), count, block_key_);
        tables.blocks.apply({keys.data(), count}, kNoPlaces, {begun.data(), count});
        tables.rows.apply({row_keys.data(), count}, begun, {in_block.data(), count});
    }
    for (std::size_t at = 0; at < count; ++at) {
        std::uint64_t slot = begun[at] + delay(in_block[at]);
        slot -= slot >= block_count_ ? block_count_ : 0;
        values[inside[at]] = tail_rows_ + slot * block_rows_.divisor() + in_block[at];
    }
    for (std::uint64_t& value : values) {
        value += turn_;
        value -= value >= rows_ ? rows_ : 0;
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
