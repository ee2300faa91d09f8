// Resizing as rows of pixels come: a triangle filter whose support grows with the scale (bilinear with antialiasing),
// separable, in fixed point. Rows of 4-byte pixels go in, each finished output row goes to a RowStore. Internal to
// csrc/codec.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codec/image_plan.hpp"

namespace ff {

inline constexpr std::size_t kPixelBytes = 4;  // red, green, blue, anything
// SIMD reads and writes up to this many bytes past the end of a row: every row's memory has them.
inline constexpr std::size_t kRowSlackBytes = 64;

// Weights are int16 with 14 bits after the point: 1.0 fits, and a pair of products fits an int32.
inline constexpr int kWeightBits = 14;

// What the loops need of an AxisTable. Plain pointers: the files for one instruction set must not instantiate templates
// that the linker could then pick for everyone.
struct AxisView {
    std::uint32_t outputs, taps;
    const std::uint32_t* starts;
    const std::uint32_t* used;
    const std::int16_t* weights;
};

// Which source pixels make each output pixel of one axis, and by how much. Reused from image to image.
struct AxisTable {
    std::uint32_t first = 0, count = 0;  // the source pixels that are needed
    std::uint32_t outputs = 0;
    std::uint32_t taps = 0;              // weights an output, a multiple of 4; zeros fill up
    bool identity = false;               // output i is source pixel first + i; starts and weights are empty then
    std::vector<std::uint32_t> starts;   // per output, relative to first
    std::vector<std::uint32_t> used;     // per output: weights before the zeros
    std::vector<std::int16_t> weights;   // outputs * taps; each output's sum is exactly 1.0

    // The table of `axis` where the source comes at 1/`reduction` of its size. `reverse`: outputs in the order of the
    // plan (reversed where it says so), else in ascending source order.
    void build(const AxisPlan& axis, std::uint32_t reduction, bool reverse);
    AxisView view() const noexcept { return {outputs, taps, starts.data(), used.data(), weights.data()}; }
};

// The loops, for one instruction set each; all give the same bits.
struct ResampleKernels {
    // out[i] = sum over t of rows[t][i] * weights[t], rounded; `taps` is even. May write kRowSlackBytes past `bytes`.
    void (*vertical)(const std::uint8_t* const* rows, const std::int16_t* weights, std::uint32_t taps,
                     std::size_t bytes, std::uint8_t* out);
    // One output pixel a table row, from a row of pixels that begins with source pixel table.first.
    void (*horizontal)(const std::uint8_t* row, const AxisView& table, std::uint8_t* out);
    // Splits `pixels` 4-byte pixels into three planes.
    void (*planes)(const std::uint8_t* row, std::size_t pixels, std::uint8_t* red, std::uint8_t* green,
                   std::uint8_t* blue);
    // Drops the fourth byte of each of `pixels` pixels.
    void (*packed)(const std::uint8_t* row, std::size_t pixels, std::uint8_t* out);
    const char* name;
};
const ResampleKernels& portable_kernels() noexcept;
const ResampleKernels& avx2_kernels() noexcept;  // x86-64 only; call only where the processor has AVX2
const ResampleKernels& best_kernels() noexcept;

// Receives finished rows of RGBX pixels.
class RowStore {
  public:
    virtual ~RowStore() = default;
    // Row `index`, in ascending order of the source. Has kRowSlackBytes readable after it.
    virtual void put(std::uint32_t index, const std::uint8_t* row) = 0;
};

// What a codec must deliver: rows [first_row, first_row + row_count) of the (reduced) image, and in them these columns.
struct SourceRegion {
    std::uint32_t first_column = 0, column_count = 0, first_row = 0, row_count = 0;
};

// One image at a time on its way from a codec's rows to a RowStore. Owns row memory, which it reuses.
class RowResampler {
  public:
    explicit RowResampler(const ResampleKernels& kernels) : kernels_(&kernels) {}

    // The tables and the store must live until the last push().
    void begin(const AxisTable& columns, const AxisTable& rows, RowStore& store);
    SourceRegion region() const noexcept;
    // Forgets the rows pushed since begin(): another codec starts anew, and the store gets its rows again.
    void rewind() noexcept { pushed_ = finished_ = 0; }

    // Memory for rows of `pixels` pixels; call once before slot().
    void reserve_slots(std::size_t pixels);
    // Where the next row may be written: it stays valid as long as a later output needs it.
    std::uint8_t* slot() noexcept { return slots_begin_ + slot_stride_ * (pushed_ % row_ring_.size()); }
    // The next row, at the first needed column. Must stay valid while the filter needs it: memory from slot(), or the
    // whole image's. False when no more rows are needed.
    bool push(const std::uint8_t* row);
    bool complete() const noexcept { return finished_ == rows_->outputs; }

  private:
    void finish_row();

    const ResampleKernels* kernels_;
    const AxisTable* columns_ = nullptr;
    const AxisTable* rows_ = nullptr;
    RowStore* store_ = nullptr;
    std::uint32_t pushed_ = 0, finished_ = 0;
    std::size_t slot_stride_ = 0;
    std::uint8_t* slots_begin_ = nullptr;
    std::vector<const std::uint8_t*> row_ring_, tap_rows_;
    std::vector<std::uint8_t> slots_, blended_, resized_;
};

}  // namespace ff
