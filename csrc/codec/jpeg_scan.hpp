// The one scan of a baseline JPEG: Huffman decoding and the inverse transform of the blocks that a region needs, a row
// of MCUs at a time. Internal to csrc/codec.
//
// The samples are bit for bit libjpeg's (its integer transforms, jidctint and jidctred). Whatever a file of this kind
// has no business to hold - a code or a run that does not exist, too few bits, a restart out of order - makes a step
// return false: libjpeg then decodes the whole file, and its rules for damage hold.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "codec/jpeg_huffman.hpp"

namespace ff {

inline constexpr std::size_t kJpegBlock = 64;
// A run that leaves its block lands in this tail: at most 15 places behind the last.
inline constexpr std::size_t kJpegBlockTail = 16;
// Zigzag places as they lie in a block; those behind the last go to its tail.
inline constexpr std::uint8_t kJpegNatural[kJpegBlock + kJpegBlockTail] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,
    6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31,
    39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64};

inline constexpr std::uint32_t kJpegComponentsMax = 3;
inline constexpr std::uint32_t kJpegMcuBlocksMax = 6;  // 2 x 2 luma and two of colour
// A row of samples has this much room before its first, where the replicated edge goes, and after its last, where
// vectors read on.
inline constexpr std::size_t kJpegRowMargin = 64;
// Colour is converted in steps of so many pixels: what is read and written ends at such a multiple.
inline constexpr std::size_t kJpegColorStep = 32;

// Entropy-coded data without stuffed bytes and restart markers.
struct JpegBits {
    std::vector<std::uint8_t> bytes;         // zeros after `size`
    std::size_t size = 0;
    std::vector<std::size_t> interval_ends;  // where each restart interval ends; the last at `size`

    // Takes what follows a scan header up to the first marker that is no restart in order, or any where none is due.
    void take(Bytes coded, bool restarts);
};

struct JpegComponent {
    std::uint32_t across = 1, down = 1;  // blocks an MCU
    std::uint32_t side = 8;              // samples a block and axis after the transform: 8, 4, 2 or 1
    const JpegHuffman* dc = nullptr;
    const JpegHuffman* ac = nullptr;
    std::array<std::int16_t, kJpegBlock + kJpegBlockTail> quant;  // in zigzag order
    // Two rows of MCUs, so that neighbours above are at hand; of `down * side` rows of samples each.
    std::vector<std::uint8_t> samples;
    std::size_t stride = 0;

    std::uint32_t rows() const noexcept { return down * side; }
    // Row `y` of the image's, of which the last two rows of MCUs are held; at the first sample of the region.
    std::uint8_t* row(std::uint32_t y) noexcept {
        const std::uint32_t held = y / rows() % 2 * rows() + y % rows();
        return samples.data() + stride * held + kJpegRowMargin;
    }
};

struct JpegScan {
    std::uint32_t component_count = 0;
    std::array<JpegComponent, kJpegComponentsMax> components;
    std::uint32_t mcus_across = 0;
    std::uint32_t first_mcu = 0, end_mcu = 0;  // of each row: those whose samples are needed
    std::uint32_t end_row = 0;                 // behind the last row of MCUs that is needed
    std::uint32_t restart_interval = 0;        // MCUs; 0: none
    JpegBits bits;

    // Where decoding is; start() sets it to the beginning.
    std::uint64_t window = 0;      // the next bits, first one highest
    std::uint32_t window_bits = 0;
    const std::uint8_t* next = nullptr;
    std::array<std::int32_t, kJpegComponentsMax> last_dc{};
    std::uint32_t until_restart = 0;
    std::size_t interval = 0;
    std::uint32_t mcu_row = 0;

    void start() noexcept;
    // Called before each MCU where there are restarts: goes on behind the marker when it is due. False where the
    // interval does not end there.
    bool restart() noexcept;
    // The bits consumed do not pass the end of the restart interval.
    bool within() const noexcept {
        return next - window_bits / 8 <= bits.bytes.data() + bits.interval_ends[interval];
    }
};

// The loops, for one instruction set each; all give the same bits.
struct JpegKernels {
    // The next row of MCUs into the components' samples. False: the scan is not what it should be.
    bool (*decode_row)(JpegScan& scan);
    // The same without samples.
    bool (*skip_row)(JpegScan& scan);
    // Chroma of half the width to `pixels` RGBX pixels, the first of which has an even column. `near` and `far`: the two
    // rows of chroma that a row of the image lies between; one sample before the first and one after the last are read.
    void (*color_h2v2)(const std::uint8_t* luma, const std::uint8_t* const near[2], const std::uint8_t* const far[2],
                       std::size_t pixels, std::uint8_t* out);
    void (*color_h2v1)(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels,
                       std::uint8_t* out);
    void (*color)(const std::uint8_t* luma, const std::uint8_t* const chroma[2], std::size_t pixels,
                  std::uint8_t* out);
    const char* name;
};
const JpegKernels& portable_jpeg_kernels() noexcept;
const JpegKernels& avx2_jpeg_kernels() noexcept;  // x86-64 only; call only where the processor has AVX2 and BMI2
const JpegKernels& best_jpeg_kernels() noexcept;

}  // namespace ff
