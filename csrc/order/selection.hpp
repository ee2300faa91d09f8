// A subset of the rows 0 .. universe-1: a bitmap with rank and select.
//
// Immutable, so threads may share it. Memory: 64 bytes of bits and 8 of counts a block of 512 rows, and 8 bytes for
// every 8,192 rows selected: universe / 8 bytes * 1.14 at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bytes.hpp"
#include "order/selection_run.hpp"

namespace ff {

inline constexpr std::uint64_t kUniverseMax = std::uint64_t{1} << 48;

// Which loops: the fastest that this processor runs, or the portable ones (they give the same).
enum class SelectionLoops : bool { best, portable };

class Selection {
  public:
    // Bit r % 8 of byte r / 8 is row r. `bits` has ceil(universe / 8) bytes, and unused bits are zero; Error(config)
    // otherwise.
    static Selection from_bits(Bytes bits, std::uint64_t universe);
    // `rows`: strictly ascending, all in [0, universe); Error(config) otherwise.
    static Selection from_rows(std::span<const std::int64_t> rows, std::uint64_t universe);

    std::uint64_t size() const noexcept { return counts_.back(); }
    std::uint64_t universe() const noexcept { return universe_; }

    // values[i] = the row that is number values[i] of those selected. All are in [0, size()).
    void rows_at(std::span<std::int64_t> values, SelectionLoops loops = SelectionLoops::best) const noexcept;
    // values[i] = how many selected rows are below row values[i]. All are in [0, universe()].
    void ranks_of(std::span<std::int64_t> values, SelectionLoops loops = SelectionLoops::best) const noexcept;
    // found[i] = whether rows[i] is selected. All are in [0, universe()).
    void contains(std::span<const std::int64_t> rows, std::span<std::uint8_t> found) const noexcept;
    // The bitmap that from_bits() takes: ceil(universe / 8) bytes.
    Bytes bits() const noexcept;
    // Bytes of memory.
    std::size_t memory_bytes() const noexcept;

  private:
    explicit Selection(std::uint64_t universe);
    void count();
    SelectionArrays arrays() const noexcept { return {words_.data(), counts_.data(), hints_.data()}; }

    std::uint64_t universe_;
    std::vector<std::uint64_t> words_, counts_, hints_;
};

}  // namespace ff
