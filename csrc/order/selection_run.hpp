// Rank and select over runs of values: the inner loops of order/selection.
//
// Everything is `static`: each file that includes this compiles its own copy for its own instruction set. Values are
// taken kRun at a time, stage by stage, so that the cache misses of a run overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#if defined(__BMI2__)
#include <immintrin.h>
#endif

namespace ff {

// A block is one cache line of bits.
inline constexpr std::size_t kBlockWords = 8;
inline constexpr std::uint64_t kBlockBits = 512;
// One hint a so many ones: 0.8 % of the bitmap at most, and the search between two hints sees 16 blocks where all bits
// are set and 32 where half of them are.
inline constexpr std::uint64_t kHintOnes = 8192;

// Borrowed arrays. words: kBlockWords a block, zero beyond the universe. counts[b]: ones before block b, one more entry
// than there are blocks. hints[h]: the block of one number h * kHintOnes; one more entry, the last block.
struct SelectionArrays {
    const std::uint64_t* words;
    const std::uint64_t* counts;
    const std::uint64_t* hints;
};

// values[i] = the row of one number values[i], which exists; or the ones before row values[i], which is in the blocks.
using SelectionPass = void (*)(const SelectionArrays& arrays, std::int64_t* values, std::size_t count);

void selection_select_avx2(const SelectionArrays& arrays, std::int64_t* values, std::size_t count);
void selection_rank_avx2(const SelectionArrays& arrays, std::int64_t* values, std::size_t count);

namespace selection {

// Enough loads in flight to cover memory's latency, few enough that a run's blocks stay in the first-level cache.
constexpr std::size_t kRun = 64;

// The bit of one number `index` in `word`, which has more ones than that.
static inline unsigned select_in_word(std::uint64_t word, unsigned index) noexcept {
#if defined(__BMI2__)
    return static_cast<unsigned>(__builtin_ctzll(_pdep_u64(std::uint64_t{1} << index, word)));
#else
    // Byte i of `sums` has the ones of bytes 0..i.
    std::uint64_t sums = word - ((word >> 1) & 0x5555555555555555u);
    sums = (sums & 0x3333333333333333u) + ((sums >> 2) & 0x3333333333333333u);
    sums = ((sums + (sums >> 4)) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u;
    unsigned shift = 0;
    while (((sums >> shift) & 0xFF) <= index) shift += 8;
    const unsigned before = shift == 0 ? 0 : static_cast<unsigned>((sums >> (shift - 8)) & 0xFF);
    unsigned rest = static_cast<unsigned>((word >> shift) & 0xFF);
    for (unsigned i = before; i < index; ++i) rest &= rest - 1;
    return shift + static_cast<unsigned>(__builtin_ctzll(rest));
#endif
}

// The last block whose count is at most `one`, between two hints.
static inline std::uint64_t block_of(const SelectionArrays& arrays, std::uint64_t one) noexcept {
    const std::uint64_t hint = one / kHintOnes;
    std::uint64_t first = arrays.hints[hint], length = arrays.hints[hint + 1] - first + 1;
    while (length > 1) {  // without a branch on what was read: the outcome is random
        const std::uint64_t half = length / 2;
        first += arrays.counts[first + half] <= one ? half : 0;
        length -= half;
    }
    return first;
}

static inline std::uint64_t select_in_block(const std::uint64_t* words, unsigned index) noexcept {
    unsigned sum = 0, word = 0, before = 0;
    for (unsigned i = 0; i + 1 < kBlockWords; ++i) {
        sum += static_cast<unsigned>(__builtin_popcountll(words[i]));
        const bool behind = sum <= index;
        word += behind;
        before = behind ? sum : before;
    }
    return word * 64 + select_in_word(words[word], index - before);
}

static inline unsigned rank_in_block(const std::uint64_t* words, unsigned bit) noexcept {
    unsigned sum = 0;
    for (unsigned i = 0; i < kBlockWords; ++i) {
        const std::uint64_t partial = i == bit / 64 ? (std::uint64_t{1} << (bit % 64)) - 1 : 0;
        sum += static_cast<unsigned>(__builtin_popcountll(words[i] & (i < bit / 64 ? ~std::uint64_t{0} : partial)));
    }
    return sum;
}

static inline void select_run(const SelectionArrays& arrays, std::int64_t* values, std::size_t count) {
    std::uint64_t blocks[kRun];
    for (std::size_t start = 0; start < count; start += kRun) {
        std::int64_t* run = values + start;
        const std::size_t size = count - start < kRun ? count - start : kRun;
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t hint = static_cast<std::uint64_t>(run[i]) / kHintOnes;
            __builtin_prefetch(&arrays.counts[(arrays.hints[hint] + arrays.hints[hint + 1] + 1) / 2]);
        }
        for (std::size_t i = 0; i < size; ++i) {
            blocks[i] = block_of(arrays, static_cast<std::uint64_t>(run[i]));
            __builtin_prefetch(&arrays.words[blocks[i] * kBlockWords]);
        }
        for (std::size_t i = 0; i < size; ++i) {
            const auto index = static_cast<unsigned>(static_cast<std::uint64_t>(run[i]) - arrays.counts[blocks[i]]);
            const std::uint64_t bit = select_in_block(&arrays.words[blocks[i] * kBlockWords], index);
            run[i] = static_cast<std::int64_t>(blocks[i] * kBlockBits + bit);
        }
    }
}

static inline void rank_run(const SelectionArrays& arrays, std::int64_t* values, std::size_t count) {
    for (std::size_t start = 0; start < count; start += kRun) {
        std::int64_t* run = values + start;
        const std::size_t size = count - start < kRun ? count - start : kRun;
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t block = static_cast<std::uint64_t>(run[i]) / kBlockBits;
            __builtin_prefetch(&arrays.counts[block]);
            __builtin_prefetch(&arrays.words[block * kBlockWords]);
        }
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t block = static_cast<std::uint64_t>(run[i]) / kBlockBits;
            const auto bit = static_cast<unsigned>(static_cast<std::uint64_t>(run[i]) % kBlockBits);
            run[i] = static_cast<std::int64_t>(arrays.counts[block] +
                                               rank_in_block(&arrays.words[block * kBlockWords], bit));
        }
    }
}

}  // namespace selection
}  // namespace ff
