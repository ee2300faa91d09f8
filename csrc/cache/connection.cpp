// Sending under a limit of outstanding bytes, receiving in a thread, and what happens when a session ends.
//
// A session ends when the daemon closes it, when the socket fails, when a message is malformed, or by detach(). What
// was sent and not answered then goes back to the front of the queue and is sent again in the next session: a read is a
// question that may be asked twice.
#include "cache/connection.hpp"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <vector>

#include "threads.hpp"

namespace ff {
namespace {

// Requests without an answer, whatever their size: what a daemon has to remember of one client.
constexpr std::size_t kOutstandingMax = 1024;

void wake_up(const Descriptor& wake) noexcept {
    const std::uint64_t one = 1;
    // Fails only when 2^64 wake-ups are pending: then the reader is awake.
    [[maybe_unused]] const ssize_t wrote = ::write(wake.get(), &one, sizeof one);
}

std::uint32_t milliseconds_until(Clock::time_point deadline) noexcept {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(left, 1, 0xFFFFFFFF));
}

// Afterwards the miss may be gone, and its mailbox too but for the one that is held here.
void complete(const Miss& miss) noexcept {
    const std::shared_ptr<Mailbox> mailbox = miss.mailbox;
    mailbox->put(miss.number);
}

}  // namespace

Connection::~Connection() { close(); }

void Connection::attach(Descriptor socket, Mapping ring) {
    const std::lock_guard lifecycle(lifecycle_);
    if (ring.size() < 2 * kChunkBytes)
        throw Error(Code::config, "a ring of " + std::to_string(ring.size()) + " bytes; it must hold two chunks, " +
                                      std::to_string(2 * kChunkBytes));
    stop_session(false);
    Descriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (wake.get() < 0) throw Error(Code::os, "cannot make an eventfd", {}, errno);
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(Code::closed, "the cache client is closed");
    socket_ = std::move(socket);
    wake_ = std::move(wake);
    ring_ = std::move(ring);
    session_ += 1;
    stopping_ = blocked_ = false;
    try {
        const SignalsBlocked blocked;
        receiver_ = std::thread([this, fd = socket_.get(), wake_fd = wake_.get(), session = session_] {
            receive(fd, wake_fd, session);
        });
        pthread_setname_np(receiver_.native_handle(), "ff-cache");
    } catch (const std::system_error& error) {
        throw Error(Code::os, "cannot start the thread of the cache client", {}, error.code().value());
    }
    connected_ = true;
    counts_.sessions.fetch_add(1, std::memory_order_relaxed);
}

void Connection::name_set(std::uint32_t number, std::uint32_t remote) {
    const std::lock_guard lock(mutex_);
    if (!connected_) throw Error(Code::config, "no connection to a cache daemon is attached");
    remote_[number] = remote;
    send_queued();
}

void Connection::detach() {
    const std::lock_guard lifecycle(lifecycle_);
    stop_session(false);
}

bool Connection::attached() const {
    const std::lock_guard lock(mutex_);
    return connected_;
}

bool Connection::wait_detached(double timeout_s) {
    std::unique_lock lock(mutex_);
    return ended_.wait_for(lock, std::chrono::duration<double>(timeout_s), [&] { return !connected_; });
}

void Connection::close() {
    const std::lock_guard lifecycle(lifecycle_);
    stop_session(true);
}

// Ends the session and joins its thread. Called with lifecycle_ held.
void Connection::stop_session(bool closing) {
    {
        std::unique_lock lock(mutex_);
        closed_ = closed_ || closing;
        stopping_ = true;
        if (wake_.get() >= 0) wake_up(wake_);
        end_session(lock);
        if (closed_) {
            for (Miss* miss : queue_) {
                miss->state = Miss::State::idle;
                miss->error.emplace(Code::closed, "the cache client was closed");
                complete(*miss);
            }
            queue_.clear();
        }
    }
    if (receiver_.joinable()) receiver_.join();
    const std::lock_guard lock(mutex_);
    socket_ = Descriptor();
    wake_ = Descriptor();
    ring_ = Mapping();
}

// The misses that were sent go back to the queue. Called with mutex_ held; waits for a copy that runs.
void Connection::end_session(std::unique_lock<std::mutex>& lock) {
    const auto copies = [&] {
        return std::any_of(sent_.begin(), sent_.end(), [](const auto& item) {
            return item.second.miss != nullptr && item.second.miss->state == Miss::State::copying;
        });
    };
    copied_.wait(lock, [&] { return !copies(); });
    if (!connected_) return;
    connected_ = false;
    std::vector<Miss*> again;
    for (const auto& [id, sent] : sent_)
        if (sent.miss != nullptr) again.push_back(sent.miss);
    std::sort(again.begin(), again.end(), [](const Miss* a, const Miss* b) { return a->id > b->id; });
    for (Miss* miss : again) requeue(*miss, 0);
    sent_.clear();
    releases_.clear();
    remote_.clear();
    outstanding_bytes_ = 0;
    blocked_ = false;
    // The daemon is to see the end now, not when the thread has gone.
    ::shutdown(socket_.get(), SHUT_RDWR);
    ended_.notify_all();
}

void Connection::requeue(Miss& miss, std::uint64_t from_session) {
    miss.state = Miss::State::queued;
    miss.from_session = std::max(miss.from_session, from_session);
    queue_.push_front(&miss);
}

void Connection::ask(std::span<Miss* const> misses) {
    const std::lock_guard lock(mutex_);
    if (closed_) throw Error(Code::closed, "the cache client is closed");
    for (Miss* miss : misses) {
        miss->answer_entry = kNoEntry;
        miss->error.reset();
        queue_.push_back(miss);
        miss->state = Miss::State::queued;
    }
    counts_.misses.fetch_add(misses.size(), std::memory_order_relaxed);
    send_queued();
}

void Connection::forget(Miss& miss) {
    std::unique_lock lock(mutex_);
    copied_.wait(lock, [&] { return miss.state != Miss::State::copying; });
    if (miss.state == Miss::State::queued) queue_.erase(std::find(queue_.begin(), queue_.end(), &miss));
    // Its bytes stay outstanding until the daemon has answered: the ring may be in use for them.
    if (miss.state == Miss::State::sent) sent_.at(miss.id).miss = nullptr;
    miss.state = Miss::State::idle;
}

bool Connection::may_send(const Miss& miss) const {
    return miss.from_session <= session_ && remote_.contains(miss.set);
}

// Sends what may be sent. A miss that finds no room holds back those after it, so that a large one is not passed for
// ever; one whose set is not named yet does not.
void Connection::send_queued() {
    if (!connected_ || blocked_) return;
    for (; !releases_.empty(); releases_.pop_front())
        if (!send_packet(encode_release(releases_.front()))) return;
    for (auto next = queue_.begin(); next != queue_.end();) {
        Miss& miss = **next;
        if (!may_send(miss)) {
            ++next;
            continue;
        }
        const std::uint64_t length = miss.into.size();
        if (sent_.size() >= kOutstandingMax ||
            (outstanding_bytes_ != 0 && outstanding_bytes_ + length > ring_.size() / 2))
            return;
        miss.id = next_id_;
        const GetMessage get{.id = miss.id, .set = remote_.at(miss.set), .object = miss.object, .offset = miss.offset,
                             .length = static_cast<std::uint32_t>(length), .flags = miss.flags, .entry = miss.entry,
                             .deadline_ms = milliseconds_until(miss.deadline)};
        if (!send_packet(encode(get))) return;
        next_id_ += 1;
        sent_.emplace(miss.id, Sent{&miss, length});
        outstanding_bytes_ += length;
        miss.state = Miss::State::sent;
        next = queue_.erase(next);
    }
}

// False where the socket takes no more now (the receiver waits for it) or has failed (the receiver will see that too).
bool Connection::send_packet(Bytes packet) {
    ssize_t sent;
    do {
        sent = ::send(socket_.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        counts_.messages.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    if (errno == EAGAIN || errno == ENOBUFS) {
        blocked_ = true;
        wake_up(wake_);
    } else {
        ::shutdown(socket_.get(), SHUT_RDWR);
    }
    return false;
}

// The receiver's thread.
void Connection::receive(int socket, int wake, std::uint64_t session) {
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kMessageBytesMax);
    bool goes_on = true;
    while (goes_on) {
        bool wants_room;
        {
            const std::lock_guard lock(mutex_);
            if (stopping_ || session != session_) return;
            wants_room = blocked_;
        }
        pollfd waits[2] = {{socket, static_cast<short>(POLLIN | (wants_room ? POLLOUT : 0)), 0}, {wake, POLLIN, 0}};
        if (::poll(waits, 2, -1) < 0 && errno != EINTR) break;
        if (waits[1].revents & POLLIN) {
            std::uint64_t count;
            [[maybe_unused]] const ssize_t got = ::read(wake, &count, sizeof count);
        }
        if (waits[0].revents & POLLOUT) {
            const std::lock_guard lock(mutex_);
            blocked_ = false;
            send_queued();
        }
        if (waits[0].revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL))
            goes_on = receive_one(socket, session, {buffer.get(), kMessageBytesMax});
    }
    std::unique_lock lock(mutex_);
    if (session == session_) end_session(lock);
}

// Takes one packet. False where the session has ended.
bool Connection::receive_one(int socket, std::uint64_t session, MutableBytes buffer) {
    // MSG_TRUNC: the packet's own length, also where it does not fit.
    const ssize_t got = ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0 || static_cast<std::size_t>(got) > buffer.size()) return false;
    try {
        const Answer answer = parse_answer(buffer.first(static_cast<std::size_t>(got)));
        std::unique_lock lock(mutex_);
        if (stopping_ || session != session_ || !connected_) return false;
        if (!handle(answer, lock)) return false;
        send_queued();
        return true;
    } catch (const std::exception&) {
        return false;  // malformed: nothing that this daemon says can be relied on; or no memory
    }
}

// Gives an answer to who asked. False for one that no daemon sends.
bool Connection::handle(const Answer& answer, std::unique_lock<std::mutex>& lock) {
    if (answer.kind == Answer::Kind::unknown) return true;
    const auto found = sent_.find(answer.id);
    if (found == sent_.end()) return false;  // it was not asked, or is answered twice
    const Sent sent = found->second;
    if (answer.kind == Answer::Kind::in_ring) return copy_from_ring(answer, sent, lock);
    sent_.erase(found);
    outstanding_bytes_ -= sent.length;
    if (sent.miss == nullptr) return true;
    Miss& miss = *sent.miss;
    if (answer.kind == Answer::Kind::error && answer.code == AnswerCode::draining) {
        requeue(miss, session_ + 1);
        return true;
    }
    miss.state = Miss::State::idle;
    if (answer.kind == Answer::Kind::in_slot) {
        // A slot where the bytes were asked for would let two sides wait for each other: slots may be gone again.
        if ((miss.flags & kByRing) != 0 || answer.entry == kNoEntry)
            miss.error.emplace(Code::daemon, "the cache daemon answered by a slot where it was asked for the bytes");
        else
            miss.answer_entry = answer.entry;
    } else {
        miss.error.emplace(error_of(answer));
    }
    complete(miss);
    return true;
}

bool Connection::copy_from_ring(const Answer& answer, Sent sent, std::unique_lock<std::mutex>& lock) {
    if (!ring_range_holds(answer, sent.length, ring_.size())) return false;
    if (sent.miss != nullptr) {
        Miss& miss = *sent.miss;
        miss.state = Miss::State::copying;  // forget() and end_session() wait for it
        lock.unlock();
        std::memcpy(miss.into.data(), ring_.data() + answer.at, answer.length);
        lock.lock();
        miss.state = Miss::State::idle;
        miss.answer_entry = kNoEntry;
        complete(miss);
    }
    sent_.erase(answer.id);
    outstanding_bytes_ -= sent.length;
    releases_.push_back(answer.id);  // send_queued() follows
    copied_.notify_all();
    return true;
}

}  // namespace ff
