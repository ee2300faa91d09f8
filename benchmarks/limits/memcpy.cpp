// tokens: memcpy between two arrays of 256 MiB, every thread in its part. Counted are the bytes written: as many as a
// window of int64 has are a window.
#include "timed.hpp"

int main(int count, char** values) {
    const limits::Arguments arguments(count, values);
    if (arguments.work != "tokens") limits::Arguments::fail("memcpy is a limit of tokens");
    constexpr std::size_t kArrayBytes = std::size_t{256} << 20, kStepBytes = std::size_t{1} << 20;
    const std::size_t part = kArrayBytes / arguments.threads / kStepBytes * kStepBytes;
    std::vector<char> from(kArrayBytes, 1), to(kArrayBytes, 2);
    std::vector<std::size_t> at(arguments.threads * 16, 0);  // a cache line each
    const double steps_per_s = limits::rate(arguments, [&](unsigned thread) {
        std::size_t& offset = at[thread * 16];
        std::memcpy(to.data() + thread * part + offset, from.data() + thread * part + offset, kStepBytes);
        limits::used(to.data());
        offset = (offset + kStepBytes) % part;
        return 1;
    });
    const double bytes_per_s = steps_per_s * kStepBytes;
    limits::print(bytes_per_s / (limits::kWindow * 8), bytes_per_s);
}
