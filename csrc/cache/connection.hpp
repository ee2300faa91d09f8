// The data connection to the daemon: what readers miss is asked for, and the answers find who asked.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "cache/mailbox.hpp"
#include "cache/mapping.hpp"
#include "cache/messages.hpp"
#include "cache/slab.hpp"

namespace ff {

// One range inside one chunk that is asked of the daemon. Of the asker, who keeps it where it is from ask() until its
// mailbox has `number` or forget() has returned.
struct Miss {
    std::uint32_t set = 0;  // the client's number of it
    std::uint32_t object = 0;
    std::uint64_t offset = 0;
    MutableBytes into;  // a range that comes by the ring is written here
    std::uint32_t flags = 0;
    std::uint64_t entry = kNoEntry;
    Clock::time_point deadline;
    std::shared_ptr<Mailbox> mailbox;
    std::uint32_t number = 0;

    // The answer: a map entry, or the bytes (an entry of 0), or an error.
    std::uint64_t answer_entry = kNoEntry;
    std::optional<Error> error;

  private:
    friend class Connection;
    enum class State { idle, queued, sent, copying };
    State state = State::idle;      // guarded by the connection's mutex
    std::uint64_t id = 0;
    std::uint64_t from_session = 0;  // not to be sent in an earlier session: that one's daemon is leaving
};

struct ConnectionCounts {
    std::atomic<std::uint64_t> messages{0}, misses{0}, sessions{0};
};

// Thread-safe. A session is what lies between an attach() and the connection's end; misses outlive sessions.
class Connection {
  public:
    Connection() = default;
    ~Connection();  // close()
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Begins a session, in place of the present one. Throws Error(config | closed | os).
    void attach(Descriptor socket, Mapping ring);
    // What the set `number` is called in the present session: its misses can be sent. Throws Error(config) where there
    // is no session.
    void name_set(std::uint32_t number, std::uint32_t remote);
    void detach();
    bool attached() const;
    // Waits until there is no session; false at the timeout.
    bool wait_detached(double timeout_s);
    // Ends everything: misses that wait get Error(closed). Idempotent.
    void close();

    // Queues misses and sends as many as may be outstanding. The rest goes as answers come, in the order of asking.
    // Each completes by its mailbox. Throws Error(closed).
    void ask(std::span<Miss* const> misses);
    // Nobody waits for `miss` any more: when this returns, nothing touches it. An answer that comes is let go.
    void forget(Miss& miss);

    const ConnectionCounts& counts() const noexcept { return counts_; }

  private:
    struct Sent {
        Miss* miss;  // null: forgotten
        std::uint64_t length;
    };
    void end_session(std::unique_lock<std::mutex>& lock);
    void stop_session(bool closing);
    void requeue(Miss& miss, std::uint64_t from_session);
    void send_queued();
    bool send_packet(Bytes packet);
    bool may_send(const Miss& miss) const;
    void receive(int socket, int wake, std::uint64_t session);
    bool receive_one(int socket, std::uint64_t session, MutableBytes buffer);
    bool handle(const Answer& answer, std::unique_lock<std::mutex>& lock);
    bool copy_from_ring(const Answer& answer, Sent sent, std::unique_lock<std::mutex>& lock);

    // Taken before mutex_, held over attach, detach and close, also while the receiver is joined; never by the
    // receiver.
    std::mutex lifecycle_;
    std::thread receiver_;

    // Over all below; a leaf but for mailboxes. Held for book-keeping and for sends that do not wait.
    mutable std::mutex mutex_;
    std::condition_variable ended_;   // a session has ended
    std::condition_variable copied_;  // a copy out of the ring is complete
    Descriptor socket_, wake_;        // of the present session; wake_ is an eventfd that the receiver polls
    Mapping ring_;
    bool connected_ = false, closed_ = false, stopping_ = false;
    std::uint64_t session_ = 0, next_id_ = 1;
    std::uint64_t outstanding_bytes_ = 0;
    std::unordered_map<std::uint32_t, std::uint32_t> remote_;  // of the present session: set -> the daemon's number
    std::deque<Miss*> queue_;                                  // to send, in the order of asking
    std::unordered_map<std::uint64_t, Sent> sent_;             // by request id
    std::deque<std::uint64_t> releases_;                       // ids to release when the socket takes more
    bool blocked_ = false;                                     // the socket takes no more at present
    ConnectionCounts counts_;
};

}  // namespace ff
