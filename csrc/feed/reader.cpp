// The face of the pipeline, and what runs in the calling thread.
#include "feed/reader.hpp"

#include <utility>

namespace ff {
namespace {

Feed make_feed(std::shared_ptr<const Snapshot> snapshot, const std::vector<OutputRequest>& outputs,
               const ReaderOptions& options) {
    if (options.threads == 0 || options.reader_threads == 0 || options.threads > kThreadsMax ||
        options.reader_threads > kThreadsMax)
        throw Error(Code::config, "threads=" + std::to_string(options.threads) +
                                      " and reader_threads=" + std::to_string(options.reader_threads) +
                                      " must be between 1 and " + std::to_string(kThreadsMax));
    Feed feed;
    feed.plan = plan_outputs(*snapshot, outputs);
    feed.snapshot = std::move(snapshot);
    feed.on_error = options.on_error;
    feed.decoder_threads = options.threads;
    return feed;
}

}  // namespace

Reader::Reader(std::shared_ptr<const Snapshot> snapshot, const std::vector<OutputRequest>& outputs,
               const ReaderOptions& options)
    : feed_(make_feed(std::move(snapshot), outputs, options)),
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
    benches_.give(std::move(bench));
    if (batch.error()) throw *batch.error();
    std::unique_ptr<Lease> lease = batch.take_lease();
    lease->hand_over();
    return lease;
}

std::unique_ptr<Sample> Reader::sample(std::int64_t row) {
    if (row < 0 || row >= feed_.snapshot->rows())
        throw Error(Code::config, "row " + std::to_string(row) + " is not one of the " +
                                      std::to_string(feed_.snapshot->rows()) + " rows of the dataset");
    std::unique_ptr<Sample> sample = samples_.take();
    sample->parts_.clear();
    feed_.snapshot->locate(row, 0, sample->hint_, sample->parts_);
    sample->items.assign(feed_.plan.outputs.size(), {});
    sample->decoded_.resize(feed_.plan.outputs.size());
    feed_.snapshot->is_stream() ? sample_tokens(row, *sample) : sample_frame(row, *sample);
    return sample;
}

// Reads and verifies one part. Throws its named error.
void Reader::read_part(const Part& part, std::int64_t row, MutableBytes into) const {
    const Snapshot& snapshot = *feed_.snapshot;
    try {
        const std::shared_ptr<const OpenShard> shard = snapshot.files().get(part.shard);
        ReadOp op{shard->file.get(), part.offset, into};
        snapshot.engine().read({&op, 1});
        check_done(op, part.offset, part.length);
        verify_part(snapshot, *shard, part, into);
    } catch (const Error& error) {
        throw snapshot.named(error, part, row);
    }
}

void Reader::sample_frame(std::int64_t row, Sample& sample) const {
    const Snapshot& snapshot = *feed_.snapshot;
    const Part& part = sample.parts_[0];
    sample.bytes_.resize_discarding(part.length);
    read_part(part, row, {sample.bytes_.data(), part.length});
    sample.values_.resize(snapshot.layout().columns().size());
    values_of(snapshot.layout(), {sample.bytes_.data(), part.length}, sample.values_);
    try {
        for (std::size_t i = 0; i < feed_.plan.outputs.size(); ++i) {
            const Output& output = feed_.plan.outputs[i];
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

void Reader::sample_tokens(std::int64_t row, Sample& sample) const {
    const std::size_t token_bytes = feed_.snapshot->stream().token_bytes;
    Buffer tokens;
    for (const Part& part : sample.parts_) {
        sample.bytes_.resize_discarding(part.length);
        read_part(part, row, {sample.bytes_.data(), part.length});
        const std::size_t bytes = part.tokens * token_bytes;
        if (bytes != 0) std::memcpy(tokens.append(bytes), sample.bytes_.data() + part.skip, bytes);
    }
    if (sample.decoded_.empty()) return;
    sample.decoded_[0] = std::move(tokens);
    for (Sample::Item& item : sample.items) item.bytes = {sample.decoded_[0].data(), sample.decoded_[0].size()};
}

}  // namespace ff
