// Conversions where C leaves room or hardware differs.
#include <cmath>
#include <cstdint>
#include <limits>

#include <random>
#include <vector>

#include "check.hpp"
#include "cpu.hpp"
#include "feed/convert_loops.hpp"

using namespace ff;

namespace {

template <class To, class From>
To converted(ItemType from, ItemType to, From value) {
    To result{};
    converter(from, to)(reinterpret_cast<const std::byte*>(&value), reinterpret_cast<std::byte*>(&result), 1);
    return result;
}

}  // namespace

TEST(floats_become_integers_by_truncation_and_saturate) {
    CHECK_EQ((converted<std::int8_t>(ItemType::f32, ItemType::i8, -1.9f)), std::int8_t{-1});
    CHECK_EQ((converted<std::int8_t>(ItemType::f32, ItemType::i8, 300.0f)), std::int8_t{127});
    CHECK_EQ((converted<std::uint32_t>(ItemType::f64, ItemType::u32, -5.0)), 0u);
    CHECK_EQ((converted<std::int64_t>(ItemType::f64, ItemType::i64, 1e300)), std::numeric_limits<std::int64_t>::max());
    CHECK_EQ((converted<std::uint64_t>(ItemType::f32, ItemType::u64, 1e30f)),
             std::numeric_limits<std::uint64_t>::max());
    CHECK_EQ((converted<std::int32_t>(ItemType::f64, ItemType::i32, std::nan(""))), 0);
}

TEST(integers_wrap_and_nonzero_is_true) {
    CHECK_EQ((converted<std::uint8_t>(ItemType::i64, ItemType::u8, std::int64_t{-1})), std::uint8_t{255});
    CHECK_EQ((converted<std::uint8_t>(ItemType::f32, ItemType::boolean, std::nanf(""))), std::uint8_t{1});
    CHECK_EQ((converted<std::uint8_t>(ItemType::i64, ItemType::boolean, std::int64_t{256})), std::uint8_t{1});
}

TEST(every_half_survives_the_way_through_float_and_double) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const bool nan = (bits & 0x7C00u) == 0x7C00u && (bits & 0x3FFu) != 0;
        const auto half = static_cast<std::uint16_t>(bits);
        const float value = converted<float>(ItemType::f16, ItemType::f32, half);
        CHECK_EQ(std::isnan(value), nan);
        if (nan) continue;
        CHECK_EQ((converted<std::uint16_t>(ItemType::f32, ItemType::f16, value)), half);
        CHECK_EQ((converted<std::uint16_t>(ItemType::f64, ItemType::f16, static_cast<double>(value))), half);
    }
}

TEST(a_double_is_rounded_to_half_once) {
    // Just above the middle of 1 and the next half: by way of float's nearest it would fall on the middle and go to
    // even.
    CHECK_EQ((converted<std::uint16_t>(ItemType::f64, ItemType::f16, 1.0 + 0x1p-11 + 0x1p-40)), std::uint16_t{0x3C01});
    CHECK_EQ((converted<std::uint16_t>(ItemType::f64, ItemType::f16, 1.0 + 0x1p-11)), std::uint16_t{0x3C00});
    CHECK_EQ((converted<std::uint16_t>(ItemType::f64, ItemType::f16, 65520.0)), std::uint16_t{0x7C00});
    CHECK_EQ((converted<std::uint16_t>(ItemType::f64, ItemType::f16, 65519.999)), std::uint16_t{0x7BFF});
}

#if defined(__x86_64__)
TEST(converters_for_avx2_give_the_bytes_of_the_portable_ones) {
    if (!has_avx2()) return;
    constexpr std::size_t kCountMax = 77;  // whole vectors and every kind of rest
    std::mt19937_64 random(7);
    std::vector<std::byte> from(kCountMax * 8 + 1);
    for (std::byte& byte : from) byte = static_cast<std::byte>(random());
    for (std::size_t source = 0; source < kItemTypeCount; ++source)
        for (std::size_t target = 0; target < kItemTypeCount; ++target)
            for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{16}, kCountMax}) {
                std::vector<std::byte> expected(kCountMax * 8, std::byte{9}), found = expected;
                portable_converters()[source][target](from.data() + 1, expected.data(), count);
                avx2_converters()[source][target](from.data() + 1, found.data(), count);
                CHECK(expected == found);
            }
}
#endif

TEST_MAIN
