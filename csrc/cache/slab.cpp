// Filling and reading slots.
#include "cache/slab.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>

#include "error.hpp"

namespace ff {
namespace {

std::string place(std::uint64_t slot, std::uint64_t offset) {
    return "slot " + std::to_string(slot) + ", byte " + std::to_string(offset) + " of the slab";
}

void write_all(int fd, Bytes bytes, std::uint64_t offset, std::uint64_t slot) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) throw Error(Code::os, "writing " + place(slot, offset), {}, wrote < 0 ? errno : EIO);
        bytes = bytes.subspan(static_cast<std::size_t>(wrote));
        offset += static_cast<std::uint64_t>(wrote);
    }
}

// A slab that is shorter than its slots (a disk that lost its end) is an error of the disk: EIO.
void read_all(int fd, MutableBytes into, std::uint64_t offset, std::uint64_t slot) {
    while (!into.empty()) {
        const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw Error(Code::os, "reading " + place(slot, offset), {}, got < 0 ? errno : EIO);
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
}

}  // namespace

Descriptor::~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

Descriptor Descriptor::copy_of(int fd) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw Error(Code::os, "cannot duplicate descriptor " + std::to_string(fd), {}, errno);
    return Descriptor(copy);
}

Slab::Slab(Descriptor file, std::uint64_t first_slot, std::uint64_t slots)
    : file_(std::move(file)), first_slot_(first_slot), slots_(slots) {
    if (first_slot > kSlotsMax || slots > kSlotsMax - first_slot)
        throw Error(Code::config, "slots " + std::to_string(first_slot) + " to " + std::to_string(first_slot + slots) +
                                      " of a pool; it has at most " + std::to_string(kSlotsMax));
}

void Slab::check_slot(std::uint64_t slot) const {
    if (!has(slot))
        throw Error(Code::config, "slot " + std::to_string(slot) + " is not in this slab, which has slots " +
                                      std::to_string(first_slot_) + " to " + std::to_string(first_slot_ + slots_));
}

std::uint64_t Slab::fill(SlotWords& words, std::uint64_t slot, const Key& key, std::uint64_t chunk, Bytes data) const {
    check_slot(slot);
    if (slot >= words.slots())
        throw Error(Code::config, "slot " + std::to_string(slot) + " has no word: there are " +
                                      std::to_string(words.slots()));
    if (data.empty() || data.size() > kChunkBytes)
        throw Error(Code::config, "a chunk of " + std::to_string(data.size()) + " bytes; a slot holds 1 to " +
                                      std::to_string(kChunkBytes));
    Trailer trailer{.key = key, .chunk = chunk, .slot = slot, .length = static_cast<std::uint32_t>(data.size())};
    trailer.generation = words.begin(slot);
    set_checks(trailer, data);
    std::byte stored[kTrailerBytes];
    store_trailer(trailer, stored);
    write_all(fd(), data, offset_of(slot), slot);
    write_all(fd(), stored, offset_of(slot) + kChunkBytes, slot);
    return trailer.generation;
}

std::optional<Trailer> Slab::trailer(std::uint64_t slot) const {
    check_slot(slot);
    std::byte stored[kTrailerBytes];
    read_all(fd(), stored, offset_of(slot) + kChunkBytes, slot);
    std::optional<Trailer> trailer = parse_trailer(stored);
    if (trailer && trailer->slot != slot) trailer.reset();
    return trailer;
}

std::optional<Trailer> Slab::verified(std::uint64_t slot, MutableBytes scratch) const {
    std::optional<Trailer> found = trailer(slot);
    if (!found) return {};
    const MutableBytes chunk = scratch.first(found->length);
    read_all(fd(), chunk, offset_of(slot), slot);
    if (!checks_hold(*found, chunk)) return {};
    return found;
}

bool Slab::read(const SlotWords& words, const SlotRange& range, MutableBytes into) const {
    check_slot(range.slot);
    if (range.slot >= words.slots() || words.load(range.slot) != range.generation) return false;
    const std::optional<Trailer> found = trailer(range.slot);
    // Whole checks are read; a short last one ends with the chunk.
    const std::uint64_t end = std::uint64_t{range.offset} + range.length;
    const std::uint64_t begin = range.offset / kCheckBytes * kCheckBytes;
    const std::uint64_t length = found ? found->length : 0;
    const std::uint64_t stop = std::min(round_up(end, kCheckBytes), length);
    std::unique_ptr<std::byte[]> bytes;
    bool good = found && found->generation == range.generation && found->names(range.key, range.chunk) && end <= length;
    if (good) {
        bytes = std::make_unique_for_overwrite<std::byte[]>(stop - begin);
        read_all(fd(), {bytes.get(), stop - begin}, offset_of(range.slot) + begin, range.slot);
        for (std::uint64_t at = begin; good && at < stop; at += kCheckBytes)
            good = check_holds(*found, at / kCheckBytes,
                               {bytes.get() + (at - begin), std::min<std::uint64_t>(kCheckBytes, stop - at)});
    }
    if (words.load_after_read(range.slot) != range.generation) return false;
    if (!good)
        throw Error(Code::corrupt, place(range.slot, offset_of(range.slot)) +
                                       ": the slot's bytes are not those that were written to it. The slot must not be "
                                       "used again as it is.");
    std::memcpy(into.data(), bytes.get() + (range.offset - begin), range.length);
    return true;
}

}  // namespace ff
