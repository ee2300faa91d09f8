// One verified sample into its row of a batch.
#pragma once

#include <memory>
#include <vector>

#include "codec/image.hpp"
#include "codec/zstd.hpp"
#include "feed/buffer.hpp"
#include "feed/outputs.hpp"
#include "feed/slot.hpp"

namespace ff {

// What decoding keeps between samples. One a thread.
struct DecodeState {
    ZstdDecoder zstd;
    std::unique_ptr<ImageDecoder> image;  // made with the first image
    ImageCounts counts;
    std::vector<Value> values;
    std::vector<std::size_t> marks;
    Buffer scratch;
};

// The keys of a batch's random numbers.
struct BatchSeed {
    std::uint64_t seed = 0, epoch = 0;
};

// Decodes the outputs of the frame of `part` into row part.at of `slot`. Ragged values are appended to `pieces`, one
// buffer for each of plan.ragged, and their lengths are stored in the slot; after an exception pieces and lengths are
// as before. Throws Error(corrupt), std::bad_alloc.
void place_frame(const FeedSource& source, const Part& part, Bytes frame, const BatchSeed& seed, DecodeState& state,
                 Slot& slot, std::span<Buffer> pieces);

// The same for a part of a stream whose pages are in `pages`, and the plan of its source.
void place_tokens(const OutputPlan& plan, const Part& part, Bytes pages, Slot& slot, std::span<Buffer> pieces);

// Throws Error(corrupt) where stored items are not values of their type: truth values are 0 or 1.
void check_items(const Output& output, Bytes items);

// The variable part of a column in its raw form, as it is or decompressed into `into`, and checked. Throws
// Error(corrupt).
Bytes raw_value(const Snapshot& snapshot, std::uint32_t shard, const Output& output, const Value& value,
                ZstdDecoder& decoder, Buffer& into);

}  // namespace ff
