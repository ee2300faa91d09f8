#include "cache/policy.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <string>
#include <vector>

#include "cache/uses.hpp"
#include "error.hpp"

namespace ff {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

void check(std::span<const PlannedUse> uses, std::size_t chunks) {
    for (std::size_t i = 0; i < uses.size(); ++i) {
        const PlannedUse& use = uses[i];
        if (use.chunk >= chunks || use.end < use.begin || use.begin < 0 || use.part > kWholePart ||
            (i > 0 && use.begin < uses[i - 1].begin))
            throw Error(Code::config, "use " + std::to_string(i) + " of a simulation is out of order or range");
    }
}

// resident, min and lru: who has the largest key goes first, and nobody inside a use.
class Keyed {
  public:
    Keyed(CachePolicy policy, std::span<const PlannedUse> uses, std::span<const std::uint64_t> ranks,
          std::uint64_t capacity)
        : policy_(policy), uses_(uses), ranks_(ranks), capacity_(capacity), state_(ranks.size()), next_(uses.size()) {
        // next_[i]: the first use of the same chunk that begins behind use i.
        std::vector<std::uint64_t> later(ranks.size(), kNever);
        for (std::size_t i = uses.size(); i-- > 0;) {
            next_[i] = later[uses[i].chunk];
            later[uses[i].chunk] = i;
        }
    }

    PolicyCost run(TickRange counted) {
        for (std::size_t i = 0; i < uses_.size(); ++i) {
            end_until(uses_[i].begin);
            PolicyCost ignored;
            use(i, counted.holds(uses_[i].begin) ? cost_ : ignored);
        }
        return cost_;
    }

  private:
    struct State {
        bool cached = false;
        std::uint32_t open = 0;       // uses that have not ended
        std::uint64_t version = 0;    // of its place in the queue: older places are stale
        std::uint64_t last_use = 0;
    };
    struct Place {
        std::uint64_t key, rank;
        std::uint32_t chunk;
        std::uint64_t version;
        bool operator<(const Place& other) const { return key != other.key ? key < other.key : rank < other.rank; }
    };
    struct Open {
        std::int64_t end;
        std::uint32_t chunk;
        bool operator>(const Open& other) const { return end > other.end; }
    };

    // When chunk of use `i` is needed again, as the policy sees it.
    std::uint64_t key(std::size_t i) const {
        const std::uint32_t chunk = uses_[i].chunk;
        if (policy_ == CachePolicy::resident) return ranks_[chunk];
        if (policy_ == CachePolicy::lru) return kNever - i;
        return next_[i] == kNever ? kNever : static_cast<std::uint64_t>(uses_[next_[i]].begin);
    }

    void leave_open(std::uint32_t chunk) {
        State& state = state_[chunk];
        places_.push({key(state.last_use), ranks_[chunk], chunk, ++state.version});
    }

    void end_until(std::int64_t time) {
        while (!open_.empty() && open_.top().end <= time) {
            const std::uint32_t chunk = open_.top().chunk;
            open_.pop();
            if (--state_[chunk].open == 0 && state_[chunk].cached) leave_open(chunk);
        }
    }

    const Place* first_to_go() {
        while (!places_.empty()) {
            const Place& place = places_.top();
            const State& state = state_[place.chunk];
            if (state.cached && state.open == 0 && state.version == place.version) return &place;
            places_.pop();
        }
        return nullptr;
    }

    // Whether the chunk of use `i` gets a slot; empties one for it if it must.
    bool admit(std::size_t i) {
        const PlannedUse& use = uses_[i];
        if (cached_ < capacity_) return true;
        const Place* victim = first_to_go();
        if (victim == nullptr) return false;
        const bool kept = policy_ == CachePolicy::lru || (use.part >= kKeptPartMin && key(i) < victim->key);
        const bool staged = !use.dense && use.part >= kStagePartMin;
        if (!kept && !staged) return false;
        state_[victim->chunk].cached = false;
        places_.pop();
        --cached_;
        return true;
    }

    void use(std::size_t i, PolicyCost& cost) {
        const PlannedUse& use = uses_[i];
        State& state = state_[use.chunk];
        cost.uses += 1;
        cost.demand += use.part;
        if (state.cached) {
            cost.hits += 1;
        } else if (admit(i)) {
            cost.origin += kWholePart;
            cost.writes += 1;
            state.cached = true;
            ++cached_;
        } else {
            cost.origin += use.part;
            cost.exact += 1;
        }
        state.last_use = i;
        if (use.end > use.begin) {
            ++state.open;
            open_.push({use.end, use.chunk});
        } else if (state.cached && state.open == 0) {
            leave_open(use.chunk);
        }
    }

    CachePolicy policy_;
    std::span<const PlannedUse> uses_;
    std::span<const std::uint64_t> ranks_;
    std::uint64_t capacity_, cached_ = 0;
    std::vector<State> state_;
    std::vector<std::uint64_t> next_;
    std::priority_queue<Place> places_;
    std::priority_queue<Open, std::vector<Open>, std::greater<>> open_;
    PolicyCost cost_;
};

// Two queues of chunks and one of names. A chunk that is used while in the small queue moves on to the main one.
class S3Fifo {
  public:
    S3Fifo(std::size_t chunks, std::uint64_t capacity)
        : capacity_(capacity), small_target_(std::max<std::uint64_t>(1, capacity / 10)),
          ghost_max_(capacity - std::min(capacity, small_target_)), state_(chunks) {}

    // Whether it was there; it is afterwards, unless there is no room at all.
    bool use(std::uint32_t chunk) {
        State& state = state_[chunk];
        if (state.where == Where::small || state.where == Where::main) {
            state.count = std::min(state.count + 1, kCountMax);
            return true;
        }
        if (capacity_ == 0) return false;
        const bool known = state.where == Where::ghost;  // before room is made, which forgets names
        while (small_.size() + main_.size() >= capacity_) evict();
        state.count = 0;
        state.where = known ? Where::main : Where::small;
        (known ? main_ : small_).push_back(chunk);
        return false;
    }

  private:
    enum class Where : std::uint8_t { nowhere, small, main, ghost };
    struct State {
        Where where = Where::nowhere;
        int count = 0;
    };
    static constexpr int kCountMax = 3;

    void evict() {
        if (!small_.empty() && (small_.size() >= small_target_ || main_.empty()))
            evict_small();
        else
            evict_main();
    }

    void evict_small() {
        const std::uint32_t chunk = small_.front();
        small_.pop_front();
        State& state = state_[chunk];
        if (state.count > 1) {
            state = {Where::main, 0};
            main_.push_back(chunk);
            return;
        }
        state = {Where::ghost, 0};
        ghost_.push_back(chunk);
        while (ghost_.size() > ghost_max_) {
            State& oldest = state_[ghost_.front()];
            if (oldest.where == Where::ghost) oldest.where = Where::nowhere;
            ghost_.pop_front();
        }
    }

    void evict_main() {
        const std::uint32_t chunk = main_.front();
        main_.pop_front();
        State& state = state_[chunk];
        if (state.count > 0) {
            --state.count;
            main_.push_back(chunk);
        } else {
            state.where = Where::nowhere;
        }
    }

    std::uint64_t capacity_, small_target_, ghost_max_;
    std::vector<State> state_;
    std::deque<std::uint32_t> small_, main_, ghost_;
};

PolicyCost run_s3fifo(std::span<const PlannedUse> uses, std::size_t chunks, std::uint64_t capacity,
                      TickRange counted) {
    S3Fifo cache(chunks, capacity);
    PolicyCost cost;
    for (const PlannedUse& use : uses) {
        const bool hit = cache.use(use.chunk);
        if (!counted.holds(use.begin)) continue;
        cost.uses += 1;
        cost.demand += use.part;
        if (hit) {
            cost.hits += 1;
        } else if (capacity == 0) {
            cost.origin += use.part;
            cost.exact += 1;
        } else {
            cost.origin += kWholePart;
            cost.writes += 1;
        }
    }
    return cost;
}

}  // namespace

PolicyCost simulate(CachePolicy policy, std::span<const PlannedUse> uses, std::span<const std::uint64_t> ranks,
                    std::uint64_t capacity_chunks, TickRange counted) {
    check(uses, ranks.size());
    switch (policy) {
    case CachePolicy::resident:
    case CachePolicy::min:
    case CachePolicy::lru:
        return Keyed(policy, uses, ranks, capacity_chunks).run(counted);
    case CachePolicy::s3fifo:
        return run_s3fifo(uses, ranks.size(), capacity_chunks, counted);
    }
    throw Error(Code::config, "cache policy " + std::to_string(static_cast<int>(policy)) + " is not known");
}

}  // namespace ff
