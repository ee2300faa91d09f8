// The resampling loops of each instruction set give the same bits, over all sizes around their block lengths; every
// weight table sums to one; half floats round as IEEE says.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "codec/pixel_store.hpp"
#include "codec/resample.hpp"
#include "tests/check.hpp"

namespace {

void require(bool holds, const char* what, long a, long b) {
    if (holds) return;
    ff::test::fail(__FILE__, __LINE__, std::string(what) + " (" + std::to_string(a) + ", " + std::to_string(b) + ")");
}

// Bytes without pattern, the same in every run; every fifth block of 16 is black or white, where rounding shows.
std::vector<std::uint8_t> noise(std::size_t count, std::uint32_t seed) {
    std::vector<std::uint8_t> bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = i / 16 % 5 == 0 ? (i / 80 % 2 ? 255 : 0) : static_cast<std::uint8_t>(seed >> 24);
    }
    return bytes;
}

ff::AxisTable table_of(std::uint32_t source, std::uint32_t outputs, std::uint32_t reduction, bool reversed) {
    ff::AxisPlan plan;
    plan.source_size = source + 5;
    plan.box_begin = 3;
    plan.box_size = source;
    plan.full_size = plan.window_size = plan.out_size = outputs;
    plan.reversed = reversed;
    ff::AxisTable table;
    table.build(plan, reduction, true);
    return table;
}

void check_table(const ff::AxisTable& table, long source, long outputs) {
    for (std::uint32_t i = 0; i < table.outputs && !table.identity; ++i) {
        int sum = 0;
        for (std::uint32_t t = 0; t < table.taps; ++t) {
            const int weight = table.weights[std::size_t{i} * table.taps + t];
            require(weight >= 0, "a weight is negative", source, outputs);
            require(weight == 0 || t < table.used[i], "a weight beyond those in use", source, outputs);
            sum += weight;
        }
        require(sum == 1 << ff::kWeightBits, "weights do not sum to one", source, outputs);
        require(table.starts[i] + table.used[i] <= table.count, "a window passes the needed pixels", source, outputs);
    }
}

void compare_kernels(const ff::ResampleKernels& fast, const ff::AxisTable& table, long source, long outputs) {
    const ff::ResampleKernels& plain = ff::portable_kernels();
    const auto row = noise(table.count * ff::kPixelBytes + ff::kRowSlackBytes, static_cast<std::uint32_t>(source));
    const std::size_t bytes = table.outputs * ff::kPixelBytes;
    std::vector<std::uint8_t> expected(bytes + ff::kRowSlackBytes), got(bytes + ff::kRowSlackBytes);
    plain.horizontal(row.data(), table.view(), expected.data());
    fast.horizontal(row.data(), table.view(), got.data());
    require(std::memcmp(expected.data(), got.data(), bytes) == 0, "horizontal passes differ", source, outputs);

    // The same weights down a column: the rows are shifted views of one noise.
    const auto rows = noise(table.taps + bytes + ff::kRowSlackBytes, 7);
    std::vector<const std::uint8_t*> tap_rows;
    for (std::uint32_t t = 0; t < table.taps; ++t) tap_rows.push_back(rows.data() + t);
    plain.vertical(tap_rows.data(), table.weights.data(), table.taps, bytes, expected.data());
    fast.vertical(tap_rows.data(), table.weights.data(), table.taps, bytes, got.data());
    require(std::memcmp(expected.data(), got.data(), bytes) == 0, "vertical passes differ", source, outputs);

    std::vector<std::uint8_t> expected_planes(3 * table.outputs), got_planes(3 * table.outputs);
    const auto split = [&](const ff::ResampleKernels& kernels, std::vector<std::uint8_t>& planes) {
        kernels.planes(expected.data(), table.outputs, planes.data(), planes.data() + table.outputs,
                       planes.data() + 2 * table.outputs);
    };
    split(plain, expected_planes);
    split(fast, got_planes);
    require(expected_planes == got_planes, "planes differ", source, outputs);
    plain.packed(expected.data(), table.outputs, expected_planes.data());
    fast.packed(expected.data(), table.outputs, got_planes.data());
    require(expected_planes == got_planes, "packed pixels differ", source, outputs);
}

}  // namespace

TEST(half_floats_round_to_even_and_have_their_limits) {
    using ff::float_to_half;
    require(float_to_half(1.0f) == 0x3C00, "half(1)", float_to_half(1.0f), 0);
    require(float_to_half(-2.5f) == 0xC100, "half(-2.5)", float_to_half(-2.5f), 0);
    require(float_to_half(65504.0f) == 0x7BFF, "half(65504)", float_to_half(65504.0f), 0);
    require(float_to_half(65520.0f) == 0x7C00, "half(65520) is infinite", float_to_half(65520.0f), 0);
    require(float_to_half(1e9f) == 0x7C00, "half(1e9) is infinite", float_to_half(1e9f), 0);
    require(float_to_half(0x1p-24f) == 1, "half(2^-24) is the least", float_to_half(0x1p-24f), 0);
    require(float_to_half(0x1p-25f) == 0, "half(2^-25) rounds to even", float_to_half(0x1p-25f), 0);
    require(float_to_half(0x1.8p-24f) == 2, "half(1.5 * 2^-24) rounds to even", float_to_half(0x1.8p-24f), 0);
    require(float_to_half(1.0f + 0x1p-11f) == 0x3C00, "half rounds to even", 0, 0);
    require(float_to_half(std::numeric_limits<float>::quiet_NaN()) == 0x7E00, "half(NaN)", 0, 0);
}

TEST(every_instruction_set_gives_the_same_bits_and_every_table_sums_to_one) {
    const ff::ResampleKernels& fast = ff::best_kernels();
    for (const std::uint32_t source : {1u, 2u, 3u, 7u, 31u, 64u, 100u, 333u, 5000u}) {
        for (const std::uint32_t outputs : {1u, 2u, 3u, 7u, 8u, 9u, 31u, 64u, 65u, 224u, 999u}) {
            for (const std::uint32_t reduction : {1u, 2u, 8u}) {
                for (const bool reversed : {false, true}) {
                    const ff::AxisTable table = table_of(source, outputs, reduction, reversed);
                    check_table(table, source, outputs);
                    if (!table.identity) compare_kernels(fast, table, source, outputs);
                }
            }
        }
    }
}

TEST_MAIN
