// Decoding and placing, column by column. Frames have been verified before; their values may still be hostile (a crc is
// no signature), so sizes are checked against what the schema says.
#include "feed/place.hpp"

#include <algorithm>

namespace ff {
namespace {

// The bytes of a value with a variable part, decoded.
std::uint64_t raw_length(const Output& output, const Value& value) {
    const std::uint64_t bytes = output.zstd ? load_le<std::uint32_t>(value.fixed.data()) : value.variable.size();
    if (bytes > kValueSizeMax)
        throw Error(Code::corrupt, "a value says that it has " + std::to_string(bytes) + " bytes, the limit is " +
                                       std::to_string(kValueSizeMax));
    const std::uint64_t step_bytes = output.step_items * output.stored_item;  // at least 1: the column was checked
    if (bytes % step_bytes != 0)
        throw Error(Code::corrupt,
                    std::to_string(bytes) + " bytes are no whole number of steps of " + std::to_string(step_bytes));
    if (output.zstd) check_zstd_value(value.variable, bytes);  // before memory is taken for it
    return bytes;
}

std::string column_name(const Snapshot& snapshot, std::uint32_t column) {
    return "column '" + snapshot.layout().columns()[column].name + "': ";
}

// One row of one output on its way. Short names for what all the functions below need.
struct Placing {
    const Snapshot& snapshot;
    const OutputPlan& plan;
    const Part& part;
    const BatchSeed& seed;
    DecodeState& state;
    Slot& slot;
};

SampleKey key_of(const Placing& placing) {
    const auto at = placing.part.at;
    return {placing.seed.seed, placing.seed.epoch,
            static_cast<std::uint64_t>(placing.slot.positions.as<std::int64_t>()[at]),
            static_cast<std::uint64_t>(placing.slot.rows.as<std::int64_t>()[at])};
}

ImageDecoder& image_decoder(DecodeState& state) {
    if (!state.image) state.image = std::make_unique<ImageDecoder>();
    return *state.image;
}

void place_items(const Output& output, Bytes items, std::byte* into) {
    check_items(output, items);
    if (output.casts())
        output.convert(items.data(), into, output.row_items);
    else if (items.size() == 8)  // most scalars: one move instead of a call
        std::memcpy(into, items.data(), 8);
    else
        std::memcpy(into, items.data(), items.size());
}

void place_fixed(const Placing& placing, const Output& output, OutputBuffers& buffers, const Value& value) {
    const std::size_t row_bytes = output.row_bytes();
    std::byte* into = buffers.values.data() + placing.part.at * row_bytes;
    if (value.null)
        std::memset(into, 0, row_bytes);
    else if (output.decodes_image)
        image_decoder(placing.state)
            .decode(value.variable, output.program, key_of(placing), {into, row_bytes}, placing.state.counts);
    else
        place_items(output, value.fixed, into);
}

// Returns the items of the decoded image.
std::uint64_t append_image(const Placing& placing, const Output& output, OutputBuffers& buffers, const Value& value,
                           Buffer& piece) {
    ImageDecoder& decoder = image_decoder(placing.state);
    const auto [height, width] = decoder.out_shape(value.variable, output.program);
    // Both sides are u32, at most 65,535 by the decoder's limits
    const std::uint64_t items = std::uint64_t{3} * height * width;
    std::uint64_t bytes;
    if (!mul_fits(items, output.item, bytes) || bytes > kValueSizeMax)
        throw Error(Code::corrupt, "an image of " + std::to_string(height) + " x " + std::to_string(width) +
                                       " pixels would be larger than 2 GiB");
    std::byte* into = piece.append(bytes);
    decoder.decode(value.variable, output.program, key_of(placing), {into, bytes}, placing.state.counts);
    auto* shape = buffers.shapes.as<std::int64_t>() + std::size_t{placing.part.at} * 3;
    const std::size_t row_axis = output.program.layout == PixelLayout::chw ? 1 : 0;
    shape[row_axis] = height;
    shape[row_axis + 1] = width;
    return items;
}

std::uint64_t append_raw(const Placing& placing, const Output& output, OutputBuffers& buffers, const Value& value,
                         Buffer& piece) {
    const std::uint64_t bytes = raw_length(output, value);
    const std::uint64_t items = bytes / output.stored_item;
    DecodeState& state = placing.state;
    if (output.casts()) {
        const Bytes raw = raw_value(placing.snapshot, placing.part.shard, output, value, state.zstd, state.scratch);
        output.convert(raw.data(), piece.append(items * output.item), items);
    } else {
        const MutableBytes into{piece.append(bytes), bytes};
        if (output.zstd)
            state.zstd.decode(value.variable, placing.snapshot.dictionary(placing.part.shard, output.column), into);
        else if (bytes != 0)
            std::memcpy(into.data(), value.variable.data(), bytes);
        check_items(output, into);
    }
    if (output.with_shapes) {
        auto* shape = buffers.shapes.as<std::int64_t>() + std::size_t{placing.part.at} * output.shape.size();
        for (std::size_t axis = 0; axis < output.shape.size(); ++axis)
            if (output.shape[axis] == kFreeDimension)
                shape[axis] = static_cast<std::int64_t>(items / output.step_items);
    }
    return items;
}

void place_value(const Placing& placing, std::size_t index, const Value& value, std::span<Buffer> pieces,
                 std::size_t& ragged) {
    const Output& output = placing.plan.outputs[index];
    OutputBuffers& buffers = placing.slot.outputs[index];
    if (output.nullable) buffers.nulls.data()[placing.part.at] = std::byte{value.null};
    if (!output.ragged) {
        place_fixed(placing, output, buffers, value);
        return;
    }
    Buffer& piece = pieces[ragged++];
    if (value.null) return;
    const std::uint64_t items = output.decodes_image ? append_image(placing, output, buffers, value, piece)
                                                     : append_raw(placing, output, buffers, value, piece);
    buffers.offsets.as<std::int64_t>()[placing.part.at + 1] = static_cast<std::int64_t>(items);
}

// As if the row had never been begun.
void undo_row(const Placing& placing, std::span<Buffer> pieces) noexcept {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        const Output& output = placing.plan.outputs[placing.plan.ragged[i]];
        OutputBuffers& buffers = placing.slot.outputs[placing.plan.ragged[i]];
        pieces[i].truncate(placing.state.marks[i]);
        buffers.offsets.as<std::int64_t>()[placing.part.at + 1] = 0;
        for (std::size_t axis = 0; output.with_shapes && axis < output.shape.size(); ++axis)
            if (output.shape[axis] == kFreeDimension)
                buffers.shapes.as<std::int64_t>()[placing.part.at * output.shape.size() + axis] = 0;
    }
}

}  // namespace

void check_items(const Output& output, Bytes items) {
    if (output.stored != ItemType::boolean) return;
    const auto wrong = std::find_if(items.begin(), items.end(), [](std::byte item) { return item > std::byte{1}; });
    if (wrong != items.end())
        throw Error(Code::corrupt, "a truth value is " + std::to_string(std::to_integer<int>(*wrong)) + ", not 0 or 1");
}

Bytes raw_value(const Snapshot& snapshot, std::uint32_t shard, const Output& output, const Value& value,
                ZstdDecoder& decoder, Buffer& into) {
    const std::uint64_t bytes = raw_length(output, value);
    Bytes raw = value.variable;
    if (output.zstd) {
        into.resize_discarding(bytes);
        decoder.decode(value.variable, snapshot.dictionary(shard, output.column), {into.data(), bytes});
        raw = {into.data(), bytes};
    }
    check_items(output, raw);
    return raw;
}

void place_frame(const FeedSource& source, const Part& part, Bytes frame, const BatchSeed& seed, DecodeState& state,
                 Slot& slot, std::span<Buffer> pieces) {
    const Snapshot& snapshot = *source.snapshot;
    const OutputPlan& plan = source.plan;
    const Placing placing{snapshot, plan, part, seed, state, slot};
    state.marks.resize(pieces.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) state.marks[i] = pieces[i].size();
    if (plan.all_values) {
        state.values.resize(snapshot.layout().columns().size());
        values_of(snapshot.layout(), frame, state.values);
    }
    std::size_t index = 0, ragged = 0;
    try {
        for (; index < plan.outputs.size(); ++index) {
            const std::uint32_t column = plan.outputs[index].column;
            place_value(placing, index,
                        plan.all_values ? state.values[column] : value_at(snapshot.layout(), frame, column), pieces,
                        ragged);
        }
    } catch (const Error& error) {
        undo_row(placing, pieces);
        throw Error(error.code(), column_name(snapshot, plan.outputs[index].column) + error.message(), {},
                    error.os_errno());
    } catch (...) {
        undo_row(placing, pieces);
        throw;
    }
}

void place_tokens(const OutputPlan& plan, const Part& part, Bytes pages, Slot& slot, std::span<Buffer> pieces) {
    for (std::size_t index = 0; index < plan.outputs.size(); ++index) {
        const Output& output = plan.outputs[index];
        const std::byte* from = pages.data() + part.skip;
        if (!output.ragged) {
            std::byte* row = slot.outputs[index].values.data() + part.at * output.row_bytes();
            output.convert(from, row + part.token_at * output.item, part.tokens);
            continue;
        }
        if (part.tokens != 0) output.convert(from, pieces[index].append(part.tokens * output.item), part.tokens);
        slot.outputs[index].offsets.as<std::int64_t>()[part.at + 1] = static_cast<std::int64_t>(part.tokens);
    }
}

}  // namespace ff
