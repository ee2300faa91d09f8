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

// Throws Error(corrupt) unless `stored` may be a value of `raw_size` bytes: raw, or one whole frame whose blocks can hold
// so much. For those who allocate what a value declares: a few bytes cannot ask for gigabytes. Reads block headers only.
void check_zstd_value(Bytes stored, std::uint64_t raw_size);

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
