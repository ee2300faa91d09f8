// ZstdDecoder on any bytes, with and without a dictionary; what it accepts must survive encoding again.
//
// Input: u16 raw length, u16 dictionary length (0: none), the dictionary, the stored value.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <vector>

#include "codec/zstd.hpp"
#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 4) return 0;
    const auto bytes = ff::as_bytes(data, size);
    const auto raw_size = ff::load_le<std::uint16_t>(bytes.data());
    const auto rest = bytes.subspan(4);
    const auto dictionary =
        rest.first(std::min<std::size_t>(ff::load_le<std::uint16_t>(bytes.data() + 2), rest.size()));
    const auto stored = rest.subspan(dictionary.size());
    try {
        std::optional<ff::ZstdDictionary> ready;
        if (!dictionary.empty()) ready.emplace(dictionary);
        std::vector<std::byte> raw(raw_size), again;
        ff::ZstdDecoder decoder;
        decoder.decode(stored, ready ? &*ready : nullptr, raw);
        ff::ZstdEncoder(1, dictionary).encode(raw, again);
        std::vector<std::byte> back(raw.size());
        decoder.decode(again, ready ? &*ready : nullptr, back);
        if (back != raw) std::abort();
    } catch (const ff::Error&) {  // the only answer to bad input
    }
    return 0;
}
