// Selections: rank and select against a list, on both kinds of loops; what is refused.
#include "order/selection.hpp"

#include "order/key.hpp"
#include "tests/check.hpp"

using namespace ff;

namespace {

// About one row in `spacing`, but none at all in long stretches if `clustered`.
std::vector<std::int64_t> some_rows(std::uint64_t universe, std::uint64_t spacing, bool clustered, std::uint64_t key) {
    std::vector<std::int64_t> rows;
    for (std::uint64_t row = 0; row < universe; ++row) {
        if (clustered && (row / 20000) % 3 != 0) continue;
        if (scale_to(derive(key, row), spacing) == 0) rows.push_back(static_cast<std::int64_t>(row));
    }
    return rows;
}

void check_against(const std::vector<std::int64_t>& rows, std::uint64_t universe) {
    const Selection selection = Selection::from_rows(rows, universe);
    CHECK_EQ(selection.size(), rows.size());
    for (const auto loops : {SelectionLoops::best, SelectionLoops::portable}) {
        std::vector<std::int64_t> values(rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) values[i] = static_cast<std::int64_t>(i);
        selection.rows_at(values, loops);
        CHECK(values == rows);
        std::vector<std::int64_t> ranks(universe + 1);
        for (std::uint64_t row = 0; row <= universe; ++row) ranks[row] = static_cast<std::int64_t>(row);
        selection.ranks_of(ranks, loops);
        std::size_t next = 0;
        for (std::uint64_t row = 0; row <= universe; ++row) {
            CHECK_EQ(ranks[row], static_cast<std::int64_t>(next));
            if (next < rows.size() && rows[next] == static_cast<std::int64_t>(row)) ++next;
        }
    }
    std::vector<std::uint8_t> found(rows.size());
    selection.contains(rows, found);
    for (const std::uint8_t each : found) CHECK_EQ(each, 1);
    const Selection again = Selection::from_bits(selection.bits(), universe);
    CHECK_EQ(again.size(), rows.size());
    CHECK(std::equal(again.bits().begin(), again.bits().end(), selection.bits().begin(), selection.bits().end()));
}

}  // namespace

TEST(rank_and_select_agree_with_a_list_of_any_density) {
    std::uint64_t key = 1;
    for (const std::uint64_t universe : {0u, 1u, 7u, 8u, 63u, 64u, 65u, 511u, 512u, 513u, 5000u, 8192u, 200000u})
        for (const std::uint64_t spacing : {1u, 2u, 3u, 50u, 5000u})
            for (const bool clustered : {false, true})
                check_against(some_rows(universe, spacing, clustered, key++), universe);
}

TEST(memory_is_a_seventh_more_than_the_bits_at_most) {
    const Selection selection = Selection::from_rows(some_rows(1000000, 1, false, 9), 1000000);
    CHECK(selection.memory_bytes() * 100 <= selection.bits().size() * 115);
}

TEST(what_is_no_selection_is_refused) {
    const std::byte one[1] = {std::byte{0x10}};
    CHECK_THROWS(Code::config, "bits beyond", Selection::from_bits(one, 4));
    CHECK_THROWS(Code::config, "has 2 bytes, not 1", Selection::from_bits(one, 9));
    CHECK_THROWS(Code::config, "at most 2^48", Selection::from_bits({}, kUniverseMax + 1));
    const std::int64_t same[2] = {3, 3}, beyond[1] = {9}, negative[1] = {-1};
    CHECK_THROWS(Code::config, "row 3 after row 3", Selection::from_rows(same, 9));
    CHECK_THROWS(Code::config, "row 9 after row -1 of 9", Selection::from_rows(beyond, 9));
    CHECK_THROWS(Code::config, "ascend", Selection::from_rows(negative, 9));
}

TEST_MAIN
