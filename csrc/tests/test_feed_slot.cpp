// The memory of batches: blocks of pages, and how slots lie in them.
#include <cstring>
#include <new>

#include "check.hpp"
#include "feed/buffer_shelf.hpp"
#include "feed/slot.hpp"

using namespace ff;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

Output fixed(std::uint64_t row_items, std::size_t item) {
    Output output;
    output.row_items = row_items;
    output.item = item;
    return output;
}

Output ragged() {
    Output output;
    output.ragged = output.nullable = output.with_shapes = true;
    output.shape = {kFreeDimension, 3};
    return output;
}

OutputPlan plan_of(std::vector<Output> outputs) {
    OutputPlan plan;
    plan.outputs = std::move(outputs);
    return plan;
}

template <class Work>
bool has_no_memory(Work work) {
    try {
        work();
    } catch (const std::bad_alloc&) {
        return true;
    }
    return false;
}

bool is_aligned(const std::byte* at, std::size_t to) { return reinterpret_cast<std::uintptr_t>(at) % to == 0; }

}  // namespace

TEST(small_blocks_are_whole_pages_and_large_ones_whole_huge_pages) {
    Arena arena;
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, 2 * kMiB - 1}) {
        const Block block = arena.take(bytes);
        CHECK(block.bytes >= bytes && block.bytes % 4096 == 0 && block.bytes < bytes + 8192);
        CHECK_EQ(arena.bytes(), block.bytes);
        arena.give(block);
    }
    for (const std::size_t bytes : {2 * kMiB, 2 * kMiB + 1, 7 * kMiB}) {
        const Block block = arena.take(bytes);
        CHECK(is_aligned(block.at, 2 * kMiB));
        CHECK_EQ(block.bytes, round_up(bytes, 2 * kMiB));
        std::memset(block.at, 1, block.bytes);
        arena.give(block);
    }
    CHECK_EQ(arena.bytes(), 0u);
}

TEST(a_pinned_block_stays_mapped_until_its_device_was_told) {
    Arena arena;
    Block block = arena.take(10);
    block.pinned = true;
    block.at[0] = std::byte{7};
    arena.give(block);
    CHECK(arena.bytes() != 0);
    const Block retired = arena.take_retired();
    CHECK(retired.at == block.at && retired.bytes == block.bytes && retired.pinned);
    CHECK(arena.take_retired().at == nullptr);
    arena.unmap(retired);
    CHECK_EQ(arena.bytes(), 0u);
}

TEST(more_than_any_machine_has_is_no_memory) {
    Arena arena;
    CHECK(has_no_memory([&] { arena.take(SIZE_MAX - 10); }));
    Slot slot(arena);
    CHECK(has_no_memory([&] { slot.prepare(plan_of({fixed(std::uint64_t{1} << 62, 1)}), 4); }));
    CHECK(has_no_memory([&] { slot.prepare(plan_of({fixed(std::uint64_t{1} << 45, 1)}), 4); }));
}

TEST(ranges_of_a_slot_are_aligned_and_apart) {
    Arena arena;
    Slot slot(arena);
    slot.prepare(plan_of({fixed(3, 4), ragged(), fixed(1, 1)}), 5);
    const auto& outputs = slot.outputs;
    const BatchBytes ranges[] = {slot.rows,          slot.positions,     slot.valid,        outputs[0].values,
                                outputs[1].nulls,   outputs[1].offsets, outputs[1].shapes, outputs[2].values};
    const std::size_t sizes[] = {40, 40, 5, 60, 5, 48, 80, 5};
    const std::byte* end = slot.blocks()[0].at;
    for (std::size_t i = 0; i < std::size(ranges); ++i) {
        CHECK_EQ(ranges[i].size(), sizes[i]);
        CHECK(is_aligned(ranges[i].data(), kSlotAlign) && ranges[i].data() >= end);
        end = ranges[i].data() + ranges[i].size();
    }
    CHECK(end <= slot.blocks()[0].at + slot.blocks()[0].bytes);
    for (int i = 0; i < 10; ++i) CHECK_EQ(outputs[1].shapes.as<std::int64_t>()[i], i % 2 == 0 ? 0 : 3);
}

TEST(a_slot_that_is_large_enough_keeps_its_memory) {
    Arena arena;
    Slot slot(arena);
    const OutputPlan plan = plan_of({fixed(1000, 4), ragged()});
    slot.prepare(plan, 100);
    slot.resize_values(1, 100000);
    const std::byte *fixed_at = slot.blocks()[0].at, *ragged_at = slot.outputs[1].values.data();
    for (const std::int64_t rows : {100, 7, 0, 100}) {
        slot.prepare(plan, rows);
        slot.resize_values(1, static_cast<std::size_t>(rows) * 1100);  // within the eighth that was taken more
        CHECK(slot.blocks()[0].at == fixed_at && slot.outputs[1].values.data() == ragged_at);
    }
    const std::size_t before = slot.capacity_bytes();
    slot.prepare(plan, 300);
    CHECK(slot.capacity_bytes() > before);
    CHECK_EQ(slot.capacity_bytes(), arena.bytes());
}

TEST(an_emptied_pool_has_given_its_memory_back) {
    const auto pool = std::make_shared<SlotPool>();
    const OutputPlan plan = plan_of({fixed(1000, 4)});
    for (int i = 0; i < 3; ++i) {
        const Lease lease(pool);
        lease.slot().prepare(plan, 10);
    }
    CHECK_EQ(pool->slots(), 1u);
    CHECK(pool->arena().bytes() != 0);
    pool->clear();
    CHECK_EQ(pool->slots(), 0u);
    CHECK_EQ(pool->arena().bytes(), 0u);
}

TEST(a_shelf_gives_the_memory_that_it_was_given_and_keeps_no_more_than_its_limit) {
    BufferShelf shelf;
    CHECK_EQ(shelf.take().capacity(), std::size_t{0});
    Buffer buffer;
    buffer.append(1000);
    const std::byte* at = buffer.data();
    shelf.give(std::move(buffer));
    const Buffer again = shelf.take();
    CHECK(again.data() == at);
    CHECK_EQ(again.size(), std::size_t{0});
    for (int i = 0; i < 3; ++i) {
        Buffer large;
        large.append(std::size_t{3} << 20);  // and half as much more, of 8 MiB
        shelf.give(std::move(large));
    }
    CHECK(shelf.take().capacity() != 0);
    CHECK_EQ(shelf.take().capacity(), std::size_t{0});
}

TEST_MAIN
