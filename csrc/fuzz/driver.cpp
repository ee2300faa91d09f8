// Runs a fuzz entry point over a corpus, and over mutations of it that are the same on every machine.
//
//     fuzz_frame CORPUS... [--mutate N] [--seed S]
//
// CORPUS is a file or a folder of files. Each is given as it is; then, N times, one of them after a few random edits.
// A failure is found again with the same corpus, N and S.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "order/key.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;
using Input = std::vector<std::uint8_t>;

constexpr std::size_t kInputSizeMax = 1 << 20;
constexpr unsigned kEditCountMax = 8;

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

void run(const Input& input) {
    // A copy of exactly its size: the address sanitizer then sees a read of one byte too many.
    const Input exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
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
    for (const Input& input : corpus) run(input);
    Random random(seed);
    for (std::uint64_t i = 0; i < mutation_count; ++i) {
        Input input = corpus[random.below(corpus.size())];
        for (std::uint64_t left = 1 + random.below(kEditCountMax); left > 0; --left)
            edit(input, corpus[random.below(corpus.size())], random);
        run(input);
    }
    std::printf("%zu inputs, %llu mutations\n", corpus.size(), static_cast<unsigned long long>(mutation_count));
    return 0;
}
