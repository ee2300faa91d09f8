#include "order/permutation.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "cpu.hpp"
#include "order/key.hpp"

namespace ff {
namespace {

void feistel_forward(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = feistel::forward(shape, keys[i], values[i]);
}

void feistel_inverse(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = feistel::inverse(shape, keys[i], values[i]);
}

FeistelPass pass_for(Direction direction) noexcept {
    const bool is_forward = direction == Direction::forward;
#if defined(__x86_64__)
    if (has_avx2()) return is_forward ? feistel_forward_avx2 : feistel_inverse_avx2;
#endif
    return is_forward ? feistel_forward : feistel_inverse;
}

}  // namespace

void fill_table(std::uint64_t key, Direction direction, std::span<std::uint8_t> table) noexcept {
    std::array<std::uint8_t, kTableSizeMax> forward;
    for (std::size_t i = 0; i < table.size(); ++i) forward[i] = static_cast<std::uint8_t>(i);
    for (std::size_t i = table.size() - 1; i > 0; --i) std::swap(forward[i], forward[scale_to(derive(key, i), i + 1)]);
    if (direction == Direction::forward)
        std::copy_n(forward.begin(), table.size(), table.begin());
    else
        for (std::size_t i = 0; i < table.size(); ++i) table[forward[i]] = static_cast<std::uint8_t>(i);
}

Feistel::Feistel(std::uint64_t m) noexcept : m_(m) {
    const auto bits = static_cast<unsigned>(std::bit_width(m - 1));
    shape_ = {bits - bits / 2, bits / 2};
}

std::uint64_t Feistel::apply(Direction direction, std::uint64_t key, std::uint64_t value) const noexcept {
    // Cycle walking: the network permutes [0, 2^w) with 2^w < 2m; who starts inside [0, m) comes back to it.
    do
        value = direction == Direction::forward ? feistel::forward(shape_, key, value)
                                                : feistel::inverse(shape_, key, value);
    while (value >= m_);
    return value;
}

void Feistel::apply(Direction direction, std::span<const std::uint64_t> keys,
                    std::span<std::uint64_t> values) const noexcept {
    pass_for(direction)(shape_, keys.data(), values.data(), values.size());
    // The length of a walk is random, so a branch on it is mispredicted half of the time: all values take the first
    // step, then those that are outside are listed without a branch, and the list walks on.
    constexpr std::size_t kRun = 256;
    std::array<std::uint16_t, kRun> outside;
    for (std::size_t start = 0; start < values.size(); start += kRun) {
        const std::size_t count = std::min(kRun, values.size() - start);
        std::uint64_t* value = values.data() + start;
        std::size_t outside_count = 0;
        for (std::size_t i = 0; i < count; ++i) {
            outside[outside_count] = static_cast<std::uint16_t>(i);
            outside_count += value[i] >= m_;
        }
        while (outside_count > 0) {
            std::size_t still = 0;
            for (std::size_t at = 0; at < outside_count; ++at) {
                const std::size_t i = outside[at];
                const std::uint64_t key = keys[start + i];
                value[i] = direction == Direction::forward ? feistel::forward(shape_, key, value[i])
                                                           : feistel::inverse(shape_, key, value[i]);
                outside[still] = static_cast<std::uint16_t>(i);
                still += value[i] >= m_;
            }
            outside_count = still;
        }
    }
}

Permuter::Permuter(std::uint64_t m, Direction direction, std::size_t value_count) : m_(m), direction_(direction) {
    if (m > kTableSizeMax) return;
    const std::size_t table_count = std::bit_ceil(std::clamp<std::size_t>(value_count, 1, kTableCountMax));
    table_keys_.resize(table_count);
    table_used_.resize(table_count);
    tables_.resize(table_count * m);
}

const std::uint8_t* Permuter::table(std::uint64_t key, std::uint64_t place) {
    const std::size_t slot = place & (table_keys_.size() - 1);
    std::uint8_t* entries = tables_.data() + slot * m_;
    if (!table_used_[slot] || table_keys_[slot] != key) {
        table_used_[slot] = 1;
        table_keys_[slot] = key;
        fill_table(key, direction_, {entries, m_});
    }
    return entries;
}

void Permuter::apply(std::span<const std::uint64_t> keys, std::span<const std::uint64_t> places,
                     std::span<std::uint64_t> values) {
    if (m_ > kTableSizeMax) {
        Feistel(m_).apply(direction_, keys, values);
        return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = table(keys[i], places[i])[values[i]];
}

void permute_many(std::uint64_t m, std::uint64_t key, Direction direction, std::span<std::int64_t> values) {
    constexpr std::size_t kRun = 256;
    std::array<std::uint64_t, kRun> keys;
    keys.fill(key);
    const std::array<std::uint64_t, kRun> places{};
    Permuter permuter(m, direction, 1);
    // int64 and uint64 may alias, and values are not negative.
    std::span<std::uint64_t> left(reinterpret_cast<std::uint64_t*>(values.data()), values.size());
    while (!left.empty()) {
        const auto run = left.first(std::min(kRun, left.size()));
        permuter.apply({keys.data(), run.size()}, places, run);
        left = left.subspan(run.size());
    }
}

std::uint64_t permute(std::uint64_t m, std::uint64_t key, Direction direction, std::uint64_t value) noexcept {
    if (m > kTableSizeMax) {
        return Feistel(m).apply(direction, key, value);
    }
    std::array<std::uint8_t, kTableSizeMax> table;
    fill_table(key, direction, {table.data(), m});
    return table[value];
}

}  // namespace ff
