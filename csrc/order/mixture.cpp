// The closed forms of docs/mixtures.md, section 7.
#include "order/mixture.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "error.hpp"
#include "order/key.hpp"
#include "order/permutation.hpp"

namespace ff {
namespace {

// What keys are for: the words "mix-per1" and "mix-src1", whose digit is the mixture's version.
constexpr std::uint64_t kPeriodTag = 0x6D69782D70657231u;
constexpr std::uint64_t kSourceTag = 0x6D69782D73726331u;
// Values that walk through the steps together: what they need (8 KiB) stays in the first-level cache.
constexpr std::size_t kRun = 256;

// floor((a * b - less) / c), where the result fits. A product of 64 bits is divided five times as fast.
std::uint64_t scaled(std::uint64_t a, std::uint64_t b, std::uint64_t less, std::uint64_t c) noexcept {
    std::uint64_t product;
    if (!__builtin_mul_overflow(a, b, &product)) return (product - less) / c;
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(a) * b - less) / c);
}

void check(const std::vector<MixtureSegment>& segments) {
    if (segments.empty() || segments.size() > kMixtureSegmentsMax)
        throw Error(Code::config, "a mixture of " + std::to_string(segments.size()) + " segments; it must have from 1 to " +
                                      std::to_string(kMixtureSegmentsMax));
    const std::size_t sources = segments[0].counts.size();
    if (sources == 0 || sources > kMixtureSourcesMax)
        throw Error(Code::config, "a mixture of " + std::to_string(sources) + " sources; it must have from 1 to " +
                                      std::to_string(kMixtureSourcesMax));
    for (const MixtureSegment& segment : segments) {
        std::uint64_t cycle = 0;
        for (const std::uint64_t count : segment.counts) cycle += std::min(count, kMixtureLengthMax + 1);
        if (segment.counts.size() != sources || cycle == 0 || cycle > kMixtureLengthMax || segment.denominator == 0 ||
            segment.denominator > kMixtureDenominatorMax || segment.periods > kMixtureLengthMax ||
            (segment.denominator > 1 && cycle / segment.denominator < sources))
            throw Error(Code::config, "a segment of a mixture with " + std::to_string(segment.periods) +
                                          " periods of which " + std::to_string(segment.denominator) + " have " +
                                          std::to_string(cycle) + " samples is not possible");
    }
}

}  // namespace

// Where a period is, and where in it each source ends.
struct MixtureEpoch::Bounds {
    explicit Bounds(std::size_t sources) : ends(sources), firsts(sources) {}

    void set(const Segment& segment, std::uint64_t number) {
        std::uint64_t size = 0;
        start = segment.start;
        for (std::size_t k = 0; k < ends.size(); ++k) {
            const Share& share = segment.shares[k];
            const std::uint64_t before = taken(segment, share, number);
            size += taken(segment, share, number + 1) - before;
            start += before;
            ends[k] = size;
            firsts[k] = share.first + before;
        }
        period = segment.first_period + number;
    }

    std::uint64_t period = ~std::uint64_t{0};  // number in the epoch; none yet
    std::uint64_t start = 0;                   // position
    std::vector<std::uint64_t> ends;           // of each source inside the period; the last is its size
    std::vector<std::uint64_t> firsts;         // each source's samples before it
};

// The permutation of one period, for a run of values.
struct MixtureEpoch::Shuffler {
    void set(std::uint64_t period_key, std::uint64_t period_size) {
        size = period_size;
        if (size <= kTableSizeMax)
            fill_table(period_key, Direction::forward, {table.data(), size});
        else
            keys.fill(period_key);
    }

    void apply(std::span<std::uint64_t> values) const {
        if (size <= kTableSizeMax)
            for (std::uint64_t& value : values) value = table[value];
        else
            Feistel(size).apply(Direction::forward, {keys.data(), values.size()}, values);
    }

    std::uint64_t size = 0;
    std::array<std::uint8_t, kTableSizeMax> table;
    std::array<std::uint64_t, kRun> keys;
};

MixtureEpoch::MixtureEpoch(std::uint64_t seed, std::uint64_t epoch, bool shuffled,
                           const std::vector<MixtureSegment>& segments)
    : key_(derive(derive(kPeriodTag, seed), epoch)), shuffled_(shuffled) {
    check(segments);
    totals_.assign(segments[0].counts.size(), 0);
    std::uint64_t period = 0;
    for (const MixtureSegment& given : segments) {
        Segment& segment = segments_.emplace_back();
        segment.denominator = given.denominator;
        segment.periods = given.periods;
        segment.first_period = period;
        segment.cycle = 0;
        for (std::size_t k = 0; k < totals_.size(); ++k) {
            Share& share = segment.shares.emplace_back();
            share.count = given.counts[k];
            share.whole = share.count / given.denominator;
            share.rest = share.count % given.denominator;
            share.first = totals_[k];
            share.before = segment.cycle;
            segment.cycle += share.count;
        }
        const auto positions = static_cast<unsigned __int128>(given.periods / given.denominator + 1) * segment.cycle;
        if (positions > 2 * static_cast<unsigned __int128>(kMixtureLengthMax))
            throw Error(Code::config, "an epoch of a mixture has at most 2^48 samples");
        for (std::size_t k = 0; k < totals_.size(); ++k)
            totals_[k] += taken(segment, segment.shares[k], given.periods);
        segment.start = length_;
        length_ += start_of(segment, given.periods);
        segment.end = length_;
        period += given.periods;
        if (length_ > kMixtureLengthMax) throw Error(Code::config, "an epoch of a mixture has at most 2^48 samples");
    }
}

// The samples of one source in the first `periods` of a segment: floor(periods * count / denominator). No product
// passes 2^62: remainders and denominators are below 2^31.
std::uint64_t MixtureEpoch::taken(const Segment& segment, const Share& share, std::uint64_t periods) noexcept {
    if (segment.denominator == 1) return periods * share.count;
    const std::uint64_t cycles = periods / segment.denominator, more = periods % segment.denominator;
    return cycles * share.count + more * share.whole + more * share.rest / segment.denominator;
}

// The positions of the first `period` periods of a segment.
std::uint64_t MixtureEpoch::start_of(const Segment& segment, std::uint64_t period) noexcept {
    if (segment.denominator == 1) return period * segment.cycle;
    std::uint64_t positions = 0;
    for (const Share& share : segment.shares) positions += taken(segment, share, period);
    return positions;
}

// The period of a segment that position `offset` of it is in. With p periods gone, fewer than `sources` positions are
// missing to p * cycle / denominator, and a period has more than that: the estimate is right or one too small.
std::uint64_t MixtureEpoch::period_at(const Segment& segment, std::uint64_t offset) const noexcept {
    const std::uint64_t cycles = offset / segment.cycle;
    if (segment.denominator == 1) return cycles;
    std::uint64_t period = cycles * segment.denominator +
                           scaled(offset % segment.cycle, segment.denominator, 0, segment.cycle);
    while (start_of(segment, period + 1) <= offset) ++period;
    return period;
}

const MixtureEpoch::Segment& MixtureEpoch::segment_at(std::uint64_t position) const noexcept {
    return *std::upper_bound(segments_.begin(), segments_.end() - 1, position,
                             [](std::uint64_t wanted, const Segment& segment) { return wanted < segment.end; });
}

const MixtureEpoch::Segment& MixtureEpoch::segment_of(std::size_t source, std::uint64_t index) const noexcept {
    // The last one that begins at or before the sample: those in between have none of this source.
    return *(std::upper_bound(segments_.begin() + 1, segments_.end(), index,
                              [source](std::uint64_t wanted, const Segment& segment) {
                                  return wanted < segment.shares[source].first;
                              }) - 1);
}

void MixtureEpoch::picks(std::span<const std::int64_t> positions, std::span<std::int32_t> out_sources,
                         std::span<std::int64_t> indexes) const {
    Bounds bounds(sources());
    Shuffler shuffler;
    std::array<std::uint64_t, kRun> run;
    for (std::size_t at = 0, count = 0; at < positions.size(); at += count) {
        // Positions before a period's start wrap to large numbers.
        if (static_cast<std::uint64_t>(positions[at]) - bounds.start >= bounds.ends.back()) {
            const auto first = static_cast<std::uint64_t>(positions[at]);
            const Segment& segment = segment_at(first);
            bounds.set(segment, period_at(segment, first - segment.start));
            if (shuffled_) shuffler.set(derive(key_, bounds.period), bounds.ends.back());
        }
        for (count = 0; count < kRun && at + count < positions.size(); ++count) {
            const std::uint64_t offset = static_cast<std::uint64_t>(positions[at + count]) - bounds.start;
            if (offset >= bounds.ends.back()) break;
            run[count] = offset;
        }
        if (shuffled_) shuffler.apply({run.data(), count});
        for (std::size_t i = 0; i < count; ++i) {
            const auto source = static_cast<std::size_t>(
                std::upper_bound(bounds.ends.begin(), bounds.ends.end() - 1, run[i]) - bounds.ends.begin());
            const std::uint64_t before = source == 0 ? 0 : bounds.ends[source - 1];
            out_sources[at + i] = static_cast<std::int32_t>(source);
            indexes[at + i] = static_cast<std::int64_t>(bounds.firsts[source] + run[i] - before);
        }
    }
}

// The period of a segment that sample `inside` of a source is in: the last before which no more are taken.
std::uint64_t MixtureEpoch::period_of(const Segment& segment, const Share& share, std::uint64_t inside) noexcept {
    const std::uint64_t cycles = inside / share.count;
    if (segment.denominator == 1) return cycles;
    return cycles * segment.denominator + scaled(inside % share.count + 1, segment.denominator, 1, share.count);
}

void MixtureEpoch::positions_of(std::span<const std::int32_t> of, std::span<std::int64_t> values) const {
    std::vector<std::unique_ptr<Permuter>> permuters(segments_.size());  // where all periods have one size
    Bounds bounds(sources());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const auto source = static_cast<std::size_t>(of[i]);
        const Segment& segment = segment_of(source, static_cast<std::uint64_t>(values[i]));
        const Share& share = segment.shares[source];
        const std::uint64_t inside = static_cast<std::uint64_t>(values[i]) - share.first;
        const std::uint64_t period = period_of(segment, share, inside), number = segment.first_period + period;
        const std::uint64_t key = derive(key_, number);
        std::uint64_t x = inside - taken(segment, share, period), start;
        if (segment.denominator == 1) {
            x += share.before;
            start = segment.start + start_of(segment, period);
        } else {
            if (bounds.period != number) bounds.set(segment, period);
            x += source == 0 ? 0 : bounds.ends[source - 1];
            start = bounds.start;
        }
        if (shuffled_ && segment.denominator == 1) {
            auto& permuter = permuters[static_cast<std::size_t>(&segment - segments_.data())];
            if (!permuter) permuter = std::make_unique<Permuter>(segment.cycle, Direction::inverse, values.size());
            permuter->apply({&key, 1}, {&number, 1}, {&x, 1});
        } else if (shuffled_) {
            x = permute(bounds.ends.back(), key, Direction::inverse, x);
        }
        values[i] = static_cast<std::int64_t>(start + x);
    }
}

std::uint64_t mixture_source_seed(std::uint64_t seed, std::uint64_t source) noexcept {
    return derive(derive(kSourceTag, seed), source);
}

}  // namespace ff
