// Reading with few system calls, verifying before anything else, placing.
#include "feed/group.hpp"

namespace ff {
namespace {

// Parts closer than this are read together: 4 KiB more to copy costs less than a second system call.
constexpr std::uint64_t kGapMax = 4096;
// Where a device is asked for every range: a read of it takes as long as 24 KB more do (85,000 reads of 4 KiB a second
// beside 2 GB/s).
constexpr std::uint64_t kDirectGapMax = 16 * 1024;
// A buffer that a larger group needed is given back after it: usual groups end at 2 MiB and one frame.
constexpr std::size_t kBufferKeepMax = 8 * 1024 * 1024;

void check_pages(const Snapshot& snapshot, const OpenShard& shard, const Part& part, Bytes pages) {
    for (std::uint64_t i = 0; i < part.length / kPageSize; ++i) {
        const std::uint64_t page = part.number + i;
        const std::uint32_t expected = snapshot.page_checksum(part.shard, page);
        const std::uint32_t computed = crc32c(shard.seed.of(page), pages.subspan(i * kPageSize, kPageSize));
        if (computed != expected)
            throw Error(Code::corrupt, "crc32c of page " + std::to_string(page) + " is " + std::to_string(computed) +
                                           ", the index says " + std::to_string(expected));
    }
}

}  // namespace

void check_done(const ReadOp& op, std::uint64_t offset, std::uint64_t length) {
    if (op.error) throw *op.error;
    if (op.os_errno != 0)
        throw Error(Code::os, "reading " + std::to_string(length) + " bytes at " + std::to_string(offset), {},
                    op.os_errno);
    if (op.offset + op.done < offset + length)
        throw Error(Code::corrupt, "the file ends at byte " + std::to_string(op.offset + op.done) + ", before " +
                                       std::to_string(offset + length) + ": it was truncated");
}

void verify_part(const Snapshot& snapshot, const OpenShard& shard, const Part& part, Bytes bytes) {
    if (snapshot.is_stream())
        check_pages(snapshot, shard, part, bytes);
    else
        check_frame(snapshot.layout(), shard.seed, part.number, bytes);
}

void GroupBuffer::plan_runs(Batch& batch, std::span<const std::uint32_t> numbers) {
    views_.assign(numbers.size(), {});
    runs_.clear();
    opened_.clear();
    std::uint64_t total = 0;
    const Snapshot* snapshot = nullptr;  // of the current shard
    std::uint32_t current = 0;
    std::optional<Error> unusable;  // what is wrong with the current shard
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        const Part& part = batch.part(numbers[i]);
        if (const Snapshot* its = batch.source(part.at).snapshot.get(); its != snapshot || part.shard != current) {
            snapshot = its;
            current = part.shard;
            unusable.reset();
            try {
                opened_.push_back({snapshot->files().get(part.shard), &snapshot->engine(), part.shard});
            } catch (const Error& error) {
                unusable = error;
            }
        }
        if (unusable) {
            batch.fail(part, *unusable);
            continue;
        }
        const auto opened = static_cast<std::uint32_t>(opened_.size() - 1);
        // Parts come by ascending offset; they may repeat, or share pages.
        const bool direct = opened_.back().engine->reads_directly();
        if (runs_.empty() || runs_.back().opened != opened ||
            part.offset > runs_.back().end + (direct ? kDirectGapMax : kGapMax)) {
            // With room around it, as ReadOp::has_room says.
            if (direct) total = round_up(total, kDirectAlign) + part.offset % kDirectAlign;
            runs_.push_back({part.offset, part.offset, total, opened, 0});
        }
        Run& run = runs_.back();
        total += part.offset + part.length > run.end ? part.offset + part.length - run.end : 0;
        run.end = std::max(run.end, part.offset + part.length);
        run.parts += 1;
        views_[i] = {run.at + (part.offset - run.offset), static_cast<std::uint32_t>(runs_.size() - 1), opened, true};
    }
    bytes_.resize_discarding(round_up(total, kDirectAlign));
}

// All runs, those of one snapshot's engine at once: they lie together.
void GroupBuffer::read_runs() {
    ops_.clear();
    for (const Run& run : runs_) {
        const Opened& opened = opened_[run.opened];
        const MutableBytes into{bytes_.data() + run.at, run.end - run.offset};
        ops_.push_back({opened.shard->file.get(), run.offset, into, opened.number});
        ops_.back().cancelled = cancelled_;
        ops_.back().has_room = opened.engine->reads_directly();
    }
    for (std::size_t first = 0, end = 0; first < runs_.size(); first = end) {
        ReadEngine* engine = opened_[runs_[first].opened].engine;
        while (end < runs_.size() && opened_[runs_[end].opened].engine == engine) ++end;
        engine->read({ops_.data() + first, end - first});
    }
}

void GroupBuffer::read(Batch& batch, std::size_t group) {
    cancelled_ = &batch.cancelled;  // the batch outlives what is done with its groups
    try {
        plan_runs(batch, batch.group(group));
        read_runs();
    } catch (...) {
        views_.clear();  // nothing was read: nothing can be verified
        throw;
    }
}

void GroupBuffer::check_read(const Part& part, View& view) {
    const ReadOp& op = ops_[view.op];
    if (op.os_errno == 0 && op.done == op.into.size()) return;
    // What no part of the file is to blame for would only fail, or wait, again.
    const bool of_these_bytes = !op.error || op.error->code() == Code::corrupt;
    if (runs_[view.op].parts == 1 || !of_these_bytes) {
        check_done(op, part.offset, part.length);
        return;
    }
    // The fault may be a neighbour's: this part alone says.
    ReadOp alone = read_alone(part, view);
    opened_[view.opened].engine->read({&alone, 1});
    check_done(alone, part.offset, part.length);
}

// A read of one part, into a place of its own, because parts may overlap and the others' bytes may have been verified
// already.
ReadOp GroupBuffer::read_alone(const Part& part, View& view) {
    const Opened& opened = opened_[view.opened];
    view.at = bytes_.size();
    ReadOp op{opened.shard->file.get(), part.offset, {bytes_.append(part.length), part.length}, opened.number};
    op.cancelled = cancelled_;
    return op;
}

// Verifies a part; bytes that fail are read once more where the engine knows another place for them.
void GroupBuffer::verify_view(const Snapshot& snapshot, const Part& part, View& view) {
    const Opened& opened = opened_[view.opened];
    try {
        verify_part(snapshot, *opened.shard, part, bytes_of(part, view));
    } catch (const Error& error) {
        if (error.code() != Code::corrupt) throw;
        ReadOp again = read_alone(part, view);
        if (!opened.engine->reread(again)) throw;
        check_done(again, part.offset, part.length);
        verify_part(snapshot, *opened.shard, part, bytes_of(part, view));
    }
}

void GroupBuffer::verify(Batch& batch, std::size_t group) {
    const auto numbers = batch.group(group);
    for (std::size_t i = 0; i < views_.size(); ++i) {
        const Part& part = batch.part(numbers[i]);
        View& view = views_[i];
        if (!view.good) continue;
        if (batch.needless(part)) {
            view.good = false;
            continue;
        }
        try {
            check_read(part, view);
            verify_view(*batch.source(part.at).snapshot, part, view);
        } catch (const Error& error) {
            view.good = false;
            batch.fail(part, error);
        }
    }
}

void GroupBuffer::place(Batch& batch, std::size_t group, DecodeState& state) {
    const auto numbers = batch.group(group);
    const std::span<Buffer> pieces = batch.pieces(group);
    for (std::size_t i = 0; i < views_.size(); ++i) {
        const Part& part = batch.part(numbers[i]);
        const View& view = views_[i];
        if (!view.good || batch.needless(part)) continue;
        const FeedSource& source = batch.source(part.at);
        if (source.snapshot->is_stream()) {
            place_tokens(source.plan, part, bytes_of(part, view), batch.slot(), pieces);
            continue;
        }
        try {
            place_frame(source, part, bytes_of(part, view), batch.seed(), state, batch.slot(), pieces);
        } catch (const Error& error) {
            batch.fail(part, error);
        }
    }
    opened_.clear();
    if (bytes_.capacity() > kBufferKeepMax) bytes_.release();
}

}  // namespace ff
