// One batch on its way through the stages: which parts it needs, in which groups, what went wrong, and how it is
// finished.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "error.hpp"
#include "feed/buffer_shelf.hpp"
#include "feed/place.hpp"
#include "feed/slot.hpp"
#include "feed/snapshot.hpp"
#include "feed/trace.hpp"

namespace ff {

enum class OnError : std::uint8_t { raise, skip };

// What all batches of a reader share. Immutable.
struct Feed {
    std::vector<FeedSource> sources;         // at least one
    std::vector<std::uint64_t> first_shard;  // of each source, in numbers through all snapshots
    OutputPlan plan;                         // common to all sources
    OnError on_error = OnError::raise;
    std::size_t decoder_threads = 1;
    StageMarks marks;
    std::shared_ptr<BufferShelf> pieces = std::make_shared<BufferShelf>();  // between batches
};

// What the caller asks for.
struct BatchRequest {
    std::vector<std::int64_t> rows;       // -1: a hole
    std::vector<std::int64_t> positions;  // as many
    std::vector<std::int32_t> sources;    // as many: which source each row is of; or empty: all of source 0
    std::vector<std::uint8_t> valid;      // as many, or empty: all
    BatchSeed seed;
};

// Throw Error(config) where `number` is not one of the sources, where `row` is below `lowest` or not in the source.
const FeedSource& source_at(const Feed& feed, std::int32_t number);
void check_row(const FeedSource& source, std::int64_t row, std::int64_t lowest);

// Throws Error(config) where a row is outside its snapshot or the arrays do not agree.
void check_request(const Feed& feed, const BatchRequest& request);

// A range of Batch::order: what is read and decoded together.
struct Group {
    std::uint32_t first = 0, count = 0;
};

// Different groups may be worked on by different threads; everything else is said at each method.
class Batch {
  public:
    Batch(const Feed& feed, BatchRequest request) : feed_(feed), request_(std::move(request)) {}

    std::size_t rows() const noexcept { return request_.rows.size(); }
    std::int64_t row(std::uint32_t at) const noexcept { return request_.rows[at]; }
    const BatchSeed& seed() const noexcept { return request_.seed; }
    std::uint32_t source_number(std::uint32_t at) const noexcept {
        return request_.sources.empty() ? 0 : static_cast<std::uint32_t>(request_.sources[at]);
    }
    const FeedSource& source(std::uint32_t at) const noexcept { return feed_.sources[source_number(at)]; }

    // The first stage, by one thread: takes a slot, finds every row's parts, sorts them by place on disk, cuts them
    // into groups.
    void locate(const std::shared_ptr<SlotPool>& pool);

    std::size_t groups() const noexcept { return groups_.size(); }
    std::span<const std::uint32_t> group(std::size_t index) const noexcept {
        return {order_.data() + groups_[index].first, groups_[index].count};
    }
    const Part& part(std::uint32_t index) const noexcept { return parts_[index]; }
    Slot& slot() const noexcept { return lease_->slot(); }
    std::span<Buffer> pieces(std::size_t group) noexcept {
        const std::size_t count = feed_.plan.ragged.size();
        return {pieces_.data() + group * count, count};
    }

    // Records what is wrong with one part. Thread-safe.
    void fail(const Part& part, const Error& error);
    // Records a failure of the whole batch (memory, a bug). Thread-safe.
    void fail_whole(const Error& error);
    // Whether work on this part would be for nothing: an error at a lower position is known, or the batch is cancelled.
    // Thread-safe.
    bool needless(const Part& part) const noexcept {
        return cancelled.load(std::memory_order_relaxed) || part.at > lowest_failed_.load(std::memory_order_relaxed);
    }

    // Marks a group as done; true for the last one, whose thread then calls finish().
    bool group_done() noexcept { return groups_left_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
    // The last stage, by one thread: holes become zeros, ragged pieces one array.
    void finish();

    // After finish(), by one thread. The error of the lowest position, if the batch has one.
    const std::optional<Error>& error() const noexcept { return error_; }
    std::size_t holes() const noexcept { return holes_; }
    const std::vector<std::string>& hole_messages() const noexcept { return hole_messages_; }
    std::uint64_t frame_bytes() const noexcept { return frame_bytes_; }
    std::unique_ptr<Lease> take_lease() noexcept { return std::move(lease_); }

    std::atomic<bool> cancelled{false};
    // Guarded by the pipeline's mutex:
    bool done = false;  // finish() has returned
    StageTimes spent;   // thread-seconds so far

    // How many messages of holes are kept; more would say the same.
    static constexpr std::size_t kHoleMessagesMax = 8;

  private:
    void sort_parts();
    void cut_groups();
    void fail_locked(std::uint32_t at, std::uint64_t within, const Error& error);
    void join_pieces(std::size_t ragged_index);

    const Feed& feed_;
    BatchRequest request_;
    std::unique_ptr<Lease> lease_;
    std::vector<Part> parts_;
    std::vector<std::uint32_t> order_;  // indexes of parts_, by (source, shard, offset)
    std::vector<Group> groups_;
    std::vector<Buffer> pieces_;        // [group * ragged outputs + ragged output]
    std::uint64_t frame_bytes_ = 0;
    std::atomic<std::size_t> groups_left_{0};

    std::atomic<std::uint32_t> lowest_failed_{0xFFFFFFFFu};
    std::mutex mutex_;  // over the four below while groups are running; a leaf, held for bookkeeping only
    std::optional<Error> error_;
    // Place of the failed part inside its row: makes the choice among parts of one row definite
    std::uint64_t error_within_ = 0;
    std::vector<std::string> hole_messages_;
    std::size_t holes_ = 0;
};

}  // namespace ff
