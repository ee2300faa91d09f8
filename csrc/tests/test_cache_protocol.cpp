// The protocol of slot words with real threads, a real file and slots that are used again at once. Also run on AArch64.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fcntl.h>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "cache/slab.hpp"
#include "tests/check.hpp"

using namespace ff;

namespace {

constexpr std::uint64_t kSlots = 2, kChunks = 16;
constexpr std::size_t kBytes = 256 * 1024;  // of a chunk: four checks
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr int kReaders = 3;
constexpr std::chrono::milliseconds kDuration{600};
constexpr std::chrono::seconds kPatience{60};  // for what must happen at some time

int shared_memory(std::uint64_t bytes) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
    return fd;
}

int slab_file() {
    std::string name = std::filesystem::temp_directory_path() / "ff-slab-XXXXXX";
    const int fd = ::mkostemp(name.data(), O_CLOEXEC);
    CHECK(fd >= 0);
    ::unlink(name.c_str());
    CHECK(::ftruncate(fd, kSlots * kSlotBytes) == 0);
    return fd;
}

std::uint64_t pattern(std::uint64_t chunk, std::size_t at) { return (chunk + 1) * 0x9E3779B97F4A7C15u ^ at; }

Key key_of_pool() {
    Key key;
    key.fill(std::byte{0x5A});
    return key;
}

// A slab, its words and its map.
struct Pool {
    Descriptor words_file{shared_memory(kSlots * 8)}, map_file{shared_memory(ChunkMap::bytes(kChunks, 0))};
    SlotWords words{words_file.get(), kSlots, Access::write};
    ChunkMap map{map_file.get(), kChunks, 0, Access::write};
    Slab slab{Descriptor(slab_file()), 0, kSlots};

    // Fills slots with random chunks until `stop`. Old map entries stay where they are: they are hints.
    void write_until(const std::atomic<bool>& stop) {
        std::mt19937_64 random(1);
        std::vector<std::uint64_t> data(kBytes / 8);
        for (std::uint64_t fill = 0; !stop.load(); ++fill) {
            const std::uint64_t chunk = random() % kChunks, slot = fill % kSlots;
            for (std::size_t i = 0; i < data.size(); ++i) data[i] = pattern(chunk, i);
            slab.fill(words, slot, key_of_pool(), chunk, as_bytes(data.data(), kBytes));
            map.set(chunk, map_entry(slot, words.publish(slot)));
        }
    }
};

struct Counted {
    std::atomic<std::uint64_t> accepted{0}, refused{0}, wrong{0};
};

bool is_part_of(std::uint64_t chunk, std::size_t first, std::span<const std::uint64_t> values) {
    for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i] != pattern(chunk, first + i)) return false;
    return true;
}

// Reads parts of random chunks by the protocol, with the second look at the word or without it, and counts what came.
void read_until(const Pool& pool, const std::atomic<bool>& stop, unsigned seed, bool second_look, Counted& counted) {
    std::mt19937_64 random(seed);
    std::vector<std::uint64_t> bytes(kReadBytes / 8);
    while (!stop.load()) {
        const std::uint64_t chunk = random() % kChunks;
        const std::size_t offset = random() % ((kBytes - kReadBytes) / 8) * 8;
        const std::uint64_t entry = pool.map.entry(chunk);
        if (entry == kNoEntry) continue;
        const std::uint64_t slot = slot_of(entry), word = pool.words.load(slot);
        bool accepted = accepts(entry, word);
        if (accepted) {
            const auto at = static_cast<off_t>(pool.slab.offset_of(slot) + offset);
            accepted = ::pread(pool.slab.fd(), bytes.data(), kReadBytes, at) == static_cast<ssize_t>(kReadBytes);
            CHECK(accepted);
            if (second_look) accepted = pool.words.load_after_read(slot) == word;
        }
        (accepted ? counted.accepted : counted.refused) += 1;
        if (accepted && !is_part_of(chunk, offset / 8, bytes)) counted.wrong += 1;
    }
}

// One writer and the readers, until `enough` says so.
template <class Enough>
void race(bool second_look, Counted& counted, Enough enough) {
    Pool pool;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    threads.emplace_back([&] { pool.write_until(stop); });
    for (int i = 0; i < kReaders; ++i)
        threads.emplace_back([&, i] { read_until(pool, stop, static_cast<unsigned>(i), second_look, counted); });
    while (!enough()) std::this_thread::yield();
    stop = true;
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

TEST(what_readers_accept_is_what_they_asked_for) {
    Counted counted;
    const auto until = std::chrono::steady_clock::now() + kDuration;
    race(true, counted, [&] { return std::chrono::steady_clock::now() > until && counted.accepted > 100; });
    std::printf("    %llu accepted, %llu refused\n", static_cast<unsigned long long>(counted.accepted),
                static_cast<unsigned long long>(counted.refused));
    CHECK_EQ(counted.wrong.load(), 0u);
    CHECK(counted.refused > 0);
}

TEST(without_the_second_look_they_would_accept_wrong_bytes) {
    Counted counted;
    const auto until = std::chrono::steady_clock::now() + kPatience;
    race(false, counted, [&] { return counted.wrong > 0 || std::chrono::steady_clock::now() > until; });
    CHECK(counted.wrong > 0);
}

TEST(checked_reads_are_right_or_lost_but_never_damaged) {
    Pool pool;
    std::atomic<bool> stop{false};
    std::thread writer([&] { pool.write_until(stop); });
    std::mt19937_64 random(9);
    std::vector<std::uint64_t> bytes(kReadBytes / 8);
    int right = 0, lost = 0;
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while ((right < 50 || lost < 5) && std::chrono::steady_clock::now() < until) {
        const std::uint64_t chunk = random() % kChunks;
        const std::size_t offset = random() % ((kBytes - kReadBytes) / 8) * 8;
        const std::uint64_t entry = pool.map.entry(chunk);
        if (entry == kNoEntry) continue;
        const std::uint64_t slot = slot_of(entry), word = pool.words.load(slot);
        const SlotRange range{slot, word, key_of_pool(), chunk, static_cast<std::uint32_t>(offset), kReadBytes};
        if (!accepts(entry, word)) continue;
        const bool came = pool.slab.read(pool.words, range, {reinterpret_cast<std::byte*>(bytes.data()), kReadBytes});
        (came ? right : lost) += 1;
        if (came) CHECK(is_part_of(chunk, offset / 8, bytes));
    }
    stop = true;
    writer.join();
    CHECK(right >= 50);
    CHECK(lost >= 5);
}

TEST(a_writer_that_died_leaves_a_slot_that_nobody_reads_and_that_can_be_filled) {
    Pool pool;
    const std::vector<std::byte> data(kBytes, std::byte{7});
    pool.slab.fill(pool.words, 0, key_of_pool(), 1, data);
    const std::uint64_t first = pool.words.publish(0);
    const std::uint64_t promised = pool.slab.fill(pool.words, 0, key_of_pool(), 2, data);  // and no publish
    CHECK(!is_published(pool.words.load(0)));
    CHECK_THROWS(Code::internal, "slot 1 was published", pool.words.publish(1));
    const std::uint64_t second = pool.slab.fill(pool.words, 0, key_of_pool(), 3, data);
    CHECK(second != promised);
    CHECK_EQ(pool.words.publish(0), second);
    CHECK(!accepts(map_entry(0, first), pool.words.load(0)));
    CHECK(!accepts(map_entry(0, promised), pool.words.load(0)));
}

TEST(a_slot_says_what_it_holds_and_finds_every_flipped_byte) {
    Pool pool;
    std::vector<std::byte> data(kCheckBytes + 1000), scratch(kChunkBytes);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);
    CHECK(!pool.slab.trailer(1).has_value());
    const std::uint64_t generation = pool.slab.fill(pool.words, 1, key_of_pool(), 99, data);
    CHECK_EQ(pool.words.publish(1), generation);
    const auto trailer = pool.slab.verified(1, scratch);
    CHECK(trailer.has_value());
    CHECK(trailer->names(key_of_pool(), 99));
    CHECK_EQ(trailer->length, data.size());
    CHECK_EQ(trailer->generation, generation);
    const auto flip = [&](std::uint64_t at) {
        std::byte value;
        const auto where = static_cast<off_t>(pool.slab.offset_of(1) + at);
        CHECK(::pread(pool.slab.fd(), &value, 1, where) == 1);
        value ^= std::byte{4};
        CHECK(::pwrite(pool.slab.fd(), &value, 1, where) == 1);
    };
    std::vector<std::uint64_t> places{0, 70, kCheckBytes - 1, kCheckBytes, data.size() - 1};
    for (std::uint64_t at = 0; at < 128; at += 3) places.push_back(kChunkBytes + at);
    places.push_back(kChunkBytes + kTrailerBytes - 1);
    for (const std::uint64_t at : places) {
        flip(at);
        CHECK(!pool.slab.verified(1, scratch).has_value());
        flip(at);
    }
    CHECK(pool.slab.verified(1, scratch).has_value());
    // The bytes of one slot in another one are not a slot.
    std::vector<std::byte> whole(kSlotBytes);
    CHECK(::pread(pool.slab.fd(), whole.data(), whole.size(), static_cast<off_t>(pool.slab.offset_of(1))) ==
          static_cast<ssize_t>(whole.size()));
    CHECK(::pwrite(pool.slab.fd(), whole.data(), whole.size(), 0) == static_cast<ssize_t>(whole.size()));
    CHECK(!pool.slab.trailer(0).has_value());
}

TEST(files_that_are_too_short_are_errors_and_not_signals) {
    const Descriptor file(shared_memory(4096));
    CHECK_THROWS(Code::corrupt, "has 4096 bytes, 8192 are needed", SlotWords(file.get(), 1024, Access::read));
    CHECK_THROWS(Code::corrupt, "chunk map", ChunkMap(file.get(), 512, 1, Access::read));
    CHECK_THROWS(Code::config, "a pool has at most", SlotWords(file.get(), kSlotsMax + 1, Access::read));
    CHECK_THROWS(Code::config, "too large", ChunkMap(file.get(), std::uint64_t{1} << 41, 0, Access::read));
    CHECK_THROWS(Code::config, "of a pool", Slab(Descriptor(slab_file()), kSlotsMax, 1));
    const Slab slab(Descriptor(shared_memory(4096)), 0, 1);
    CHECK_THROWS(Code::os, "reading slot 0", slab.trailer(0));
    CHECK_THROWS(Code::config, "not in this slab", slab.trailer(1));
}

TEST_MAIN
