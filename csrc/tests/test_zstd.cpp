// zstd values: what is encoded is decoded, and nothing else is.
#include "codec/zstd.hpp"

#include <zdict.h>
#include <zstd.h>

#include <cstring>

#include "tests/check.hpp"
#include "tests/crc32c_vectors.hpp"

using namespace ff;

namespace {

std::vector<std::byte> repeated(std::string_view text, std::size_t times) {
    std::vector<std::byte> bytes;
    for (std::size_t i = 0; i < times; ++i)
        for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
    return bytes;
}

std::vector<std::byte> encoded(Bytes raw, int level = 3, Bytes dictionary = {}) {
    std::vector<std::byte> out;
    ZstdEncoder(level, dictionary).encode(raw, out);
    return out;
}

std::vector<std::byte> decoded(Bytes stored, std::size_t size, const ZstdDictionary* dictionary = nullptr) {
    std::vector<std::byte> out(size);
    ZstdDecoder().decode(stored, dictionary, out);
    return out;
}

std::vector<std::byte> trained() {
    std::string samples;
    std::vector<std::size_t> sizes;
    for (int i = 0; i < 2000; ++i) {
        const std::string sample = "{\"name\": \"item " + std::to_string(i * 7919) +
                                   "\", \"kind\": \"record\", \"rank\": " + std::to_string(i) + "}";
        samples += sample;
        sizes.push_back(sample.size());
    }
    std::vector<std::byte> dictionary(4096);
    const std::size_t size = ZDICT_trainFromBuffer(dictionary.data(), dictionary.size(), samples.data(), sizes.data(),
                                                   static_cast<unsigned>(sizes.size()));
    CHECK(!ZDICT_isError(size));
    dictionary.resize(size);
    return dictionary;
}

}  // namespace

TEST(values_come_back_and_carry_no_needless_header) {
    for (const std::size_t times : {1u, 50u, 40000u}) {
        const auto raw = repeated("some text that repeats. ", times);
        const auto stored = encoded(raw);
        CHECK(stored.size() <= raw.size());
        CHECK(decoded(stored, raw.size()) == raw);
        if (stored.size() == raw.size()) continue;
        CHECK_EQ(load_le<std::uint32_t>(stored.data()), ZSTD_MAGICNUMBER);
        CHECK_EQ(std::to_integer<int>(stored[4]), 0);
        CHECK_EQ(ZSTD_getFrameContentSize(stored.data(), stored.size()), ZSTD_CONTENTSIZE_UNKNOWN);
    }
}

TEST(a_value_that_does_not_get_shorter_is_stored_raw) {
    const auto raw = repeated("abc", 1);
    CHECK(encoded(raw) == raw);
    CHECK(decoded(raw, 3) == raw);
    CHECK(encoded({}).empty());
    CHECK(decoded({}, 0).empty());
}

TEST(an_encoder_appends_and_is_used_again) {
    const auto raw = repeated("0123456789", 100);
    ZstdEncoder encoder(3, {});
    std::vector<std::byte> out;
    encoder.encode(raw, out);
    const std::size_t first = out.size();
    encoder.encode(raw, out);
    CHECK_EQ(out.size(), 2 * first);
    CHECK(std::memcmp(out.data(), out.data() + first, first) == 0);
}

TEST(a_dictionary_is_used_and_needed) {
    const auto dictionary = trained();
    const ZstdDictionary ready(dictionary);
    const auto raw = repeated("{\"name\": \"item 15838\", \"kind\": \"record\", \"rank\": 4242}", 1);
    const auto stored = encoded(raw, 3, dictionary);
    CHECK(stored.size() < encoded(raw).size());
    CHECK(decoded(stored, raw.size(), &ready) == raw);
    CHECK_THROWS(Code::corrupt, "zstd value", decoded(stored, raw.size()));
}

TEST(what_is_no_dictionary_is_refused) {
    CHECK_THROWS(Code::corrupt, "do not begin", ZstdDictionary(Bytes(test::pattern(100))));
    CHECK_THROWS(Code::corrupt, "do not begin", encoded({}, 3, test::pattern(5)));
    auto cut = trained();
    cut.resize(20);
    CHECK_THROWS(Code::corrupt, "damaged", ZstdDictionary{Bytes(cut)});
}

TEST(a_level_outside_is_refused) { CHECK_THROWS(Code::config, "zstd level 23", ZstdEncoder(23, {})); }

TEST(damage_and_wrong_lengths_are_corrupt) {
    const auto raw = repeated("some text that repeats. ", 100);
    const auto stored = encoded(raw);
    CHECK_THROWS(Code::corrupt, "do not decode to", decoded(stored, raw.size() - 1));
    CHECK_THROWS(Code::corrupt, "it decodes to", decoded(stored, raw.size() + 1));
    CHECK_THROWS(Code::corrupt, "for a value of 3", decoded(stored, 3));
    CHECK_THROWS(Code::corrupt, "damaged frame", decoded(Bytes(stored).first(stored.size() - 1), raw.size()));
    CHECK_THROWS(Code::corrupt, "do not begin", decoded(test::pattern(30), raw.size()));
    auto longer = stored;
    longer.push_back(std::byte{0});
    CHECK_THROWS(Code::corrupt, "the frame ends after", decoded(longer, raw.size()));
    auto twice = stored;
    twice.insert(twice.end(), stored.begin(), stored.end());
    CHECK_THROWS(Code::corrupt, "the frame ends after", decoded(twice, 2 * raw.size()));
    auto described = stored;
    described[4] = std::byte{4};
    CHECK_THROWS(Code::corrupt, "frame descriptor 4", decoded(described, raw.size()));
    auto wide = stored;
    wide[5] = std::byte{0xF8};
    CHECK_THROWS(Code::corrupt, "a window of 2^41", decoded(wide, raw.size()));
}

TEST(a_bomb_stops_at_the_declared_length) {
    const auto stored = encoded(std::vector<std::byte>(64u << 20));
    CHECK(stored.size() < 16384);
    CHECK_THROWS(Code::corrupt, "do not decode to", decoded(stored, 20000));
}

TEST(a_declared_length_that_the_blocks_cannot_hold_is_refused_before_memory_is_taken) {
    const auto stored = encoded(std::vector<std::byte>(300'000, std::byte{1}));  // stored as runs
    check_zstd_value(stored, 300'000);
    CHECK_THROWS(Code::corrupt, "hold at most 300000", check_zstd_value(stored, 0x7FFFFFFFu));
}

TEST_MAIN
