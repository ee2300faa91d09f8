// libjpeg as its manual has it: what csrc/codec's own decoder of baseline files is held against.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <jpeglib.h>

#include "bytes.hpp"
#include "codec/jpeg_baseline.hpp"
#include "codec/resample.hpp"

namespace ff::test {

struct Pixels {
    bool decoded = false;
    long warnings = 0;
    std::uint32_t width = 0, height = 0;
    std::vector<std::uint8_t> rgbx;  // the fourth byte of each pixel is zero
};

// A decompressor over bytes in memory, whose errors come back as a longjmp to `on_error`.
struct Decompressor {
    jpeg_decompress_struct header;
    jpeg_error_mgr errors;
    std::jmp_buf on_error;

    Decompressor() {
        header.err = jpeg_std_error(&errors);
        header.client_data = this;
        errors.error_exit = [](j_common_ptr common) {
            std::longjmp(static_cast<Decompressor*>(common->client_data)->on_error, 1);
        };
        errors.output_message = [](j_common_ptr) {};
        jpeg_create_decompress(&header);
    }
    ~Decompressor() { jpeg_destroy_decompress(&header); }
    Decompressor(const Decompressor&) = delete;
};

inline void drop_fourth(std::vector<std::uint8_t>& rgbx) {
    for (std::size_t i = 3; i < rgbx.size(); i += 4) rgbx[i] = 0;
}

inline Pixels decode_with_libjpeg(Bytes file, std::uint32_t reduction) {
    Decompressor jpeg;
    Pixels pixels;
    if (setjmp(jpeg.on_error) != 0) return pixels;
    jpeg_mem_src(&jpeg.header, reinterpret_cast<const unsigned char*>(file.data()), file.size());
    jpeg_read_header(&jpeg.header, TRUE);
    jpeg.header.scale_num = 8 / reduction;
    jpeg.header.scale_denom = 8;
    jpeg.header.out_color_space = JCS_EXT_RGBX;
    jpeg_start_decompress(&jpeg.header);
    pixels.width = jpeg.header.output_width;
    pixels.height = jpeg.header.output_height;
    const std::size_t row_bytes = std::size_t{4} * pixels.width;
    pixels.rgbx.resize(row_bytes * pixels.height);
    while (jpeg.header.output_scanline < pixels.height) {
        JSAMPROW row = pixels.rgbx.data() + row_bytes * jpeg.header.output_scanline;
        jpeg_read_scanlines(&jpeg.header, &row, 1);
    }
    pixels.decoded = true;
    pixels.warnings = jpeg.errors.num_warnings;
    drop_fourth(pixels.rgbx);
    return pixels;
}

// No coefficient, times its step, is beyond `limit`. Without an encoder to bound them, libjpeg-turbo's vectors wrap where
// its shortcuts for sparse blocks do, and saturate elsewhere.
inline bool coefficients_within(Bytes file, long limit) {
    Decompressor jpeg;
    if (setjmp(jpeg.on_error) != 0) return false;
    jpeg_mem_src(&jpeg.header, reinterpret_cast<const unsigned char*>(file.data()), file.size());
    jpeg_read_header(&jpeg.header, TRUE);
    jvirt_barray_ptr* const arrays = jpeg_read_coefficients(&jpeg.header);
    for (int c = 0; c < jpeg.header.num_components; ++c) {
        const jpeg_component_info& component = jpeg.header.comp_info[c];
        if (component.quant_table == nullptr) return false;
        for (JDIMENSION y = 0; y < component.height_in_blocks; ++y) {
            JBLOCKARRAY rows = jpeg.header.mem->access_virt_barray(reinterpret_cast<j_common_ptr>(&jpeg.header),
                                                                   arrays[c], y, 1, FALSE);
            for (JDIMENSION x = 0; x < component.width_in_blocks; ++x)
                for (int i = 0; i < DCTSIZE2; ++i)
                    if (std::labs(long{rows[0][x][i]} * component.quant_table->quantval[i]) > limit) return false;
        }
    }
    return true;
}

// All rows, as they come.
struct Collected final : RowStore {
    std::vector<std::uint8_t> rgbx;
    std::size_t row_bytes = 0;

    void put(std::uint32_t, const std::uint8_t* row) override { rgbx.insert(rgbx.end(), row, row + row_bytes); }
};

inline AxisTable unchanged(std::uint32_t first, std::uint32_t count) {
    AxisTable table;
    table.first = first;
    table.count = table.outputs = count;
    table.identity = true;
    return table;
}

// The part of the (reduced) image at `part`; `decoded` is false where `decoder` leaves the file to libjpeg.
inline Pixels decode_with_ours(BaselineJpeg& decoder, Bytes file, std::uint32_t reduction, const SourceRegion& part) {
    Decompressor jpeg;
    Collected store;
    RowResampler resampler{portable_kernels()};
    const AxisTable columns = unchanged(part.first_column, part.column_count);
    const AxisTable rows = unchanged(part.first_row, part.row_count);
    Pixels pixels;
    if (setjmp(jpeg.on_error) != 0) return pixels;
    jpeg_mem_src(&jpeg.header, reinterpret_cast<const unsigned char*>(file.data()), file.size());
    jpeg_read_header(&jpeg.header, TRUE);
    store.row_bytes = kPixelBytes * part.column_count;
    resampler.begin(columns, rows, store);
    pixels.decoded = decoder.decode(jpeg.header, reduction, resampler);
    pixels.width = part.column_count;
    pixels.height = part.row_count;
    pixels.warnings = jpeg.errors.num_warnings;
    pixels.rgbx = std::move(store.rgbx);
    drop_fourth(pixels.rgbx);
    return pixels;
}

inline Pixels part_of(const Pixels& whole, const SourceRegion& part) {
    Pixels pixels = whole;
    pixels.width = part.column_count;
    pixels.height = part.row_count;
    pixels.rgbx.clear();
    for (std::uint32_t y = 0; y < part.row_count; ++y) {
        const auto from = whole.rgbx.begin() + std::ptrdiff_t{4} * ((part.first_row + y) * whole.width + part.first_column);
        pixels.rgbx.insert(pixels.rgbx.end(), from, from + std::ptrdiff_t{4} * part.column_count);
    }
    return pixels;
}

}  // namespace ff::test
