// crc32c: every implementation gives the vectors, whatever the start, the length and the alignment. Needs only
// csrc/format/crc32c*.cpp, so that it can be built for other processors.
#include "format/crc32c.hpp"

#include "format/crc32c_math.hpp"
#include "tests/check.hpp"
#include "tests/crc32c_vectors.hpp"

using namespace ff;

namespace {

using Implementation = std::uint32_t (*)(std::uint32_t, Bytes);

std::uint32_t chosen(std::uint32_t crc, Bytes bytes) { return crc32c(crc, bytes); }
std::uint32_t portable(std::uint32_t crc, Bytes bytes) { return crc32c_portable(crc, bytes); }

constexpr Implementation kAll[] = {chosen, portable};

}  // namespace

TEST(the_published_vectors_hold) {
    std::printf("implementation %s\n", crc32c_implementation());
    std::vector<std::byte> zeros(32), ones(32, std::byte{0xFF}), rising(32), falling(32);
    for (unsigned i = 0; i < 32; ++i) {
        rising[i] = static_cast<std::byte>(i);
        falling[i] = static_cast<std::byte>(31 - i);
    }
    for (const Implementation crc : kAll) {
        CHECK_EQ(crc(0, zeros), 0x8A9136AAu);
        CHECK_EQ(crc(0, ones), 0x62A8AB43u);
        CHECK_EQ(crc(0, rising), 0x46DD794Eu);
        CHECK_EQ(crc(0, falling), 0x113FDB5Cu);
        CHECK_EQ(crc(0, as_bytes("123456789", 9)), 0xE3069283u);
        CHECK_EQ(crc(0, {}), 0u);
    }
}

TEST(patterns_of_all_lengths_hold) {
    for (const auto& vector : test::kPatternVectors) {
        const auto bytes = test::pattern(vector.size);
        for (const Implementation crc : kAll) CHECK_EQ(crc(0, bytes), vector.crc);
    }
}

TEST(implementations_agree_at_every_length_and_alignment) {
    const auto bytes = test::pattern(16 * 1024);
    for (std::size_t start = 0; start < 9; ++start)
        for (std::size_t size = 0; size < 1700; size += start == 0 ? 1 : 37)
            CHECK_EQ(chosen(0x12345678u + static_cast<std::uint32_t>(size), Bytes(bytes).subspan(start, size)),
                     portable(0x12345678u + static_cast<std::uint32_t>(size), Bytes(bytes).subspan(start, size)));
}

TEST(a_crc_continues_and_combines_at_every_cut) {
    const auto bytes = test::pattern(5000);
    const std::uint32_t whole = crc32c(0, bytes);
    for (std::size_t cut = 0; cut <= bytes.size(); cut += 41) {
        const Bytes a = Bytes(bytes).first(cut), b = Bytes(bytes).subspan(cut);
        CHECK_EQ(crc32c(crc32c(0, a), b), whole);
        CHECK_EQ(crc32c_combine(crc32c(0, a), crc32c(0, b), b.size()), whole);
    }
}

TEST(combining_over_a_length_that_nobody_can_hash_is_the_slow_powers_product) {
    for (const std::uint64_t length : {std::uint64_t{1} << 40, (std::uint64_t{1} << 61) - 12345}) {
        const std::uint32_t power = crc32c_math::power_of_x(8 * (length >> 1));
        const std::uint32_t other = crc32c_math::power_of_x(8 * (length - (length >> 1)));
        CHECK_EQ(crc32c_combine(0xCAFEF00Du, 7, length),
                 crc32c_math::multiply_slow(0xCAFEF00Du, crc32c_math::multiply_slow(power, other)) ^ 7u);
    }
}

TEST(a_frames_seed_is_the_crc_of_uid_and_row) {
    const auto bytes = test::pattern(24);
    std::vector<std::byte> joined(bytes.begin(), bytes.begin() + 16);
    joined.resize(24);
    store_le(joined.data() + 16, std::uint64_t{0x0102030405060708u});
    CHECK_EQ(FrameSeed(Bytes(bytes).first(16)).of(0x0102030405060708u), crc32c(0, joined));
}

TEST_MAIN
