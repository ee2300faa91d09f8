#include "codec/image_plan.hpp"

#include <algorithm>
#include <utility>

#include "codec/image_bytes.hpp"

namespace ff {
namespace {

// All of `size` pixels, resized to `full_size`.
AxisPlan whole_axis(std::uint32_t size, std::uint32_t full_size) noexcept {
    return {size, 0, size, full_size, 0, full_size, full_size, 0, false};
}

AxisPlan boxed_axis(std::uint32_t size, std::uint32_t begin, std::uint32_t box_size, std::uint32_t full_size) noexcept {
    return {size, begin, box_size, full_size, 0, full_size, full_size, 0, false};
}

// torchvision's offset of a centre crop: int(round(excess / 2.0)), halves to even.
std::uint32_t center_offset(std::uint32_t excess) noexcept {
    const std::uint32_t half = excess / 2;
    return excess % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

// The middle `out_size` pixels of what `axis` gives; centred in zeros where that is less.
AxisPlan center_cropped(AxisPlan axis, std::uint32_t out_size) noexcept {
    if (out_size > axis.full_size) {
        axis.pad_before = (out_size - axis.full_size) / 2;
    } else {
        axis.window_begin = center_offset(axis.full_size - out_size);
        axis.window_size = out_size;
    }
    axis.out_size = out_size;
    return axis;
}

// torchvision's Resize(int): the shorter side becomes `short_side`, the longer int(short_side * long / short).
std::pair<AxisPlan, AxisPlan> resized_short(std::uint32_t height, std::uint32_t width, std::uint32_t short_side) {
    const std::uint64_t shorter = std::min(height, width), longer = std::max(height, width);
    const std::uint64_t resized = std::uint64_t{short_side} * longer / shorter;
    // Beyond 32 bits nothing can be indexed; a picture of one pixel by 65,535 gets there.
    if (resized > 0x7FFFFFFFu)
        throw_corrupt("an image of " + std::to_string(width) + " x " + std::to_string(height) +
                      " pixels cannot be resized to a shorter side of " + std::to_string(short_side) +
                      ": the longer would have " + std::to_string(resized));
    const auto resized_longer = static_cast<std::uint32_t>(resized);
    return {whole_axis(height, height <= width ? short_side : resized_longer),
            whole_axis(width, width <= height ? short_side : resized_longer)};
}

// Rows and columns of the oriented image.
std::pair<AxisPlan, AxisPlan> plan_oriented(std::uint32_t height, std::uint32_t width, const ImageProgram& program,
                                            const SampleKey& key) {
    switch (program.sizing) {
        case Sizing::none: return {whole_axis(height, height), whole_axis(width, width)};
        case Sizing::random_resized_crop: {
            const CropBox box = random_resized_crop_box(program, key, height, width);
            return {boxed_axis(height, box.top, box.height, program.out_height),
                    boxed_axis(width, box.left, box.width, program.out_width)};
        }
        case Sizing::resize_exact:
            return {whole_axis(height, program.out_height), whole_axis(width, program.out_width)};
        case Sizing::resize_short: return resized_short(height, width, program.short_side);
        case Sizing::resize_short_center_crop: {
            const auto [rows, columns] = resized_short(height, width, program.short_side);
            return {center_cropped(rows, program.out_height), center_cropped(columns, program.out_width)};
        }
        case Sizing::center_crop:
            return {center_cropped(whole_axis(height, height), program.out_height),
                    center_cropped(whole_axis(width, width), program.out_width)};
    }
    throw Error(Code::internal, "unknown sizing " + std::to_string(static_cast<int>(program.sizing)));
}

// How the rows and columns of the oriented image lie in the stored one, by EXIF orientation 1..8.
struct Orientation {
    bool transposed, rows_mirrored, columns_mirrored;
};
constexpr Orientation kOrientations[9] = {
    {false, false, false}, {false, false, false}, {false, false, true}, {false, true, true}, {false, true, false},
    {true, false, false},  {true, false, true},   {true, true, true},   {true, true, false},
};

constexpr bool resizes_short(Sizing sizing) noexcept {
    return sizing == Sizing::resize_short || sizing == Sizing::resize_short_center_crop;
}

}  // namespace

AxisPlan AxisPlan::mirrored() const noexcept {
    AxisPlan axis = *this;
    axis.box_begin = source_size - box_begin - box_size;
    axis.window_begin = full_size - window_begin - window_size;
    axis.reversed = !reversed;
    return axis;
}

ImagePlan plan_image(const ImageInfo& info, const ImageProgram& program, const SampleKey& key) {
    const bool needs_out = program.fixed_shape();
    if ((needs_out && (program.out_height == 0 || program.out_width == 0)) ||
        (resizes_short(program.sizing) && program.short_side == 0))
        throw Error(Code::config, "the output size of an image transform is zero");
    const Orientation orientation = kOrientations[program.apply_exif ? info.orientation : 1];
    const bool transposed = orientation.transposed;
    auto [rows, columns] =
        plan_oriented(transposed ? info.width : info.height, transposed ? info.height : info.width, program, key);
    if (std::uint64_t{rows.out_size} * columns.out_size > kImagePixelsMax)
        throw_corrupt("an image of " + std::to_string(info.width) + " x " + std::to_string(info.height) +
                      " pixels would become " + std::to_string(columns.out_size) + " x " +
                      std::to_string(rows.out_size) + "; the limit is " + std::to_string(kImagePixelsMax) + " pixels");
    if (orientation.rows_mirrored) rows = rows.mirrored();
    if (orientation.columns_mirrored) columns = columns.mirrored();
    if (random_flip(program, key)) {
        // The flip comes last and turns the padding with it; which source pixels are needed stays.
        columns.reversed = !columns.reversed;
        columns.pad_before = columns.out_size - columns.window_size - columns.pad_before;
    }
    ImagePlan plan;
    plan.transposed = transposed;
    plan.rows = transposed ? columns : rows;
    plan.columns = transposed ? rows : columns;
    return plan;
}

}  // namespace ff
