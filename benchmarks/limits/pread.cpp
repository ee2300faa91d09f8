// small: pread(2) of records at random, from the page cache. tokens: of windows, as they are stored.
#include "timed.hpp"

namespace {

constexpr int kReadsARound = 256;

double read_at_random(const limits::Arguments& arguments, int file, const std::vector<std::int64_t>& ends) {
    std::vector<limits::Random> randoms;
    std::vector<std::vector<char>> buffers;
    for (unsigned thread = 0; thread < arguments.threads; ++thread) {
        randoms.emplace_back(thread);
        buffers.emplace_back(std::size_t{1} << 20);
    }
    return limits::rate(arguments, [&](unsigned thread) {
        for (int i = 0; i < kReadsARound; ++i) {
            const std::uint64_t number = randoms[thread].below(ends.size() - 1);
            const auto size = static_cast<std::size_t>(ends[number + 1] - ends[number]);
            if (::pread(file, buffers[thread].data(), size, ends[number]) != static_cast<ssize_t>(size))
                limits::Arguments::fail("a read was short");
        }
        return kReadsARound;
    });
}

}  // namespace

int main(int count, char** values) {
    const limits::Arguments arguments(count, values);
    const bool small = arguments.work == "small";
    if (!small && arguments.work != "tokens") limits::Arguments::fail("pread is a limit of small and tokens");
    const int file = limits::open_file(arguments.raw + (small ? "/small/records.bin" : "/tokens/tokens.bin"));
    std::vector<std::int64_t> ends;
    if (small)
        ends = limits::numbers_in(arguments.raw + "/small/offsets.npy");
    else
        for (std::uint64_t end = 0; end <= limits::size_of(file); end += limits::kWindow * 2)
            ends.push_back(static_cast<std::int64_t>(end));
    limits::mapped(file);  // so that all of it is in the page cache
    const double per_s = read_at_random(arguments, file, ends);
    limits::print(per_s, per_s * static_cast<double>(ends.back()) / static_cast<double>(ends.size() - 1));
}
