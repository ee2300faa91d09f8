// small: records copied out of a mapping at random. tokens: windows, made int64 on the way. What a loop in C++ over a
// mapped file does on all cores, without a check of what it reads, and with a signal for who cuts the file short.
#include "timed.hpp"

namespace {

constexpr int kCopiesARound = 256;
constexpr std::size_t kBatch = 16;  // windows: a buffer of this many is written again and again

}  // namespace

int main(int count, char** values) {
    const limits::Arguments arguments(count, values);
    const bool small = arguments.work == "small";
    if (!small && arguments.work != "tokens") limits::Arguments::fail("mapped is a limit of small and tokens");
    const int file = limits::open_file(arguments.raw + (small ? "/small/records.bin" : "/tokens/tokens.bin"));
    const char* bytes = limits::mapped(file);
    std::vector<limits::Random> randoms;
    for (unsigned thread = 0; thread < arguments.threads; ++thread) randoms.emplace_back(thread);
    double per_s = 0, unit_bytes = 0;
    if (small) {
        const std::vector<std::int64_t> ends = limits::numbers_in(arguments.raw + "/small/offsets.npy");
        std::vector<std::vector<char>> buffers(arguments.threads, std::vector<char>(std::size_t{1} << 20));
        per_s = limits::rate(arguments, [&](unsigned thread) {
            for (int i = 0; i < kCopiesARound; ++i) {
                const std::uint64_t number = randoms[thread].below(ends.size() - 1);
                std::memcpy(buffers[thread].data(), bytes + ends[number],
                            static_cast<std::size_t>(ends[number + 1] - ends[number]));
                limits::used(buffers[thread].data());
            }
            return kCopiesARound;
        });
        unit_bytes = static_cast<double>(ends.back()) / static_cast<double>(ends.size() - 1);
    } else {
        const std::uint64_t windows = limits::size_of(file) / (limits::kWindow * 2);
        std::vector<std::vector<std::int64_t>> buffers(arguments.threads,
                                                       std::vector<std::int64_t>(kBatch * limits::kWindow));
        per_s = limits::rate(arguments, [&](unsigned thread) {
            for (std::size_t i = 0; i < kBatch; ++i) {
                const auto* from = reinterpret_cast<const std::uint16_t*>(bytes) +
                                   randoms[thread].below(windows) * limits::kWindow;
                std::int64_t* to = buffers[thread].data() + i * limits::kWindow;
                for (std::uint64_t token = 0; token < limits::kWindow; ++token) to[token] = from[token];
                limits::used(to);
            }
            return kBatch;
        });
        unit_bytes = limits::kWindow * 8.0;
    }
    limits::print(per_s, per_s * unit_bytes);
}
