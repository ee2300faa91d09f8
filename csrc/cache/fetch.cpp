// A read call, step by step.
//
//   1. Each op is cut at the chunks' edges. A piece whose map entry holds is read from its slab at once where the page
//      cache has it: no allocation, no message.
//   2. What the disk must bring goes to the slab's threads, what is absent to the daemon; all of it before any wait.
//   3. The daemon answers by a slot (as 1, once) or by the ring. A race that is lost, a slot that is bad and a disk that
//      does not answer all end in the same question: the bytes, by the ring.
//
// So each piece costs at most two fetches.
#include "cache/fetch.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

namespace ff {
namespace {

constexpr std::chrono::milliseconds kInterruptSlice{50};

std::chrono::steady_clock::duration seconds(double value) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

std::string tenths(double value) {
    std::string text = std::to_string(value);
    return text.substr(0, text.find('.') + 2);
}

}  // namespace

Fetch::Fetch(CacheClient& client, std::uint32_t set, double deadline_s, Interrupted interrupted,
             const std::atomic<bool>* cancelled)
    : client_(client),
      number_(set),
      view_(client.view()),
      deadline_s_(deadline_s),
      deadline_(Clock::now() + seconds(deadline_s)),
      interrupted_(interrupted),
      cancelled_(cancelled) {
    if (const auto found = view_->sets.find(set); found != view_->sets.end()) set_ = found->second;
}

Fetch::~Fetch() {
    close_all();
    client_.add(counts_);
}

void Fetch::read(std::span<ReadOp> ops) {
    for (ReadOp& op : ops) start(op);
    run();
}

void Fetch::read_checked(ReadOp& op) {
    checked_ = true;
    start(op);
    run();
}

void Fetch::reread(ReadOp& op) {
    counts_.crc_failures += 1;
    checked_ = false;
    for_pieces(op, [&](const Piece& piece) {
        Place place;
        place.entry = set_->map.entry(chunk_of(piece));
        ask(add(piece, place), place.entry == kNoEntry ? kByRing : kByRing | kBadSlot);
    });
    run();
}

void Fetch::start(ReadOp& op) {
    for_pieces(op, [&](const Piece& piece) { attempt(piece); });
}

template <class Work>
void Fetch::for_pieces(ReadOp& op, Work work) {
    op.done = op.into.size();
    op.os_errno = 0;
    op.error.reset();
    const std::uint64_t end = op.offset + op.into.size();
    if (!set_)
        return fail({&op, op.offset, op.into},
                    Error(Code::config, "the cache client has no set " + std::to_string(number_) + ": it was closed"));
    if (op.object >= set_->sizes.size() || end < op.offset || end > set_->sizes[op.object])
        return fail({&op, op.offset, op.into}, Error(Code::internal, "a read outside the object"));
    for (std::uint64_t at = op.offset; at < end;) {
        const std::uint64_t stop = std::min(end, (at / kChunkBytes + 1) * kChunkBytes);
        work(Piece{&op, at, op.into.subspan(at - op.offset, stop - at)});
        at = stop;
    }
}

std::uint64_t Fetch::chunk_of(const Piece& piece) const noexcept {
    return set_->first_chunk[piece.op->object] + piece.offset / kChunkBytes;
}

void Fetch::fail(const Piece& piece, const Error& error) {
    piece.op->done = 0;
    if (!piece.op->error) piece.op->error = std::make_shared<const Error>(error);
}

void Fetch::attempt(const Piece& piece) {
    const std::uint64_t entry = set_->map.entry(chunk_of(piece));
    if (entry == kNoEntry) {
        ask(add(piece, {}), 0);
        return;
    }
    Place place;
    std::size_t done = 0;
    const Tried tried = checked_ ? try_checked(piece, entry) : try_slot(piece, entry, place, done);
    if (tried == Tried::done) return;
    place.entry = entry;
    Pending& pending = add(piece, place);
    tried == Tried::waits ? wait_for_slab(pending, done) : ask_after(pending, tried);
}

// Steps 1 and 2 of the reader in words.hpp. Nothing where the entry does not hold.
std::optional<Fetch::Place> Fetch::look_up(const Piece& piece, std::uint64_t entry) const noexcept {
    Place place{nullptr, entry, 0};
    if (!view_->words || place.slot() >= view_->words->slots()) return {};
    place.slab = view_->slab_of(place.slot());
    place.word = view_->words->load(place.slot());
    if (place.slab == nullptr || !accepts(entry, place.word) || piece.into.size() > kChunkBytes) return {};
    return place;
}

// Steps 1 to 5, as far as the page cache goes.
Fetch::Tried Fetch::try_slot(const Piece& piece, std::uint64_t entry, Place& place, std::size_t& done) {
    const std::optional<Place> found = look_up(piece, entry);
    if (!found) {
        counts_.races_lost += 1;
        return Tried::lost;
    }
    place = *found;
    const std::uint64_t at = place.slab->offset_of(place.slot()) + piece.offset % kChunkBytes;
    int os_errno = 0;
    done = place.slab->reads->read_cached(at, piece.into, os_errno);
    if (done == piece.into.size()) return finish_slot(piece, place);
    if (os_errno != 0) return Tried::bad;
    return place.slab->reads->stuck() ? Tried::lost : Tried::waits;
}

// Step 5, after the piece's bytes are there.
Fetch::Tried Fetch::finish_slot(const Piece& piece, const Place& place) {
    if (view_->words->load_after_read(place.slot()) != place.word) {
        counts_.races_lost += 1;
        return Tried::lost;
    }
    counts_.slab_reads += 1;
    counts_.slab_bytes += piece.into.size();
    return Tried::done;
}

// All steps, with the trailer's crcs. Waits for the disk.
Fetch::Tried Fetch::try_checked(const Piece& piece, std::uint64_t entry) {
    const std::optional<Place> place = look_up(piece, entry);
    if (!place) {
        counts_.races_lost += 1;
        return Tried::lost;
    }
    const std::uint64_t slot_at = place->slab->offset_of(place->slot());
    const std::uint64_t in_chunk = piece.offset % kChunkBytes;
    const std::uint64_t size = set_->sizes[piece.op->object];
    const std::uint64_t chunk_bytes = std::min(kChunkBytes, size - (piece.offset - in_chunk));
    const std::uint64_t begin = in_chunk / kCheckBytes * kCheckBytes;
    const std::uint64_t end = std::min(round_up(in_chunk + piece.into.size(), kCheckBytes), chunk_bytes);
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kTrailerBytes + (end - begin));
    const std::span<std::byte, kTrailerBytes> stored(buffer.get(), kTrailerBytes);
    const MutableBytes bytes{buffer.get() + kTrailerBytes, end - begin};
    int os_errno = 0;
    const bool came = read_slab(*place->slab->reads, slot_at + begin, bytes, os_errno) &&
                      read_slab(*place->slab->reads, slot_at + kChunkBytes, stored, os_errno);
    if (!came) return os_errno != 0 ? Tried::bad : Tried::lost;
    const std::optional<Trailer> trailer = parse_trailer(stored);
    bool good = trailer && trailer->generation == place->word && trailer->slot == place->slot() &&
                trailer->length == chunk_bytes &&
                trailer->names(set_->map.key(piece.op->object), piece.offset / kChunkBytes);
    for (std::uint64_t at = begin; good && at < end; at += kCheckBytes)
        good = check_holds(*trailer, at / kCheckBytes, bytes.subspan(at - begin, std::min(kCheckBytes, end - at)));
    const Tried tried = finish_slot(piece, *place);
    if (tried == Tried::done && !good) {
        counts_.slab_reads -= 1;
        counts_.slab_bytes -= piece.into.size();
        counts_.crc_failures += 1;
        return Tried::bad;
    }
    if (tried == Tried::done) std::memcpy(piece.into.data(), bytes.data() + (in_chunk - begin), piece.into.size());
    return tried;
}

// One read of a slab, waiting for the disk for as long as a read may take. False where it did not come: with an errno,
// or without one where it was given up.
bool Fetch::read_slab(SlabReads& slab, std::uint64_t offset, MutableBytes into, int& os_errno) {
    const std::size_t done = slab.read_cached(offset, into, os_errno);
    if (done == into.size()) return true;
    if (os_errno != 0 || slab.stuck()) return false;
    auto mailbox = std::make_shared<Mailbox>();
    mailbox->expect(1);
    const auto read = std::make_shared<SlabRead>(offset + done, into.size() - done, mailbox, 0);
    slab.submit(read);
    std::vector<std::uint32_t> numbers;
    mailbox->take(std::min(deadline_, Clock::now() + seconds(client_.options_.slab_read_s)), numbers);
    if (numbers.empty()) {
        slab.give_up(read);
        counts_.slab_reads_given_up += 1;
        return false;
    }
    os_errno = read->os_errno;
    if (os_errno != 0) return false;
    std::memcpy(into.data() + done, read->bytes.get(), into.size() - done);
    return true;
}

Fetch::Pending& Fetch::add(const Piece& piece, Place place) {
    if (!mailbox_) mailbox_ = std::make_shared<Mailbox>();
    Pending& pending = *pending_.emplace_back(std::make_unique<Pending>());
    pending.piece = piece;
    pending.place = place;
    pending.miss.number = static_cast<std::uint32_t>(pending_.size() - 1);
    pending.open = true;
    open_ += 1;
    mailbox_->expect(pending_.size());
    return pending;
}

void Fetch::wait_for_slab(Pending& pending, std::size_t done) {
    const Piece& piece = pending.piece;
    const std::uint64_t at =
        pending.place.slab->offset_of(pending.place.slot()) + piece.offset % kChunkBytes + done;
    pending.done = done;
    pending.read = std::make_shared<SlabRead>(at, piece.into.size() - done, mailbox_, pending.miss.number);
    pending.give_up_at = Clock::now() + seconds(client_.options_.slab_read_s);
    pending.place.slab->reads->submit(pending.read);
}

// The daemon is asked at the next send().
void Fetch::ask(Pending& pending, std::uint32_t flags) {
    Miss& miss = pending.miss;
    miss.set = number_;
    miss.object = pending.piece.op->object;
    miss.offset = pending.piece.offset;
    miss.into = pending.piece.into;
    miss.flags = flags;
    miss.entry = pending.place.entry;
    miss.deadline = deadline_;
    miss.mailbox = mailbox_;
    to_ask_.push_back(&miss);
}

void Fetch::ask_after(Pending& pending, Tried tried) {
    ask(pending, tried == Tried::bad ? kByRing | kBadSlot : kByRing);
}

void Fetch::send() {
    if (to_ask_.empty()) return;
    client_.connection_.ask(to_ask_);
    to_ask_.clear();
}

void Fetch::run() {
    if (open_ == 0) return;
    const Clock::time_point begun = Clock::now();
    bool missed = false;
    std::vector<std::uint32_t> numbers;
    while (open_ > 0) {
        missed = missed || !to_ask_.empty();
        send();
        mailbox_->take(next_event(), numbers);
        for (const std::uint32_t number : numbers) complete(*pending_[number]);
        if (numbers.empty()) {
            expire(Clock::now());
            if (interrupted_ != nullptr && interrupted_()) throw Error(Code::closed, "the read was interrupted");
            if (cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed))
                fail_all(Error(Code::closed, "the read was cancelled"));
        }
    }
    if (missed)
        counts_.miss_wait_us += static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begun).count());
}

Clock::time_point Fetch::next_event() const noexcept {
    Clock::time_point next = deadline_;
    if (interrupted_ != nullptr || cancelled_ != nullptr) next = std::min(next, Clock::now() + kInterruptSlice);
    for (const auto& pending : pending_)
        if (pending->read) next = std::min(next, pending->give_up_at);
    return next;
}

void Fetch::complete(Pending& pending) { pending.read ? complete_slab(pending) : complete_miss(pending); }

void Fetch::complete_slab(Pending& pending) {
    const std::shared_ptr<SlabRead> read = std::move(pending.read);
    const MutableBytes into = pending.piece.into.subspan(pending.done);
    if (read->os_errno != 0) return ask_after(pending, read->os_errno == ENOMEM ? Tried::lost : Tried::bad);
    std::memcpy(into.data(), read->bytes.get(), into.size());
    const Tried tried = finish_slot(pending.piece, pending.place);
    if (tried != Tried::done) return ask_after(pending, tried);
    pending.open = false;
    open_ -= 1;
}

void Fetch::complete_miss(Pending& pending) {
    const Miss& miss = pending.miss;
    const Piece& piece = pending.piece;
    if (miss.error || miss.answer_entry == kNoEntry) {
        if (miss.error) {
            fail(piece, *miss.error);
        } else {
            counts_.ring_reads += 1;
            counts_.ring_bytes += piece.into.size();
        }
        pending.open = false;
        open_ -= 1;
        return;
    }
    std::size_t done = 0;
    const std::uint64_t entry = miss.answer_entry;
    const Tried tried = checked_ ? try_checked(piece, entry) : try_slot(piece, entry, pending.place, done);
    pending.place.entry = entry;
    if (tried == Tried::waits) return wait_for_slab(pending, done);
    if (tried != Tried::done) return ask_after(pending, tried);
    pending.open = false;
    open_ -= 1;
}

// Gives up what has passed its time: reads of slabs go to the daemon, and at the deadline everything fails.
void Fetch::expire(Clock::time_point now) {
    if (now >= deadline_) {
        const Error error(
            Code::daemon,
            "no answer from the node's cache within " + tenths(deadline_s_) + " s: " +
                (client_.attached() ? "the daemon is connected, but did not answer. `fastfeed cache status` shows what "
                                      "it waits for."
                                    : "no daemon is connected. Is it running? `fastfeed cache status` says."));
        return fail_all(error);
    }
    for (const auto& each : pending_) {
        Pending& pending = *each;
        // A read that completes at this moment is in the mailbox, or will be soon.
        if (!pending.read || now < pending.give_up_at || !pending.place.slab->reads->give_up(pending.read)) continue;
        pending.read.reset();
        counts_.slab_reads_given_up += 1;
        ask(pending, kByRing);
    }
}

void Fetch::fail_all(const Error& error) {
    for (const auto& pending : pending_)
        if (pending->open) fail(pending->piece, error);
    close_all();
}

// Afterwards nobody touches the pieces' memory.
void Fetch::close_all() noexcept {
    for (const auto& each : pending_) {
        Pending& pending = *each;
        if (!pending.open) continue;
        if (pending.read) pending.place.slab->reads->give_up(pending.read);
        client_.connection_.forget(pending.miss);
        pending.open = false;
    }
    open_ = 0;
}

}  // namespace ff
