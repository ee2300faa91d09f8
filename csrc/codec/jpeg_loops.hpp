// The loops over blocks and bits, compiled once for each instruction set. Everything here has internal linkage: the
// linker must not pick one set's code for all. Included by jpeg_portable.cpp and jpeg_avx2.cpp only.
#pragma once

#include <cstdint>
#include <cstring>

#include "codec/jpeg_scan.hpp"

namespace ff {
namespace {

using Block = std::int16_t[kJpegBlock + kJpegBlockTail];

// memset() of this size becomes a string instruction, which takes as long as ten coefficients.
inline void clear(Block& block) noexcept {
    using Vector [[gnu::vector_size(32), gnu::may_alias, gnu::aligned(32)]] = long long;
    auto* const at = reinterpret_cast<Vector*>(block);
    for (std::size_t i = 0; i < kJpegBlock * sizeof(std::int16_t) / sizeof(Vector); ++i) at[i] = Vector{};
}

// The scan's bits in registers: between 56 and 63 of them after refill(), the next one highest.
struct BitReader {
    std::uint64_t window;
    std::uint64_t count;  // its lowest six bits: those above are left-overs of entries
    const std::uint8_t* next;

    explicit BitReader(const JpegScan& scan) : window(scan.window), count(scan.window_bits), next(scan.next) {}
    void give_back(JpegScan& scan) const noexcept {
        scan.window = window;
        scan.window_bits = count & 63;
        scan.next = next;
    }
    // Bits of the byte that does not fit whole come along, and once more, the same, with the next call.
    void refill() noexcept {
        std::uint64_t eight;
        std::memcpy(&eight, next, sizeof eight);
        window |= __builtin_bswap64(eight) >> (count & 63);
        next += (~count & 63) >> 3;
        count |= 56;
    }
    JpegEntry look(const JpegEntry* table) const noexcept { return table[window >> (64 - kJpegLookBits)]; }
    void drop(std::uint32_t total_field) noexcept {
        window <<= total_field & 63;
        count -= total_field;
    }
};

// The value behind the code of `entry`, of one bit at least: JPEG writes negative numbers with a leading zero, as what
// is missing to the largest of so many bits.
inline std::int32_t value_of(std::uint64_t window, JpegEntry entry) noexcept {
    const std::uint64_t at_value = window << (entry.code_field() & 63);
    const auto positive = static_cast<std::uint64_t>(static_cast<std::int64_t>(at_value) >> 63);
    const std::uint64_t largest = ~std::uint64_t{0} >> (entry.value_field() & 63);
    return static_cast<std::int32_t>((at_value >> (entry.value_field() & 63)) - (~positive & largest));
}

// Adds the next difference to `dc`.
inline bool read_dc(BitReader& bits, const JpegHuffman& table, std::int32_t& dc) noexcept {
    bits.refill();
    JpegEntry entry = bits.look(table.look.data());
    if (entry.advance() == kJpegCodeIsLong) {
        entry = table.entry_of(bits.window);
        if (entry.bits == 0) return false;
    }
    if ((entry.value_field() & 63) != 0) dc += value_of(bits.window, entry);
    bits.drop(entry.total_field());
    // What 8 bits a sample can come to, and far more; products with the quantisation stay within 32 bits.
    return dc >= -32768 && dc <= 32767;
}

// One block of dequantised coefficients into `out`, which is zero.
inline bool read_block(BitReader& bits, const JpegComponent& component, std::int32_t& dc, Block& out) noexcept {
    if (!read_dc(bits, *component.dc, dc)) return false;
    const std::int16_t* const quant = component.quant.data();
    out[0] = static_cast<std::int16_t>(dc * quant[0]);
    const JpegEntry* const look = component.ac->look.data();
    std::uint32_t place = 1;
    JpegEntry entry{0};
    const auto store = [&] {
        out[kJpegNatural[place - 1]] = static_cast<std::int16_t>(value_of(bits.window, entry) * quant[place - 1]);
        bits.drop(entry.total_field());
    };
    // False where the block ends, the code is long, or a run leaves the block.
    const auto step = [&]() {
        entry = bits.look(look);
        place += entry.advance();
        if (place >= kJpegBlock) return false;
        store();
        return true;
    };
    for (;;) {
        bits.refill();
        if (step() && step() && step()) continue;
        if (place >= kJpegCodeIsLong) {
            bits.refill();
            entry = component.ac->entry_of(bits.window);
            if (entry.bits == 0) return false;
            place += entry.advance() - kJpegCodeIsLong;
            if (place < kJpegBlock) {
                store();
                continue;
            }
        }
        if (place == kJpegBlock) {
            store();
            return true;
        }
        bits.drop(entry.total_field());
        if (place < kJpegZeros) return place >= kJpegBlockEnds;
        place += kJpegZerosAdvance - kJpegZeros;
        if (place >= kJpegBlock) return false;
    }
}

// The same block without its coefficients: several symbols a look-up.
inline bool skip_block(BitReader& bits, const JpegComponent& component, std::int32_t& dc) noexcept {
    if (!read_dc(bits, *component.dc, dc)) return false;
    const std::uint16_t* const skip = component.ac->skip.data();
    std::uint32_t place = 1, before = 0, entry = 0;
    const auto step = [&] {
        entry = skip[bits.window >> (64 - kJpegSkipBits)];
        before = place;
        place += entry >> 6;
        if (place >= kJpegBlock) return false;
        bits.drop(entry);
        return true;
    };
    for (;;) {
        bits.refill();
        if (step() && step() && step() && step()) continue;
        const std::uint32_t advance = entry >> 6;
        const bool ends = advance >= kJpegBlockEnds && advance < kJpegCodeIsLong;
        if (ends ? place - kJpegBlockEnds < kJpegBlock : place == kJpegBlock) {
            bits.drop(entry);
            return true;
        }
        // A long code, or symbols that belong to the next block: one by itself.
        bits.refill();
        const JpegEntry single = component.ac->entry_of(bits.window);
        if (single.bits == 0) return false;
        bits.drop(single.total_field());
        if (single.advance() == kJpegBlockEnds) return true;
        place = before + (single.advance() == kJpegZeros ? kJpegZerosAdvance : single.advance());
        if (place >= kJpegBlock) return place == kJpegBlock && single.advance() != kJpegZeros;
    }
}

inline bool begin_mcu(JpegScan& scan, BitReader& bits) noexcept {
    if (scan.restart_interval != 0) {
        bits.give_back(scan);
        if (!scan.restart()) return false;
        bits = BitReader(scan);
    }
    // The window is eight bytes ahead. What an MCU can read beyond is padding.
    return bits.next <= scan.bits.bytes.data() + scan.bits.size + 8;
}

bool skip_mcus(JpegScan& scan, BitReader& bits, std::uint32_t count) noexcept {
    for (std::uint32_t mcu = 0; mcu < count; ++mcu) {
        if (!begin_mcu(scan, bits)) return false;
        for (std::uint32_t c = 0; c < scan.component_count; ++c) {
            const JpegComponent& component = scan.components[c];
            for (std::uint32_t b = 0; b < component.across * component.down; ++b)
                if (!skip_block(bits, component, scan.last_dc[c])) return false;
        }
    }
    return true;
}

// Where a block's samples go.
struct Place {
    std::uint8_t* out;
    std::size_t stride;
};

// jidctred's one point: the mean, with three bits after the point. There libjpeg keeps ten bits, with their sign, before
// it saturates: no encoder makes more.
inline std::uint8_t only_sample(const Block& block) noexcept {
    const std::int32_t value = static_cast<std::int16_t>(((block[0] + 4) >> 3) * 64) / 64;
    return static_cast<std::uint8_t>(value < -128 ? 0 : value > 127 ? 255 : value + 128);
}

// `Transforms` has, for each side, a function of two blocks of one size: two fit a register of 256 bits.
template <class Transforms>
void transform_pair(std::uint32_t side, const Block& a, Place to_a, const Block& b, Place to_b) noexcept {
    switch (side) {
        case 8: return Transforms::side8(a, to_a, b, to_b);
        case 4: return Transforms::side4(a, to_a, b, to_b);
        case 2: return Transforms::side2(a, to_a, b, to_b);
        default: return Transforms::side1(a, to_a, b, to_b);
    }
}

// The blocks of one MCU, in the order of the scan. Those of one component first, then the two of colour: each group of
// one size.
template <class Transforms>
void transform_mcu(const JpegScan& scan, const Block* blocks, const Place* places) noexcept {
    const JpegComponent& luma = scan.components[0];
    const std::uint32_t luma_blocks = luma.across * luma.down;
    for (std::uint32_t i = 0; i + 1 < luma_blocks; i += 2)
        transform_pair<Transforms>(luma.side, blocks[i], places[i], blocks[i + 1], places[i + 1]);
    if (luma_blocks == 1) transform_pair<Transforms>(luma.side, blocks[0], places[0], blocks[0], places[0]);
    if (scan.component_count == 3)
        transform_pair<Transforms>(scan.components[1].side, blocks[luma_blocks], places[luma_blocks],
                                   blocks[luma_blocks + 1], places[luma_blocks + 1]);
}

// One MCU's coefficients into `blocks`.
inline bool read_mcu(JpegScan& scan, BitReader& bits, Block* blocks) noexcept {
    for (std::uint32_t c = 0; c < scan.component_count; ++c) {
        const JpegComponent& component = scan.components[c];
        for (std::uint32_t b = 0; b < component.across * component.down; ++b, ++blocks) {
            std::int32_t& dc = scan.last_dc[c];
            if (component.side > 1) {
                clear(*blocks);
                if (!read_block(bits, component, dc, *blocks)) return false;
            } else {
                if (!skip_block(bits, component, dc)) return false;
                (*blocks)[0] = static_cast<std::int16_t>(dc * component.quant[0]);
            }
        }
    }
    return true;
}

template <class Transforms>
bool decode_row(JpegScan& scan) noexcept {
    BitReader bits(scan);
    if (!skip_mcus(scan, bits, scan.first_mcu)) return false;
    alignas(64) Block blocks[kJpegMcuBlocksMax];
    Place places[kJpegMcuBlocksMax], *place = places;
    for (std::uint32_t c = 0; c < scan.component_count; ++c) {
        JpegComponent& component = scan.components[c];
        std::uint8_t* const row = component.row(scan.mcu_row * component.rows());
        for (std::uint32_t y = 0; y < component.down; ++y)
            for (std::uint32_t x = 0; x < component.across; ++x)
                *place++ = {row + (y * component.stride + x) * component.side, component.stride};
    }
    for (std::uint32_t mcu = scan.first_mcu; mcu < scan.end_mcu; ++mcu) {
        if (!begin_mcu(scan, bits) || !read_mcu(scan, bits, blocks)) return false;
        transform_mcu<Transforms>(scan, blocks, places);
        place = places;
        for (std::uint32_t c = 0; c < scan.component_count; ++c) {
            const JpegComponent& component = scan.components[c];
            for (std::uint32_t b = 0; b < component.across * component.down; ++b, ++place)
                place->out += component.across * component.side;
        }
    }
    const bool last = scan.mcu_row + 1 == scan.end_row;
    if (!last && !skip_mcus(scan, bits, scan.mcus_across - scan.end_mcu)) return false;
    bits.give_back(scan);
    ++scan.mcu_row;
    return scan.within();
}

bool skip_row(JpegScan& scan) noexcept {
    BitReader bits(scan);
    if (!skip_mcus(scan, bits, scan.mcus_across)) return false;
    bits.give_back(scan);
    ++scan.mcu_row;
    return scan.within();
}

}  // namespace
}  // namespace ff
