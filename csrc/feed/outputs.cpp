// Requests against the columns of a snapshot.
#include "feed/outputs.hpp"

#include <algorithm>

namespace ff {
namespace {

// Items of a shape without its free dimension. Throws Error(config).
std::uint64_t count_items(const std::vector<std::int64_t>& shape, const std::string& name) {
    std::uint64_t items = 1;
    for (const std::int64_t extent : shape) {
        if (extent == kFreeDimension) continue;
        if (extent < 0 || !mul_fits(items, static_cast<std::uint64_t>(extent), items) || items > kValueSizeMax)
            throw Error(Code::config,
                        "column '" + name + "': a shape with " + std::to_string(extent) + " is not possible");
    }
    return items;
}

void set_types(Output& output, const OutputRequest& request, const std::string& name) {
    const bool items = output.kind == Kind::scalar || output.kind == Kind::tensor || output.kind == Kind::array;
    if (request.cast && !items)
        throw Error(Code::config, "column '" + name + "' cannot be cast to " + item_type_name(*request.cast) +
                                      ": only scalars, tensors, arrays and tokens can");
    if (request.image && output.kind != Kind::image)
        throw Error(Code::config, "column '" + name + "' is not an image: image transforms do not apply");
    output.stored = items ? request.stored : ItemType::u8;
    output.delivered = request.cast.value_or(output.stored);
    output.convert = converter(output.stored, output.delivered);
    output.stored_item = item_size_of(output.stored);
    output.item = item_size_of(output.delivered);
}

void plan_items(Output& output, const OutputRequest& request, const Column& column) {
    const auto free_dimensions = std::count(request.shape.begin(), request.shape.end(), kFreeDimension);
    const std::uint64_t items = count_items(request.shape, column.name);
    const std::uint64_t bytes = items * output.stored_item;
    const bool array = output.kind == Kind::array;
    const std::uint64_t expected = array ? column.step_size : column.fixed_size;
    if (free_dimensions != (array ? 1 : 0) || output.stored_item != column.item_size || bytes != expected ||
        (output.kind == Kind::scalar && !request.shape.empty()))
        throw Error(Code::config, "column '" + column.name + "' holds items of " + std::to_string(column.item_size) +
                                      " and " + (array ? "steps" : "values") + " of " + std::to_string(expected) +
                                      " bytes, which " + item_type_name(output.stored) +
                                      " and the given shape do not make");
    output.shape = request.shape;
    output.ragged = array;
    (array ? output.step_items : output.row_items) = items;
    output.with_shapes = array && request.shape.size() > 1;
}

void plan_image(Output& output, const ImageProgram& program) {
    output.decodes_image = true;
    output.program = program;
    const ItemType types[] = {ItemType::u8, ItemType::f32, ItemType::f16};
    output.delivered = types[static_cast<std::size_t>(program.type)];
    output.item = program.pixel_bytes();
    output.ragged = output.with_shapes = !program.fixed_shape();
    const std::int64_t height = output.ragged ? kFreeDimension : program.out_height;
    const std::int64_t width = output.ragged ? kFreeDimension : program.out_width;
    if (!output.ragged && (height == 0 || width == 0 || height > kImageSideMax || width > kImageSideMax))
        throw Error(Code::config,
                    "an image program makes images of " + std::to_string(height) + " x " + std::to_string(width));
    output.shape = program.layout == PixelLayout::chw ? std::vector<std::int64_t>{3, height, width}
                                                      : std::vector<std::int64_t>{height, width, 3};
    output.row_items = output.ragged ? 0 : program.out_bytes() / output.item;
}

Output plan_output(const Snapshot& snapshot, const OutputRequest& request) {
    const auto& columns = snapshot.layout().columns();
    if (request.column >= columns.size())
        throw Error(Code::config, "there is no column " + std::to_string(request.column) + ": the schema has " +
                                      std::to_string(columns.size()));
    const Column& column = columns[request.column];
    Output output;
    output.column = request.column;
    output.kind = column.kind;
    output.zstd = column.codec == Codec::zstd;
    output.nullable = column.nullable;
    output.ragged = true;
    set_types(output, request, column.name);
    if (column.kind == Kind::scalar || column.kind == Kind::tensor || column.kind == Kind::array)
        plan_items(output, request, column);
    else if (request.image && request.image->decode)
        plan_image(output, *request.image);
    return output;
}

std::string name_of(const FeedSource& source, std::size_t index) {
    if (source.snapshot->is_stream()) return "tokens";
    return source.snapshot->layout().columns()[source.plan.outputs[index].column].name;
}

std::string type_of(const Output& output) {
    std::string shape;
    for (const std::int64_t extent : output.shape)
        shape += (shape.empty() ? "" : ", ") + (extent == kFreeDimension ? "any" : std::to_string(extent));
    return std::string(item_type_name(output.delivered)) + (output.shape.empty() && output.ragged ? " of any length"
                                                            : output.shape.empty()                 ? ""
                                                                                   : " of shape (" + shape + ")");
}

Output plan_tokens(const Snapshot& snapshot, const OutputRequest& request) {
    const StreamShape& stream = snapshot.stream();
    Output output;
    output.kind = Kind::array;
    set_types(output, request, "tokens");
    if (request.column != 0 || output.stored_item != stream.token_bytes || !request.shape.empty())
        throw Error(Code::config, "a stream has one output: column 0, shape () and a dtype of " +
                                      std::to_string(stream.token_bytes) + " bytes");
    output.ragged = stream.window == 0;
    output.row_items = stream.window;
    output.shape = {output.ragged ? kFreeDimension : static_cast<std::int64_t>(stream.window)};
    return output;
}

}  // namespace

OutputPlan plan_outputs(const Snapshot& snapshot, const std::vector<OutputRequest>& requests) {
    OutputPlan plan;
    for (const OutputRequest& request : requests) {
        plan.outputs.push_back(snapshot.is_stream() ? plan_tokens(snapshot, request) : plan_output(snapshot, request));
        const Output& output = plan.outputs.back();
        if (output.ragged) plan.ragged.push_back(static_cast<std::uint32_t>(plan.outputs.size() - 1));
        plan.decodes = plan.decodes || output.zstd || output.decodes_image;
    }
    plan.all_values = requests.size() > 1;
    return plan;
}

OutputPlan common_plan(const std::vector<FeedSource>& sources) {
    OutputPlan common = sources[0].plan;
    for (std::size_t number = 1; number < sources.size(); ++number) {
        const OutputPlan& plan = sources[number].plan;
        if (plan.outputs.size() != common.outputs.size())
            throw Error(Code::config, "source " + std::to_string(number) + " has " +
                                          std::to_string(plan.outputs.size()) + " outputs, source 0 has " +
                                          std::to_string(common.outputs.size()));
        for (std::size_t i = 0; i < plan.outputs.size(); ++i) {
            const Output &first = common.outputs[i], &other = plan.outputs[i];
            if (other.delivered != first.delivered || other.shape != first.shape || other.ragged != first.ragged ||
                other.with_shapes != first.with_shapes)
                throw Error(Code::config, "column '" + name_of(sources[number], i) + "' is " + type_of(other) +
                                              " in source " + std::to_string(number) + ", and '" +
                                              name_of(sources[0], i) + "' of source 0, which it must be like, is " +
                                              type_of(first));
            common.outputs[i].nullable = first.nullable || other.nullable;
        }
        common.decodes = common.decodes || plan.decodes;
    }
    return common;
}

}  // namespace ff
