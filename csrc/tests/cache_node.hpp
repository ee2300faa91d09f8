// A cache daemon in miniature, for tests of the client: a thread, one set of objects, slots in a file.
#pragma once

#include <atomic>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <mutex>
#include <sys/mman.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#include "cache/client.hpp"
#include "cache/ring.hpp"
#include "tests/check.hpp"

namespace ff::test {

inline int shared_memory(std::uint64_t bytes) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
    return fd;
}

inline int slab_file(std::uint64_t slots) {
    std::string name = std::filesystem::temp_directory_path() / "ff-slab-XXXXXX";
    const int fd = ::mkostemp(name.data(), O_CLOEXEC);
    CHECK(fd >= 0);
    ::unlink(name.c_str());
    CHECK(::ftruncate(fd, static_cast<off_t>(slots * kSlotBytes)) == 0);
    return fd;
}

// Objects of a length whose byte i is a function of i; GETs are answered by slot and ring in turns.
class CacheNode {
  public:
    static constexpr std::uint64_t kRingBytes = 8 << 20;
    static constexpr std::uint32_t kSet = 4, kRemote = 9;

    CacheNode(std::uint64_t objects, std::uint64_t object_bytes, std::uint64_t slots)
        : sizes_(objects, object_bytes),
          chunks_(chunks_of(object_bytes)),
          slots_(slots),
          words_file_(shared_memory(slots * 8)),
          map_file_(shared_memory(ChunkMap::bytes(objects * chunks_, objects))),
          page_file_(shared_memory(4096)),
          slab_file_(slab_file(slots)),
          words_(words_file_.get(), slots, Access::write),
          map_(map_file_.get(), objects * chunks_, objects, Access::write),
          slab_(Descriptor::copy_of(slab_file_.get()), 0, slots) {
        for (std::uint64_t object = 0; object < objects; ++object) map_.set_key(object, key_of(object));
    }
    ~CacheNode() { disconnect(); }

    static std::byte byte_of(std::uint64_t object, std::uint64_t at) {
        return static_cast<std::byte>(at * 31 + at / 251 + object * 7);
    }
    static Key key_of(std::uint64_t object) {
        Key key{};
        store_le(key.data(), object + 1);
        return key;
    }
    static bool is_part(std::uint64_t object, std::uint64_t offset, Bytes bytes) {
        for (std::size_t i = 0; i < bytes.size(); ++i)
            if (bytes[i] != byte_of(object, offset + i)) return false;
        return true;
    }

    void connect(CacheClient& client) {
        disconnect();
        int ends[2];
        CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
        socket_ = Descriptor(ends[0]);
        const Descriptor theirs(ends[1]), ring_file(shared_memory(kRingBytes));
        ring_.emplace(ring_file.get(), kRingBytes);
        in_ring_.clear();
        thread_ = std::thread([this, fd = ends[0]] { serve(fd); });
        client.attach({.data_fd = theirs.get(), .ring_fd = ring_file.get(), .words_fd = words_file_.get(),
                       .page_fd = page_file_.get(), .ring_bytes = kRingBytes, .slots = slots_,
                       .slabs = {{slab_file_.get(), 0, slots_}}});
        client.set_attached(kSet, kRemote, map_file_.get(), sizes_);
    }
    void disconnect() {
        if (!thread_.joinable()) return;
        ::shutdown(socket_.get(), SHUT_RDWR);
        thread_.join();
        socket_ = Descriptor();
    }

    // Puts a chunk into the next slot, and into the map.
    std::uint64_t fill(std::uint64_t object, std::uint64_t chunk) {
        const std::uint64_t slot = next_slot_++ % slots_;
        std::vector<std::byte> data(std::min(kChunkBytes, sizes_[object] - chunk * kChunkBytes));
        for (std::size_t i = 0; i < data.size(); ++i) data[i] = byte_of(object, chunk * kChunkBytes + i);
        slab_.fill(words_, slot, key_of(object), chunk, data);
        const std::uint64_t entry = map_entry(slot, words_.publish(slot));
        map_.set(object * chunks_ + chunk, entry);
        return entry;
    }

    std::atomic<bool> silent{false};  // answers nothing
    std::atomic<std::uint64_t> gets{0}, complaints{0}, releases{0}, answers{0};

  private:
    void serve(int fd) {
        std::vector<std::byte> packet(kMessageBytesMax);
        for (;;) {
            const ssize_t got = ::recv(fd, packet.data(), packet.size(), 0);
            if (got <= 0) return;
            const auto type = static_cast<MessageType>(load_le<std::uint16_t>(packet.data()));
            const auto id = load_le<std::uint64_t>(packet.data() + 8);
            if (type == MessageType::release) {
                CHECK_EQ(in_ring_.erase(id), 1u);
                releases += 1;
            } else {
                CHECK(type == MessageType::get && got == static_cast<ssize_t>(GetMessage::kBytes));
                if (!silent) answer(fd, id, packet.data() + kMessageHeaderBytes);
            }
        }
    }

    void answer(int fd, std::uint64_t id, const std::byte* body) {
        CHECK_EQ(load_le<std::uint32_t>(body), kRemote);
        const std::uint64_t object = load_le<std::uint32_t>(body + 4), offset = load_le<std::uint64_t>(body + 8);
        const auto length = load_le<std::uint32_t>(body + 16), flags = load_le<std::uint32_t>(body + 20);
        CHECK(offset / kChunkBytes == (offset + length - 1) / kChunkBytes);
        if (flags & kBadSlot) complaints += 1;
        std::byte packet[kMessageHeaderBytes + 12] = {};
        store_le(packet + 8, id);
        std::size_t bytes = 8;
        if ((flags & kByRing) != 0 || ++gets % 2 == 0) {
            const std::uint64_t at = place(length);
            in_ring_[id] = {at, at + length};
            const MutableBytes into = ring_->range(at, length);
            for (std::size_t i = 0; i < length; ++i) into[i] = byte_of(object, offset + i);
            store_le(packet, static_cast<std::uint16_t>(MessageType::in_ring));
            store_le(packet + kMessageHeaderBytes, at);
            store_le(packet + kMessageHeaderBytes + 8, length);
            bytes = 12;
        } else {
            store_le(packet, static_cast<std::uint16_t>(MessageType::in_slot));
            store_le(packet + kMessageHeaderBytes, fill(object, offset / kChunkBytes));
        }
        store_le(packet + 4, static_cast<std::uint32_t>(bytes));
        ::send(fd, packet, kMessageHeaderBytes + bytes, MSG_NOSIGNAL);  // fails where the client has gone
        answers += 1;
    }

    // The first gap of the ring.
    std::uint64_t place(std::uint64_t length) const {
        std::uint64_t at = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (const auto& [id, used] : in_ring_)
                if (at < used.second && used.first < at + length) {
                    at = used.second;
                    moved = true;
                }
        }
        CHECK(at + length <= kRingBytes);
        return at;
    }

    const std::vector<std::uint64_t> sizes_;
    const std::uint64_t chunks_, slots_;
    const Descriptor words_file_, map_file_, page_file_, slab_file_;
    SlotWords words_;
    ChunkMap map_;
    Slab slab_;
    std::uint64_t next_slot_ = 0;
    std::optional<Ring> ring_;
    std::unordered_map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> in_ring_;
    Descriptor socket_;
    std::thread thread_;
};

}  // namespace ff::test
