#include "codec/pixel_store.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ff {
namespace {

bool same_values(const ImageProgram& a, const ImageProgram& b) noexcept {
    return a.type == b.type && a.normalize == b.normalize && a.mean == b.mean && a.stddev == b.stddev;
}

float value_of(const ImageProgram& program, int level, std::size_t channel) noexcept {
    const auto value = static_cast<float>(level);
    if (program.normalize) return (value / 255.0f - program.mean[channel]) / program.stddev[channel];
    return value;
}

}  // namespace

std::uint16_t float_to_half(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return sign | 0x7E00u;               // NaN
    if (magnitude >= 0x47800000u) return sign | 0x7C00u;              // 65536 and more: infinity
    if (magnitude < 0x38800000u) {                                    // below 2^-14: subnormal, in steps of 2^-24
        // Adding 0.5 lets the processor round (to even) at that step.
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000u));
    }
    const std::uint32_t odd = magnitude >> 13 & 1;
    return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xFFFu + odd) >> 13));
}

void PixelStore::fill_tables(const ImageProgram& program) {
    if (program.type == PixelType::u8 || (has_tables_ && same_values(program, tables_of_))) return;
    for (std::size_t channel = 0; channel < 3; ++channel) {
        for (int level = 0; level < 256; ++level) {
            floats_[channel][level] = value_of(program, level, channel);
            halves_[channel][level] = float_to_half(floats_[channel][level]);
        }
    }
    tables_of_ = program;
    has_tables_ = true;
}

void PixelStore::begin(const ImageProgram& program, const ImagePlan& plan, std::byte* out) {
    program_ = &program;
    plan_ = &plan;
    out_ = out;
    width_ = plan.out_width();
    height_ = plan.out_height();
    const AxisPlan& across = plan.transposed ? plan.rows : plan.columns;
    const AxisPlan& down = plan.transposed ? plan.columns : plan.rows;
    left_ = across.pad_before;
    content_width_ = across.window_size;
    top_ = down.pad_before;
    content_height_ = down.window_size;
    fill_tables(program);
    if (plan.transposed)
        canvas_.resize(std::max(canvas_.size(), std::size_t{content_width_} * content_height_ * kPixelBytes));
    if (plan.transposed || content_width_ != width_ || content_height_ != height_)
        line_.assign(width_ * kPixelBytes + kRowSlackBytes, 0);
}

void PixelStore::put(std::uint32_t index, const std::uint8_t* row) {
    const AxisPlan& rows = plan_->rows;
    const std::uint32_t place = rows.reversed ? rows.window_size - 1 - index : index;
    if (plan_->transposed) {
        const std::size_t row_bytes = plan_->columns.window_size * kPixelBytes;
        std::memcpy(canvas_.data() + place * row_bytes, row, row_bytes);
    } else {
        store_padded(top_ + place, row, content_width_);
    }
}

void PixelStore::finish() {
    if (plan_->transposed) {
        const std::size_t canvas_width = content_height_;  // the stored image's columns are rows here
        std::vector<std::uint8_t> column(content_width_ * kPixelBytes);
        for (std::uint32_t y = 0; y < content_height_; ++y) {
            for (std::uint32_t x = 0; x < content_width_; ++x)
                std::memcpy(column.data() + x * kPixelBytes, canvas_.data() + (x * canvas_width + y) * kPixelBytes,
                            kPixelBytes);
            store_padded(top_ + y, column.data(), content_width_);
        }
    }
    for (std::uint32_t y = 0; y < height_; ++y)
        if (y < top_ || y >= top_ + content_height_) store_padded(y, nullptr, 0);
}

// `row` may be shorter than the output is wide: zeros around it.
void PixelStore::store_padded(std::uint32_t y, const std::uint8_t* row, std::uint32_t pixels) {
    if (pixels == width_ && !plan_->transposed) return store_row(y, row);
    if (pixels == 0) std::fill(line_.begin(), line_.end(), std::uint8_t{0});
    else std::memcpy(line_.data() + left_ * kPixelBytes, row, pixels * kPixelBytes);
    store_row(y, line_.data());
}

void PixelStore::store_row(std::uint32_t y, const std::uint8_t* row) {
    if (program_->type == PixelType::f32) return store_values(floats_, y, row);
    if (program_->type == PixelType::f16) return store_values(halves_, y, row);
    auto* out = reinterpret_cast<std::uint8_t*>(out_);
    const std::size_t plane = std::size_t{width_} * height_, line = std::size_t{width_} * y;
    if (program_->layout == PixelLayout::chw)
        kernels_->planes(row, width_, out + line, out + plane + line, out + 2 * plane + line);
    else
        kernels_->packed(row, width_, out + 3 * line);
}

template <class T>
void PixelStore::store_values(const std::array<std::array<T, 256>, 3>& values, std::uint32_t y,
                              const std::uint8_t* row) {
    // Locals: through stores of bytes the compiler could not know that members stay as they are.
    const T *const red = values[0].data(), *const green = values[1].data(), *const blue = values[2].data();
    const std::size_t width = width_, plane = width * height_, line = width * y;
    const bool planar = program_->layout == PixelLayout::chw;
    const std::size_t step = planar ? 1 : 3, next = planar ? plane : 1;
    std::byte* out = out_ + (planar ? line : 3 * line) * sizeof(T);
    // The batch's memory need not be aligned for T.
    const auto store = [](std::byte* at, T value) { std::memcpy(at, &value, sizeof(T)); };
    for (std::size_t x = 0; x < width; ++x, row += kPixelBytes, out += step * sizeof(T)) {
        store(out, red[row[0]]);
        store(out + next * sizeof(T), green[row[1]]);
        store(out + 2 * next * sizeof(T), blue[row[2]]);
    }
}

}  // namespace ff
