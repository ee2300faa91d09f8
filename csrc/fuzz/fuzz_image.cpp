// Any bytes as an image: probed, checked and decoded under every sizing, or refused with Error(corrupt); nothing else.
// Entry point of libFuzzer's convention.
//
// Its mutator keeps what a decoder checks first as it must be (the crcs of PNG's chunks, the sizes of RIFF) most of the
// time, and moves whole segments of a JPEG: else nearly every edit would be refused at the door.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "codec/image.hpp"
#include "codec/image_bytes.hpp"
#include "error.hpp"
#include "order/key.hpp"

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

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

namespace {

constexpr std::size_t kPngChunkExtra = 12;  // length, type, crc

std::uint32_t slow_png_crc(ff::Bytes bytes) {
    std::uint32_t crc = 0xFFFFFFFFu;
    for (const std::byte b : bytes) {
        crc ^= std::to_integer<std::uint32_t>(b);
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

void store_be32(std::uint8_t* at, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) at[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

// Right crcs for all chunks that lie inside of the file.
void repair_png(std::uint8_t* data, std::size_t size) {
    const ff::Bytes file = ff::as_bytes(data, size);
    for (std::size_t at = 8; size - at >= kPngChunkExtra;) {
        const std::size_t length = ff::load_be32(file.data() + at);
        if (length > size - at - kPngChunkExtra) return;
        store_be32(data + at + 8 + length, slow_png_crc(file.subspan(at + 4, length + 4)));
        at += kPngChunkExtra + length;
    }
}

// RIFF's size is the file's, and the last chunk ends with it.
void repair_webp(std::uint8_t* data, std::size_t size) {
    const auto store = [&](std::size_t at, std::size_t value) {
        for (int i = 0; i < 4; ++i) data[at + static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(value >> (8 * i));
    };
    store(4, size - 8);
    for (std::size_t at = 12; size - at >= 8;) {
        std::size_t length = ff::load_le<std::uint32_t>(ff::as_bytes(data + at + 4, 4).data());
        if (length > size - at - 8) store(at + 4, length = size - at - 8);
        at += std::min(size - at, 8 + length + (length & 1));
    }
}

// Where the segments of a JPEG begin and end, entropy-coded data with the scan header before it.
std::vector<std::pair<std::size_t, std::size_t>> segments_of(ff::Bytes file) {
    std::vector<std::size_t> begins;
    try {
        ff::JpegWalk walk(file);
        while (const auto marker = walk.next()) begins.push_back(marker->at);
    } catch (const ff::Error&) {  // the rest is one segment
    }
    std::vector<std::pair<std::size_t, std::size_t>> segments;
    for (std::size_t i = 0; i < begins.size(); ++i)
        segments.emplace_back(begins[i], i + 1 < begins.size() ? begins[i + 1] : file.size());
    return segments;
}

// Copies one segment before another, or takes it out, or edits the fields behind its length.
std::size_t move_segments(std::uint8_t* data, std::size_t size, std::size_t size_max, std::uint64_t seed) {
    const auto segments = segments_of(ff::as_bytes(data, size));
    if (segments.empty()) return LLVMFuzzerMutate(data, size, size_max);
    std::uint64_t drawn = 0;
    const auto below = [&](std::size_t bound) { return ff::scale_to(ff::derive(seed, drawn++), bound); };
    const auto [begin, end] = segments[below(segments.size())];
    std::vector<std::uint8_t> file(data, data + size);
    const auto first = file.begin() + static_cast<std::ptrdiff_t>(begin);
    const std::vector<std::uint8_t> segment(first, file.begin() + static_cast<std::ptrdiff_t>(end));
    switch (below(4)) {
        case 0:
            file.insert(file.begin() + static_cast<std::ptrdiff_t>(segments[below(segments.size())].first),
                        segment.begin(), segment.end());
            break;
        case 1:
            file.erase(first, first + static_cast<std::ptrdiff_t>(segment.size()));
            break;
        default:  // the fields come first: most edits are near the segment's beginning
            if (segment.size() > 4)
                file[begin + 4 + below(std::min<std::size_t>(segment.size() - 4, 20))] =
                    static_cast<std::uint8_t>(below(256));
    }
    const std::size_t kept = std::min(file.size(), size_max);
    std::copy_n(file.begin(), kept, data);
    return kept;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t size_max,
                                               unsigned seed) {
    const bool jpeg = ff::is_jpeg(ff::as_bytes(data, size));
    const std::uint64_t choice = ff::derive(seed, 0) % 4;
    size = jpeg && choice < 2 ? move_segments(data, size, size_max, seed) : LLVMFuzzerMutate(data, size, size_max);
    const ff::Bytes file = ff::as_bytes(data, size);
    if (choice != 0 && ff::is_png(file)) repair_png(data, size);
    if (choice != 0 && ff::is_webp(file)) repair_webp(data, size);
    return size;
}
