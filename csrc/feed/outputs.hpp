// What a reader delivers: for each output column its source, type, shape and way of decoding, decided once.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "codec/image.hpp"
#include "feed/convert.hpp"
#include "feed/snapshot.hpp"

namespace ff {

inline constexpr std::int64_t kFreeDimension = -1;

// What the caller asks for.
struct OutputRequest {
    std::uint32_t column = 0;
    std::optional<ImageProgram> image;
    std::optional<ItemType> cast;
    ItemType stored = ItemType::u8;
    std::vector<std::int64_t> shape;  // as stored; kFreeDimension at most once
};

// What it means.
struct Output {
    std::uint32_t column = 0;
    Kind kind = Kind::bytes;  // of a stream: array
    bool zstd = false, nullable = false;
    bool ragged = false;      // rows differ in size
    bool decodes_image = false;
    ItemType stored = ItemType::u8, delivered = ItemType::u8;
    Converter convert = nullptr;         // stored -> delivered; always set
    std::size_t stored_item = 1, item = 1;  // bytes
    std::uint64_t row_items = 0;         // fixed shapes: items of a row
    std::uint64_t step_items = 1;        // ragged arrays: items of one step along the free dimension
    std::vector<std::int64_t> shape;     // of one row; kFreeDimension where rows differ
    bool with_shapes = false;            // ragged with more than one dimension
    ImageProgram program;

    std::uint64_t row_bytes() const noexcept { return row_items * item; }
    bool casts() const noexcept { return stored != delivered; }
};

// Immutable; shared by all threads.
struct OutputPlan {
    std::vector<Output> outputs;
    std::vector<std::uint32_t> ragged;  // which outputs are
    bool decodes = false;               // some output needs a codec: time goes to the decode stage, else to place
    bool all_values = false;            // more than one output: look all columns of a frame up at once
};

// Throws Error(config) where a request does not fit its column.
OutputPlan plan_outputs(const Snapshot& snapshot, const std::vector<OutputRequest>& requests);

// One of the snapshots that a reader reads, and how its columns become the outputs.
struct FeedSource {
    std::shared_ptr<const Snapshot> snapshot;
    OutputPlan plan;
};

// What batches with rows of all of `sources` look like: types and shapes, which must agree, and whether there may be
// nulls. Codecs, stored types and column numbers may differ. Throws Error(config) naming the column.
OutputPlan common_plan(const std::vector<FeedSource>& sources);

}  // namespace ff
