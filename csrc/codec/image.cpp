// The decoder: plan, tables, codec, resampler, store. Everything is sized from the probed header before a codec runs.
#include "codec/image.hpp"

#include <string>

#include "codec/image_bytes.hpp"
#include "codec/image_codecs.hpp"
#include "codec/image_plan.hpp"
#include "codec/pixel_store.hpp"
#include "codec/resample.hpp"

namespace ff {
namespace {

// The largest of 8, 4, 2 by which both sides shrink at least, else 1: libjpeg has SIMD for these alone.
std::uint32_t dct_reduction(const ImagePlan& plan) noexcept {
    for (const std::uint32_t reduction : {8u, 4u, 2u}) {
        const auto shrinks = [&](const AxisPlan& axis) { return axis.box_size / reduction >= axis.full_size; };
        if (shrinks(plan.rows) && shrinks(plan.columns)) return reduction;
    }
    return 1;
}

}  // namespace

struct ImageDecoder::State {
    AxisTable columns, rows;
    CodecScratch scratch;
    RowResampler resampler{best_kernels()};
    PixelStore store{best_kernels()};
};

ImageDecoder::ImageDecoder() : state_(std::make_unique<State>()) {}
ImageDecoder::~ImageDecoder() = default;

std::array<std::uint32_t, 2> ImageDecoder::out_shape(Bytes encoded, const ImageProgram& program) {
    if (program.fixed_shape()) return {program.out_height, program.out_width};
    const ImagePlan plan = plan_image(probe_image(encoded), program, {});
    return {plan.out_height(), plan.out_width()};
}

void ImageDecoder::decode(Bytes encoded, const ImageProgram& program, const SampleKey& key, MutableBytes out,
                          ImageCounts& counts) {
    const ImageInfo info = probe_image(encoded);
    const ImagePlan plan = plan_image(info, program, key);
    const std::size_t need = std::size_t{3} * plan.out_height() * plan.out_width() * program.pixel_bytes();
    if (out.size() != need)
        throw Error(Code::internal, "an image of " + std::to_string(plan.out_width()) + " x " +
                                        std::to_string(plan.out_height()) + " pixels needs " + std::to_string(need) +
                                        " bytes, not " + std::to_string(out.size()));
    const bool scalable = info.encoding == ImageEncoding::jpeg && program.dct_scaling;
    const std::uint32_t reduction = scalable ? dct_reduction(plan) : 1;

    State& state = *state_;
    state.columns.build(plan.columns, reduction, true);
    state.rows.build(plan.rows, reduction, false);  // the store turns rows around
    state.store.begin(program, plan, out.data());
    state.resampler.begin(state.columns, state.rows, state.store);
    switch (info.encoding) {
        case ImageEncoding::jpeg: decode_jpeg(encoded, info, reduction, state.resampler, state.scratch, counts); break;
        case ImageEncoding::png: decode_png(encoded, info, state.resampler, state.scratch, counts); break;
        case ImageEncoding::webp: decode_webp(encoded, info, state.resampler, state.scratch, counts); break;
    }
    if (!state.resampler.complete()) throw Error(Code::internal, "the codec gave fewer rows than the image has");
    state.store.finish();
    ++counts.decoded;
    counts.exif_rotated += program.apply_exif && info.orientation != 1;
}

}  // namespace ff
