// Any bytes as a baseline JPEG: our decoder gives libjpeg's pixels without more warnings than the header's, or leaves
// the file to libjpeg. At every scale. Entry point of libFuzzer's convention.
#include <cstdint>
#include <cstdlib>

#include "codec/image.hpp"
#include "codec/image_bytes.hpp"
#include "error.hpp"
#include "tests/libjpeg.hpp"

namespace {

// Larger pictures only take longer.
constexpr std::uint64_t kPixelsMax = std::uint64_t{1} << 16;

// Eight times what pictures of 8 bits come to.
constexpr long kCoefficientMax = 8191;

void compare(ff::Bytes file, const ff::ImageInfo& info, std::uint32_t reduction, bool plausible) {
    ff::BaselineJpeg portable(ff::portable_jpeg_kernels()), best(ff::best_jpeg_kernels());
    const ff::SourceRegion all{0, (info.width + reduction - 1) / reduction, 0,
                               (info.height + reduction - 1) / reduction};
    const ff::test::Pixels ours = ff::test::decode_with_ours(portable, file, reduction, all);
    const ff::test::Pixels same = ff::test::decode_with_ours(best, file, reduction, all);
    if (ours.decoded != same.decoded || ours.rgbx != same.rgbx) std::abort();
    if (!ours.decoded) return;
    const ff::test::Pixels theirs = ff::test::decode_with_libjpeg(file, reduction);
    if (!theirs.decoded || theirs.warnings != ours.warnings) std::abort();
    if (plausible && theirs.rgbx != ours.rgbx) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ff::Bytes file = ff::as_bytes(data, size);
    ff::ImageInfo info;
    try {
        info = ff::probe_image(file);
        ff::check_image_structure(file);  // as ImageDecoder does: a file without an end is refused before
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::corrupt) std::abort();
        return 0;
    }
    if (info.encoding != ff::ImageEncoding::jpeg || std::uint64_t{info.width} * info.height > kPixelsMax) return 0;
    const bool plausible = ff::test::coefficients_within(file, kCoefficientMax);
    for (const std::uint32_t reduction : {1u, 2u, 4u, 8u}) compare(file, info, reduction, plausible);
    return 0;
}
