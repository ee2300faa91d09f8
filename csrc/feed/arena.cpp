// Mapping and unmapping.
#include "feed/arena.hpp"

#include <sys/mman.h>

#include <new>

namespace ff {
namespace {

constexpr std::size_t kPage = 4096;
// 2 MiB: the huge page of x86 and of arm64 with pages of 4 KiB. Blocks from this size on begin at a multiple of it and
// have whole ones: a smaller block would take memory that it does not need.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::byte* map(std::size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    return static_cast<std::byte*>(at);
}

// Maps more than is needed and gives the ends back.
std::byte* map_aligned(std::size_t bytes) {
    std::byte* at = map(bytes + kHugePage);
    const std::size_t before = round_up(reinterpret_cast<std::uintptr_t>(at), kHugePage) -
                               reinterpret_cast<std::uintptr_t>(at);
    if (before != 0) munmap(at, before);
    if (before != kHugePage) munmap(at + before + bytes, kHugePage - before);
    return at + before;
}

bool is_huge(const Block& block) noexcept { return block.bytes >= kHugePage; }

}  // namespace

Arena::~Arena() {
    for (Block block = take_retired(); block.at != nullptr; block = take_retired()) unmap(block);
}

Block Arena::take(std::size_t bytes) {
    if (bytes > SIZE_MAX - 2 * kHugePage) throw std::bad_alloc();
    Block block;
    block.bytes = round_up(bytes == 0 ? 1 : bytes, bytes < kHugePage ? kPage : kHugePage);
    block.at = is_huge(block) ? map_aligned(block.bytes) : map(block.bytes);
    bytes_.fetch_add(block.bytes, std::memory_order_relaxed);
    // Advice: refused by a kernel that has no huge pages, and then they are small ones.
    if (is_huge(block)) madvise(block.at, block.bytes, MADV_HUGEPAGE);
    return block;
}

void Arena::give(Block block) noexcept {
    if (block.at == nullptr) return;
    if (!block.pinned) {
        unmap(block);
        return;
    }
    auto* retired = new (block.at) Retired{nullptr, block.bytes};
    const std::lock_guard lock(mutex_);
    retired->next = retired_;
    retired_ = retired;
}

Block Arena::take_retired() noexcept {
    const std::lock_guard lock(mutex_);
    if (retired_ == nullptr) return {};
    Retired* retired = retired_;
    retired_ = retired->next;
    return {reinterpret_cast<std::byte*>(retired), retired->bytes, true};
}

void Arena::unmap(const Block& block) noexcept {
    munmap(block.at, block.bytes);
    bytes_.fetch_sub(block.bytes, std::memory_order_relaxed);
}

}  // namespace ff
