// Frames: how the columns of one sample lie in bytes (docs/format.md, section 2.5), both ways.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "format/crc32c.hpp"

namespace ff {

// Sizes and limits of docs/format.md, sections 2.5, 3 and 7.
inline constexpr std::uint64_t kHeaderSize = 4096;
inline constexpr std::uint64_t kFrameAlign = 8;
inline constexpr std::uint64_t kPageSize = 4096;             // of a stream
inline constexpr std::uint64_t kFrameSizeMax = 0xFFFFFFF8u;  // the lengths in a frame are u32
inline constexpr std::uint64_t kValueSizeMax = 0x7FFFFFFFu;
inline constexpr std::size_t kColumnCountMax = 4096;
inline constexpr std::size_t kImageFixedSize = 12;  // u32 width, u32 height, u8 channels, u8 encoding, u16 zero

// What a column's bytes mean. The numbers are shared with fastfeed/format/schema.py.
enum class Kind : std::uint8_t { scalar = 0, tensor = 1, array = 2, bytes = 3, text = 4, json = 5, image = 6 };
enum class Codec : std::uint8_t { raw = 0, zstd = 1 };

struct Column {
    std::string name;
    Kind kind = Kind::bytes;
    Codec codec = Codec::raw;
    bool nullable = false;
    std::uint32_t item_size = 1;   // scalar, tensor, array: bytes of one item
    std::uint64_t step_size = 1;   // array: bytes of one step along the free dimension; else 1
    std::uint32_t fixed_size = 0;  // bytes of the fixed part, from kind and codec (tensor: all its items)

    bool variable() const noexcept { return kind != Kind::scalar && kind != Kind::tensor; }
};

// Where each column lies in the head of a frame. Immutable; shared by all threads.
class FrameLayout {
  public:
    // Throws Error(config) where a column contradicts itself or a limit.
    explicit FrameLayout(std::vector<Column> columns);

    const std::vector<Column>& columns() const noexcept { return columns_; }
    std::size_t variable_count() const noexcept { return variable_count_; }
    // Bytes before the first variable part.
    std::uint64_t head_size() const noexcept { return head_size_; }
    // The size of every frame, a multiple of 8, where no column has a variable part; else 0.
    std::uint64_t stride() const noexcept { return variable_count_ == 0 ? round_up(head_size_, kFrameAlign) : 0; }

    std::uint32_t fixed_offset(std::size_t column) const noexcept { return fixed_offsets_[column]; }
    // Ordinal among the columns with a variable part, or -1.
    std::int32_t variable_ordinal(std::size_t column) const noexcept { return variable_ordinals_[column]; }
    // Ordinal among the nullable columns, or -1.
    std::int32_t null_ordinal(std::size_t column) const noexcept { return null_ordinals_[column]; }
    std::uint32_t null_offset() const noexcept { return null_offset_; }

  private:
    std::vector<Column> columns_;
    std::vector<std::uint32_t> fixed_offsets_;
    std::vector<std::int32_t> variable_ordinals_, null_ordinals_;
    std::size_t variable_count_ = 0;
    std::uint32_t null_offset_ = 0;
    std::uint64_t head_size_ = 0;
};

// One value inside a verified frame. Borrows the frame's bytes.
struct Value {
    Bytes fixed;
    Bytes variable;
    bool null = false;
};

// Checks that `frame` is exactly one frame of `layout` with the crc of row `row_in_shard`: size, lengths, null
// bits, padding, crc. Throws Error(corrupt) whose message names what is wrong with values (the caller adds file,
// shard and row). Afterwards value_at() may be used on it. Allocates nothing.
void check_frame(const FrameLayout& layout, const FrameSeed& seed, std::uint64_t row_in_shard, Bytes frame);

// The value of `column` in a frame that check_frame() accepted. O(variable columns before it).
Value value_at(const FrameLayout& layout, Bytes frame, std::size_t column) noexcept;
// All columns at once, O(columns): `out` has one element a column.
void values_of(const FrameLayout& layout, Bytes frame, std::span<Value> out) noexcept;

// One column of `rows` samples on its way into frames. Borrowed. Already encoded (compressed) values.
struct ColumnData {
    const std::byte* fixed = nullptr;           // rows * fixed_size bytes, or null where fixed_size is 0
    const std::byte* values = nullptr;          // variable parts, one after the other
    const std::int64_t* value_offsets = nullptr;  // rows + 1, ascending; null where not variable
    const std::uint8_t* nulls = nullptr;        // rows; 1 means null; null pointer: none is
};

// Total bytes of the frames of these rows, and each frame's size in `sizes` (rows). Throws Error(config) at the row
// whose frame or value is over a limit (Error::row() is its number in this batch).
std::uint64_t measure_frames(const FrameLayout& layout, std::size_t rows, std::span<const ColumnData> columns,
                             std::span<std::uint64_t> sizes);

// Writes the frames with a crc field of zero into `out` (exactly measure_frames() bytes) and stores in `body_crcs`
// (rows) the crc32c of each frame's bytes from 4 on, beginning with 0.
void write_frames(const FrameLayout& layout, std::size_t rows, std::span<const ColumnData> columns,
                  std::span<const std::uint64_t> sizes, MutableBytes out, std::span<std::uint32_t> body_crcs);

// The final crc of frame `row`, of `size` bytes, from its body crc: what belongs in its first four bytes.
inline std::uint32_t seal_crc(const FrameSeed& seed, std::uint64_t row, std::uint32_t body_crc, std::uint64_t size) {
    return crc32c_combine(seed.of(row), body_crc, size - 4);
}

}  // namespace ff
