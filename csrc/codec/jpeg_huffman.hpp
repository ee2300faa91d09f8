// Huffman codes of a baseline JPEG as tables of one look-up a symbol. Internal to csrc/codec.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ff {

// Bits that the look-up of a symbol sees. 10: on photographs less than 1 % of the symbols have a longer code, and the
// four tables of an image together (16 KB) leave half of a first-level cache to the pixels.
inline constexpr int kJpegLookBits = 10;
// Bits that the look-up of a skipped block sees: about two symbols of a photograph at quality 95.
inline constexpr int kJpegSkipBits = 12;
// Code and value of a symbol that the look-up resolves have at most this many bits: three of them are in the 56 that a
// refilled reader holds at least.
inline constexpr int kJpegFastBits = 18;
inline constexpr int kJpegCodeBitsMax = 16;
// Of 8 bits a sample no difference of DC has more, and no AC value more than one less.
inline constexpr int kJpegDcBitsMax = 11;

// A look-up's answer, whose fields are where shifts of 64 bits find them without a mask: bits 0..5 the length of code and
// value together, 6..11 that of the code, 12..17 what a shift leaves of the value: 64 less its length; 18.. by how much
// the place in the block advances. An advance of at least 64 is one of these instead:
inline constexpr std::uint32_t kJpegBlockEnds = 128, kJpegZeros = 256, kJpegCodeIsLong = 512;
inline constexpr std::uint32_t kJpegZerosAdvance = 16;

struct JpegEntry {
    std::uint32_t bits;

    static constexpr JpegEntry of(std::uint32_t code_bits, std::uint32_t value_bits, std::uint32_t advance) noexcept {
        return {(code_bits + value_bits) | code_bits << 6 | ((64 - value_bits) & 63) << 12 | advance << 18};
    }
    // Only their lowest six bits count, in shifts: what is above is another field.
    constexpr std::uint32_t total_field() const noexcept { return bits; }
    constexpr std::uint32_t code_field() const noexcept { return bits >> 6; }
    constexpr std::uint32_t value_field() const noexcept { return bits >> 12; }
    constexpr std::uint32_t total() const noexcept { return bits & 63; }
    constexpr std::uint32_t advance() const noexcept { return bits >> 18; }
};

struct JpegHuffman {
    std::array<JpegEntry, 1 << kJpegLookBits> look;
    // AC only. Bits 0..5 the length of as many whole symbols as there are, 6.. their advance: with kJpegBlockEnds where
    // the block does, or kJpegCodeIsLong alone.
    std::array<std::uint16_t, 1 << kJpegSkipBits> skip;
    // For long codes: the largest code of each length, as if it had 16 bits; the entry of its symbol less its code.
    std::array<std::uint32_t, kJpegCodeBitsMax + 2> code_end;
    std::array<std::int32_t, kJpegCodeBitsMax + 1> symbol_base;
    std::array<std::uint8_t, 256> symbols;

    // The entry of a code of any length, the next bits of `window`; one of zeros where there is no such code.
    JpegEntry entry_of(std::uint64_t window) const noexcept;

    // From a DHT segment's counts of codes by length (1..16; [0] is not read) and its symbols. False where no decoder
    // of 8 bits a sample could use them: then the tables are undefined.
    bool build(const std::uint8_t* counts, const std::uint8_t* values, bool is_dc) noexcept;

  private:
    bool fill_look(const std::uint8_t* counts, int symbol_count, bool is_dc) noexcept;
    void fill_skip() noexcept;

    // What the tables were made of: those of the last image are most often those of the next.
    bool built_ = false, is_dc_ = false;
    std::array<std::uint8_t, kJpegCodeBitsMax + 1> counts_;
};

}  // namespace ff
