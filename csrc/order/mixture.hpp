// Which source each position of a mixture's epoch is of, and which of that source's samples; and back
// (docs/mixtures.md, section 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ff {

inline constexpr std::uint64_t kMixtureLengthMax = std::uint64_t{1} << 48;  // positions of an epoch
// Periods are longer than this (segments of more than one period a cycle), so that at most one correction finds them.
inline constexpr std::size_t kMixtureSourcesMax = 1024;
inline constexpr std::size_t kMixtureSegmentsMax = 1024;
inline constexpr std::uint64_t kMixtureDenominatorMax = std::uint64_t{1} << 31;

// Periods of constant proportions: the first j of `periods` hold floor(j * counts[k] / denominator) samples of source
// k. With denominator 1 each period has exactly `counts`.
struct MixtureSegment {
    std::uint64_t periods = 0, denominator = 1;
    std::vector<std::uint64_t> counts;  // one a source
};

// One epoch of a mixture. Immutable; memory is segments times sources, whatever the length; shared by all threads.
class MixtureEpoch {
  public:
    // `shuffled`: each period in the order of its keyed permutation; else source after source. Throws Error(config).
    MixtureEpoch(std::uint64_t seed, std::uint64_t epoch, bool shuffled, const std::vector<MixtureSegment>& segments);

    std::size_t sources() const noexcept { return totals_.size(); }
    std::uint64_t length() const noexcept { return length_; }
    std::uint64_t total(std::size_t source) const noexcept { return totals_[source]; }  // samples of it

    // sources[i] and indexes[i]: which sample of which source comes at positions[i], below length(). Consecutive
    // positions are fastest. May throw std::bad_alloc, as the next one.
    void picks(std::span<const std::int64_t> positions, std::span<std::int32_t> sources,
               std::span<std::int64_t> indexes) const;
    // In place: values[i], an index below total(sources[i]), becomes the position at which that sample comes.
    void positions_of(std::span<const std::int32_t> sources, std::span<std::int64_t> values) const;

  private:
    struct Share {                  // of one source in one segment
        std::uint64_t count = 0;    // in a cycle of `denominator` periods
        std::uint64_t whole = 0, rest = 0;  // quotient and remainder of count by the denominator
        std::uint64_t first = 0;    // the source's samples before this segment
        std::uint64_t before = 0;   // the samples of a cycle that are of sources before it
    };
    struct Segment {
        std::uint64_t denominator, cycle;  // positions of a cycle
        std::uint64_t start = 0, end = 0;  // positions
        std::uint64_t first_period = 0, periods = 0;
        std::vector<Share> shares;
    };
    struct Bounds;
    struct Shuffler;

    static std::uint64_t taken(const Segment& segment, const Share& share, std::uint64_t periods) noexcept;
    static std::uint64_t start_of(const Segment& segment, std::uint64_t period) noexcept;
    std::uint64_t period_at(const Segment& segment, std::uint64_t offset) const noexcept;
    const Segment& segment_at(std::uint64_t position) const noexcept;
    const Segment& segment_of(std::size_t source, std::uint64_t index) const noexcept;
    static std::uint64_t period_of(const Segment& segment, const Share& share, std::uint64_t inside) noexcept;

    std::uint64_t key_;
    bool shuffled_;
    std::uint64_t length_ = 0;
    std::vector<Segment> segments_;
    std::vector<std::uint64_t> totals_;
};

// The seed of a source's own order: another one for each place in the mixture, the same for every epoch.
std::uint64_t mixture_source_seed(std::uint64_t seed, std::uint64_t source) noexcept;

}  // namespace ff
