// Mixtures: both ways, counts of every period, ends of what is possible. The formula itself is held by golden vectors
// and by an oracle in Python.
#include "order/mixture.hpp"

#include "order/key.hpp"
#include "tests/check.hpp"

using namespace ff;

namespace {

using Segments = std::vector<MixtureSegment>;

// Every form of segment: one period a cycle (a table, a network), several, one without a source, a last short one.
const Segments kMixed = {{40, 1, {7, 3, 0}}, {3, 2, {700, 0, 301}}, {5, 1, {200, 100, 1}}, {1, 1, {0, 2, 5}}};

struct Picked {
    std::vector<std::int32_t> sources;
    std::vector<std::int64_t> indexes;
};

Picked picks(const MixtureEpoch& epoch, const std::vector<std::int64_t>& positions) {
    Picked made{std::vector<std::int32_t>(positions.size()), std::vector<std::int64_t>(positions.size())};
    epoch.picks(positions, made.sources, made.indexes);
    return made;
}

std::vector<std::int64_t> range(std::uint64_t start, std::size_t count) {
    std::vector<std::int64_t> made(count);
    for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<std::int64_t>(start + i);
    return made;
}

void check_both_ways(const MixtureEpoch& epoch, const std::vector<std::int64_t>& positions) {
    const Picked made = picks(epoch, positions);
    std::vector<std::int64_t> back = made.indexes;
    epoch.positions_of(made.sources, back);
    for (std::size_t i = 0; i < positions.size(); ++i) CHECK_EQ(back[i], positions[i]);
}

}  // namespace

TEST(every_sample_of_every_source_comes_once) {
    for (const bool shuffled : {true, false}) {
        const MixtureEpoch epoch(3, 1, shuffled, kMixed);
        const Picked made = picks(epoch, range(0, epoch.length()));
        std::vector<std::vector<bool>> came(3);
        for (std::size_t k = 0; k < 3; ++k) came[k].resize(epoch.total(k));
        for (std::size_t i = 0; i < epoch.length(); ++i) {
            auto&& once = came[static_cast<std::size_t>(made.sources[i])][static_cast<std::size_t>(made.indexes[i])];
            CHECK(!once);
            once = true;
        }
        CHECK_EQ(epoch.total(0) + epoch.total(1) + epoch.total(2), epoch.length());
        check_both_ways(epoch, range(0, epoch.length()));
    }
}

TEST(periods_have_their_counts) {
    const MixtureEpoch epoch(9, 0, true, kMixed);
    for (std::uint64_t period = 0; period < 40; ++period) {
        std::size_t of_first = 0;
        for (const std::int32_t source : picks(epoch, range(period * 10, 10)).sources) of_first += source == 0;
        CHECK_EQ(of_first, 7u);
    }
    CHECK_EQ(epoch.total(0), 40u * 7 + 3 * 700 / 2 + 5 * 200);
}

TEST(scattered_positions_are_as_consecutive_ones) {
    const MixtureEpoch epoch(5, 2, true, kMixed);
    std::vector<std::int64_t> scattered;
    for (std::uint64_t i = 0; i < 4000; ++i)
        scattered.push_back(static_cast<std::int64_t>(scale_to(derive(1, i), epoch.length())));
    const Picked all = picks(epoch, range(0, epoch.length())), some = picks(epoch, scattered);
    for (std::size_t i = 0; i < scattered.size(); ++i) {
        CHECK_EQ(some.sources[i], all.sources[static_cast<std::size_t>(scattered[i])]);
        CHECK_EQ(some.indexes[i], all.indexes[static_cast<std::size_t>(scattered[i])]);
    }
    check_both_ways(epoch, scattered);
}

TEST(the_largest_mixtures_are_exact) {
    const std::uint64_t half = kMixtureLengthMax / 2;
    const std::vector<Segments> largest = {
        {{kMixtureLengthMax / 3, 1, {1, 2}}},
        {{kMixtureDenominatorMax, kMixtureDenominatorMax, {half - 1, half}}},
        {{kMixtureDenominatorMax, kMixtureDenominatorMax, {1, kMixtureLengthMax - 1}}},
        {{1, 1, {half, half}}},
    };
    for (const Segments& segments : largest) {
        const MixtureEpoch epoch(7, 7, true, segments);
        check_both_ways(epoch, range(0, 1000));
        check_both_ways(epoch, range(epoch.length() / 2, 1000));
        check_both_ways(epoch, range(epoch.length() - 1000, 1000));
    }
}

TEST(what_is_not_possible_is_refused) {
    CHECK_THROWS(Code::config, "a mixture of 0 segments", MixtureEpoch(0, 0, true, {}));
    CHECK_THROWS(Code::config, "a mixture of 0 sources", MixtureEpoch(0, 0, true, {{1, 1, {}}}));
    CHECK_THROWS(Code::config, "1025 sources",
                 MixtureEpoch(0, 0, true, {{1, 1, std::vector<std::uint64_t>(1025, 1)}}));
    CHECK_THROWS(Code::config, "is not possible", MixtureEpoch(0, 0, true, {{1, 1, {0, 0}}}));
    CHECK_THROWS(Code::config, "is not possible", MixtureEpoch(0, 0, true, {{1, 0, {1, 1}}}));
    CHECK_THROWS(Code::config, "is not possible", MixtureEpoch(0, 0, true, {{1, 1, {1, 1}}, {1, 1, {1}}}));
    CHECK_THROWS(Code::config, "is not possible", MixtureEpoch(0, 0, true, {{9, 9, {9, 8}}}));
    CHECK_THROWS(Code::config, "is not possible", MixtureEpoch(0, 0, true, {{1, 1, {~std::uint64_t{0}, 2}}}));
    CHECK_THROWS(Code::config, "at most 2^48 samples",
                 MixtureEpoch(0, 0, true, {{kMixtureLengthMax, 1, {1, 1}}}));
    CHECK_THROWS(Code::config, "at most 2^48 samples",
                 MixtureEpoch(0, 0, true, {{kMixtureLengthMax, 1, {1}}, {1, 1, {1}}}));
}

TEST_MAIN
