// A slab: slots in one file on a cache disk. Buffered I/O everywhere, for the daemon and for readers alike.
#pragma once

#include <optional>

#include "cache/trailer.hpp"
#include "cache/words.hpp"

namespace ff {

// Owns a descriptor; closes it on destruction.
class Descriptor {
  public:
    explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    int get() const noexcept { return fd_; }
    // A second descriptor of the same open file. Throws Error(os).
    static Descriptor copy_of(int fd);

  private:
    int fd_;
};

// What is asked of a slot: these bytes of this chunk, as this generation.
struct SlotRange {
    std::uint64_t slot = 0, generation = 0;
    Key key{};
    std::uint64_t chunk = 0;
    std::uint32_t offset = 0, length = 0;  // inside the chunk; length >= 1
};

// Slots [first_slot, first_slot + slots) of a pool. Thread-safe; one writer a slot.
class Slab {
  public:
    // Takes the descriptor. Throws Error(config) where the numbers are outside a pool's.
    Slab(Descriptor file, std::uint64_t first_slot, std::uint64_t slots);

    bool has(std::uint64_t slot) const noexcept { return slot >= first_slot_ && slot - first_slot_ < slots_; }
    std::uint64_t first_slot() const noexcept { return first_slot_; }
    std::uint64_t slots() const noexcept { return slots_; }
    int fd() const noexcept { return file_.get(); }
    // Byte of the file at which a slot of this slab begins.
    std::uint64_t offset_of(std::uint64_t slot) const noexcept { return (slot - first_slot_) * kSlotBytes; }

    // Steps 1 to 3 of the writer in words.hpp: makes the word odd, writes chunk and trailer. Returns the generation
    // that publish() will give. Throws Error(os): the word stays odd, the slot is nobody's. Throws Error(config) for a
    // slot of another slab or a chunk that is empty or above 1 MiB.
    std::uint64_t fill(SlotWords& words, std::uint64_t slot, const Key& key, std::uint64_t chunk, Bytes data) const;

    // What the slot's trailer says, checked by its own crc only. Throws Error(os | config).
    std::optional<Trailer> trailer(std::uint64_t slot) const;
    // The same, where every byte of the chunk is as the trailer says. `scratch` has kChunkBytes. Throws Error(os |
    // config).
    std::optional<Trailer> verified(std::uint64_t slot, MutableBytes scratch) const;

    // Reads a range into `into` (its length) and checks every 64 KiB that it touches. False where the slot holds, or
    // came to hold, something else meanwhile. Throws Error(corrupt) for bytes that are not what was written,
    // Error(os).
    bool read(const SlotWords& words, const SlotRange& range, MutableBytes into) const;

  private:
    void check_slot(std::uint64_t slot) const;

    Descriptor file_;
    std::uint64_t first_slot_, slots_;
};

}  // namespace ff
