// The pipeline with many threads: order, cancellation, closing, faults. Made to be run under the thread sanitizer too.
#include <atomic>
#include <chrono>
#include <thread>

#include "check.hpp"
#include "feed/reader.hpp"
#include "feed_shard.hpp"

using namespace ff;

namespace {

constexpr std::size_t kRows = 600;

Reader make_reader(const test::FeedShard& shard, const std::string& io, OnError on_error, std::size_t threads = 3) {
    return Reader({SourceRequest{shard.snapshot(io), {OutputRequest{}}}},
                  {.threads = threads, .reader_threads = 2, .on_error = on_error});
}

BatchRequest request(std::size_t first, std::size_t count) {
    BatchRequest made;
    for (std::size_t i = 0; i < count; ++i) made.rows.push_back(static_cast<std::int64_t>((first + i * 7) % kRows));
    made.positions = made.rows;
    return made;
}

// Every valid row has its own bytes, every other one none. Returns the number of valid rows.
std::size_t check_batch(const Lease& lease) {
    const Slot& slot = lease.slot();
    const auto* rows = slot.rows.as<std::int64_t>();
    const auto* offsets = slot.outputs[0].offsets.as<std::int64_t>();
    std::size_t valid = 0;
    for (std::int64_t i = 0; i < slot.rows_count; ++i) {
        const auto expected = slot.valid.data()[i] == std::byte{1}
                                  ? test::FeedShard::value(static_cast<std::size_t>(rows[i]))
                                  : std::vector<std::byte>{};
        CHECK_EQ(offsets[i + 1] - offsets[i], static_cast<std::int64_t>(expected.size()));
        CHECK(expected.empty() ||
              std::memcmp(slot.outputs[0].values.data() + offsets[i], expected.data(), expected.size()) == 0);
        valid += slot.valid.data()[i] == std::byte{1};
    }
    return valid;
}

std::unique_ptr<Lease> wait_for(Reader& reader) {
    while (!reader.wait_next(1.0)) {
    }
    return reader.take_next();
}

}  // namespace

TEST(batches_come_out_whole_and_in_order) {
    const test::FeedShard shard(kRows);
    Reader reader = make_reader(shard, "pread", OnError::raise);
    for (std::size_t i = 0; i < 40; ++i) reader.submit(request(i, i * 20));
    for (std::size_t i = 0; i < 40; ++i) {
        const auto lease = wait_for(reader);
        CHECK_EQ(lease->slot().rows_count, static_cast<std::int64_t>(i * 20));
        CHECK_EQ(check_batch(*lease), i * 20);
    }
    CHECK_EQ(reader.stats().batches, 40u);
}

TEST(slow_storage_is_read_by_more_threads_and_the_page_cache_by_fewer) {
    const test::FeedShard shard(kRows);
    const ReaderOptions options{.threads = 2, .reader_threads = 8};
    Reader slow({SourceRequest{shard.snapshot("fault:d"), {OutputRequest{}}}}, options);
    Reader fast({SourceRequest{shard.snapshot("pread"), {OutputRequest{}}}}, options);
    for (Reader* reader : {&slow, &fast}) {
        for (std::size_t i = 0; i < 100; ++i) reader->submit(request(i, 1));
        for (std::size_t i = 0; i < 100; ++i) CHECK_EQ(check_batch(*wait_for(*reader)), 1u);
    }
    CHECK_EQ(slow.reader_count(), 8u);
    CHECK(slow.stats().read_wait_s > 0.02 * 90);
    CHECK(fast.reader_count() < 8);
    // Threads that are no longer wanted do not stop a reader from ending, nor from going on.
    for (std::size_t i = 0; i < 100; ++i) fast.submit(request(i, 30));
    for (std::size_t i = 0; i < 100; ++i) CHECK_EQ(check_batch(*wait_for(fast)), 30u);
}

TEST(faults_become_holes_and_never_wrong_bytes) {
    const test::FeedShard shard(kRows);
    Reader reader = make_reader(shard, "fault:..f..z.E.s", OnError::skip);
    std::size_t valid = 0;
    for (std::size_t i = 0; i < 60; ++i) reader.submit(request(i * 13, 50));
    for (std::size_t i = 0; i < 60; ++i) valid += check_batch(*wait_for(reader));
    CHECK_EQ(reader.stats().holes, 60u * 50u - valid);
    CHECK(reader.stats().holes > 0 && valid > 0);
}

TEST(a_cancelled_reader_goes_on) {
    const test::FeedShard shard(kRows);
    Reader reader = make_reader(shard, "pread", OnError::raise);
    for (std::size_t round = 0; round < 30; ++round) {
        for (std::size_t i = 0; i < 10; ++i) reader.submit(request(i, 300));
        reader.cancel();
        CHECK_EQ(reader.pending(), 0u);
        reader.submit(request(round, 9));
        CHECK_EQ(check_batch(*wait_for(reader)), 9u);
    }
}

TEST(closing_while_others_wait_and_take_is_safe) {
    const test::FeedShard shard(kRows);
    for (int round = 0; round < 10; ++round) {
        Reader reader = make_reader(shard, "pread", OnError::raise);
        std::atomic<int> started{0};
        std::thread waiter([&] {
            started = 1;
            try {
                for (;;) {
                    reader.submit(request(1, 100));
                    check_batch(*wait_for(reader));
                }
            } catch (const Error& error) {
                CHECK(error.code() == Code::closed);
            }
        });
        while (started == 0) std::this_thread::yield();
        check_batch(*reader.take(request(3, 200)));
        CHECK_EQ(reader.sample(49)->items[0].bytes.size(), 49u);
        reader.stop();
        waiter.join();
    }
}

// Between the end of a cancelled batch's last group and the end of stop() or cancel(), the batch is done and not whole.
TEST(a_cancelled_batch_is_never_handed_out) {
    const test::FeedShard shard(kRows);
    for (int round = 0; round < 20; ++round) {
        Reader reader = make_reader(shard, "fault:d", OnError::raise);
        std::atomic<bool> over{false};
        for (std::size_t i = 0; i < 8; ++i) reader.submit(request(i, 300));
        std::thread taker([&] {
            try {
                while (!over)
                    if (const auto lease = reader.take_next()) CHECK_EQ(check_batch(*lease), 300u);
            } catch (const Error& error) {
                CHECK(error.code() == Code::closed);
            }
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(round));
        round % 2 == 0 ? reader.stop() : reader.cancel();
        over = true;
        taker.join();
    }
}

TEST(a_lease_outlives_its_reader) {
    const test::FeedShard shard(kRows);
    std::unique_ptr<Lease> lease;
    {
        Reader reader = make_reader(shard, "pread", OnError::raise);
        lease = reader.take(request(0, 80));
    }
    CHECK_EQ(check_batch(*lease), 80u);
}

TEST(slots_come_back_to_their_pool) {
    const auto pool = std::make_shared<SlotPool>();
    {
        const Lease first(pool), second(pool);
        CHECK_EQ(pool->slots(), 2u);
    }
    const Lease again(pool);
    CHECK_EQ(pool->slots(), 2u);
    std::vector<std::unique_ptr<Lease>> many;
    for (int i = 0; i < 20; ++i) many.push_back(std::make_unique<Lease>(pool));
    CHECK_EQ(pool->slots(), 21u);
    many.clear();
    CHECK_EQ(pool->slots(), 21u);  // small ones are all kept
}

TEST(of_large_slots_eight_are_kept) {
    const auto pool = std::make_shared<SlotPool>();
    Output output;
    output.row_items = std::uint64_t{4} << 20;
    OutputPlan plan;
    plan.outputs = {output};
    std::vector<std::unique_ptr<Lease>> many;
    for (int i = 0; i < 20; ++i) {
        many.push_back(std::make_unique<Lease>(pool));
        many.back()->slot().prepare(plan, 1);
    }
    many.clear();
    CHECK_EQ(pool->slots(), 8u);
}

TEST_MAIN
