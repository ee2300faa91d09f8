// Runs a fuzz entry point over a corpus, and over mutations of it that are the same on every machine.
//
//     fuzz_frame CORPUS... [--mutate N] [--seed S]
//
// CORPUS is a file or a folder of files. Each is given as it is; then, N times, one of them after a few random edits. A
// target that knows its input's structure defines LLVMFuzzerCustomMutator, as for libFuzzer, and is asked for the edits.
// A failure is found again with the same corpus, N and S; the input that made it is left in the file `crash-input` of
// the current folder. An input that takes longer than kInputTimeMaxS is a failure too.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "order/key.hpp"

extern "C" {
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);
// Defined by targets that want it, and by the sanitizers' runtime.
__attribute__((weak)) std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t size_max,
                                                          unsigned seed);
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
}

namespace {

namespace fs = std::filesystem;
using Input = std::vector<std::uint8_t>;

constexpr std::size_t kInputSizeMax = 1 << 20;
constexpr unsigned kEditCountMax = 8;
// The slowest input of the corpus takes milliseconds under the sanitizers; a machine that is busy is not 1,000 times
// slower.
constexpr unsigned kInputTimeMaxS = 20;
// Setting the alarm anew for each of millions of small inputs would cost more than many of them.
constexpr std::uint64_t kInputsPerAlarm = 256;

class Random {
  public:
    explicit Random(std::uint64_t seed) : seed_(seed) {}
    // A number in [0, bound).
    std::uint64_t below(std::uint64_t bound) { return ff::scale_to(ff::derive(seed_, count_++), bound); }

  private:
    std::uint64_t seed_, count_ = 0;
};

Input read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<Input> read_corpus(const std::vector<fs::path>& places) {
    std::vector<fs::path> files;
    for (const auto& place : places) {
        if (!fs::is_directory(place)) {
            files.push_back(place);
            continue;
        }
        for (const auto& entry : fs::directory_iterator(place))
            if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    std::vector<Input> inputs;
    for (const auto& file : files) inputs.push_back(read_file(file));
    return inputs;
}

void edit(Input& input, const Input& other, Random& random) {
    static constexpr std::uint8_t kEdges[] = {0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF};
    const auto place = [&] { return static_cast<std::ptrdiff_t>(random.below(input.size() + 1)); };
    const std::uint64_t kind = random.below(input.empty() ? 1 : 8);
    const auto at = input.empty() ? 0 : static_cast<std::size_t>(random.below(input.size()));
    switch (kind) {
        case 0:  // insert a run of one byte
            input.insert(input.begin() + place(), 1 + random.below(16), static_cast<std::uint8_t>(random.below(256)));
            break;
        case 1:
            input[at] ^= static_cast<std::uint8_t>(1u << random.below(8));
            break;
        case 2:
            input[at] = static_cast<std::uint8_t>(random.below(256));
            break;
        case 3:
            input[at] = kEdges[random.below(std::size(kEdges))];
            break;
        case 4:  // add a little: lengths and counts that are off by some
            input[at] = static_cast<std::uint8_t>(input[at] + random.below(9) - 4);
            break;
        case 5:
            input.resize(at);
            break;
        case 6:  // cut a piece out
            input.erase(input.begin() + static_cast<std::ptrdiff_t>(at),
                        input.begin() + static_cast<std::ptrdiff_t>(
                                            std::min<std::uint64_t>(input.size(), at + 1 + random.below(32))));
            break;
        default:  // splice with another input
            input.resize(at);
            if (!other.empty())
                input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(random.below(other.size())),
                             other.end());
    }
    if (input.size() > kInputSizeMax) input.resize(kInputSizeMax);
}

// The random numbers and the other inputs of LLVMFuzzerMutate, whose signature is libFuzzer's. One thread.
struct {
    Random* random = nullptr;
    const std::vector<Input>* corpus = nullptr;
} mutation;

// Room for what edits add, or a splice with another input of the corpus.
std::size_t room_of(const Input& input) { return std::min(kInputSizeMax, 2 * input.size() + 4096); }

Input mutated(const Input& from) {
    Input input = from;
    const std::size_t room = room_of(from);
    input.resize(room);
    const auto seed = static_cast<unsigned>(mutation.random->below(std::uint64_t{1} << 32));
    input.resize(LLVMFuzzerCustomMutator != nullptr
                     ? LLVMFuzzerCustomMutator(input.data(), from.size(), room, seed)
                     : LLVMFuzzerMutate(input.data(), from.size(), room));
    return input;
}

// What is running, for the handlers below.
const Input* running = nullptr;

// Only calls that a signal handler may make.
void keep_input() {
    if (running == nullptr) return;
    const int file = ::open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) return;
    [[maybe_unused]] const auto written = ::write(file, running->data(), running->size());
    ::close(file);
}

void fail_with_input(int signal) {
    keep_input();
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

void watch() {
    if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(keep_input);
    for (const int signal : {SIGABRT, SIGALRM}) std::signal(signal, fail_with_input);
}

void run(const Input& input) {
    // A copy of exactly its size: the address sanitizer then sees a read of one byte too many.
    const Input exact(input.begin(), input.end());
    running = &input;
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    running = nullptr;
}

std::uint64_t number(const char* text) {
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(text, &end, 10);
    if (end == text || *end != '\0') {
        std::fprintf(stderr, "%s is not a number\n", text);
        std::exit(2);
    }
    return value;
}

}  // namespace

std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max) {
    Random& random = *mutation.random;
    Input input(data, data + size);
    for (std::uint64_t left = 1 + random.below(kEditCountMax); left > 0; --left)
        edit(input, (*mutation.corpus)[random.below(mutation.corpus->size())], random);
    const std::size_t kept = std::min(input.size(), size_max);
    std::copy_n(input.begin(), kept, data);
    return kept;
}

int main(int count, char** arguments) {
    std::uint64_t mutation_count = 0, seed = 0;
    std::vector<fs::path> places;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if ((argument == "--mutate" || argument == "--seed") && i + 1 < count)
            (argument == "--mutate" ? mutation_count : seed) = number(arguments[++i]);
        else
            places.emplace_back(argument);
    }
    const std::vector<Input> corpus = read_corpus(places);
    if (corpus.empty()) {
        std::fprintf(stderr, "usage: %s CORPUS... [--mutate N] [--seed S]; the corpus is empty\n", arguments[0]);
        return 2;
    }
    watch();
    ::alarm(kInputTimeMaxS);
    for (const Input& input : corpus) run(input);
    Random random(seed);
    mutation = {&random, &corpus};
    for (std::uint64_t i = 0; i < mutation_count; ++i) {
        if (i % kInputsPerAlarm == 0) ::alarm(kInputTimeMaxS);
        run(mutated(corpus[random.below(corpus.size())]));
    }
    ::alarm(0);
    std::printf("%zu inputs, %llu mutations\n", corpus.size(), static_cast<unsigned long long>(mutation_count));
    return 0;
}
