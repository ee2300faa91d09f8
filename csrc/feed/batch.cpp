// Locating, grouping and finishing batches.
#include "feed/batch.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace ff {
namespace {

// A group is what one thread reads, then what one thread decodes.
// 2 MiB: stays in the second-level cache between reading and decoding, and is 20 photographs, so that a batch of 256
// keeps many decoders busy. 256 rows: of small rows about 250 us of work, a hundred times what handing a group over
// costs.
constexpr std::uint64_t kGroupBytesMax = 2 * 1024 * 1024;
constexpr std::size_t kGroupRowsMax = 256;
// A batch should make about two groups a decoder, so that its last group does not keep the others waiting; below 256
// KiB a group of frames costs more in hand-overs than it gains.
constexpr std::uint64_t kGroupsPerDecoder = 2;
constexpr std::uint64_t kGroupBytesMin = 256 * 1024;

// Rows whose places in the mapped index are asked for before they are needed: each would miss the cache, one after the
// other.
constexpr std::size_t kLocateAhead = 8;

constexpr std::int64_t kHole = -1;  // the row of a request that asks for none

// Errors that belong to one sample's bytes. Others (a format too new, no memory, no descriptors) would hit every
// sample.
bool of_one_sample(const Error& error) {
    return error.code() == Code::corrupt || (error.code() == Code::os && error.os_errno() == EIO);
}

}  // namespace

const FeedSource& source_at(const Feed& feed, std::int32_t number) {
    if (number < 0 || static_cast<std::size_t>(number) >= feed.sources.size())
        throw Error(Code::config, "source " + std::to_string(number) + " is not one of the " +
                                      std::to_string(feed.sources.size()) + " sources of the reader");
    return feed.sources[static_cast<std::size_t>(number)];
}

void check_row(const FeedSource& source, std::int64_t row, std::int64_t lowest) {
    if (row < lowest || row >= source.snapshot->rows())
        throw Error(Code::config, "row " + std::to_string(row) + " is not one of the " +
                                      std::to_string(source.snapshot->rows()) + " rows of the dataset" +
                                      (lowest < 0 ? " (nor -1, a hole)" : ""));
}

void check_request(const Feed& feed, const BatchRequest& request) {
    const std::size_t count = request.rows.size();
    if (count > 0xFFFFFFFEu) throw Error(Code::config, "a batch of " + std::to_string(count) + " rows is too large");
    if (request.positions.size() != count || (!request.valid.empty() && request.valid.size() != count))
        throw Error(Code::config,
                    "a batch of " + std::to_string(count) + " rows needs as many positions and valid flags");
    if (!request.sources.empty() && request.sources.size() != count)
        throw Error(Code::config, "a batch of " + std::to_string(count) + " rows with " +
                                      std::to_string(request.sources.size()) + " sources");
    for (std::size_t i = 0; i < count; ++i)
        check_row(source_at(feed, request.sources.empty() ? 0 : request.sources[i]), request.rows[i], kHole);
}

void Batch::locate(const std::shared_ptr<SlotPool>& pool) {
    lease_ = std::make_unique<Lease>(pool);
    Slot& slot = lease_->slot();
    const std::size_t count = rows();
    slot.prepare(feed_.plan, static_cast<std::int64_t>(count));
    if (count != 0) {
        std::memcpy(slot.rows.data(), request_.rows.data(), count * 8);
        std::memcpy(slot.positions.data(), request_.positions.data(), count * 8);
        std::memset(slot.valid.data(), 1, count);
    }
    if (!request_.valid.empty())
        for (std::size_t i = 0; i < count; ++i) slot.valid.data()[i] = std::byte{request_.valid[i] != 0};
    parts_.reserve(count);
    std::vector<std::uint32_t> hints(feed_.sources.size());  // the shard of each source's last row
    std::vector<std::uint32_t> hints_ahead(hints);
    for (std::uint32_t at = 0; at < count; ++at) {
        if (at + kLocateAhead < count && request_.rows[at + kLocateAhead] >= 0) {
            const auto ahead = static_cast<std::uint32_t>(at + kLocateAhead);
            source(ahead).snapshot->expect(request_.rows[ahead], hints_ahead[source_number(ahead)]);
        }
        if (request_.rows[at] < 0) {
            slot.valid.data()[at] = std::byte{0};
            slot.clear_row(feed_.plan, at);
            continue;
        }
        try {
            source(at).snapshot->locate(request_.rows[at], at, hints[source_number(at)], parts_);
        } catch (const Error& error) {
            const std::lock_guard lock(mutex_);
            fail_locked(at, 0, error);
        }
    }
    sort_parts();
    cut_groups();
    pieces_.resize(groups_.size() * feed_.plan.ragged.size());
    for (Buffer& piece : pieces_) piece = feed_.pieces->take();
    groups_left_.store(groups_.size(), std::memory_order_release);
}

void Batch::sort_parts() {
    // Payloads end below 2^35 and there are at most 2^32 shards, so that a place on disk is one number.
    std::vector<std::pair<std::uint64_t, std::uint32_t>> places(parts_.size());
    for (std::uint32_t i = 0; i < parts_.size(); ++i) {
        const Part& part = parts_[i];
        const std::uint64_t shard = feed_.first_shard[source_number(part.at)] + part.shard;
        places[i] = {shard << 32 | part.offset / kFrameAlign, i};
    }
    if (!std::is_sorted(places.begin(), places.end())) std::sort(places.begin(), places.end());
    order_.resize(places.size());
    for (std::size_t i = 0; i < places.size(); ++i) order_[i] = places[i].second;
}

void Batch::cut_groups() {
    for (const Part& part : parts_) frame_bytes_ += part.length;
    const std::uint64_t bytes_max = std::clamp<std::uint64_t>(
        frame_bytes_ / (kGroupsPerDecoder * feed_.decoder_threads), kGroupBytesMin, kGroupBytesMax);
    std::uint64_t bytes = 0;
    for (std::uint32_t i = 0; i < order_.size(); ++i) {
        const std::uint64_t length = parts_[order_[i]].length;
        if (groups_.empty() || groups_.back().count == kGroupRowsMax || bytes + length > bytes_max) {
            groups_.push_back({i, 0});
            bytes = 0;
        }
        groups_.back().count += 1;
        bytes += length;
    }
}

void Batch::fail_locked(std::uint32_t at, std::uint64_t within, const Error& error) {
    if (feed_.on_error == OnError::skip && of_one_sample(error)) {
        std::byte& valid = slot().valid.data()[at];
        holes_ += valid != std::byte{2};
        valid = std::byte{2};  // a hole, until finish() makes it a 0
        if (hole_messages_.size() < kHoleMessagesMax)
            hole_messages_.push_back((error.path().empty() ? "" : error.path() + ": ") + error.message());
        return;
    }
    const std::uint32_t lowest = lowest_failed_.load(std::memory_order_relaxed);
    if (at > lowest || (at == lowest && error_ && within >= error_within_)) return;
    lowest_failed_.store(at, std::memory_order_relaxed);
    error_within_ = within;
    error_ = error;
}

void Batch::fail(const Part& part, const Error& error) {
    const Error named = source(part.at).snapshot->named(error, part, row(part.at));
    const std::lock_guard lock(mutex_);
    fail_locked(part.at, part.token_at, named);
}

void Batch::fail_whole(const Error& error) {
    const std::lock_guard lock(mutex_);
    lowest_failed_.store(0, std::memory_order_relaxed);
    error_ = error;
}

// The values of one ragged output: lengths become offsets, and each row's piece goes to its place.
void Batch::join_pieces(std::size_t ragged_index) {
    const std::uint32_t index = feed_.plan.ragged[ragged_index];
    OutputBuffers& buffers = slot().outputs[index];
    const std::size_t item = feed_.plan.outputs[index].item;
    auto* offsets = buffers.offsets.as<std::int64_t>();
    for (std::size_t i = 0; i < rows(); ++i) offsets[i + 1] += offsets[i];
    slot().resize_values(index, static_cast<std::size_t>(offsets[rows()]) * item);
    for (std::size_t g = 0; g < groups(); ++g) {
        const std::byte* from = pieces(g)[ragged_index].data();
        for (const std::uint32_t number : group(g)) {
            const std::uint32_t at = parts_[number].at;
            const std::size_t bytes = static_cast<std::size_t>(offsets[at + 1] - offsets[at]) * item;
            if (bytes == 0) continue;
            std::memcpy(buffers.values.data() + static_cast<std::size_t>(offsets[at]) * item, from, bytes);
            from += bytes;
        }
    }
}

void Batch::finish() {
    if (error_ || cancelled.load(std::memory_order_relaxed)) return;
    Slot& target = slot();
    for (std::size_t at = 0; holes_ != 0 && at < rows(); ++at) {
        if (target.valid.data()[at] != std::byte{2}) continue;
        target.valid.data()[at] = std::byte{0};
        target.clear_row(feed_.plan, static_cast<std::int64_t>(at));
    }
    for (std::size_t i = 0; i < feed_.plan.ragged.size(); ++i) join_pieces(i);
    for (Buffer& piece : pieces_) feed_.pieces->give(std::move(piece));
    pieces_.clear();
}

}  // namespace ff
