// Any bytes as an image: probed, checked and decoded under every sizing, or refused with Error(corrupt); nothing else.
// Entry point of libFuzzer's convention.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "codec/image.hpp"
#include "error.hpp"

namespace {

// Larger pictures only take longer: a header of 20 bytes can ask for 2^28 pixels, which is allowed and is no finding.
constexpr std::uint64_t kPixelsMax = std::uint64_t{1} << 18;

ff::ImageProgram program_of(unsigned choice) {
    ff::ImageProgram program;
    program.sizing = static_cast<ff::Sizing>(choice % 6);
    program.out_height = 1 + choice / 6 % 23;
    program.out_width = 1 + choice / 7 % 37;
    program.short_side = 1 + choice / 5 % 19;
    program.apply_exif = choice % 3 != 0;
    program.flip_probability = 0.5;
    program.type = static_cast<ff::PixelType>(choice / 11 % 3);
    program.layout = static_cast<ff::PixelLayout>(choice / 13 % 2);
    program.normalize = choice % 2 == 0;
    return program;
}

void decode_once(ff::Bytes encoded, unsigned choice) {
    const ff::ImageProgram program = program_of(choice);
    ff::ImageDecoder decoder;
    ff::ImageCounts counts;
    const auto [height, width] = decoder.out_shape(encoded, program);
    if (std::uint64_t{height} * width > kPixelsMax) return;
    std::vector<std::byte> out(std::size_t{3} * height * width * program.pixel_bytes());
    decoder.decode(encoded, program, {choice, 1, 2, 3}, out, counts);
}

// Only Error(corrupt) may come out.
template <class Action>
void expect_corrupt_or_nothing(Action action) {
    try {
        action();
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::corrupt || error.message().empty()) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ff::Bytes encoded = ff::as_bytes(data, size);
    expect_corrupt_or_nothing([&] { ff::check_image_structure(encoded); });
    expect_corrupt_or_nothing([&] {
        const ff::ImageInfo info = ff::probe_image(encoded);
        if (std::uint64_t{info.width} * info.height > kPixelsMax) return;
        unsigned choice = static_cast<unsigned>(size);
        for (std::size_t i = 0; i < size; i += 1 + size / 16) choice = choice * 31 + data[i];
        decode_once(encoded, choice);
    });
    return 0;
}
