// The client against a daemon in miniature: hits, misses, sessions that end, and disks that fail or hang.
#include <chrono>
#include <random>

#include "tests/cache_node.hpp"

using namespace ff;
using ff::test::CacheNode;

namespace {

constexpr std::uint64_t kObjects = 3, kObjectBytes = 5 * kChunkBytes / 2;  // two chunks and a half
constexpr std::uint64_t kAllChunks = kObjects * 3;
constexpr std::uint32_t kSet = CacheNode::kSet;

CacheOptions options(const std::string& slab_io = "pread", double slab_read_s = 2) { return {20, slab_read_s, slab_io}; }

void fill_all(CacheNode& node) {
    for (std::uint64_t object = 0; object < kObjects; ++object)
        for (std::uint64_t chunk = 0; chunk < 3; ++chunk) node.fill(object, chunk);
}

// Reads `count` random ranges, a few a call, checked and unchecked; each must be right.
void read_random(CacheClient& client, unsigned seed, int count) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < count; ++i) {
        std::vector<std::vector<std::byte>> buffers(1 + random() % 4);
        std::vector<ReadOp> ops;
        for (auto& buffer : buffers) {
            const std::uint64_t length = 1 + random() % (random() % 8 == 0 ? 2 * kChunkBytes : 20'000);
            buffer.resize(length);
            ops.push_back({nullptr, random() % (kObjectBytes - length), buffer,
                           static_cast<std::uint32_t>(random() % kObjects)});
        }
        if (i % 3 == 0)
            client.read_checked(kSet, ops[0].object, ops[0].offset, ops[0].into, 20, nullptr);
        else
            client.read(kSet, ops);
        for (const ReadOp& op : ops) {
            if (op.error) std::printf("%s\n", op.error->what());
            CHECK(!op.error);
            // A bit that a disk flips is found by the trailer's crcs here, elsewhere by those of frames.
            CHECK(CacheNode::is_part(op.object, op.offset, op.into) || (i % 3 == 0 && &op != &ops[0]));
        }
    }
}

void run_readers(CacheClient& client, int threads, int count) {
    std::vector<std::thread> readers;
    for (int i = 0; i < threads; ++i)
        readers.emplace_back([&client, i, count] { read_random(client, static_cast<unsigned>(i), count); });
    for (std::thread& reader : readers) reader.join();
}

}  // namespace

TEST(hits_send_no_message) {
    CacheNode node(kObjects, kObjectBytes, kAllChunks);
    fill_all(node);
    CacheClient client(options());
    node.connect(client);
    run_readers(client, 2, 50);
    CHECK_EQ(client.connection_counts().messages.load(), 0u);
    CHECK(client.counts().slab_reads > 100);
    CHECK_EQ(client.counts().races_lost, 0u);
}

TEST(four_readers_of_two_slots_get_the_right_bytes) {
    CacheNode node(kObjects, kObjectBytes, 2);
    CacheClient client(options());
    node.connect(client);
    run_readers(client, 4, 60);
    const CacheCounts counts = client.counts();
    CHECK(counts.slab_reads > 0);
    CHECK(counts.ring_reads > 0);
    CHECK(counts.miss_wait_us > 0);
    CHECK_EQ(counts.crc_failures, 0u);
}

TEST(what_a_session_leaves_open_is_asked_again_in_the_next) {
    CacheNode node(kObjects, kObjectBytes, 2);
    CacheClient client(options());
    node.connect(client);
    std::atomic<bool> stop{false};
    std::thread breaker([&] {
        while (!stop) {
            // A few answers a session, so that even a slow daemon gets on.
            const std::uint64_t enough = node.answers + 3;
            while (!stop && node.answers < enough) std::this_thread::yield();
            node.disconnect();
            CHECK(client.wait_detached(20));
            node.connect(client);
        }
    });
    run_readers(client, 3, 40);
    stop = true;
    breaker.join();
    CHECK(client.connection_counts().sessions > 2);
}

TEST(hits_go_on_without_a_daemon_and_misses_end_at_their_deadline) {
    CacheNode node(kObjects, kObjectBytes, kAllChunks);
    node.fill(0, 0);
    CacheClient client({.deadline_s = 0.2});
    node.connect(client);
    node.disconnect();
    CHECK(client.wait_detached(20));
    std::vector<std::byte> bytes(1000);
    ReadOp hit{nullptr, 10, bytes, 0}, miss{nullptr, kChunkBytes, bytes, 0};
    client.read(kSet, {&hit, 1});
    CHECK(!hit.error && CacheNode::is_part(0, 10, bytes));
    client.read(kSet, {&miss, 1});
    CHECK(miss.error && miss.error->code() == Code::daemon);
    CHECK(miss.error->message().find("no daemon is connected") != std::string::npos);
    node.connect(client);
    node.silent = true;
    client.read(kSet, {&miss, 1});
    CHECK(miss.error && miss.error->message().find("did not answer") != std::string::npos);
    node.silent = false;
    ReadOp other{nullptr, 2 * kChunkBytes, bytes, 1};
    client.read(kSet, {&other, 1});
    CHECK(!other.error && CacheNode::is_part(1, 2 * kChunkBytes, bytes));
}

TEST(reads_that_the_disk_brings_and_reads_that_fail_are_right) {
    CacheNode node(kObjects, kObjectBytes, kAllChunks);
    fill_all(node);
    CacheClient client(options("fault:.w.ww"));
    node.connect(client);
    run_readers(client, 3, 40);
    CHECK_EQ(client.connection_counts().messages.load(), 0u);
    CacheClient failing(options("fault:..E.w"));
    node.connect(failing);
    run_readers(failing, 3, 40);
    CHECK(node.complaints > 0);
    CHECK(failing.counts().ring_reads > 0);
}

TEST(flipped_bits_are_found_by_the_trailers_and_come_by_the_ring) {
    CacheNode node(kObjects, kObjectBytes, kAllChunks);
    fill_all(node);
    CacheClient client(options("fault:.f"));
    node.connect(client);
    std::vector<std::byte> bytes(3000);
    for (std::uint64_t at = 0; at < 40; ++at) {
        client.read_checked(kSet, 1, at * 1000, bytes, 20, nullptr);
        CHECK(CacheNode::is_part(1, at * 1000, bytes));
    }
    CHECK(client.counts().crc_failures > 0);
    CHECK(node.complaints > 0);
}

TEST(a_read_that_hangs_is_given_up_and_its_late_bytes_go_nowhere) {
    CacheNode node(kObjects, kObjectBytes, kAllChunks);
    fill_all(node);
    {
        CacheClient client(options("fault:h", 0.05));
        node.connect(client);
        for (int turn = 0; turn < 2; ++turn) {
            auto bytes = std::make_unique<std::vector<std::byte>>(2000);
            ReadOp op{nullptr, 500, *bytes, 2};
            const auto begun = std::chrono::steady_clock::now();
            client.read(kSet, {&op, 1});
            CHECK(!op.error && CacheNode::is_part(2, 500, *bytes));
            CHECK(std::chrono::steady_clock::now() - begun < kSlabHang / 2);
            bytes.reset();  // under the address sanitizer, a late write into it is a finding
        }
        // The second does not wait behind the first: the slab is known to be stuck.
        CHECK_EQ(client.counts().slab_reads_given_up, 1u);
        CHECK_EQ(client.counts().ring_reads, 2u);
    }
    // Long enough for the disk to answer, when everything is gone but the read's own buffer.
    std::this_thread::sleep_for(kSlabHang + std::chrono::milliseconds(200));
}

TEST(closing_ends_reads_that_wait) {
    CacheNode node(kObjects, kObjectBytes, 2);
    node.silent = true;
    CacheClient client(options());
    node.connect(client);
    std::thread closer([&] {
        while (client.connection_counts().messages == 0) std::this_thread::yield();
        client.close();
    });
    std::vector<std::byte> bytes(10);
    CHECK_THROWS(Code::closed, "closed", client.read_checked(kSet, 0, 0, bytes, 20, nullptr));
    closer.join();
    client.close();
    CHECK_THROWS(Code::config, "no set 4", client.read_checked(kSet, 0, 0, bytes, 20, nullptr));
    CHECK_THROWS(Code::closed, "closed", node.connect(client));
}

TEST(an_interrupted_read_ends) {
    CacheNode node(kObjects, kObjectBytes, 2);
    node.silent = true;
    CacheClient client(options());
    node.connect(client);
    std::vector<std::byte> bytes(10);
    CHECK_THROWS(Code::closed, "interrupted", client.read_checked(kSet, 0, 0, bytes, 20, [] { return true; }));
}

TEST(a_cancelled_read_of_an_engine_ends_long_before_its_deadline) {
    CacheNode node(kObjects, kObjectBytes, 2);
    node.silent = true;
    CacheClient client(options());
    node.connect(client);
    std::vector<std::byte> bytes(10);
    std::atomic<bool> cancelled{false};
    ReadOp op{nullptr, 0, bytes, 0};
    op.cancelled = &cancelled;
    const auto begun = Clock::now();
    std::thread canceller([&] {
        while (client.connection_counts().messages == 0) std::this_thread::yield();
        cancelled = true;
    });
    client.read(kSet, {&op, 1});
    canceller.join();
    CHECK(op.error && op.error->code() == Code::closed);
    CHECK(Clock::now() - begun < std::chrono::seconds(10));
}

TEST(arguments_that_make_no_sense_are_errors) {
    CHECK_THROWS(Code::config, "deadline_s", CacheClient({.deadline_s = 0}));
    CHECK_THROWS(Code::config, "slab_read_s", CacheClient({.slab_read_s = -1}));
    CHECK_THROWS(Code::config, "slab_io", CacheClient({.slab_io = "mmap"}));
    CHECK_THROWS(Code::config, "slab_io", CacheClient({.slab_io = "fault:x"}));
    CacheNode node(kObjects, kObjectBytes, 2);
    CacheClient client(options());
    node.connect(client);
    std::vector<std::byte> bytes(10);
    CHECK_THROWS(Code::config, "no set 5", client.read_checked(5, 0, 0, bytes, 20, nullptr));
    CHECK_THROWS(Code::config, "object 3 of a set of 3", client.read_checked(kSet, 3, 0, bytes, 20, nullptr));
    CHECK_THROWS(Code::config, "of an object of", client.read_checked(kSet, 0, kObjectBytes - 9, bytes, 20, nullptr));
    const std::vector<std::uint64_t> sizes{1, 2};
    CHECK_THROWS(Code::config, "not the 2 shards",
                 make_cache_engine({&client, [](CacheClient*) {}}, kSet, sizes));
}

TEST_MAIN
