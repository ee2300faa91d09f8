// Photographs as cameras and encoders write them - baseline JPEG, one scan, gray or YCbCr at 4:4:4, 4:2:2 or 4:2:0 -
// decoded by our own loops. Internal to csrc/codec.
//
// libjpeg reads the headers and decodes everything else. Pixels are bit for bit those of libjpeg-turbo's full decode
// with its defaults (integer transform, fancy upsampling).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "codec/jpeg_scan.hpp"
#include "codec/resample.hpp"

struct jpeg_decompress_struct;

namespace ff {

// Keeps its memory from image to image; one per thread.
class BaselineJpeg {
  public:
    explicit BaselineJpeg(const JpegKernels& kernels) : kernels_(&kernels) {}

    // What jpeg_read_header() left in `header`, with the coded data at its source's position, which is not moved.
    // Pushes the rows of the resampler's region at 1/`reduction` of the size. False where the file is of another kind,
    // or damaged: rows may have been pushed then, and libjpeg must begin anew.
    bool decode(const jpeg_decompress_struct& header, std::uint32_t reduction, RowResampler& resampler);

  private:
    bool accept(const jpeg_decompress_struct& header, std::uint32_t reduction);
    bool accept_tables(const jpeg_decompress_struct& header);
    void place_region(const SourceRegion& region);
    void replicate_edges() noexcept;
    void color_row(std::uint32_t y, std::uint8_t* out) noexcept;
    std::uint32_t chroma_beside(std::uint32_t y) const noexcept;
    // The rows of MCUs that row `y` of the image needs: the first and the last.
    std::array<std::uint32_t, 2> mcu_rows_of(std::uint32_t y) const noexcept;

    const JpegKernels* kernels_;
    JpegScan scan_;
    std::array<JpegHuffman, 4> dc_tables_, ac_tables_;  // as many as a JPEG can name
    std::vector<std::uint8_t> neutral_;                 // chroma of a gray image
    bool doubles_columns_ = false, doubles_rows_ = false;  // chroma has half as many samples
    std::uint32_t chroma_columns_ = 0, chroma_rows_ = 0;   // of the whole image, at its reduced size
    std::uint32_t first_column_ = 0;                       // where a row given to the resampler begins
    std::uint32_t pixels_ = 0;                             // of such a row
};

}  // namespace ff
