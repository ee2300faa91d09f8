// Frames: layout, checks, reading and writing (docs/format.md, section 2.5).
#include "format/frame.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "error.hpp"

namespace ff {
namespace {

constexpr std::size_t kNameSizeMax = 255;
constexpr std::uint64_t kCrcSize = 4;
constexpr std::uint64_t kLengthSize = 4;
constexpr std::uint32_t kRawLengthSize = 4;  // the fixed part of a zstd column

[[noreturn]] void bad_column(const Column& column, const std::string& what) {
    throw Error(Code::config, "column \"" + column.name + "\": " + what);
}

bool is_item_size(std::uint32_t size) noexcept { return size == 1 || size == 2 || size == 4 || size == 8; }

void check_column(const Column& column) {
    if (column.name.empty() || column.name.size() > kNameSizeMax)
        bad_column(column, "a name has 1 to " + std::to_string(kNameSizeMax) + " bytes, this one " +
                               std::to_string(column.name.size()));
    if (column.codec != Codec::raw && column.codec != Codec::zstd)
        bad_column(column, "codec " + std::to_string(static_cast<int>(column.codec)) + " is not known");
    if (!is_item_size(column.item_size))
        bad_column(column, "an item of " + std::to_string(column.item_size) + " bytes; it must be 1, 2, 4 or 8");
    const bool compressed = column.codec == Codec::zstd;
    std::uint32_t fixed_size = compressed ? kRawLengthSize : 0;
    switch (column.kind) {
        case Kind::scalar:
            fixed_size = column.item_size;
            break;
        case Kind::tensor:
            fixed_size = column.fixed_size;
            if (fixed_size % column.item_size != 0)
                bad_column(column, "a tensor of " + std::to_string(fixed_size) +
                                       " bytes has no whole number of items of " + std::to_string(column.item_size));
            break;
        case Kind::array:
            if (column.step_size == 0 || column.step_size % column.item_size != 0)
                bad_column(column, "a step of " + std::to_string(column.step_size) +
                                       " bytes has no whole, positive number of items of " +
                                       std::to_string(column.item_size));
            break;
        case Kind::bytes:
        case Kind::text:
        case Kind::json:
            break;
        case Kind::image:
            fixed_size = kImageFixedSize;
            break;
        default:
            bad_column(column, "kind " + std::to_string(static_cast<int>(column.kind)) + " is not known");
    }
    if (compressed && (!column.variable() || column.kind == Kind::image))
        bad_column(column, "scalars, tensors and images are not stored with zstd; use raw");
    if (column.fixed_size != fixed_size)
        bad_column(column, "a fixed part of " + std::to_string(column.fixed_size) + " bytes; kind and codec make it " +
                               std::to_string(fixed_size));
    if (column.kind != Kind::array && column.step_size != 1)
        bad_column(column, "only an array has steps, this has one of " + std::to_string(column.step_size) + " bytes");
}

inline std::uint32_t stored_length(const std::byte* frame, std::size_t ordinal) noexcept {
    return load_le<std::uint32_t>(frame + kCrcSize + kLengthSize * ordinal);
}

inline bool null_bit(const FrameLayout& layout, const std::byte* frame, std::int32_t ordinal) noexcept {
    const auto bits = std::to_integer<unsigned>(frame[layout.null_offset() + static_cast<std::uint32_t>(ordinal) / 8]);
    return ((bits >> (ordinal % 8)) & 1) != 0;
}

bool all_zero(Bytes bytes) noexcept {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::string hex(std::uint32_t value) {
    char text[11];
    std::snprintf(text, sizeof text, "0x%08x", value);
    return text;
}

[[noreturn]] void corrupt(std::uint64_t row, std::string message) {
    throw Error(Code::corrupt, std::move(message), {}, 0, static_cast<std::int64_t>(row));
}

// Null bits are ordered, unused ones zero, and a null value is empty and zero.
void check_nulls(const FrameLayout& layout, std::uint64_t row, Bytes frame) {
    const auto& columns = layout.columns();
    std::size_t nullable_count = 0;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (!columns[i].nullable) continue;
        ++nullable_count;
        if (!null_bit(layout, frame.data(), layout.null_ordinal(i))) continue;
        const std::int32_t variable = layout.variable_ordinal(i);
        if (variable >= 0 && stored_length(frame.data(), static_cast<std::size_t>(variable)) != 0)
            corrupt(row, "column \"" + columns[i].name + "\" is null but has a stored length of " +
                             std::to_string(stored_length(frame.data(), static_cast<std::size_t>(variable))));
        if (!all_zero(frame.subspan(layout.fixed_offset(i), columns[i].fixed_size)))
            corrupt(row, "column \"" + columns[i].name + "\" is null but its fixed part is not zero");
    }
    const std::size_t used = nullable_count % 8;
    if (used != 0) {
        const auto last = std::to_integer<unsigned>(frame[layout.null_offset() + nullable_count / 8]);
        if ((last >> used) != 0)
            corrupt(row, "unused null bits are set: the last byte of " + std::to_string(nullable_count) + " bits is " +
                             std::to_string(last));
    }
}

// Size of the variable part of row `row`; 0 for a null. Throws where it is not a size.
std::uint64_t value_size(const Column& column, const ColumnData& data, std::size_t row) {
    if (data.nulls && data.nulls[row]) return 0;
    const std::int64_t size = data.value_offsets[row + 1] - data.value_offsets[row];
    if (size < 0 || static_cast<std::uint64_t>(size) > kValueSizeMax)
        throw Error(Code::config,
                    "row " + std::to_string(row) + " of the batch, column \"" + column.name + "\": a value of " +
                        std::to_string(size) + " bytes; a value has at most " + std::to_string(kValueSizeMax),
                    {}, 0, static_cast<std::int64_t>(row));
    return static_cast<std::uint64_t>(size);
}

void check_column_data(const FrameLayout& layout, std::size_t rows, std::span<const ColumnData> data) {
    const auto& columns = layout.columns();
    if (data.size() != columns.size())
        throw Error(Code::config, std::to_string(data.size()) + " columns of data for a schema of " +
                                      std::to_string(columns.size()));
    if (rows == 0) return;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (columns[i].fixed_size != 0 && !data[i].fixed) bad_column(columns[i], "its fixed parts are missing");
        if (columns[i].variable() && !data[i].value_offsets) bad_column(columns[i], "its values are missing");
        if (data[i].nulls && !columns[i].nullable) {
            const auto* null = std::find_if(data[i].nulls, data[i].nulls + rows, [](std::uint8_t n) { return n != 0; });
            if (null != data[i].nulls + rows)
                bad_column(columns[i], "row " + std::to_string(null - data[i].nulls) +
                                           " of the batch is null, but the column is not nullable");
        }
    }
}

}  // namespace

FrameLayout::FrameLayout(std::vector<Column> columns) : columns_(std::move(columns)) {
    if (columns_.size() > kColumnCountMax)
        throw Error(Code::config, std::to_string(columns_.size()) + " columns; a schema has at most " +
                                      std::to_string(kColumnCountMax));
    std::int32_t nullable_count = 0;
    for (const Column& column : columns_) {
        check_column(column);
        variable_ordinals_.push_back(column.variable() ? static_cast<std::int32_t>(variable_count_++) : -1);
        null_ordinals_.push_back(column.nullable ? nullable_count++ : -1);
    }
    null_offset_ = static_cast<std::uint32_t>(kCrcSize + kLengthSize * variable_count_);
    // Cannot overflow: at most 4,096 columns of less than 2^32 bytes.
    std::uint64_t offset = null_offset_ + (static_cast<std::uint64_t>(nullable_count) + 7) / 8;
    for (const Column& column : columns_) {
        if (offset > kFrameSizeMax)
            bad_column(column, "begins after byte " + std::to_string(kFrameSizeMax) + " of a frame, its limit");
        fixed_offsets_.push_back(static_cast<std::uint32_t>(offset));
        offset += column.fixed_size;
    }
    head_size_ = offset;
    if (round_up(head_size_, kFrameAlign) > kFrameSizeMax)
        throw Error(Code::config, "the fixed parts need " + std::to_string(head_size_) +
                                      " bytes; a frame has at most " + std::to_string(kFrameSizeMax));
}

void check_frame(const FrameLayout& layout, const FrameSeed& seed, std::uint64_t row_in_shard, Bytes frame) {
    const std::uint64_t head_size = layout.head_size();
    if (frame.size() < head_size || frame.size() % kFrameAlign != 0 || frame.size() > kFrameSizeMax)
        corrupt(row_in_shard, "the frame has " + std::to_string(frame.size()) +
                                  " bytes; it must have a multiple of 8, at least " + std::to_string(head_size) +
                                  " and at most " + std::to_string(kFrameSizeMax));
    // The crc comes first: where it fails, nothing else that the frame says means anything.
    const auto stored_crc = load_le<std::uint32_t>(frame.data());
    const std::uint32_t actual_crc = crc32c(seed.of(row_in_shard), frame.subspan(kCrcSize));
    if (stored_crc != actual_crc)
        corrupt(row_in_shard, "crc32c of the frame is " + hex(actual_crc) + ", stored is " + hex(stored_crc) +
                                  ": its bytes changed, or they are those of another row or shard");
    std::uint64_t end = head_size;  // cannot overflow: at most 4,096 lengths below 2^32
    for (std::size_t i = 0; i < layout.variable_count(); ++i) {
        const std::uint32_t length = stored_length(frame.data(), i);
        if (length > kValueSizeMax)
            corrupt(row_in_shard, "stored length " + std::to_string(i) + " is " + std::to_string(length) +
                                      "; a value has at most " + std::to_string(kValueSizeMax) + " bytes");
        end += length;
    }
    if (round_up(end, kFrameAlign) != frame.size())
        corrupt(row_in_shard, "head and stored lengths add up to " + std::to_string(end) +
                                  " bytes, but the frame has " + std::to_string(frame.size()));
    if (!all_zero(frame.subspan(end))) corrupt(row_in_shard, "the padding after the last value is not zero");
    check_nulls(layout, row_in_shard, frame);
}

Value value_at(const FrameLayout& layout, Bytes frame, std::size_t column) noexcept {
    Value value;
    value.fixed = frame.subspan(layout.fixed_offset(column), layout.columns()[column].fixed_size);
    if (layout.null_ordinal(column) >= 0) value.null = null_bit(layout, frame.data(), layout.null_ordinal(column));
    if (const std::int32_t ordinal = layout.variable_ordinal(column); ordinal >= 0) {
        std::uint64_t offset = layout.head_size();
        for (std::int32_t i = 0; i < ordinal; ++i) offset += stored_length(frame.data(), static_cast<std::size_t>(i));
        value.variable = frame.subspan(offset, stored_length(frame.data(), static_cast<std::size_t>(ordinal)));
    }
    return value;
}

void values_of(const FrameLayout& layout, Bytes frame, std::span<Value> out) noexcept {
    std::uint64_t offset = layout.head_size();
    for (std::size_t i = 0; i < out.size(); ++i) {
        Value& value = out[i];
        value.fixed = frame.subspan(layout.fixed_offset(i), layout.columns()[i].fixed_size);
        value.null = layout.null_ordinal(i) >= 0 && null_bit(layout, frame.data(), layout.null_ordinal(i));
        value.variable = {};
        if (const std::int32_t ordinal = layout.variable_ordinal(i); ordinal >= 0) {
            const std::uint32_t length = stored_length(frame.data(), static_cast<std::size_t>(ordinal));
            value.variable = frame.subspan(offset, length);
            offset += length;
        }
    }
}

std::uint64_t measure_frames(const FrameLayout& layout, std::size_t rows, std::span<const ColumnData> columns,
                             std::span<std::uint64_t> sizes) {
    check_column_data(layout, rows, columns);
    std::fill(sizes.begin(), sizes.end(), layout.head_size());
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (!layout.columns()[i].variable()) continue;
        // Cannot overflow: at most 4,096 values below 2^31 a row.
        for (std::size_t row = 0; row < rows; ++row) sizes[row] += value_size(layout.columns()[i], columns[i], row);
    }
    std::uint64_t total = 0;
    for (std::size_t row = 0; row < rows; ++row) {
        sizes[row] = round_up(sizes[row], kFrameAlign);
        if (sizes[row] > kFrameSizeMax || !add_fits(total, sizes[row], total))
            throw Error(Code::config,
                        "row " + std::to_string(row) + " of the batch: a frame of " + std::to_string(sizes[row]) +
                            " bytes; a frame has at most " + std::to_string(kFrameSizeMax),
                        {}, 0, static_cast<std::int64_t>(row));
    }
    return total;
}

void write_frames(const FrameLayout& layout, std::size_t rows, std::span<const ColumnData> columns,
                  std::span<const std::uint64_t> sizes, MutableBytes out, std::span<std::uint32_t> body_crcs) {
    const auto& specs = layout.columns();
    const std::uint64_t head_size = layout.head_size();
    // crc, lengths and null bits; fixed parts follow, each written whole.
    const std::uint64_t null_end = specs.empty() ? head_size : layout.fixed_offset(0);
    std::byte* frame = out.data();
    for (std::size_t row = 0; row < rows; ++row) {
        std::memset(frame, 0, null_end);
        std::uint64_t end = head_size;
        for (std::size_t i = 0; i < columns.size(); ++i) {
            const ColumnData& data = columns[i];
            std::byte* fixed = frame + layout.fixed_offset(i);
            const std::uint32_t fixed_size = specs[i].fixed_size;
            if (data.nulls && data.nulls[row]) {
                const auto ordinal = static_cast<std::uint32_t>(layout.null_ordinal(i));
                frame[layout.null_offset() + ordinal / 8] |= std::byte{1} << (ordinal % 8);
                std::memset(fixed, 0, fixed_size);
                continue;
            }
            if (fixed_size != 0) std::memcpy(fixed, data.fixed + row * fixed_size, fixed_size);
            if (!specs[i].variable()) continue;
            const std::int64_t start = data.value_offsets[row];
            const auto length = static_cast<std::uint64_t>(data.value_offsets[row + 1] - start);
            store_le(frame + kCrcSize + kLengthSize * static_cast<std::size_t>(layout.variable_ordinal(i)),
                     static_cast<std::uint32_t>(length));
            if (length != 0) std::memcpy(frame + end, data.values + start, length);
            end += length;
        }
        std::memset(frame + end, 0, sizes[row] - end);
        body_crcs[row] = crc32c(0, {frame + kCrcSize, sizes[row] - kCrcSize});
        frame += sizes[row];
    }
}

}  // namespace ff
