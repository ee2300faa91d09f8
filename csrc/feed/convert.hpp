// Items from one type to another: what Cast does, and the names of item types.
#pragma once

#include <cstdint>
#include <string>

#include "bytes.hpp"

namespace ff {

// Types of items, by their numpy names.
enum class ItemType : std::uint8_t { boolean, i8, i16, i32, i64, u8, u16, u32, u64, f16, f32, f64 };
inline constexpr std::size_t kItemTypeCount = 12;

// Throws Error(config) for a name that is none of "bool", "int8" … "uint64", "float16", "float32", "float64".
ItemType item_type_of(const std::string& numpy_name);
std::size_t item_size_of(ItemType type) noexcept;
const char* item_type_name(ItemType type) noexcept;

// Converts `count` items from `from` to `to`; neither need be aligned, and they do not overlap. Integers wrap as in C,
// floats become integers by truncation (saturating; NaN becomes 0) and narrower floats by rounding to nearest even;
// what is not 0 is true.
using Converter = void (*)(const std::byte* from, std::byte* to, std::size_t count) noexcept;
Converter converter(ItemType from, ItemType to) noexcept;

// IEEE binary16 as bits.
float half_to_float(std::uint16_t bits) noexcept;

}  // namespace ff
