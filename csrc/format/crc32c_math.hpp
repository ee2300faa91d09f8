// Arithmetic of polynomials over GF(2) modulo Castagnoli's, for the implementations of crc32c. All is constexpr.
//
// A polynomial of degree < 32 is a u32 with its coefficients reflected, as in a crc register: bit 31 is x^0.
// Appending n zero bytes to a message multiplies its register by x^(8n): that is all that combining needs.
#pragma once

#include <array>
#include <cstdint>

#include "bytes.hpp"

namespace ff::crc32c_math {

inline constexpr std::uint32_t kPolynomial = 0x82F63B78u;  // reflected, without x^32
inline constexpr std::uint32_t kOne = 0x80000000u;         // x^0

// x * a.
constexpr std::uint32_t times_x(std::uint32_t a) noexcept { return (a >> 1) ^ (kPolynomial & (0u - (a & 1u))); }

// a * b, bit by bit: for tables made by the compiler.
constexpr std::uint32_t multiply_slow(std::uint32_t a, std::uint32_t b) noexcept {
    std::uint32_t product = 0;
    for (int bit = 31; bit >= 0; --bit) {
        product ^= b & (0u - ((a >> bit) & 1u));
        b = times_x(b);
    }
    return product;
}

// x^exponent.
constexpr std::uint32_t power_of_x(std::uint64_t exponent) noexcept {
    std::uint32_t result = kOne;
    std::uint32_t square = kOne >> 1;
    for (; exponent != 0; exponent >>= 1) {
        if (exponent & 1) result = multiply_slow(result, square);
        square = multiply_slow(square, square);
    }
    return result;
}

// kReduce[v] = what the four lowest bits v, shifted out of a register, put back into it: x^4 * v.
inline constexpr auto kReduce = [] {
    std::array<std::uint32_t, 16> table{};
    for (std::uint32_t v = 0; v < 16; ++v) {
        std::uint32_t a = v;
        for (int i = 0; i < 4; ++i) a = times_x(a);
        table[v] = a;
    }
    return table;
}();

// a * b, four bits at a time: about 20 ns.
constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) noexcept {
    std::uint32_t multiples[16] = {};  // of b, by polynomials of degree < 4; bit 3 is x^0
    multiples[8] = b;
    multiples[4] = times_x(b);
    multiples[2] = times_x(multiples[4]);
    multiples[1] = times_x(multiples[2]);
    for (unsigned top = 2; top <= 8; top *= 2)
        for (unsigned low = 1; low < top; ++low) multiples[top + low] = multiples[top] ^ multiples[low];
    std::uint32_t product = multiples[a & 15];  // Horner's rule, from the highest powers: the lowest bits
    for (int shift = 4; shift < 32; shift += 4)
        product = (product >> 4) ^ kReduce[product & 15] ^ multiples[(a >> shift) & 15];
    return product;
}

// kZeroBytes[i][v] = x^(8 * v * 256^i): appending as many zero bytes as byte i of a length says. 8 KiB.
inline constexpr auto kZeroBytes = [] {
    std::array<std::array<std::uint32_t, 256>, 8> table{};
    std::uint32_t step = power_of_x(8);
    for (auto& powers : table) {
        powers[0] = kOne;
        for (std::size_t v = 1; v < 256; ++v) powers[v] = multiply(powers[v - 1], step);
        step = multiply(powers[255], step);
    }
    return table;
}();

// x^(8 * length).
constexpr std::uint32_t power_of_zero_bytes(std::uint64_t length) noexcept {
    std::uint32_t power = kZeroBytes[0][length & 255];
    for (std::size_t i = 1; (length >>= 8) != 0; ++i)
        if (length & 255) power = multiply(power, kZeroBytes[i][length & 255]);
    return power;
}

// kSlices[k][v] = the register after byte v and k zero bytes: slicing-by-8.
inline constexpr auto kSlices = [] {
    std::array<std::array<std::uint32_t, 256>, 8> table{};
    for (std::uint32_t v = 0; v < 256; ++v) {
        std::uint32_t state = v;
        for (int bit = 0; bit < 8; ++bit) state = times_x(state);
        table[0][v] = state;
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (std::size_t v = 0; v < 256; ++v)
            table[k][v] = (table[k - 1][v] >> 8) ^ table[0][table[k - 1][v] & 255];
    return table;
}();

}  // namespace ff::crc32c_math

namespace ff {

// The implementations for one instruction set. Call them only where crc32c() would.
std::uint32_t crc32c_sse42(std::uint32_t crc, Bytes bytes) noexcept;
std::uint32_t crc32c_armv8(std::uint32_t crc, Bytes bytes) noexcept;

}  // namespace ff
