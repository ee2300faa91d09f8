// Vectors that every implementation of crc32c must give. The first six are of RFC 3720 (B.4) and the usual check value;
// the others are of pattern(n) and were computed with another library (google-crc32c).
#pragma once

#include <cstdint>
#include <vector>

#include "bytes.hpp"

namespace ff::test {

// Byte i is (7 i^2 + floor(i / 8)) mod 256.
inline std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * i * 7 + (i >> 3)) & 255);
    return bytes;
}

struct PatternVector {
    std::size_t size;
    std::uint32_t crc;
};

inline constexpr PatternVector kPatternVectors[] = {
    {0, 0x00000000}, {1, 0x527D5351}, {2, 0x25AB1339}, {3, 0x47146280}, {4, 0xBE3C09DE}, {7, 0xCDED894C},
    {8, 0xDB67D28C}, {9, 0xACF565EC}, {15, 0xD9C77EB8}, {16, 0xC00C6838}, {31, 0x863B0CD1}, {63, 0x7860B8F5},
    {64, 0xBA14CCDF}, {65, 0x55DEC2DD}, {100, 0x425D3C0C}, {127, 0xC7232D05}, {191, 0x27A065EE},
    {192, 0x23C2A739}, {193, 0x80889C2B}, {383, 0x929A602A}, {384, 0x0FF2C18E}, {511, 0xCC5E1317},
    {512, 0xF1FF5492}, {1000, 0xB92D0C86}, {1535, 0xD420E6D9}, {1536, 0x1CE488FC}, {1537, 0x2FC131B8},
    {1727, 0x80F4D541}, {1728, 0x1CB05CCF}, {4096, 0x1EFA4D78}, {12287, 0x9CF84E9E}, {12288, 0x4A900FC7},
    {12289, 0x45708171}, {13823, 0xB14A7089}, {13824, 0x4DA438B9}, {14015, 0xB5AFD51F}, {14016, 0xE1D8623B},
    {24576, 0x9801FE89}, {24577, 0xA8A1B21B}, {50000, 0xDFA9D09E}, {65536, 0x0C8FAF25}, {110001, 0xCD890862},
    {1048576, 0x789C5185},
};

}  // namespace ff::test
