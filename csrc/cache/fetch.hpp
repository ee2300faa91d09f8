// One call that reads through the cache: pieces of chunks by slots where they are, else by the daemon.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cache/client.hpp"

namespace ff {

// Lives for one call, in the calling thread. Nothing outside touches its memory when a call has returned.
class Fetch {
  public:
    // Ends early where `interrupted` says so (by throwing), or where `cancelled` is set (by failing what is open).
    Fetch(CacheClient& client, std::uint32_t set, double deadline_s, Interrupted interrupted = nullptr,
          const std::atomic<bool>* cancelled = nullptr);
    ~Fetch();
    Fetch(const Fetch&) = delete;
    Fetch& operator=(const Fetch&) = delete;

    // As those of CacheClient.
    void read(std::span<ReadOp> ops);
    void reread(ReadOp& op);
    void read_checked(ReadOp& op);

  private:
    // A part of an op that lies in one chunk.
    struct Piece {
        ReadOp* op = nullptr;
        std::uint64_t offset = 0;  // in the object
        MutableBytes into;
    };
    // Where a piece's bytes are said to be, at the moment when the word was looked at.
    struct Place {
        const AttachedSlab* slab = nullptr;
        std::uint64_t entry = kNoEntry, word = 0;
        std::uint64_t slot() const noexcept { return slot_of(entry); }
    };
    enum class Tried { done, lost, bad, waits };
    // A piece that was not simply there.
    struct Pending {
        Piece piece;
        Place place;
        std::size_t done = 0;             // bytes at its front that the page cache had
        std::shared_ptr<SlabRead> read;   // by the slab's threads
        Clock::time_point give_up_at;     // of that read
        Miss miss;                        // by the daemon
        bool open = false;
    };

    template <class Work>
    void for_pieces(ReadOp& op, Work work);
    void start(ReadOp& op);
    std::uint64_t chunk_of(const Piece& piece) const noexcept;
    void fail(const Piece& piece, const Error& error);

    std::optional<Place> look_up(const Piece& piece, std::uint64_t entry) const noexcept;
    Tried try_slot(const Piece& piece, std::uint64_t entry, Place& place, std::size_t& done);
    Tried finish_slot(const Piece& piece, const Place& place);
    Tried try_checked(const Piece& piece, std::uint64_t entry);
    bool read_slab(SlabReads& slab, std::uint64_t offset, MutableBytes into, int& os_errno);

    Pending& add(const Piece& piece, Place place);
    void wait_for_slab(Pending& pending, std::size_t done);
    void ask(Pending& pending, std::uint32_t flags);
    void ask_after(Pending& pending, Tried tried);
    void attempt(const Piece& piece);
    void run();
    void send();
    void complete(Pending& pending);
    void complete_slab(Pending& pending);
    void complete_miss(Pending& pending);
    Clock::time_point next_event() const noexcept;
    void expire(Clock::time_point now);
    void fail_all(const Error& error);
    void close_all() noexcept;

    CacheClient& client_;
    const std::uint32_t number_;
    const std::shared_ptr<const CacheView> view_;
    std::shared_ptr<const CacheSet> set_;
    const double deadline_s_;
    const Clock::time_point deadline_;
    const Interrupted interrupted_;
    const std::atomic<bool>* const cancelled_;
    bool checked_ = false;  // by the trailers' crcs
    CacheCounts counts_;
    std::shared_ptr<Mailbox> mailbox_;
    std::vector<std::unique_ptr<Pending>> pending_;  // their places in memory stay; none for a call of hits
    std::vector<Miss*> to_ask_;
    std::size_t open_ = 0;
};

}  // namespace ff
