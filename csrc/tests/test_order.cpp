// The order: bijections both ways, many at once as one by one. The formula itself is held by golden vectors and by an
// oracle in Python.
#include "order/epoch_order.hpp"

#include <array>

#include "order/divide.hpp"
#include "order/key.hpp"
#include "tests/check.hpp"

using namespace ff;

TEST(division_by_a_reciprocal_is_division) {
    std::uint64_t draw = 0;
    for (int i = 0; i < 200000; ++i) {
        const std::uint64_t shift = derive(2, draw++) % 63 + 1;
        const std::uint64_t divisor = (derive(1, draw++) >> shift) | 1;
        const std::uint64_t value_shift = derive(4, draw++) % 62 + 1;
        std::uint64_t value = derive(3, draw++) >> value_shift;
        if (i % 3 == 0) value = value / divisor * divisor;
        if (i % 3 == 1 && value >= divisor) value = value / divisor * divisor - 1;
        std::uint64_t remainder;
        CHECK_EQ(Divider(divisor).split(value, remainder), value / divisor);
        CHECK_EQ(remainder, value % divisor);
    }
}

TEST(tables_are_shuffled_and_inverted) {
    for (std::size_t m = 1; m <= kTableSizeMax; ++m) {
        std::array<std::uint8_t, kTableSizeMax> there, back;
        fill_table(derive(5, m), Direction::forward, {there.data(), m});
        fill_table(derive(5, m), Direction::inverse, {back.data(), m});
        for (std::size_t i = 0; i < m; ++i) CHECK_EQ(back[there[i]], i);
    }
}

TEST(networks_are_bijections_also_where_they_walk) {
    for (const std::uint64_t m : {257u, 511u, 512u, 513u, 5000u, 65537u}) {
        const Feistel network(m);
        std::vector<bool> seen(m);
        for (std::uint64_t i = 0; i < m; ++i) {
            const std::uint64_t image = network.apply(Direction::forward, derive(6, m), i);
            CHECK(image < m && !seen[image]);
            seen[image] = true;
            CHECK_EQ(network.apply(Direction::inverse, derive(6, m), image), i);
        }
    }
}

TEST(orders_of_every_shape_are_bijections_and_the_many_are_the_one) {
    for (std::uint64_t i = 0; i < 300; ++i) {
        const std::uint64_t n = derive(7, i) % (i % 10 == 0 ? 20000 : 2000);
        const std::uint64_t block_rows = 1 + derive(8, i) % (i % 2 == 0 ? 40 : 600), window = 1 + derive(9, i) % 12;
        const EpochOrder order(n, i, i % 3, static_cast<Shuffle>(i % 3), window, block_rows);
        std::vector<std::int64_t> rows(n);
        order.rows_range(0, rows);
        std::vector<bool> seen(n);
        for (std::uint64_t p = 0; p < n; ++p) {
            const auto row = static_cast<std::uint64_t>(rows[p]);
            CHECK(row < n && !seen[row]);
            seen[row] = true;
            if (p % 13 == 0) CHECK_EQ(order.row(p), row);
            if (p % 13 == 0) CHECK_EQ(order.position(row), p);
        }
        std::vector<std::int64_t> positions = rows;
        order.positions_of(positions);
        for (std::uint64_t p = 0; p < n; ++p) CHECK_EQ(static_cast<std::uint64_t>(positions[p]), p);
    }
}

TEST(the_largest_order_answers) {
    const EpochOrder order(kRowCountMax, 1, 1, Shuffle::window, 1024, 4096);
    for (const std::uint64_t p : {std::uint64_t{0}, kRowCountMax / 2, kRowCountMax - 1}) {
        CHECK(order.row(p) < kRowCountMax);
        CHECK_EQ(order.position(order.row(p)), p);
    }
}

TEST(shapes_outside_the_limits_are_refused) {
    CHECK_THROWS(Code::config, "an order has at most 2^48", EpochOrder(kRowCountMax + 1, 0, 0, Shuffle::full, 1, 1));
    CHECK_THROWS(Code::config, "block_rows is 0", EpochOrder(9, 0, 0, Shuffle::window, 1, 0));
    CHECK_THROWS(Code::config, "window_blocks is 0", EpochOrder(9, 0, 0, Shuffle::window, 0, 1));
}

TEST_MAIN
