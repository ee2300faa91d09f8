// A reader over several snapshots: every row is its own source's, whatever it is read and decoded with.
#include "check.hpp"
#include "feed/reader.hpp"
#include "feed_shard.hpp"

using namespace ff;

namespace {

constexpr std::size_t kRows[] = {600, 37, 250};
constexpr std::size_t kSalts[] = {0, 101, 53};

struct Shards {
    test::FeedShard first{kRows[0], kSalts[0]}, second{kRows[1], kSalts[1]}, third{kRows[2], kSalts[2]};
};

SourceRequest source(std::shared_ptr<const Snapshot> snapshot) { return {std::move(snapshot), {OutputRequest{}}}; }

ReaderOptions options(OnError on_error = OnError::raise) {
    return {.threads = 3, .reader_threads = 2, .on_error = on_error};
}

// Rows of all three, in an order that changes source at almost every row.
BatchRequest request(std::size_t first, std::size_t count) {
    BatchRequest made;
    for (std::size_t i = first; i < first + count; ++i) {
        const std::size_t number = i * 7 / 3 % 3;
        made.sources.push_back(static_cast<std::int32_t>(number));
        made.rows.push_back(static_cast<std::int64_t>(i * 31 % kRows[number]));
        made.positions.push_back(static_cast<std::int64_t>(i));
    }
    return made;
}

bool has_value(const Slot& slot, std::size_t at, const std::vector<std::byte>& value) {
    const auto* offsets = slot.outputs[0].offsets.as<std::int64_t>();
    if (offsets[at + 1] - offsets[at] != static_cast<std::int64_t>(value.size())) return false;
    return value.empty() || std::memcmp(slot.outputs[0].values.data() + offsets[at], value.data(), value.size()) == 0;
}

// Valid rows have the bytes of their source, others none. Returns the holes of each source.
std::vector<std::size_t> check_batch(const Lease& lease, const BatchRequest& asked) {
    std::vector<std::size_t> holes(3);
    for (std::size_t i = 0; i < asked.rows.size(); ++i) {
        const auto number = static_cast<std::size_t>(asked.sources[i]);
        const bool valid = lease.slot().valid.data()[i] == std::byte{1};
        const auto row = static_cast<std::size_t>(asked.rows[i]);
        CHECK(has_value(lease.slot(), i,
                        valid ? test::FeedShard::value(row, kSalts[number]) : std::vector<std::byte>{}));
        holes[number] += !valid;
    }
    return holes;
}

std::unique_ptr<Lease> wait_for(Reader& reader) {
    while (!reader.wait_next(1.0)) {
    }
    return reader.take_next();
}

}  // namespace

TEST(every_row_has_the_bytes_of_its_own_source) {
    const Shards shards;
    Reader reader({source(shards.first.snapshot("pread")), source(shards.second.snapshot("pread")),
                   source(shards.third.snapshot("pread"))},
                  options());
    for (std::size_t i = 0; i < 30; ++i) reader.submit(request(i, i * 40));
    for (std::size_t i = 0; i < 30; ++i)
        for (const std::size_t holes : check_batch(*wait_for(reader), request(i, i * 40))) CHECK_EQ(holes, 0u);
    check_batch(*reader.take(request(5, 333)), request(5, 333));
}

TEST(faults_of_one_source_make_holes_of_its_rows_only) {
    const Shards shards;
    Reader reader({source(shards.first.snapshot("pread")), source(shards.second.snapshot("fault:..f.E.s")),
                   source(shards.third.snapshot("pread"))},
                  options(OnError::skip));
    std::size_t holes = 0;
    for (std::size_t i = 0; i < 40; ++i) {
        const auto found = check_batch(*reader.take(request(i * 11, 20)), request(i * 11, 20));
        CHECK_EQ(found[0] + found[2], 0u);
        holes += found[1];
    }
    CHECK(holes > 0);
}

TEST(one_snapshot_may_be_several_sources) {
    const test::FeedShard shard(kRows[0]);
    const auto snapshot = shard.snapshot("pread");
    Reader reader({source(snapshot), source(snapshot)}, options());
    BatchRequest asked;
    for (std::size_t i = 0; i < 500; ++i) {
        asked.sources.push_back(static_cast<std::int32_t>(i % 2));
        asked.rows.push_back(static_cast<std::int64_t>((i / 2 * 17) % kRows[0]));
    }
    asked.positions = asked.rows;
    const auto lease = reader.take(asked);
    for (std::size_t i = 0; i < asked.rows.size(); ++i)
        CHECK(has_value(lease->slot(), i, test::FeedShard::value(static_cast<std::size_t>(asked.rows[i]))));
}

TEST(a_sample_is_of_the_source_that_is_asked_for) {
    const Shards shards;
    Reader reader({source(shards.first.snapshot("pread")), source(shards.second.snapshot("pread"))}, options());
    for (const std::size_t row : {36, 3, 21}) {
        for (const std::int32_t number : {0, 1}) {
            auto sample = reader.sample(static_cast<std::int64_t>(row), number);
            const auto expected = test::FeedShard::value(row, kSalts[number]);
            CHECK_EQ(sample->items[0].bytes.size(), expected.size());
            CHECK(std::memcmp(sample->items[0].bytes.data(), expected.data(), expected.size()) == 0);
            reader.give_back(std::move(sample));
        }
    }
}

TEST(rows_and_sources_are_checked_against_what_there_is) {
    const Shards shards;
    Reader reader({source(shards.first.snapshot("pread")), source(shards.second.snapshot("pread"))}, options());
    const auto asked = [](std::int64_t row, std::int32_t number) {
        BatchRequest made;
        made.rows = made.positions = {row};
        made.sources = {number};
        return made;
    };
    reader.take(asked(599, 0));
    CHECK_THROWS(Code::config, "row 599 is not one of the 37 rows", reader.take(asked(599, 1)));
    CHECK_THROWS(Code::config, "source 2 is not one of the 2 sources", reader.submit(asked(0, 2)));
    CHECK_THROWS(Code::config, "source -1 is not one of the 2 sources", reader.submit(asked(0, -1)));
    CHECK_THROWS(Code::config, "row 37 is not one of the 37 rows", reader.sample(37, 1));
    CHECK_THROWS(Code::config, "row -1 is not one of the 600 rows", reader.sample(-1, 0));
    CHECK_THROWS(Code::config, "between 1 and 4096 snapshots", Reader({}, options()));
    BatchRequest uneven = asked(0, 0);
    uneven.sources.push_back(0);
    CHECK_THROWS(Code::config, "a batch of 1 rows with 2 sources", reader.submit(uneven));
}

TEST_MAIN
