// The keyed permutation of [0, m) and its inverse (docs/order.md, section 3): a shuffled table up to 256, above it a
// Feistel network with cycle walking. No state beyond a table of at most 256 bytes; integers only.
//
// Keys should come from derive(): keys that differ by little give Feistel networks that are related.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "order/feistel.hpp"

namespace ff {

inline constexpr std::uint64_t kTableSizeMax = 256;
inline constexpr std::uint64_t kPermutationSizeMax = std::uint64_t{1} << 48;

enum class Direction : bool { forward, inverse };

// The shuffled table of [0, table.size()) under `key`, or its inverse. 1 to 256 entries.
void fill_table(std::uint64_t key, Direction direction, std::span<std::uint8_t> table) noexcept;

// Permutations of [0, m), one a key, for 256 < m <= 2^48.
class Feistel {
  public:
    explicit Feistel(std::uint64_t m) noexcept;

    // One value.
    std::uint64_t apply(Direction direction, std::uint64_t key, std::uint64_t value) const noexcept;
    // values[i] = that of values[i] under keys[i]. Several times as fast.
    void apply(Direction direction, std::span<const std::uint64_t> keys,
               std::span<std::uint64_t> values) const noexcept;

  private:
    std::uint64_t m_;
    FeistelShape shape_;
};

// Applies permutations of one size to many values, each under its own key; keeps the last tables. Not thread-safe:
// one a call. Memory: at most about 600 KiB.
class Permuter {
  public:
    // `value_count`: how many values this one will see, about; it bounds the tables that are worth keeping.
    Permuter(std::uint64_t m, Direction direction, std::size_t value_count);

    // values[i] = the permutation of [0, m) under keys[i] of values[i]. Tables are kept by `places`, one for each key:
    // keys whose places are less than 2,048 apart do not push each other out.
    void apply(std::span<const std::uint64_t> keys, std::span<const std::uint64_t> places,
               std::span<std::uint64_t> values);

  private:
    // More than the blocks of a default window: consecutive positions come from 1,024 blocks.
    static constexpr std::size_t kTableCountMax = 2048;

    const std::uint8_t* table(std::uint64_t key, std::uint64_t place);

    std::uint64_t m_;
    Direction direction_;
    std::vector<std::uint64_t> table_keys_;  // direct-mapped by the place's low bits
    std::vector<std::uint8_t> table_used_;
    std::vector<std::uint8_t> tables_;
};

// values[i] = the permutation of [0, m) under `key` of values[i], all of which are in [0, m).
void permute_many(std::uint64_t m, std::uint64_t key, Direction direction, std::span<std::int64_t> values);

// One value. O(m) for m <= 256, else O(1) expected.
std::uint64_t permute(std::uint64_t m, std::uint64_t key, Direction direction, std::uint64_t value) noexcept;

}  // namespace ff
