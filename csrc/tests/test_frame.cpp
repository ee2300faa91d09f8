// Frames: what is written is read, and every kind of damage is said.
#include "format/frame.hpp"

#include <array>

#include "tests/check.hpp"
#include "tests/crc32c_vectors.hpp"

using namespace ff;

namespace {

const std::vector<std::byte> kUid = test::pattern(16);

// A nullable u32 scalar, a text, a nullable zstd bytes column: head 4 + 2 * 4 + 1 + 4 + 4 = 21 bytes.
FrameLayout three_columns() {
    return FrameLayout(
        {{.name = "n", .kind = Kind::scalar, .nullable = true, .item_size = 4, .fixed_size = 4},
         {.name = "text", .kind = Kind::text},
         {.name = "blob", .kind = Kind::bytes, .codec = Codec::zstd, .nullable = true, .fixed_size = 4}});
}

// Two rows: (7, "hello", null) and (null, "", "xyz" stored raw).
struct Written {
    std::vector<std::byte> bytes;
    std::array<std::uint64_t, 2> sizes{};

    explicit Written(const FrameLayout& layout, std::uint64_t first_row = 0) {
        const std::uint32_t numbers[] = {7, 99}, raw_lengths[] = {50, 3};
        const std::int64_t text_offsets[] = {0, 5, 5}, blob_offsets[] = {0, 2, 5};
        const std::uint8_t number_nulls[] = {0, 1}, blob_nulls[] = {1, 0};
        const auto at = [](const auto* p) { return reinterpret_cast<const std::byte*>(p); };
        const ColumnData data[] = {{.fixed = at(numbers), .nulls = number_nulls},
                                   {.values = at("hello"), .value_offsets = text_offsets},
                                   {.fixed = at(raw_lengths), .values = at("..xyz"), .value_offsets = blob_offsets,
                                    .nulls = blob_nulls}};
        bytes.resize(measure_frames(layout, 2, data, sizes));
        std::array<std::uint32_t, 2> body_crcs{};
        write_frames(layout, 2, data, sizes, bytes, body_crcs);
        const FrameSeed seed(kUid);
        for (std::size_t i = 0; i < 2; ++i)
            store_le(bytes.data() + (i == 0 ? 0 : sizes[0]), seal_crc(seed, first_row + i, body_crcs[i], sizes[i]));
    }
    Bytes frame(std::size_t i) const { return Bytes(bytes).subspan(i == 0 ? 0 : sizes[0], sizes[i]); }
};

bool is_text(Bytes bytes, std::string_view text) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == text;
}

// A copy of row 0 with byte `at` set, and the crc made right again.
std::vector<std::byte> forged(const FrameLayout& layout, std::size_t at, unsigned value) {
    const Written written(layout);
    std::vector<std::byte> frame(written.frame(0).begin(), written.frame(0).end());
    frame[at] = static_cast<std::byte>(value);
    store_le(frame.data(), crc32c(FrameSeed(kUid).of(0), Bytes(frame).subspan(4)));
    return frame;
}

}  // namespace

TEST(a_frame_gives_back_what_was_written) {
    const FrameLayout layout = three_columns();
    CHECK_EQ(layout.head_size(), 21u);
    CHECK_EQ(layout.stride(), 0u);
    const Written written(layout, 5);
    CHECK_EQ(written.sizes[0], 32u);
    CHECK_EQ(written.sizes[1], 24u);
    const FrameSeed seed(kUid);
    check_frame(layout, seed, 5, written.frame(0));
    check_frame(layout, seed, 6, written.frame(1));
    CHECK_EQ(load_le<std::uint32_t>(value_at(layout, written.frame(0), 0).fixed.data()), 7u);
    CHECK(is_text(value_at(layout, written.frame(0), 1).variable, "hello"));
    CHECK(value_at(layout, written.frame(0), 2).null);
    CHECK_EQ(load_le<std::uint32_t>(value_at(layout, written.frame(0), 2).fixed.data()), 0u);
    std::array<Value, 3> values;
    values_of(layout, written.frame(1), values);
    CHECK(values[0].null);
    CHECK_EQ(values[1].variable.size(), 0u);
    CHECK(is_text(values[2].variable, "xyz"));
    CHECK_EQ(load_le<std::uint32_t>(values[2].fixed.data()), 3u);
}

TEST(the_right_bytes_of_another_row_or_shard_are_corrupt) {
    const FrameLayout layout = three_columns();
    const Written written(layout);
    CHECK_THROWS(Code::corrupt, "another row", check_frame(layout, FrameSeed(kUid), 1, written.frame(0)));
    const auto other = test::pattern(17);
    CHECK_THROWS(Code::corrupt, "crc32c",
                 check_frame(layout, FrameSeed(Bytes(other).subspan(1)), 0, written.frame(0)));
}

TEST(every_flipped_bit_is_found) {
    const FrameLayout layout = three_columns();
    const Written written(layout);
    for (std::size_t bit = 0; bit < 8 * written.sizes[0]; ++bit) {
        std::vector<std::byte> frame(written.frame(0).begin(), written.frame(0).end());
        frame[bit / 8] ^= std::byte{1} << (bit % 8);
        CHECK_THROWS(Code::corrupt, "crc32c", check_frame(layout, FrameSeed(kUid), 0, frame));
    }
}

TEST(a_frame_under_a_right_crc_is_still_checked) {
    const FrameLayout layout = three_columns();
    const FrameSeed seed(kUid);
    CHECK_THROWS(Code::corrupt, "add up to", check_frame(layout, seed, 0, forged(layout, 4, 200)));
    CHECK_THROWS(Code::corrupt, "add up to", check_frame(layout, seed, 0, forged(layout, 4, 2)));
    CHECK_THROWS(Code::corrupt, "stored length 0", check_frame(layout, seed, 0, forged(layout, 7, 0x80)));
    CHECK_THROWS(Code::corrupt, "\"blob\" is null", check_frame(layout, seed, 0, forged(layout, 8, 1)));
    CHECK_THROWS(Code::corrupt, "\"n\" is null", check_frame(layout, seed, 0, forged(layout, 12, 3)));
    CHECK_THROWS(Code::corrupt, "unused null bits", check_frame(layout, seed, 0, forged(layout, 12, 6)));
    CHECK_THROWS(Code::corrupt, "padding", check_frame(layout, seed, 0, forged(layout, 31, 1)));
    CHECK_THROWS(Code::corrupt, "at least 21", check_frame(layout, seed, 0, Bytes(kUid)));
    CHECK_THROWS(Code::corrupt, "multiple of 8", check_frame(layout, seed, 0, test::pattern(30)));
}

TEST(fixed_columns_have_a_stride) {
    const FrameLayout layout({{.name = "a", .kind = Kind::tensor, .item_size = 2, .fixed_size = 6},
                              {.name = "b", .kind = Kind::scalar, .item_size = 8, .fixed_size = 8}});
    CHECK_EQ(layout.head_size(), 18u);
    CHECK_EQ(layout.stride(), 24u);
    CHECK_EQ(FrameLayout({}).stride(), 8u);
}

TEST(columns_that_contradict_themselves_are_named) {
    CHECK_THROWS(Code::config, "1 to 255 bytes", FrameLayout({{.name = ""}}));
    CHECK_THROWS(Code::config, "\"a\": a fixed part of 4",
                 FrameLayout({{.name = "a", .kind = Kind::scalar, .item_size = 8, .fixed_size = 4}}));
    CHECK_THROWS(Code::config, "an item of 3", FrameLayout({{.name = "a", .kind = Kind::array, .item_size = 3}}));
    CHECK_THROWS(Code::config, "a step of 0", FrameLayout({{.name = "a", .kind = Kind::array, .step_size = 0}}));
    CHECK_THROWS(Code::config, "only an array", FrameLayout({{.name = "a", .step_size = 2}}));
    CHECK_THROWS(Code::config, "whole number of items",
                 FrameLayout({{.name = "a", .kind = Kind::tensor, .item_size = 8, .fixed_size = 12}}));
    CHECK_THROWS(Code::config, "use raw", FrameLayout({{.name = "a", .kind = Kind::scalar, .codec = Codec::zstd,
                                                        .item_size = 4, .fixed_size = 4}}));
    CHECK_THROWS(Code::config, "kind 9", FrameLayout({{.name = "a", .kind = static_cast<Kind>(9)}}));
    CHECK_THROWS(Code::config, "codec 7", FrameLayout({{.name = "a", .codec = static_cast<Codec>(7)}}));
    CHECK_THROWS(Code::config, "a schema has at most 4096",
                 FrameLayout(std::vector<Column>(kColumnCountMax + 1, Column{.name = "a"})));
    CHECK_THROWS(Code::config, "a frame has at most",
                 FrameLayout({{.name = "a", .kind = Kind::tensor, .item_size = 1, .fixed_size = 0xFFFFFFFFu}}));
}

TEST(data_that_does_not_fit_the_columns_is_named) {
    const FrameLayout layout({{.name = "a"}});
    std::array<std::uint64_t, 2> sizes{};
    const std::int64_t falling[] = {0, 3, 2}, huge[] = {0, 1, std::int64_t{1} << 40}, fine[] = {0, 0, 0};
    const std::uint8_t nulls[] = {0, 1};
    const auto measure = [&](ColumnData data) { measure_frames(layout, 2, {&data, 1}, sizes); };
    CHECK_THROWS(Code::config, "row 1 of the batch, column \"a\": a value of -1", measure({.value_offsets = falling}));
    CHECK_THROWS(Code::config, "row 1 of the batch", measure({.value_offsets = huge}));
    CHECK_THROWS(Code::config, "row 1 of the batch is null", measure({.value_offsets = fine, .nulls = nulls}));
    CHECK_THROWS(Code::config, "values are missing", measure({}));
    CHECK_THROWS(Code::config, "0 columns of data", measure_frames(layout, 2, {}, sizes));
}

TEST_MAIN
