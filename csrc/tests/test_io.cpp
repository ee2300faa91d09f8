// Engines for local files: the same bytes and the same failures from each, and what they say of themselves.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "check.hpp"
#include "io/choice.hpp"
#include "io/device_reads.hpp"
#include "io/engine.hpp"
#include "io/io_buffer.hpp"

namespace {

using namespace ff;

constexpr std::size_t kFileBytes = 3 * 1024 * 1024 + 77;
const std::vector<IoOptions> kEngines = {{"pread", false}, {"pread", true}, {"uring", false},
                                         {"uring", true},  {"auto", false}, {"auto", true}};

// A file of random bytes, on the disk of $TMPDIR.
class TestFile {
  public:
    explicit TestFile(std::size_t bytes = kFileBytes) : content(bytes) {
        std::string pattern = std::filesystem::temp_directory_path() / "ff-io-XXXXXX";
        folder_ = ::mkdtemp(pattern.data());
        path = folder_ + "/file";
        std::mt19937_64 random(7);
        for (std::byte& byte : content) byte = static_cast<std::byte>(random());
        std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(content.data()),
                                                    static_cast<std::streamsize>(bytes));
    }
    ~TestFile() { std::filesystem::remove_all(folder_); }
    TestFile(const TestFile&) = delete;
    TestFile& operator=(const TestFile&) = delete;

    // So that reads must go to the disk.
    void leave_page_cache() const {
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        ::fsync(fd);
        ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        ::close(fd);
    }

    void enter_page_cache() const {
        std::vector<char> sink(content.size());
        std::ifstream(path, std::ios::binary).read(sink.data(), static_cast<std::streamsize>(sink.size()));
    }

    std::vector<std::byte> content;
    std::string path;

  private:
    std::string folder_;
};

struct Range {
    std::uint64_t offset;
    std::size_t length;
};

// Ops for ranges in one buffer: with room around each, or packed.
class Ops {
  public:
    Ops(const File& file, const std::vector<Range>& ranges, bool has_room) {
        std::size_t total = 0;
        std::vector<std::size_t> places;
        for (const Range& range : ranges) {
            if (has_room) total = round_up(total, kDirectAlign) + range.offset % kDirectAlign;
            places.push_back(total);
            total += range.length;
        }
        buffer_.resize_discarding(round_up(total, kDirectAlign));
        std::memset(buffer_.data(), 0xEE, buffer_.size());
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            ReadOp op{&file, ranges[i].offset, {buffer_.data() + places[i], ranges[i].length}};
            op.has_room = has_room;
            ops.push_back(op);
        }
    }

    std::vector<ReadOp> ops;

  private:
    IoBuffer buffer_;
};

std::vector<Range> random_ranges(std::mt19937_64& random, std::size_t count, std::size_t file_bytes) {
    std::vector<Range> ranges;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t offset = random() % (file_bytes + 5000);  // some begin behind the end
        ranges.push_back({offset, random() % (i % 7 == 0 ? 200'000 : 3'000)});
    }
    return ranges;
}

// What pread(2) would give: the bytes up to the file's end.
void check_op(const ReadOp& op, const std::vector<std::byte>& content) {
    const std::size_t there = op.offset >= content.size() ? 0 : content.size() - op.offset;
    CHECK_EQ(op.os_errno, 0);
    CHECK_EQ(op.done, std::min(there, op.into.size()));
    CHECK(op.done == 0 || std::memcmp(op.into.data(), content.data() + op.offset, op.done) == 0);
}

std::unique_ptr<ReadEngine> engine_of(const IoOptions& options) { return make_file_engine(options); }

TEST(every_engine_brings_the_bytes_of_the_file_cold_and_warm) {
    const TestFile test;
    const auto file = File::open(test.path);
    std::mt19937_64 random(11);
    for (const IoOptions& options : kEngines) {
        const auto engine = engine_of(options);
        for (int round = 0; round < 12; ++round) {
            round % 2 == 0 ? test.leave_page_cache() : test.enter_page_cache();
            const auto ranges = random_ranges(random, random() % 300, test.content.size());
            Ops made(*file, ranges, engine->reads_directly());
            engine->read(made.ops);
            for (const ReadOp& op : made.ops) check_op(op, test.content);
        }
        const IoReport report = engine->report();
        CHECK(report.device_reads > 0);
        CHECK(report.cached_bytes > 0);
    }
}

TEST(a_page_cache_that_has_had_all_for_long_may_lose_it) {
    const TestFile test;
    const auto file = File::open(test.path);
    std::mt19937_64 random(13);
    const auto engine = engine_of({"pread", false});
    for (int round = 0; round < 60; ++round) {
        round == 40 ? test.leave_page_cache() : test.enter_page_cache();
        Ops made(*file, random_ranges(random, 150, test.content.size()), false);
        engine->read(made.ops);
        for (const ReadOp& op : made.ops) check_op(op, test.content);
    }
    CHECK(engine->report().device_reads > 0);
}

TEST(ops_without_room_are_read_by_direct_engines_too) {
    const TestFile test;
    const auto file = File::open(test.path);
    std::mt19937_64 random(12);
    const auto engine = engine_of({"uring", true});
    test.leave_page_cache();
    Ops made(*file, random_ranges(random, 50, test.content.size()), false);
    engine->read(made.ops);
    for (const ReadOp& op : made.ops) check_op(op, test.content);
}

TEST(direct_reads_leave_what_lies_beyond_their_room_alone) {
    const TestFile test;
    const auto file = File::open(test.path);
    const auto engine = engine_of({"uring", true});
    test.leave_page_cache();
    // Two neighbours in the file and in memory, read in turn: the second's bytes outlast the first's being read again.
    Ops made(*file, {{5000, 100}, {3 * kDirectAlign + 5, 100}}, true);
    engine->read({&made.ops[1], 1});
    engine->read({&made.ops[0], 1});
    for (const ReadOp& op : made.ops) check_op(op, test.content);
}

TEST(threads_read_through_one_engine_at_once) {
    const TestFile test;
    const auto file = File::open(test.path);
    for (const IoOptions& options : kEngines) {
        const auto engine = engine_of(options);
        std::vector<std::thread> threads;
        for (unsigned seed = 0; seed < 4; ++seed)
            threads.emplace_back([&, seed] {
                std::mt19937_64 random(seed);
                for (int round = 0; round < 10; ++round) {
                    if (round % 3 == 0) test.leave_page_cache();
                    Ops made(*file, random_ranges(random, 60, test.content.size()), engine->reads_directly());
                    engine->read(made.ops);
                    for (const ReadOp& op : made.ops) check_op(op, test.content);
                }
            });
        for (std::thread& thread : threads) thread.join();
    }
}

TEST(threads_that_end_hand_their_rings_to_nobody) {
    const TestFile test;
    const auto file = File::open(test.path);
    const auto engine = engine_of({"uring", true});
    for (unsigned i = 0; i < 40; ++i)  // the ids of ended threads are used again
        std::thread([&, i] {
            std::mt19937_64 random(i);
            test.leave_page_cache();
            Ops made(*file, random_ranges(random, 20, test.content.size()), true);
            engine->read(made.ops);
            for (const ReadOp& op : made.ops) check_op(op, test.content);
        }).join();
}

TEST(a_file_that_is_truncated_after_it_was_opened_gives_short_reads) {
    for (const IoOptions& options : kEngines) {
        const TestFile test;
        const auto file = File::open(test.path);
        const std::size_t cut = 1'000'003;
        std::filesystem::resize_file(test.path, cut);
        const std::vector<std::byte> left(test.content.begin(), test.content.begin() + cut);
        test.leave_page_cache();
        const auto engine = engine_of(options);
        Ops made(*file, {{0, 5000}, {cut - 100, 5000}, {cut - 100, 100}, {cut + 1, 10}, {2'000'000, 100'000}}, true);
        engine->read(made.ops);
        for (const ReadOp& op : made.ops) check_op(op, left);
    }
}

TEST(an_io_error_is_the_ops_own_and_the_bytes_before_it_stay) {
    // Memory of this process as a file: reading what is not mapped is EIO.
    IoBuffer memory;
    memory.resize_discarding(2 * kDirectAlign);
    std::memset(memory.data(), 0x5A, memory.size());
    const auto begin = reinterpret_cast<std::uint64_t>(memory.data());
    for (const IoOptions& options : kEngines) {
        const File file(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC), "/proc/self/mem", 0);
        const auto engine = engine_of(options);
        Ops made(file, {{begin, 100}, {16, 100}, {begin + 50, 100}}, false);
        engine->read(made.ops);
        CHECK_EQ(made.ops[0].done, 100u);
        CHECK_EQ(made.ops[1].done, 0u);
        CHECK_EQ(made.ops[1].os_errno, EIO);
        CHECK_EQ(made.ops[2].done, 100u);
        CHECK_EQ(made.ops[2].os_errno, 0);
        CHECK(made.ops[2].into[99] == std::byte{0x5A});
    }
}

TEST(a_descriptor_that_cannot_be_read_is_an_error_of_every_op) {
    const TestFile test;
    for (const IoOptions& options : kEngines) {
        const File file(::open(test.path.c_str(), O_WRONLY | O_CLOEXEC), "/nowhere", 100);
        const auto engine = engine_of(options);
        Ops made(file, {{0, 10}, {50, 10}}, true);
        engine->read(made.ops);
        for (const ReadOp& op : made.ops) {
            CHECK_EQ(op.done, 0u);
            CHECK_EQ(op.os_errno, EBADF);
        }
    }
}

TEST(another_file_at_the_same_path_is_not_read_directly) {
    const TestFile test;
    const auto file = File::open(test.path);
    std::filesystem::rename(test.path, test.path + ".old");
    std::ofstream(test.path) << "another";
    CHECK_EQ(file->direct_fd(), -1);
}

TEST(the_faster_of_two_stays_after_each_has_shown_enough) {
    Choice choice;
    for (std::uint32_t i = 0; i <= Choice::kCallsMin; ++i) {
        CHECK_EQ(choice.decided(), -1);
        for (int turn = 0; turn < 2; ++turn) {
            const std::size_t who = choice.next();
            choice.record(who, Choice::kBytesMin, who == 0 ? 1.0 : 2.0);
        }
    }
    CHECK_EQ(choice.decided(), 0);
    CHECK_EQ(choice.next(), 0u);
}

TEST(contenders_that_are_as_good_as_each_other_are_decided_for_io_uring) {
    Choice choice;
    for (std::uint32_t i = 0; i < 2 * (Choice::kCallsMin + 1); ++i) {
        const std::size_t who = choice.next();
        choice.record(who, Choice::kBytesMin, who == 0 ? 1.0 : 1.05);
    }
    CHECK_EQ(choice.decided(), 1);
}

TEST(a_first_call_and_few_bytes_decide_nothing) {
    Choice choice;
    for (std::uint32_t i = 0; i < 4 * Choice::kCallsMin; ++i) choice.record(choice.next(), 1000, 1.0);
    CHECK_EQ(choice.decided(), -1);
    CHECK(choice.rate(0) > 0);
}

TEST(auto_says_what_it_measured_or_why_it_could_not) {
    const TestFile test;
    const auto file = File::open(test.path);
    const auto engine = engine_of({"auto", false});
    CHECK(engine->report().why.find("nothing had to be waited for") != std::string::npos);
    std::mt19937_64 random(5);
    for (int round = 0; round < 200 && engine->report().why.find("measured") == std::string::npos; ++round) {
        test.leave_page_cache();
        Ops made(*file, random_ranges(random, 100, test.content.size()), false);
        engine->read(made.ops);
    }
    CHECK(engine->report().why.find("measured a thread: uring ") != std::string::npos);
}

TEST(an_engine_that_there_is_not_is_refused) {
    CHECK_THROWS(Code::config, "is not an engine", make_file_engine({"mmap", false}));
    CHECK_THROWS(Code::config, "is not an engine", make_file_engine({"fault:", false}));
    CHECK_THROWS(Code::config, "must be one or more", make_file_engine({"fault:q", false}));
}

}  // namespace

TEST_MAIN
