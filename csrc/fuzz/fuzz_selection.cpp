// Any bytes as a bitmap of rows that are there: a selection whose select and rank undo each other, in both kinds of
// loops, or Error(config); nothing is allocated for rows that the bytes do not have.
//
// Input: u64 universe (mod 2^50 where its lowest bit is set, else the bytes' own), then the bitmap.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "error.hpp"
#include "order/selection.hpp"

namespace {

using ff::SelectionLoops;

void check(const ff::Selection& selection, ff::Bytes bits) {
    if (!std::equal(bits.begin(), bits.end(), selection.bits().begin(), selection.bits().end())) std::abort();
    std::vector<std::int64_t> numbers(selection.size()), ranks;
    std::iota(numbers.begin(), numbers.end(), 0);
    std::vector<std::int64_t> rows = numbers, portable = numbers;
    selection.rows_at(rows);
    selection.rows_at(portable, SelectionLoops::portable);
    if (rows != portable || !std::is_sorted(rows.begin(), rows.end())) std::abort();
    std::vector<std::uint8_t> found(rows.size());
    selection.contains(rows, found);
    if (std::count(found.begin(), found.end(), 1) != static_cast<std::ptrdiff_t>(rows.size())) std::abort();
    ranks = rows;
    selection.ranks_of(ranks);
    selection.ranks_of(rows, SelectionLoops::portable);
    if (ranks != numbers || rows != numbers) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 8) return 0;
    const ff::Bytes input = ff::as_bytes(data, size), bits = input.subspan(8);
    const auto declared = ff::load_le<std::uint64_t>(input.data());
    const std::uint64_t own = bits.size() * 8 - std::min<std::uint64_t>(bits.size(), declared % 8);
    const std::uint64_t universe = (declared & 1) != 0 ? declared % (std::uint64_t{1} << 50) : own;
    try {
        check(ff::Selection::from_bits(bits, universe), bits);
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::config) std::abort();
    }
    return 0;
}
