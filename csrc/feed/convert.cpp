// Names of item types, and the choice of a converter for this processor.
#include "cpu.hpp"
#include "error.hpp"
#include "feed/convert_loops.hpp"

namespace ff {
namespace {

struct TypeRow {
    const char* name;
    std::size_t size;
};
constexpr std::array<TypeRow, kItemTypeCount> kTypes{
    {{"bool", 1}, {"int8", 1}, {"int16", 2}, {"int32", 4}, {"int64", 8}, {"uint8", 1}, {"uint16", 2}, {"uint32", 4},
     {"uint64", 8}, {"float16", 2}, {"float32", 4}, {"float64", 8}}};

}  // namespace

ItemType item_type_of(const std::string& numpy_name) {
    for (std::size_t i = 0; i < kItemTypeCount; ++i)
        if (numpy_name == kTypes[i].name) return static_cast<ItemType>(i);
    throw Error(Code::config, "unknown item type '" + numpy_name +
                                  "'; known are bool, int8 to int64, uint8 to uint64, float16, float32 and float64");
}

std::size_t item_size_of(ItemType type) noexcept { return kTypes[static_cast<std::size_t>(type)].size; }
const char* item_type_name(ItemType type) noexcept { return kTypes[static_cast<std::size_t>(type)].name; }

const ConverterTable& portable_converters() noexcept { return kConverters; }

Converter converter(ItemType from, ItemType to) noexcept {
#if defined(__x86_64__)
    const ConverterTable& table = has_avx2() ? avx2_converters() : kConverters;
#else
    const ConverterTable& table = kConverters;
#endif
    return table[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

float half_to_float(std::uint16_t bits) noexcept { return half_value(bits); }

}  // namespace ff
