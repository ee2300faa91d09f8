// zstd values (docs/format.md, section 4.2).
#include "codec/zstd.hpp"

#include <zstd.h>

#include <algorithm>
#include <string>

#include "error.hpp"

namespace ff {
namespace {

constexpr std::uint32_t kDictionaryMagic = ZSTD_MAGIC_DICTIONARY;
// A frame begins: magic, descriptor, window. Format 1 has neither content size, checksum nor dictionary id, which
// makes the descriptor zero.
constexpr std::size_t kFrameHeaderSize = 6;
// What zstd's readers accept without being asked: 128 MiB. Ours needs no window, for it decodes in place.
constexpr unsigned kWindowLogMax = 27;

[[noreturn]] void corrupt(const std::string& what) { throw Error(Code::corrupt, "zstd value: " + what); }

// A block's type (RFC 8878, 3.1.1.2): as it is, one byte repeated, compressed.
enum class Block : unsigned { raw = 0, repeated = 1, compressed = 2 };
constexpr std::size_t kBlockHeaderSize = 3;
constexpr std::uint64_t kBlockSizeMax = 128 * 1024;

// The most bytes that a block of the frame may have: the window, of the RFC's 3.1.1.1.2, if that is smaller.
std::uint64_t block_size_max(std::byte window_descriptor) {
    const auto descriptor = std::to_integer<unsigned>(window_descriptor);
    const unsigned window_log = 10 + (descriptor >> 3);
    if (window_log > kWindowLogMax)
        corrupt("a window of 2^" + std::to_string(window_log) + " bytes; the limit is 2^" +
                std::to_string(kWindowLogMax));
    const std::uint64_t base = std::uint64_t{1} << window_log;
    return std::min(kBlockSizeMax, base + base / 8 * (descriptor & 7));
}

// Walks the blocks of the one frame that `stored` must be, and returns the most bytes that they can decode to.
std::uint64_t decoded_size_max(Bytes stored) {
    if (stored.size() < kFrameHeaderSize || load_le<std::uint32_t>(stored.data()) != ZSTD_MAGICNUMBER)
        corrupt("its " + std::to_string(stored.size()) + " bytes do not begin with a zstd frame");
    if (stored[4] != std::byte{0})
        corrupt("frame descriptor " + std::to_string(std::to_integer<int>(stored[4])) +
                "; the format has frames without content size, checksum or dictionary id (0)");
    const std::uint64_t size_max = block_size_max(stored[5]);
    std::uint64_t total = 0;
    std::size_t at = kFrameHeaderSize;
    for (bool last = false; !last;) {
        if (stored.size() - at < kBlockHeaderSize)
            corrupt("damaged frame: it ends inside a block, at byte " + std::to_string(at) + " of " +
                    std::to_string(stored.size()));
        const std::uint32_t header = load_le<std::uint16_t>(stored.data() + at) |
                                     std::to_integer<std::uint32_t>(stored[at + 2]) << 16;
        last = (header & 1) != 0;
        const auto type = static_cast<Block>(header >> 1 & 3);
        const std::uint64_t size = header >> 3;
        if (type > Block::compressed || size > size_max)
            corrupt("damaged frame: the block at byte " + std::to_string(at) + " has type " +
                    std::to_string(static_cast<unsigned>(type)) + " and " + std::to_string(size) + " bytes; at most " +
                    std::to_string(size_max) + " are possible");
        at += kBlockHeaderSize;
        const std::uint64_t here = type == Block::repeated ? 1 : size;
        if (here > stored.size() - at)
            corrupt("damaged frame: it ends inside a block, at byte " + std::to_string(at) + " of " +
                    std::to_string(stored.size()));
        at += here;
        total += type == Block::compressed ? size_max : size;
    }
    if (at != stored.size())
        corrupt("the frame ends after " + std::to_string(at) + " of " + std::to_string(stored.size()) +
                " stored bytes");
    return total;
}

void set_parameter(ZSTD_CCtx* context, ZSTD_cParameter parameter, int value) {
    const std::size_t result = ZSTD_CCtx_setParameter(context, parameter, value);
    if (ZSTD_isError(result))
        throw Error(Code::internal, std::string("zstd refuses a parameter: ") + ZSTD_getErrorName(result));
}

}  // namespace

struct ZstdDictionary::State {
    std::unique_ptr<ZSTD_DDict, decltype(&ZSTD_freeDDict)> dictionary{nullptr, &ZSTD_freeDDict};
};

ZstdDictionary::ZstdDictionary(Bytes dictionary) : state_(std::make_unique<State>()) {
    if (dictionary.size() < 8 || load_le<std::uint32_t>(dictionary.data()) != kDictionaryMagic)
        throw Error(Code::corrupt, "zstd dictionary: its " + std::to_string(dictionary.size()) +
                                       " bytes do not begin as a dictionary does");
    state_->dictionary.reset(ZSTD_createDDict(dictionary.data(), dictionary.size()));
    if (!state_->dictionary)
        throw Error(Code::corrupt, "zstd dictionary: its " + std::to_string(dictionary.size()) + " bytes are damaged");
}

ZstdDictionary::~ZstdDictionary() = default;

struct ZstdDecoder::State {
    std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context{ZSTD_createDCtx(), &ZSTD_freeDCtx};
};

ZstdDecoder::ZstdDecoder() : state_(std::make_unique<State>()) {
    if (!state_->context) throw Error(Code::no_memory, "no memory for a zstd decoder");
}

ZstdDecoder::~ZstdDecoder() = default;

void check_zstd_value(Bytes stored, std::uint64_t raw_size) {
    if (stored.size() == raw_size) return;
    if (stored.size() > raw_size)
        corrupt(std::to_string(stored.size()) + " stored bytes for a value of " + std::to_string(raw_size));
    if (const std::uint64_t most = decoded_size_max(stored); most < raw_size)
        corrupt("a value of " + std::to_string(raw_size) + " bytes is declared, and the blocks of its " +
                std::to_string(stored.size()) + " stored bytes hold at most " + std::to_string(most));
}

void ZstdDecoder::decode(Bytes stored, const ZstdDictionary* dictionary, MutableBytes out) {
    if (stored.size() == out.size()) {
        std::copy(stored.begin(), stored.end(), out.begin());
        return;
    }
    check_zstd_value(stored, out.size());
    ZSTD_DCtx* context = state_->context.get();
    const std::size_t size =
        dictionary ? ZSTD_decompress_usingDDict(context, out.data(), out.size(), stored.data(), stored.size(),
                                                dictionary->state().dictionary.get())
                   : ZSTD_decompressDCtx(context, out.data(), out.size(), stored.data(), stored.size());
    if (ZSTD_isError(size))
        corrupt(std::to_string(stored.size()) + " stored bytes do not decode to " + std::to_string(out.size()) + ": " +
                ZSTD_getErrorName(size));
    if (size != out.size())
        corrupt("it decodes to " + std::to_string(size) + " bytes, not to " + std::to_string(out.size()));
}

// zstd sizes its search tables for the value; with a large dictionary and a small value, most of the dictionary falls
// out of them. Tables of this many bits hold the positions of 1 MiB: 3 % smaller text of 1 KB at level 3, for 8 MiB an
// encoder.
constexpr int kWideTableLog = 20;
// Above this zstd would copy those tables for each value, which costs more than it gains.
constexpr std::size_t kWideValueMax = 16 * 1024;

using Context = std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)>;

Context make_context(int level, Bytes dictionary) {
    Context context{ZSTD_createCCtx(), &ZSTD_freeCCtx};
    if (!context) throw Error(Code::no_memory, "no memory for a zstd encoder");
    set_parameter(context.get(), ZSTD_c_compressionLevel, level);
    set_parameter(context.get(), ZSTD_c_contentSizeFlag, 0);
    set_parameter(context.get(), ZSTD_c_checksumFlag, 0);
    set_parameter(context.get(), ZSTD_c_dictIDFlag, 0);
    const std::size_t result = ZSTD_CCtx_loadDictionary(context.get(), dictionary.data(), dictionary.size());
    if (ZSTD_isError(result))
        throw Error(Code::no_memory, std::string("zstd dictionary: ") + ZSTD_getErrorName(result));
    return context;
}

struct ZstdEncoder::State {
    Context context{nullptr, &ZSTD_freeCCtx};
    Context wide{nullptr, &ZSTD_freeCCtx};  // for small values; null where there is no dictionary
    std::unique_ptr<std::byte[]> scratch;  // compressed bytes of the value at work; grows to the largest
    std::size_t scratch_size = 0;
};

ZstdEncoder::ZstdEncoder(int level, Bytes dictionary) : state_(std::make_unique<State>()) {
    if (level < ZSTD_minCLevel() || level > ZSTD_maxCLevel())
        throw Error(Code::config, "zstd level " + std::to_string(level) + "; it must be from " +
                                      std::to_string(ZSTD_minCLevel()) + " to " + std::to_string(ZSTD_maxCLevel()));
    if (!dictionary.empty()) const ZstdDictionary checked(dictionary);  // throws where a reader would
    state_->context = make_context(level, dictionary);
    if (dictionary.empty()) return;
    state_->wide = make_context(level, dictionary);
    set_parameter(state_->wide.get(), ZSTD_c_hashLog, kWideTableLog);
    set_parameter(state_->wide.get(), ZSTD_c_chainLog, kWideTableLog);
}

ZstdEncoder::~ZstdEncoder() = default;

void ZstdEncoder::encode(Bytes raw, std::vector<std::byte>& out) {
    const std::size_t bound = ZSTD_compressBound(raw.size());
    if (bound > state_->scratch_size) {
        state_->scratch = std::make_unique_for_overwrite<std::byte[]>(bound);
        state_->scratch_size = bound;
    }
    const std::byte* scratch = state_->scratch.get();
    const bool small = state_->wide && raw.size() <= kWideValueMax;
    ZSTD_CCtx* context = small ? state_->wide.get() : state_->context.get();
    const std::size_t size = ZSTD_compress2(context, state_->scratch.get(), bound, raw.data(), raw.size());
    if (ZSTD_isError(size))
        throw Error(Code::internal, "zstd cannot compress " + std::to_string(raw.size()) + " bytes: " +
                                        ZSTD_getErrorName(size));
    if (size < raw.size())
        out.insert(out.end(), scratch, scratch + size);
    else
        out.insert(out.end(), raw.begin(), raw.end());
}

}  // namespace ff
