// The face of the pipeline, and what runs in the calling thread.
#include "feed/reader.hpp"

#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace ff {
namespace {

void check_options(const ReaderOptions& options, std::size_t sources) {
    if (options.threads == 0 || options.reader_threads == 0 || options.threads > kThreadsMax ||
        options.reader_threads > kThreadsMax)
        throw Error(Code::config, "threads=" + std::to_string(options.threads) +
                                      " and reader_threads=" + std::to_string(options.reader_threads) +
                                      " must be between 1 and " + std::to_string(kThreadsMax));
    if (sources == 0 || sources > kSourcesMax)
        throw Error(Code::config, "a reader has between 1 and " + std::to_string(kSourcesMax) + " snapshots, not " +
                                      std::to_string(sources));
}

Feed make_feed(const std::vector<SourceRequest>& requests, const ReaderOptions& options) {
    check_options(options, requests.size());
    Feed feed;
    std::uint64_t shards = 0;
    // One snapshot given twice keeps its numbers: neighbours on disk are read together whatever source they are of.
    std::unordered_map<const Snapshot*, std::uint64_t> first_shards;
    for (const SourceRequest& request : requests) {
        feed.sources.push_back({request.snapshot, plan_outputs(*request.snapshot, request.outputs)});
        const auto [seen, added] = first_shards.try_emplace(request.snapshot.get(), shards);
        feed.first_shard.push_back(seen->second);
        if (added) shards += request.snapshot->table().shards();  // at most 2^31 each
    }
    if (shards > kShardsMax)
        throw Error(Code::config, "the snapshots of a reader have " + std::to_string(shards) +
                                      " shards together, the limit is " + std::to_string(kShardsMax));
    feed.plan = common_plan(feed.sources);
    feed.on_error = options.on_error;
    feed.decoder_threads = options.threads;
    feed.marks = options.marks;
    return feed;
}

// Reads and verifies one part. Throws its named error.
void read_part(const Snapshot& snapshot, const Part& part, std::int64_t row, MutableBytes into) {
    try {
        const std::shared_ptr<const OpenShard> shard = snapshot.files().get(part.shard);
        ReadOp op{shard->file.get(), part.offset, into, part.shard};
        snapshot.engine().read({&op, 1});
        check_done(op, part.offset, part.length);
        try {
            verify_part(snapshot, *shard, part, into);
        } catch (const Error& error) {
            if (error.code() != Code::corrupt || !snapshot.engine().reread(op)) throw;
            check_done(op, part.offset, part.length);
            verify_part(snapshot, *shard, part, into);
        }
    } catch (const Error& error) {
        throw snapshot.named(error, part, row);
    }
}

}  // namespace

Reader::Reader(const std::vector<SourceRequest>& sources, const ReaderOptions& options)
    : feed_(make_feed(sources, options)),
      slots_(std::make_shared<SlotPool>()),
      pipeline_(feed_, slots_, options.reader_threads) {}

void Reader::submit(BatchRequest request) {
    check_request(feed_, request);
    pipeline_.submit(std::move(request));
}

std::unique_ptr<Lease> Reader::take_next() {
    const std::shared_ptr<Batch> batch = pipeline_.take_next();
    if (!batch) return nullptr;
    if (batch->error()) throw *batch->error();
    std::unique_ptr<Lease> lease = batch->take_lease();
    lease->hand_over();
    return lease;
}

IoReport Reader::io_report() const {
    IoReport report = feed_.sources[0].snapshot->engine().report();
    std::unordered_set<const Snapshot*> seen{feed_.sources[0].snapshot.get()};
    for (const FeedSource& source : feed_.sources) {
        if (!seen.insert(source.snapshot.get()).second) continue;
        const IoReport other = source.snapshot->engine().report();
        report.cached_bytes += other.cached_bytes;
        report.device_bytes += other.device_bytes;
        report.device_reads += other.device_reads;
    }
    return report;
}

void Reader::time_out(double timeout_s) const {
    throw Error(Code::timeout, "no batch within " + std::to_string(timeout_s) + " s. Waiting for stage " +
                                   pipeline_.waiting_for() +
                                   ". Is the storage slow or gone? A larger timeout_s waits longer.");
}

std::unique_ptr<Lease> Reader::take(BatchRequest request) {
    check_request(feed_, request);
    Batch batch(feed_, std::move(request));
    std::unique_ptr<Bench> bench = benches_.take();
    const StageTimes times = run_here(feed_, batch, slots_, bench->buffer, bench->state);
    pipeline_.count(batch, times, bench->state.counts);
    if (!batch.error()) batch.slot().spent = times;
    benches_.give(std::move(bench));
    if (batch.error()) throw *batch.error();
    std::unique_ptr<Lease> lease = batch.take_lease();
    lease->hand_over();
    return lease;
}

std::unique_ptr<Sample> Reader::sample(std::int64_t row, std::int32_t number) {
    const FeedSource& source = source_at(feed_, number);
    check_row(source, row, 0);
    std::unique_ptr<Sample> sample = samples_.take();
    if (std::exchange(sample->source_, number) != number) sample->hint_ = 0;
    sample->parts_.clear();
    source.snapshot->locate(row, 0, sample->hint_, sample->parts_);
    sample->items.assign(source.plan.outputs.size(), {});
    sample->decoded_.resize(source.plan.outputs.size());
    source.snapshot->is_stream() ? sample_tokens(source, row, *sample) : sample_frame(source, row, *sample);
    return sample;
}

void Reader::sample_frame(const FeedSource& source, std::int64_t row, Sample& sample) {
    const Snapshot& snapshot = *source.snapshot;
    const Part& part = sample.parts_[0];
    sample.bytes_.resize_discarding(part.length);
    read_part(snapshot, part, row, {sample.bytes_.data(), part.length});
    sample.values_.resize(snapshot.layout().columns().size());
    values_of(snapshot.layout(), {sample.bytes_.data(), part.length}, sample.values_);
    try {
        for (std::size_t i = 0; i < source.plan.outputs.size(); ++i) {
            const Output& output = source.plan.outputs[i];
            const Value& value = sample.values_[output.column];
            if (value.null) {
                sample.items[i].null = true;
            } else if (output.kind == Kind::scalar || output.kind == Kind::tensor) {
                check_items(output, value.fixed);
                sample.items[i].bytes = value.fixed;
            } else {
                sample.items[i].bytes =
                    raw_value(snapshot, part.shard, output, value, sample.zstd_, sample.decoded_[i]);
            }
        }
    } catch (const Error& error) {
        throw snapshot.named(error, part, row);
    }
}

void Reader::sample_tokens(const FeedSource& source, std::int64_t row, Sample& sample) {
    const std::size_t token_bytes = source.snapshot->stream().token_bytes;
    Buffer tokens;
    for (const Part& part : sample.parts_) {
        sample.bytes_.resize_discarding(part.length);
        read_part(*source.snapshot, part, row, {sample.bytes_.data(), part.length});
        const std::size_t bytes = part.tokens * token_bytes;
        if (bytes != 0) std::memcpy(tokens.append(bytes), sample.bytes_.data() + part.skip, bytes);
    }
    if (sample.decoded_.empty()) return;
    sample.decoded_[0] = std::move(tokens);
    for (Sample::Item& item : sample.items) item.bytes = {sample.decoded_[0].data(), sample.decoded_[0].size()};
}

}  // namespace ff
