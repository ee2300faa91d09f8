// check_frame() and what may be called after it, on any layout and any bytes.
//
// Input: u8 column count (mod 9), per column u8 kind (low nibble), zstd (bit 4), nullable (bit 5) and u8 size; then the
// frame.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "error.hpp"
#include "format/frame.hpp"

namespace {

constexpr std::uint64_t kRow = 3;

ff::Column column(std::uint8_t what, std::uint8_t size) {
    ff::Column column{.name = "c"};
    column.kind = static_cast<ff::Kind>(what & 15);
    column.codec = static_cast<ff::Codec>((what >> 4) & 1);
    column.nullable = ((what >> 5) & 1) != 0;
    column.item_size = column.step_size = column.kind == ff::Kind::array ? 1u << (size & 3) : 1;
    if (column.kind == ff::Kind::scalar) column.item_size = column.fixed_size = 1u << (size & 3);
    if (column.kind == ff::Kind::tensor) column.fixed_size = size;
    if (column.kind == ff::Kind::image) column.fixed_size = ff::kImageFixedSize;
    if (column.kind != ff::Kind::scalar && column.codec == ff::Codec::zstd) column.fixed_size = 4;
    return column;
}

// Reads every byte of every value, and compares both ways of finding them.
void read_all(const ff::FrameLayout& layout, ff::Bytes frame) {
    std::vector<ff::Value> values(layout.columns().size());
    ff::values_of(layout, frame, values);
    unsigned sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const ff::Value again = ff::value_at(layout, frame, i);
        if (again.null != values[i].null || again.variable.data() != values[i].variable.data() ||
            again.variable.size() != values[i].variable.size() || again.fixed.data() != values[i].fixed.data())
            std::abort();
        for (const std::byte b : values[i].fixed) sum += std::to_integer<unsigned>(b);
        for (const std::byte b : values[i].variable) sum += std::to_integer<unsigned>(b);
    }
    volatile unsigned keep = sum;
    static_cast<void>(keep);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::size_t count = data[0] % 9;
    if (size < 1 + 2 * count) return 0;
    std::vector<ff::Column> columns;
    for (std::size_t i = 0; i < count; ++i) columns.push_back(column(data[1 + 2 * i], data[2 + 2 * i]));
    const std::byte uid[16] = {};
    const ff::FrameSeed seed({uid, 16});
    const auto bytes = ff::as_bytes(data, size).subspan(1 + 2 * count);
    std::vector<std::byte> frame(bytes.begin(), bytes.end());
    try {
        const ff::FrameLayout layout(std::move(columns));
        // With a right crc, else nothing behind it would ever be reached.
        if (frame.size() >= 4) ff::store_le(frame.data(), ff::crc32c(seed.of(kRow), ff::Bytes(frame).subspan(4)));
        ff::check_frame(layout, seed, kRow, frame);
        read_all(layout, frame);
    } catch (const ff::Error&) {  // the only answer to bad input
    }
    return 0;
}
