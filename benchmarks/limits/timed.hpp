// What the limit programs share: their arguments, rounds on all threads against the clock, random numbers, files.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace limits {

struct Arguments {
    std::string work, raw;
    double seconds;
    unsigned threads;

    Arguments(int count, char** values) {
        if (count != 5) fail("usage: PROGRAM WORK RAW SECONDS THREADS");
        work = values[1];
        raw = values[2];
        seconds = std::atof(values[3]);
        threads = static_cast<unsigned>(std::atoi(values[4]));
    }
    [[noreturn]] static void fail(const std::string& what) {
        std::fprintf(stderr, "%s\n", what.c_str());
        std::exit(2);
    }
};

// xorshift64: a step costs a nanosecond, so that drawing is not what is measured.
struct alignas(64) Random {  // a cache line, so that threads do not share one
    std::uint64_t state;
    explicit Random(std::uint64_t seed) : state(88172645463325252u + seed * 7919) {}
    std::uint64_t below(std::uint64_t limit) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % limit;
    }
};

// Calls work(thread), which does some and returns how many units that were, over and over on every thread; units a
// second of all threads together.
template <class Work>
double rate(const Arguments& arguments, Work work) {
    using Clock = std::chrono::steady_clock;
    std::atomic<unsigned> waiting{0};
    std::atomic<bool> go{false};
    std::vector<double> rates(arguments.threads);
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < arguments.threads; ++thread)
        threads.emplace_back([&, thread] {
            waiting.fetch_add(1);
            while (!go.load()) std::this_thread::yield();
            const auto began = Clock::now();
            double units = 0, spent_s = 0;
            while (spent_s < arguments.seconds) {
                units += static_cast<double>(work(thread));
                spent_s = std::chrono::duration<double>(Clock::now() - began).count();
            }
            rates[thread] = units / spent_s;
        });
    while (waiting.load() < arguments.threads) std::this_thread::yield();
    go.store(true);
    for (std::thread& thread : threads) thread.join();
    double all = 0;
    for (const double each : rates) all += each;
    return all;
}

inline int open_file(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY);
    if (file < 0) Arguments::fail(path + ": cannot be opened");
    return file;
}

inline std::uint64_t size_of(int file) {
    struct stat status {};
    if (::fstat(file, &status) != 0) Arguments::fail("fstat failed");
    return static_cast<std::uint64_t>(status.st_size);
}

// All of a file, mapped, with its pages there.
inline const char* mapped(int file) {
    void* at = ::mmap(nullptr, size_of(file), PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (at == MAP_FAILED) Arguments::fail("mmap failed");
    return static_cast<const char*>(at);
}

// The int64 numbers of a .npy file of version 1.
inline std::vector<std::int64_t> numbers_in(const std::string& path) {
    const int file = open_file(path);
    const std::uint64_t size = size_of(file);
    const char* bytes = mapped(file);
    std::uint16_t header_bytes;
    std::memcpy(&header_bytes, bytes + 8, 2);
    std::vector<std::int64_t> numbers((size - 10 - header_bytes) / 8);
    std::memcpy(numbers.data(), bytes + 10 + header_bytes, numbers.size() * 8);
    return numbers;
}

inline void print(double per_s, double bytes_per_s) {
    std::printf("{\"per_s\": %.1f, \"gb_per_s\": %.3f}\n", per_s, bytes_per_s / 1e9);
}

// Keeps the compiler from leaving a copy out.
inline void used(const void* at) { __asm__ volatile("" : : "r"(at) : "memory"); }

inline constexpr std::uint64_t kWindow = 2048;  // tokens

}  // namespace limits
