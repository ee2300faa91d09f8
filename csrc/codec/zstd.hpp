// zstd with dictionaries, one value at a time (docs/format.md, section 4.2).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bytes.hpp"

namespace ff {

// A dictionary ready for decompression. Immutable after construction; shared by all threads.
class ZstdDictionary {
  public:
    explicit ZstdDictionary(Bytes dictionary);  // copies; throws Error(corrupt) where it is none
    ~ZstdDictionary();
    struct State;
    const State& state() const noexcept { return *state_; }

  private:
    std::unique_ptr<State> state_;
};

// Decompresses values. One per thread.
class ZstdDecoder {
  public:
    ZstdDecoder();
    ~ZstdDecoder();
    // Decodes `stored` into exactly `out`: stored raw where the sizes are equal, else one zstd frame. `dictionary` may
    // be null. Throws Error(corrupt) where it does not give exactly out.size() bytes. Allocates nothing of a size that
    // the input declares.
    void decode(Bytes stored, const ZstdDictionary* dictionary, MutableBytes out);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// Compresses values with one level and one dictionary. One per thread.
class ZstdEncoder {
  public:
    ZstdEncoder(int level, Bytes dictionary);  // copies the dictionary; empty: none
    ~ZstdEncoder();
    // Appends the stored form of `raw` (compressed where that is shorter, else raw) to `out`.
    void encode(Bytes raw, std::vector<std::byte>& out);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace ff
