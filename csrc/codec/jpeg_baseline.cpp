#include "codec/jpeg_baseline.hpp"

#include <algorithm>
#include <cstdio>

#include <jpeglib.h>

namespace ff {
namespace {

constexpr std::uint32_t divided_up(std::uint32_t value, std::uint32_t by) noexcept { return (value + by - 1) / by; }

// One scan of all components with all coefficients, each as it is.
bool is_one_baseline_scan(const jpeg_decompress_struct& header) noexcept {
    if (header.progressive_mode || header.arith_code || header.data_precision != 8) return false;
    if (header.comps_in_scan != header.num_components) return false;
    for (int i = 0; i < header.comps_in_scan; ++i)
        if (header.cur_comp_info[i] != header.comp_info + i) return false;
    return header.Ss == 0 && header.Se == DCTSIZE2 - 1 && header.Ah == 0 && header.Al == 0;
}

bool is_known_color(const jpeg_decompress_struct& header) noexcept {
    if (header.num_components == 1) return header.jpeg_color_space == JCS_GRAYSCALE;
    if (header.num_components != 3 || header.jpeg_color_space != JCS_YCbCr) return false;
    const auto& luma = header.comp_info[0];
    for (int i = 1; i < 3; ++i)
        if (header.comp_info[i].h_samp_factor != 1 || header.comp_info[i].v_samp_factor != 1) return false;
    return luma.h_samp_factor <= 2 && luma.v_samp_factor <= luma.h_samp_factor;
}

}  // namespace

bool BaselineJpeg::decode(const jpeg_decompress_struct& header, std::uint32_t reduction, RowResampler& resampler) {
    if (!accept(header, reduction)) return false;
    const SourceRegion region = resampler.region();
    place_region(region);
    scan_.bits.take(as_bytes(header.src->next_input_byte, header.src->bytes_in_buffer), scan_.restart_interval != 0);
    scan_.start();
    resampler.reserve_slots(round_up(pixels_, kJpegColorStep));
    const std::uint32_t first_row = mcu_rows_of(region.first_row)[0];
    for (std::uint32_t y = region.first_row; y < region.first_row + region.row_count; ++y) {
        while (scan_.mcu_row <= mcu_rows_of(y)[1]) {
            if (scan_.mcu_row < first_row) {
                if (!kernels_->skip_row(scan_)) return false;
            } else {
                if (!kernels_->decode_row(scan_)) return false;
                replicate_edges();
            }
        }
        std::uint8_t* const slot = resampler.slot();
        color_row(y, slot);
        if (!resampler.push(slot + (region.first_column - first_column_) * kPixelBytes)) break;
    }
    return true;
}

bool BaselineJpeg::accept(const jpeg_decompress_struct& header, std::uint32_t reduction) {
    if (!is_one_baseline_scan(header) || !is_known_color(header)) return false;
    const bool gray = header.num_components == 1;
    // A scan of one component has one block an MCU, whatever its sampling factors say.
    const std::uint32_t across = gray ? 1 : static_cast<std::uint32_t>(header.comp_info[0].h_samp_factor);
    const std::uint32_t down = gray ? 1 : static_cast<std::uint32_t>(header.comp_info[0].v_samp_factor);
    const std::uint32_t side = 8 / reduction;
    // As libjpeg does: chroma that has half as many samples on both axes is reduced by half as much.
    const std::uint32_t chroma_side = across == 2 && down == 2 ? std::min(8u, 2 * side) : side;
    doubles_columns_ = across == 2 && chroma_side == side;
    doubles_rows_ = down == 2 && chroma_side == side;
    chroma_columns_ = divided_up(header.image_width * chroma_side, across * 8);
    chroma_rows_ = divided_up(header.image_height * chroma_side, down * 8);
    // There libjpeg repeats samples instead of interpolating them.
    if (doubles_columns_ && (chroma_columns_ <= 2 || side == 1)) return false;

    scan_.component_count = static_cast<std::uint32_t>(header.num_components);
    scan_.mcus_across = divided_up(header.image_width, across * 8);
    scan_.restart_interval = header.restart_interval;
    scan_.components[0].across = across;
    scan_.components[0].down = down;
    scan_.components[0].side = side;
    for (std::uint32_t c = 1; c < kJpegComponentsMax; ++c) scan_.components[c].side = chroma_side;
    return accept_tables(header);
}

bool BaselineJpeg::accept_tables(const jpeg_decompress_struct& header) {
    for (std::uint32_t c = 0; c < scan_.component_count; ++c) {
        const jpeg_component_info& from = header.comp_info[c];
        const auto in_range = [](int number) { return number >= 0 && number < NUM_HUFF_TBLS; };
        if (!in_range(from.quant_tbl_no) || !in_range(from.dc_tbl_no) || !in_range(from.ac_tbl_no)) return false;
        const JQUANT_TBL* const quant = header.quant_tbl_ptrs[from.quant_tbl_no];
        const JHUFF_TBL* const dc = header.dc_huff_tbl_ptrs[from.dc_tbl_no];
        const JHUFF_TBL* const ac = header.ac_huff_tbl_ptrs[from.ac_tbl_no];
        if (quant == nullptr || dc == nullptr || ac == nullptr) return false;
        JpegComponent& to = scan_.components[c];
        JpegHuffman& to_dc = dc_tables_[static_cast<std::size_t>(from.dc_tbl_no)];
        JpegHuffman& to_ac = ac_tables_[static_cast<std::size_t>(from.ac_tbl_no)];
        if (!to_dc.build(dc->bits, dc->huffval, true) || !to_ac.build(ac->bits, ac->huffval, false)) return false;
        to.dc = &to_dc;
        to.ac = &to_ac;
        to.quant.fill(0);
        for (std::size_t i = 0; i < kJpegBlock; ++i) {
            const UINT16 step = quant->quantval[kJpegNatural[i]];
            if (step > 255) return false;  // of 8 bits a sample, none is
            to.quant[i] = static_cast<std::int16_t>(step);
        }
    }
    return true;
}

// Which MCUs the region needs, and the memory for their samples.
void BaselineJpeg::place_region(const SourceRegion& region) {
    const JpegComponent& luma = scan_.components[0];
    const std::uint32_t last_column = region.first_column + region.column_count - 1;
    // Pairs of columns share a sample of chroma, and a step of the conversion begins with a pair.
    first_column_ = doubles_columns_ ? region.first_column / 2 * 2 : region.first_column;
    pixels_ = last_column + 1 - first_column_;
    std::uint32_t first = first_column_, last = last_column, width = luma.across * luma.side;
    if (doubles_columns_) {
        const std::uint32_t sample = first_column_ / 2;
        first = sample == 0 ? 0 : sample - 1;
        last = std::min(last_column / 2 + 1, chroma_columns_ - 1);
        width = scan_.components[1].side;
    }
    scan_.first_mcu = first / width;
    scan_.end_mcu = last / width + 1;
    scan_.end_row = mcu_rows_of(region.first_row + region.row_count - 1)[1] + 1;
    for (std::uint32_t c = 0; c < scan_.component_count; ++c) {
        JpegComponent& component = scan_.components[c];
        const std::size_t samples = std::size_t{scan_.end_mcu - scan_.first_mcu} * component.across * component.side;
        component.stride = round_up(samples, kJpegRowMargin) + 2 * kJpegRowMargin;
        const std::size_t need = component.stride * component.rows() * 2;
        if (component.samples.size() < need) component.samples.resize(need);
    }
    if (scan_.component_count == 1) neutral_.assign(round_up(pixels_, kJpegColorStep), 128);
}

// The last row of MCUs again: a sample beyond an edge is the one at it.
void BaselineJpeg::replicate_edges() noexcept {
    if (!doubles_columns_) return;
    const std::uint32_t side = scan_.components[1].side, last = chroma_columns_ - 1;
    for (std::uint32_t c = 1; c < scan_.component_count; ++c) {
        for (std::uint32_t y = 0; y < side; ++y) {
            std::uint8_t* const row = scan_.components[c].row((scan_.mcu_row - 1) * side + y);
            if (scan_.first_mcu == 0) row[-1] = row[0];
            if (scan_.end_mcu * side > last) row[last + 1 - scan_.first_mcu * side] = row[last - scan_.first_mcu * side];
        }
    }
}

// The row of chroma on the other side of row `y`; at an edge the same one.
std::uint32_t BaselineJpeg::chroma_beside(std::uint32_t y) const noexcept {
    const std::uint32_t near = y / 2;
    if (y % 2 == 1) return std::min(near + 1, chroma_rows_ - 1);
    return near == 0 ? 0 : near - 1;
}

std::array<std::uint32_t, 2> BaselineJpeg::mcu_rows_of(std::uint32_t y) const noexcept {
    const std::uint32_t own = y / scan_.components[0].rows();
    if (!doubles_rows_) return {own, own};
    const std::uint32_t other = chroma_beside(y) / scan_.components[1].rows();
    return {std::min(own, other), std::max(own, other)};
}

void BaselineJpeg::color_row(std::uint32_t y, std::uint8_t* out) noexcept {
    JpegComponent& luma = scan_.components[0];
    const std::uint8_t* const from = luma.row(y) + (first_column_ - scan_.first_mcu * luma.across * luma.side);
    if (scan_.component_count == 1) {
        const std::uint8_t* const both[2] = {neutral_.data(), neutral_.data()};
        return kernels_->color(from, both, pixels_, out);
    }
    const std::uint32_t first = doubles_columns_ ? first_column_ / 2 : first_column_;
    const auto chroma_row = [&](std::uint32_t c, std::uint32_t row) -> const std::uint8_t* {
        return scan_.components[c].row(row) + (first - scan_.first_mcu * scan_.components[c].side);
    };
    const std::uint32_t near = doubles_rows_ ? y / 2 : y;
    const std::uint8_t* const nearer[2] = {chroma_row(1, near), chroma_row(2, near)};
    if (!doubles_columns_) return kernels_->color(from, nearer, pixels_, out);
    if (!doubles_rows_) return kernels_->color_h2v1(from, nearer, pixels_, out);
    const std::uint32_t beside = chroma_beside(y);
    const std::uint8_t* const farther[2] = {chroma_row(1, beside), chroma_row(2, beside)};
    kernels_->color_h2v2(from, nearer, farther, pixels_, out);
}

}  // namespace ff
