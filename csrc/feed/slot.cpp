// Sizing and recycling of batch memory.
#include "feed/slot.hpp"

namespace ff {

void Slot::prepare(const OutputPlan& plan, std::int64_t row_count) {
    rows_count = row_count;
    const auto count = static_cast<std::size_t>(row_count);
    rows.resize_discarding(count * 8);
    positions.resize_discarding(count * 8);
    valid.resize_discarding(count);
    outputs.resize(plan.outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Output& output = plan.outputs[i];
        OutputBuffers& buffers = outputs[i];
        std::uint64_t bytes = 0;
        if (!mul_fits(output.row_bytes(), count, bytes)) throw std::bad_alloc();
        buffers.values.resize_discarding(bytes);
        if (output.nullable) {
            buffers.nulls.resize_discarding(count);
            buffers.nulls.zero();
        }
        if (output.ragged) {
            buffers.offsets.resize_discarding((count + 1) * 8);
            buffers.offsets.zero();
        }
        if (output.with_shapes) {
            const std::size_t ndim = output.shape.size();
            buffers.shapes.resize_discarding(count * ndim * 8);
            auto* shape = buffers.shapes.as<std::int64_t>();
            for (std::size_t j = 0; j < count * ndim; ++j)
                shape[j] = output.shape[j % ndim] == kFreeDimension ? 0 : output.shape[j % ndim];
        }
    }
}

void Slot::clear_row(const OutputPlan& plan, std::int64_t at) noexcept {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const Output& output = plan.outputs[i];
        const std::size_t row_bytes = output.row_bytes();
        const auto row = static_cast<std::size_t>(at);
        if (!output.ragged && row_bytes != 0) std::memset(outputs[i].values.data() + row * row_bytes, 0, row_bytes);
        if (output.nullable) outputs[i].nulls.data()[row] = std::byte{0};
    }
}

std::size_t Slot::capacity_bytes() const noexcept {
    std::size_t bytes = rows.capacity() + positions.capacity() + valid.capacity();
    for (const OutputBuffers& buffers : outputs)
        bytes += buffers.values.capacity() + buffers.nulls.capacity() + buffers.offsets.capacity() +
                 buffers.shapes.capacity();
    return bytes;
}

std::unique_ptr<Slot> SlotPool::acquire() {
    {
        const std::lock_guard lock(mutex_);
        if (!free_.empty()) {
            // The one that came back last: its memory is the warmest.
            std::unique_ptr<Slot> slot = std::move(free_.back());
            free_.pop_back();
            return slot;
        }
        free_.reserve(kFreeSlotsMax);  // so that release() never allocates
    }
    auto slot = std::make_unique<Slot>();
    slots_.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

void SlotPool::release(std::unique_ptr<Slot> slot) noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (free_.size() < kFreeSlotsMax) {
            free_.push_back(std::move(slot));
            return;
        }
    }
    slots_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace ff
