#include "order/deal.hpp"

#include <cstddef>
#include <vector>

namespace ff {
namespace {

// Where each node's samples go: the places of its ranks, in the order of ranks.
class Seats {
  public:
    Seats(std::size_t samples, std::span<const std::int32_t> node_of_rank, std::size_t node_count)
        : samples_(samples), ranks_(node_of_rank.size()), free_(node_count), first_(node_count + 1), next_(node_count),
          place_(node_count), end_(node_count), rank_(node_of_rank.size()) {
        for (const std::int32_t node : node_of_rank) ++first_[static_cast<std::size_t>(node) + 1];
        for (std::size_t node = 0; node < node_count; ++node) first_[node + 1] += first_[node];
        next_.assign(first_.begin(), first_.end() - 1);
        for (std::size_t rank = 0; rank < ranks_; ++rank) {
            const auto node = static_cast<std::size_t>(node_of_rank[rank]);
            rank_[next_[node]++] = rank;
            free_[node] += begin(rank + 1) - begin(rank);
        }
        next_.assign(first_.begin(), first_.end() - 1);
    }

    // How many samples a node can still be promised.
    std::size_t& free(std::size_t node) noexcept { return free_[node]; }

    // The next place of a node; it has one.
    std::size_t take(std::size_t node) noexcept {
        while (place_[node] == end_[node]) {
            const std::size_t rank = rank_[next_[node]++];
            place_[node] = begin(rank);
            end_[node] = begin(rank + 1);
        }
        return place_[node]++;
    }

  private:
    std::size_t begin(std::size_t rank) const noexcept { return rank * samples_ / ranks_; }

    std::size_t samples_, ranks_;
    std::vector<std::size_t> free_;
    std::vector<std::size_t> first_, next_;   // of a node's ranks in rank_: all of them, and the one to be filled next
    std::vector<std::size_t> place_, end_;    // in the rank that is being filled
    std::vector<std::size_t> rank_;
};

}  // namespace

void deal_to_homes(std::span<const std::int32_t> homes, std::span<const std::int32_t> node_of_rank,
                   std::size_t node_count, std::span<std::int64_t> dealt) {
    Seats seats(homes.size(), node_of_rank, node_count);
    std::vector<std::int32_t> node_of(homes.size());
    std::vector<std::size_t> guests;  // whose home is full
    for (std::size_t i = 0; i < homes.size(); ++i) {
        std::size_t& free = seats.free(static_cast<std::size_t>(homes[i]));
        node_of[i] = homes[i];
        if (free > 0)
            --free;
        else
            guests.push_back(i);
    }
    std::size_t node = 0;
    for (const std::size_t guest : guests) {
        while (seats.free(node) == 0) ++node;
        --seats.free(node);
        node_of[guest] = static_cast<std::int32_t>(node);
    }
    for (std::size_t i = 0; i < homes.size(); ++i)
        dealt[seats.take(static_cast<std::size_t>(node_of[i]))] = static_cast<std::int64_t>(i);
}

}  // namespace ff
