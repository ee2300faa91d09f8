// The last step of an image: rows of RGBX pixels into the batch, with orientation, padding, normalisation, type and
// layout. Internal to csrc/codec.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "codec/image_plan.hpp"
#include "codec/resample.hpp"

namespace ff {

// Float outputs go through a table of 256 values a channel: every value is exactly what (v / 255 - mean) / std gives in
// float32.
class PixelStore final : public RowStore {
  public:
    explicit PixelStore(const ResampleKernels& kernels) : kernels_(&kernels) {}

    // `out` is what ImageDecoder::decode() got; `program` and `plan` must live until finish().
    void begin(const ImageProgram& program, const ImagePlan& plan, std::byte* out);
    void put(std::uint32_t index, const std::uint8_t* row) override;
    // Writes what put() could not: transposed pixels and the rows of the padding.
    void finish();

  private:
    void store_padded(std::uint32_t y, const std::uint8_t* row, std::uint32_t pixels);
    void store_row(std::uint32_t y, const std::uint8_t* row);
    void fill_tables(const ImageProgram& program);
    template <class T>
    void store_values(const std::array<std::array<T, 256>, 3>& values, std::uint32_t y, const std::uint8_t* row);

    const ResampleKernels* kernels_;
    const ImageProgram* program_ = nullptr;
    const ImagePlan* plan_ = nullptr;
    std::byte* out_ = nullptr;
    std::uint32_t width_ = 0, height_ = 0;
    // Where the content lies in the output.
    std::uint32_t left_ = 0, top_ = 0, content_width_ = 0, content_height_ = 0;
    std::vector<std::uint8_t> canvas_;  // transposed images: the content before transposition
    std::vector<std::uint8_t> line_;    // a padded or transposed row

    bool has_tables_ = false;
    ImageProgram tables_of_;
    std::array<std::array<float, 256>, 3> floats_;
    std::array<std::array<std::uint16_t, 256>, 3> halves_;
};

// The IEEE half nearest to `value`, halves to even.
std::uint16_t float_to_half(float value) noexcept;

}  // namespace ff
