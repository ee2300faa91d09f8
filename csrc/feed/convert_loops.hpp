// The loops behind converter(): one small one for each pair of types, plain enough for the compiler to vectorise. Each
// file that includes this compiles them for its own instruction set; the results are the same, since every step is
// exact or rounds as IEEE says.
#pragma once

#include <array>
#include <bit>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "feed/convert.hpp"

namespace ff {

using ConverterTable = std::array<std::array<Converter, kItemTypeCount>, kItemTypeCount>;

const ConverterTable& portable_converters() noexcept;
const ConverterTable& avx2_converters() noexcept;  // x86-64 only; call only where the processor has AVX2

namespace {  // a copy in each file, compiled with that file's flags

struct Boolean { std::uint8_t byte; };
struct Half { std::uint16_t bits; };

// In the order of ItemType.
template <std::size_t I>
using CType =
    std::tuple_element_t<I, std::tuple<Boolean, std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                                       std::uint16_t, std::uint32_t, std::uint64_t, Half, float, double>>;

inline float half_value(std::uint16_t bits) noexcept {
    // The exponent is moved into place by a multiplication, which also makes subnormals right; infinities and NaNs
    // (which came out as 2^16 and more) get all exponent bits.
    const std::uint32_t magnitude = (bits & 0x7FFFu) << 13;
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
    std::uint32_t result = std::bit_cast<std::uint32_t>(scaled);
    result |= magnitude >= 0x0F800000u ? 0x7F800000u : 0u;
    return std::bit_cast<float>(result | (std::uint32_t{bits & 0x8000u} << 16));
}

inline std::uint16_t half_bits(float value) noexcept {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    // Subnormal halves: adding 0.5 leaves the rounded mantissa in the lowest bits.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3F000000u;
    const std::uint32_t odd = (magnitude >> 13) & 1u;
    const std::uint32_t normal = (magnitude - 0x38000000u + 0x0FFFu + odd) >> 13;
    const std::uint32_t special = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    const std::uint32_t result = magnitude >= 0x47800000u ? special : magnitude < 0x38800000u ? subnormal : normal;
    return static_cast<std::uint16_t>(result | sign);
}

inline std::uint16_t half_bits(double value) noexcept {
    // To float by rounding to odd first: then the second rounding sees every lost bit, and the result is as if rounded
    // once.
    const float nearest = static_cast<float>(value);
    std::uint32_t bits = std::bit_cast<std::uint32_t>(nearest);
    if (static_cast<double>(nearest) != value && value == value && (bits & 0x7FFFFFFFu) != 0x7F800000u) {
        const double magnitude = value < 0 ? -value : value;
        const double nearest_magnitude = nearest < 0 ? -static_cast<double>(nearest) : static_cast<double>(nearest);
        if (nearest_magnitude > magnitude) bits -= 1;
        bits |= 1u;
    }
    return half_bits(std::bit_cast<float>(bits));
}

template <class To, class From>
inline To convert_item(From value) noexcept {
    if constexpr (std::is_same_v<From, To>) {
        return value;
    } else if constexpr (std::is_same_v<From, Boolean>) {
        return convert_item<To>(static_cast<std::uint8_t>(value.byte != 0));
    } else if constexpr (std::is_same_v<From, Half>) {
        return convert_item<To>(half_value(value.bits));
    } else if constexpr (std::is_same_v<To, Boolean>) {
        return {static_cast<std::uint8_t>(value != 0)};
    } else if constexpr (std::is_same_v<To, Half>) {
        if constexpr (std::is_same_v<From, float>) return {half_bits(value)};
        else return {half_bits(static_cast<double>(value))};
    } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
        // The limits as floats: max() may round up to 2^k, which itself does not fit, hence >=.
        constexpr From above = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * From{2};
        constexpr From below = static_cast<From>(std::numeric_limits<To>::min());
        if (value >= above) return std::numeric_limits<To>::max();
        if (value <= below) return std::numeric_limits<To>::min();
        return value == value ? static_cast<To>(value) : To{0};
    } else {
        return static_cast<To>(value);
    }
}

template <class From, class To>
void convert_items(const std::byte* from, std::byte* to, std::size_t count) noexcept {
    if constexpr (std::is_same_v<From, To>) {
        std::memcpy(to, from, count * sizeof(To));
    } else {
        for (std::size_t i = 0; i < count; ++i)
            store_le(to + i * sizeof(To), convert_item<To>(load_le<From>(from + i * sizeof(From))));
    }
}

template <std::size_t From, std::size_t... To>
constexpr std::array<Converter, kItemTypeCount> converters_from(std::index_sequence<To...>) {
    return {&convert_items<CType<From>, CType<To>>...};
}
template <std::size_t... From>
constexpr ConverterTable all_converters(std::index_sequence<From...>) {
    return {converters_from<From>(std::make_index_sequence<kItemTypeCount>{})...};
}
constexpr auto kConverters = all_converters(std::make_index_sequence<kItemTypeCount>{});

}  // namespace
}  // namespace ff
