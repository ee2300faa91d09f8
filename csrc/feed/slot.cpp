// Sizing and recycling of batch memory.
#include "feed/slot.hpp"

#include <utility>

namespace ff {

namespace {

// Ranges one after the other, aligned.
class Layout {
  public:
    // From `base` on; null: to learn the size.
    explicit Layout(std::byte* base) noexcept : base_(base) {}
    // Throws std::bad_alloc where all together are more than any machine has.
    BatchBytes next(std::uint64_t bytes) {
        std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
        if (bytes > kBytesMax || used_ + bytes > kBytesMax) throw std::bad_alloc();
        used_ += round_up(bytes, kSlotAlign);
        return {at, static_cast<std::size_t>(bytes)};
    }
    std::uint64_t used() const noexcept { return used_; }

  private:
    static constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 48;
    std::byte* base_;
    std::uint64_t used_ = 0;
};

OutputBuffers ranges_of(const Output& output, std::uint64_t count, Layout& layout) {
    OutputBuffers buffers;
    std::uint64_t bytes = 0;
    if (!mul_fits(output.row_bytes(), count, bytes)) throw std::bad_alloc();
    if (!output.ragged) buffers.values = layout.next(bytes);
    if (output.nullable) buffers.nulls = layout.next(count);
    if (output.ragged) buffers.offsets = layout.next((count + 1) * 8);
    if (output.with_shapes) buffers.shapes = layout.next(count * output.shape.size() * 8);
    return buffers;
}

void set_empty(const OutputBuffers& buffers, const Output& output, std::size_t count) noexcept {
    buffers.nulls.zero();
    buffers.offsets.zero();
    if (!output.with_shapes) return;
    const std::size_t ndim = output.shape.size();
    auto* shape = buffers.shapes.as<std::int64_t>();
    for (std::size_t i = 0; i < count * ndim; ++i)
        shape[i] = output.shape[i % ndim] == kFreeDimension ? 0 : output.shape[i % ndim];
}

}  // namespace

Slot::~Slot() {
    for (const Block& block : blocks_) arena_.give(block);
}

void Slot::grow(Block& block, std::size_t bytes, std::size_t spare) {
    if (block.at != nullptr && bytes <= block.bytes) return;
    arena_.give(std::exchange(block, Block{}));
    block = arena_.take(bytes + spare);
}

// Where everything of `count` rows lies from `base` on. Returns the bytes of all.
std::uint64_t Slot::lay_out(const OutputPlan& plan, std::uint64_t count, std::byte* base) {
    Layout layout(base);
    rows = layout.next(count * 8);
    positions = layout.next(count * 8);
    valid = layout.next(count);
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = ranges_of(plan.outputs[i], count, layout);
    return layout.used();
}

void Slot::prepare(const OutputPlan& plan, std::int64_t row_count) {
    rows_count = row_count;
    spent = {};
    const auto count = static_cast<std::size_t>(row_count);
    outputs.resize(plan.outputs.size());
    blocks_.resize(1 + outputs.size());
    grow(blocks_[0], lay_out(plan, count, nullptr), 0);
    lay_out(plan, count, blocks_[0].at);
    for (std::size_t i = 0; i < outputs.size(); ++i) set_empty(outputs[i], plan.outputs[i], count);
}

void Slot::resize_values(std::size_t index, std::size_t bytes) {
    Block& block = blocks_[1 + index];
    // An eighth more: batches of ragged values differ in size, and the next one should fit.
    grow(block, bytes, bytes / 8);
    outputs[index].values = {block.at, bytes};
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
    std::size_t bytes = 0;
    for (const Block& block : blocks_) bytes += block.bytes;
    return bytes;
}

std::unique_ptr<Slot> SlotPool::acquire() {
    {
        const std::lock_guard lock(mutex_);
        if (!free_.empty()) {
            // The one that came back last: its memory is the warmest.
            std::unique_ptr<Slot> slot = std::move(free_.back());
            free_.pop_back();
            free_bytes_ -= slot->capacity_bytes();
            return slot;
        }
        free_.reserve(kFreeSlotsMax);  // so that release() never allocates
    }
    auto slot = std::make_unique<Slot>(arena_);
    slots_.fetch_add(1, std::memory_order_relaxed);
    return slot;
}

void SlotPool::release(std::unique_ptr<Slot> slot) noexcept {
    {
        const std::size_t bytes = slot->capacity_bytes();
        const std::lock_guard lock(mutex_);
        if (free_.size() < kFreeSlotsMin || (free_.size() < kFreeSlotsMax && free_bytes_ + bytes <= kFreeBytesMax)) {
            free_bytes_ += bytes;
            free_.push_back(std::move(slot));
            return;
        }
    }
    slots_.fetch_sub(1, std::memory_order_relaxed);
}

void SlotPool::clear() noexcept {
    const std::lock_guard lock(mutex_);
    slots_.fetch_sub(free_.size(), std::memory_order_relaxed);
    free_.clear();
    free_bytes_ = 0;
}

}  // namespace ff
