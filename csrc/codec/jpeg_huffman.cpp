#include "codec/jpeg_huffman.hpp"

#include <algorithm>

namespace ff {
namespace {

// What libjpeg makes of a symbol: a run of zeros and the size of the value behind it. Size 0 ends the block, but for a
// run of 15, which is 16 zeros.
JpegEntry entry_for(std::uint32_t symbol, std::uint32_t code_bits, bool is_dc) noexcept {
    if (is_dc) return JpegEntry::of(code_bits, symbol, 1);
    const std::uint32_t run = symbol >> 4, size = symbol & 15;
    if (size == 0) return JpegEntry::of(code_bits, 0, run == 15 ? kJpegZeros : kJpegBlockEnds);
    return JpegEntry::of(code_bits, size, run + 1);
}

}  // namespace

bool JpegHuffman::build(const std::uint8_t* counts, const std::uint8_t* values, bool is_dc) noexcept {
    int symbol_count = 0;
    for (int length = 1; length <= kJpegCodeBitsMax; ++length) symbol_count += counts[length];
    if (symbol_count > 256) return false;
    if (built_ && is_dc == is_dc_ && std::equal(counts + 1, counts + 1 + kJpegCodeBitsMax, counts_.begin() + 1) &&
        std::equal(values, values + symbol_count, symbols.begin()))
        return true;
    built_ = false;
    for (int i = 0; i < symbol_count; ++i) {
        const int size = is_dc ? values[i] : values[i] & 15;
        if (size > (is_dc ? kJpegDcBitsMax : kJpegDcBitsMax - 1)) return false;
    }
    std::copy_n(counts, counts_.size(), counts_.begin());
    std::copy_n(values, symbol_count, symbols.begin());
    if (!fill_look(counts, symbol_count, is_dc)) return false;
    is_dc_ = is_dc;
    if (!is_dc) fill_skip();
    return built_ = true;
}

// Codes ascend with their length, and within one by one.
bool JpegHuffman::fill_look(const std::uint8_t* counts, int symbol_count, bool is_dc) noexcept {
    look.fill(JpegEntry::of(0, 0, kJpegCodeIsLong));
    std::uint32_t code = 0;
    int index = 0;
    for (int length = 1; length <= kJpegCodeBitsMax; ++length, code <<= 1) {
        symbol_base[length] = index - static_cast<int>(code);
        for (int i = 0; i < counts[length]; ++i, ++index, ++code) {
            if (code >= 1u << length) return false;
            const JpegEntry entry = entry_for(symbols[index], static_cast<std::uint32_t>(length), is_dc);
            if (length > kJpegLookBits || entry.total() > kJpegFastBits) continue;
            const int free_bits = kJpegLookBits - length;
            std::fill_n(look.begin() + (code << free_bits), 1u << free_bits, entry);
        }
        if (code >= 1u << length) return false;  // none may be all ones
        code_end[length] = code << (kJpegCodeBitsMax - length);
    }
    code_end[kJpegCodeBitsMax + 1] = ~0u;
    return index == symbol_count;
}

void JpegHuffman::fill_skip() noexcept {
    for (std::uint32_t window = 0; window < skip.size(); ++window) {
        std::uint32_t used = 0, advance = 0;
        while (used < kJpegSkipBits && advance < 64) {
            const std::uint32_t left = (window << used) & ((1u << kJpegSkipBits) - 1);
            const JpegEntry entry = look[left >> (kJpegSkipBits - kJpegLookBits)];
            if (entry.advance() == kJpegCodeIsLong || used + entry.total() > kJpegSkipBits) break;
            used += entry.total();
            advance += entry.advance() == kJpegZeros ? kJpegZerosAdvance : entry.advance();
        }
        if (used == 0) advance = kJpegCodeIsLong;
        skip[window] = static_cast<std::uint16_t>(used | advance << 6);
    }
}

JpegEntry JpegHuffman::entry_of(std::uint64_t window) const noexcept {
    const auto peeked = static_cast<std::uint32_t>(window >> (64 - kJpegCodeBitsMax));
    std::uint32_t length = 1;
    while (length <= kJpegCodeBitsMax && peeked >= code_end[length]) ++length;
    if (length > kJpegCodeBitsMax) return {0};
    const auto code = static_cast<std::int32_t>(peeked >> (kJpegCodeBitsMax - length));
    return entry_for(symbols[static_cast<std::size_t>(symbol_base[length] + code)], length, is_dc_);
}

}  // namespace ff
