// Our decoder of baseline JPEGs gives libjpeg's pixels, with every instruction set, size, sampling, scale and part; and
// leaves to libjpeg what is of another kind or damaged.
#include <algorithm>
#include <string>
#include <vector>

#include "order/key.hpp"
#include "tests/check.hpp"
#include "tests/libjpeg.hpp"

namespace {

using ff::test::Pixels;

class Random {
  public:
    explicit Random(std::uint64_t seed) : seed_(seed) {}
    std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>(ff::scale_to(ff::derive(seed_, drawn_++), bound));
    }

  private:
    std::uint64_t seed_, drawn_ = 0;
};

struct Encoding {
    std::uint32_t width, height;
    int components = 3, across = 2, down = 2, quality = 90, restart_rows = 0, restart_mcus = 0;
    bool progressive = false, optimized = false;
};

// Something like a picture: slopes, edges and noise, the more of it the larger `noise`.
std::vector<std::uint8_t> picture(const Encoding& encoding, Random& random, std::uint32_t noise) {
    std::vector<std::uint8_t> pixels(std::size_t{3} * encoding.width * encoding.height);
    const std::uint32_t period = 3 + random.below(40);
    std::size_t i = 0;
    for (std::uint32_t y = 0; y < encoding.height; ++y)
        for (std::uint32_t x = 0; x < encoding.width; ++x)
            for (std::uint32_t c = 0; c < 3; ++c)
                pixels[i++] = static_cast<std::uint8_t>((x * (c + 1) + y * 2) / 3 + ((x / period + y / period) % 2) * 90 +
                                                        random.below(noise + 1));
    return pixels;
}

std::vector<std::byte> encoded(const Encoding& encoding, std::uint64_t seed, std::uint32_t noise) {
    Random random(seed);
    const std::vector<std::uint8_t> pixels = picture(encoding, random, noise);
    jpeg_compress_struct jpeg;
    jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    unsigned char* memory = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&jpeg, &memory, &size);
    jpeg.image_width = encoding.width;
    jpeg.image_height = encoding.height;
    jpeg.input_components = encoding.components;
    jpeg.in_color_space = encoding.components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, encoding.quality, TRUE);
    jpeg.comp_info[0].h_samp_factor = encoding.across;
    jpeg.comp_info[0].v_samp_factor = encoding.down;
    jpeg.restart_in_rows = encoding.restart_rows;
    jpeg.restart_interval = static_cast<unsigned>(encoding.restart_mcus);
    jpeg.optimize_coding = encoding.optimized;
    if (encoding.progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    const std::size_t row_bytes = static_cast<std::size_t>(encoding.components) * encoding.width;
    while (jpeg.next_scanline < jpeg.image_height) {
        auto* row = const_cast<JSAMPROW>(pixels.data()) + row_bytes * jpeg.next_scanline;
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    const ff::Bytes file = ff::as_bytes(memory, size);
    std::vector<std::byte> bytes(file.begin(), file.end());
    std::free(memory);
    return bytes;
}

std::vector<ff::BaselineJpeg>& decoders() {
    static std::vector<ff::BaselineJpeg> all = [] {
        std::vector<ff::BaselineJpeg> made;
        made.emplace_back(ff::portable_jpeg_kernels());
        made.emplace_back(ff::best_jpeg_kernels());
        return made;
    }();
    return all;
}

ff::SourceRegion random_part(const Pixels& whole, Random& random) {
    ff::SourceRegion part;
    part.first_column = random.below(whole.width);
    part.column_count = 1 + random.below(whole.width - part.first_column);
    part.first_row = random.below(whole.height);
    part.row_count = 1 + random.below(whole.height - part.first_row);
    return part;
}

void require_same(ff::Bytes file, std::uint32_t reduction, const Pixels& whole, const ff::SourceRegion& part) {
    const Pixels expected = ff::test::part_of(whole, part);
    for (ff::BaselineJpeg& decoder : decoders()) {
        const Pixels got = ff::test::decode_with_ours(decoder, file, reduction, part);
        CHECK(got.decoded);
        CHECK_EQ(got.rgbx.size(), expected.rgbx.size());
        const auto differs = std::mismatch(got.rgbx.begin(), got.rgbx.end(), expected.rgbx.begin()).first;
        if (differs != got.rgbx.end()) {
            const auto at = static_cast<std::size_t>(differs - got.rgbx.begin()) / 4;
            ff::test::fail(__FILE__, __LINE__,
                           "pixel (" + std::to_string(at % part.column_count) + ", " +
                               std::to_string(at / part.column_count) + ") of a part of " +
                               std::to_string(part.column_count) + " x " + std::to_string(part.row_count) + " at (" +
                               std::to_string(part.first_column) + ", " + std::to_string(part.first_row) + ") of " +
                               std::to_string(whole.width) + " x " + std::to_string(whole.height) + ", reduction " +
                               std::to_string(reduction));
        }
    }
}

}  // namespace

TEST(pixels_are_those_of_libjpeg_for_every_size_sampling_scale_and_part) {
    constexpr int kSamplings[3][2] = {{1, 1}, {2, 1}, {2, 2}};
    Random random(1);
    for (std::uint32_t i = 0; i < 240; ++i) {
        Encoding encoding{6 + random.below(90), 1 + random.below(90)};
        encoding.components = random.below(8) == 0 ? 1 : 3;
        const auto* sampling = kSamplings[random.below(3)];
        encoding.across = sampling[0];
        encoding.down = sampling[1];
        encoding.quality = static_cast<int>(1 + random.below(100));
        encoding.restart_mcus = random.below(3) == 0 ? static_cast<int>(1 + random.below(9)) : 0;
        encoding.optimized = random.below(2) == 0;
        const auto file = encoded(encoding, i, random.below(120));
        for (const std::uint32_t reduction : {1u, 2u, 4u, 8u}) {
            // libjpeg repeats chroma there, and so it decodes these.
            const bool repeats = encoding.components == 3 && encoding.across == 2 &&
                                 ((encoding.down == 1 && (reduction == 8 || encoding.width <= 4 * reduction)));
            if (repeats) continue;
            const Pixels whole = ff::test::decode_with_libjpeg(file, reduction);
            CHECK(whole.decoded);
            require_same(file, reduction, whole, {0, whole.width, 0, whole.height});
            for (int part = 0; part < 3; ++part) require_same(file, reduction, whole, random_part(whole, random));
        }
    }
}

TEST(what_is_no_baseline_file_of_a_known_sampling_is_left_to_libjpeg) {
    Encoding progressive{40, 40}, tall{40, 40}, narrow{4, 40}, wide{40, 40};
    progressive.progressive = true;
    tall.across = 1;
    wide.across = 4;
    wide.down = 1;
    for (const Encoding& encoding : {progressive, tall, narrow, wide}) {
        const auto file = encoded(encoding, 7, 20);
        CHECK(ff::test::decode_with_libjpeg(file, 1).decoded);
        for (ff::BaselineJpeg& decoder : decoders())
            CHECK(!ff::test::decode_with_ours(decoder, file, 1, {0, encoding.width, 0, encoding.height}).decoded);
    }
}

TEST(a_damaged_file_is_left_to_libjpeg_unless_its_pixels_are_the_same) {
    Random random(3);
    std::uint32_t left = 0;
    for (std::uint32_t i = 0; i < 400; ++i) {
        Encoding encoding{64, 48};
        encoding.restart_mcus = i % 3 == 0 ? 4 : 0;
        auto file = encoded(encoding, i % 5, 30);
        const std::size_t at = file.size() / 3 + random.below(static_cast<std::uint32_t>(file.size() / 2));
        file[at] = static_cast<std::byte>(random.below(256));
        if (i % 4 == 0) file.resize(at);
        const Pixels whole = ff::test::decode_with_libjpeg(file, 1);
        for (ff::BaselineJpeg& decoder : decoders()) {
            const Pixels got = ff::test::decode_with_ours(decoder, file, 1, {0, 64, 0, 48});
            if (!got.decoded) {
                ++left;
                continue;
            }
            CHECK(whole.decoded);
            CHECK_EQ(whole.warnings, got.warnings);
            CHECK(whole.rgbx == got.rgbx);
        }
    }
    CHECK(left > 100);  // else the damage does not reach what it should
}

TEST(tables_of_one_image_do_not_decode_the_next) {
    Encoding plain{80, 60}, optimized{80, 60};
    optimized.optimized = true;
    for (int round = 0; round < 3; ++round) {
        for (const Encoding& encoding : {plain, optimized}) {
            const auto file = encoded(encoding, 9 + static_cast<std::uint64_t>(round), 60);
            require_same(file, 1, ff::test::decode_with_libjpeg(file, 1), {0, 80, 0, 60});
        }
    }
}

TEST_MAIN
