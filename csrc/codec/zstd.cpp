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

// Throws unless `stored` begins as a frame of format 1 does and is one whole frame without bytes after it.
void check_one_frame(Bytes stored) {
    if (stored.size() < kFrameHeaderSize || load_le<std::uint32_t>(stored.data()) != ZSTD_MAGICNUMBER)
        corrupt("its " + std::to_string(stored.size()) + " bytes do not begin with a zstd frame");
    if (stored[4] != std::byte{0})
        corrupt("frame descriptor " + std::to_string(std::to_integer<int>(stored[4])) +
                "; the format has frames without content size, checksum or dictionary id (0)");
    const unsigned window_log = 10 + (std::to_integer<unsigned>(stored[5]) >> 3);
    if (window_log > kWindowLogMax)
        corrupt("a window of 2^" + std::to_string(window_log) + " bytes; the limit is 2^" +
                std::to_string(kWindowLogMax));
    const std::size_t size = ZSTD_findFrameCompressedSize(stored.data(), stored.size());
    if (ZSTD_isError(size)) corrupt(std::string("damaged frame: ") + ZSTD_getErrorName(size));
    if (size != stored.size())
        corrupt("the frame ends after " + std::to_string(size) + " of " + std::to_string(stored.size()) +
                " stored bytes");
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

void ZstdDecoder::decode(Bytes stored, const ZstdDictionary* dictionary, MutableBytes out) {
    if (stored.size() == out.size()) {
        std::copy(stored.begin(), stored.end(), out.begin());
        return;
    }
    if (stored.size() > out.size())
        corrupt(std::to_string(stored.size()) + " stored bytes for a value of " + std::to_string(out.size()));
    check_one_frame(stored);
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
