// The row resampler and its portable loops. Vertical first: when an image shrinks, the horizontal pass, which is the
// dearer one, then runs once an output row instead of once a source row.
#include "codec/resample.hpp"

#include <algorithm>

#include "cpu.hpp"

namespace ff {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);

// Weights are never negative and sum to 1.0, so the result is within 0..255 without clamping.
inline std::uint8_t round_sum(std::int32_t sum) noexcept {
    return static_cast<std::uint8_t>((sum + kHalf) >> kWeightBits);
}

void vertical_portable(const std::uint8_t* const* rows, const std::int16_t* weights, std::uint32_t taps,
                       std::size_t bytes, std::uint8_t* out) {
    constexpr std::size_t kBlock = 64;  // sums stay in registers or L1
    for (std::size_t begin = 0; begin < bytes; begin += kBlock) {
        const std::size_t length = std::min(kBlock, bytes - begin);
        std::int32_t sums[kBlock] = {};
        for (std::uint32_t t = 0; t < taps; ++t) {
            const std::uint8_t* row = rows[t] + begin;
            for (std::size_t i = 0; i < length; ++i) sums[i] += row[i] * weights[t];
        }
        for (std::size_t i = 0; i < length; ++i) out[begin + i] = round_sum(sums[i]);
    }
}

void horizontal_portable(const std::uint8_t* row, const AxisView& table, std::uint8_t* out) {
    for (std::uint32_t i = 0; i < table.outputs; ++i) {
        const std::uint8_t* pixel = row + kPixelBytes * table.starts[i];
        const std::int16_t* weights = table.weights + std::size_t{i} * table.taps;
        std::int32_t sums[kPixelBytes] = {};
        for (std::uint32_t t = 0; t < table.used[i]; ++t, pixel += kPixelBytes)
            for (std::size_t c = 0; c < kPixelBytes; ++c) sums[c] += pixel[c] * weights[t];
        for (std::size_t c = 0; c < kPixelBytes; ++c) *out++ = round_sum(sums[c]);
    }
}

void planes_portable(const std::uint8_t* row, std::size_t pixels, std::uint8_t* red, std::uint8_t* green,
                     std::uint8_t* blue) {
    for (std::size_t i = 0; i < pixels; ++i, row += kPixelBytes) {
        red[i] = row[0];
        green[i] = row[1];
        blue[i] = row[2];
    }
}

void packed_portable(const std::uint8_t* row, std::size_t pixels, std::uint8_t* out) {
    for (std::size_t i = 0; i < pixels; ++i, row += kPixelBytes, out += 3) {
        out[0] = row[0];
        out[1] = row[1];
        out[2] = row[2];
    }
}

constexpr ResampleKernels kPortable{vertical_portable, horizontal_portable, planes_portable, packed_portable,
                                    "portable"};

}  // namespace

const ResampleKernels& portable_kernels() noexcept { return kPortable; }

const ResampleKernels& best_kernels() noexcept {
#if defined(__x86_64__)
    if (has_avx2()) return avx2_kernels();
#endif
    return kPortable;
}

void RowResampler::begin(const AxisTable& columns, const AxisTable& rows, RowStore& store) {
    columns_ = &columns;
    rows_ = &rows;
    store_ = &store;
    pushed_ = finished_ = 0;
    const std::size_t taps = rows.identity ? 1 : rows.taps;
    row_ring_.assign(taps, nullptr);
    tap_rows_.assign(taps, nullptr);
    blended_.resize(std::max(blended_.size(), columns.count * kPixelBytes + kRowSlackBytes));
    resized_.resize(std::max(resized_.size(), columns.outputs * kPixelBytes + kRowSlackBytes));
}

SourceRegion RowResampler::region() const noexcept {
    return {columns_->first, columns_->count, rows_->first, rows_->count};
}

void RowResampler::reserve_slots(std::size_t pixels) {
    slot_stride_ = round_up(pixels * kPixelBytes + kRowSlackBytes, kCacheLine);
    slots_.resize(std::max(slots_.size(), slot_stride_ * row_ring_.size() + 2 * kCacheLine));
    // Slots are not aligned on purpose. Into aligned rows libjpeg-turbo writes with non-temporal stores, past the
    // caches, and reading them back costs a trip to memory: a fifth of the time of a full decode.
    const auto address = reinterpret_cast<std::uintptr_t>(slots_.data());
    slots_begin_ = slots_.data() + (round_up(address, kCacheLine) - address) + kPixelBytes;
}

bool RowResampler::push(const std::uint8_t* row) {
    row_ring_[pushed_ % row_ring_.size()] = row;
    ++pushed_;
    while (finished_ < rows_->outputs) {
        const std::uint32_t end = rows_->identity ? finished_ + 1 : rows_->starts[finished_] + rows_->used[finished_];
        if (end > pushed_) return true;
        finish_row();
    }
    return false;
}

void RowResampler::finish_row() {
    const std::uint32_t index = finished_++;
    const std::uint8_t* row = nullptr;
    if (rows_->identity) {
        row = row_ring_[index % row_ring_.size()];
    } else {
        const std::uint32_t start = rows_->starts[index], used = rows_->used[index];
        for (std::uint32_t t = 0; t < used; ++t) tap_rows_[t] = row_ring_[(start + t) % row_ring_.size()];
        if (used % 2 == 1) tap_rows_[used] = tap_rows_[used - 1];  // its weight is zero; taps is a multiple of 4
        kernels_->vertical(tap_rows_.data(), rows_->weights.data() + std::size_t{index} * rows_->taps,
                           (used + 1) / 2 * 2, columns_->count * kPixelBytes, blended_.data());
        row = blended_.data();
    }
    if (!columns_->identity) {
        kernels_->horizontal(row, columns_->view(), resized_.data());
        row = resized_.data();
    }
    store_->put(index, row);
}

}  // namespace ff
