// The protocol of slot words (cache/words.hpp), every interleaving of it: one writer, two readers, weak memory.
//
// The writer's stores go through a buffer that lets them be seen in any order, except that stores to one place keep
// theirs, that a release store waits for all before it, and that a fence waits until the buffer is empty. A reader's loads
// happen in any order, except that none passes an acquire load or an acquire fence before it. That is at least as weak as
// C++ and as AArch64 for these programs. The writer fills a slot three times, and may die at any step, once; readers look
// for any generation, also one that is not there yet: the map is a hint.
//
// A violation is a reader that accepts bytes which are not those of the generation that it looked for. Each rule of the
// protocol is needed: leaving out any one gives a violation, and so the search proves that it would find one.
#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "cache/layout.hpp"
#include "tests/check.hpp"

using namespace ff;

namespace {

struct Rules {
    bool first_check = true;    // the word before the read is even, and of the generation
    bool second_check = true;   // the word after the read is, too
    bool writer_fence = true;   // between the odd word and the bytes
    bool release_even = true;   // the even word is stored after the bytes
    bool acquire_load = true;   // the bytes are read after the first look at the word
    bool acquire_fence = true;  // the word is looked at again after the bytes were read
};

constexpr std::uint8_t kFirstWord = 2;  // what was published before: its bytes are in the slot
constexpr int kFills = 3, kReaders = 2;
constexpr std::array<std::uint8_t, 5> kGenerations{2, 4, 6, 8, 10};  // 10: after a death

enum Place : std::uint8_t { word, bytes0, bytes1 };  // the chunk in two halves: a torn read is one of each

struct Store {
    std::uint8_t place, value, release;
};

enum WriterStep : std::uint8_t { store_odd, fence, write0, write1, store_even, writer_done };

// Loads of a reader, by the order of its program.
enum Load : std::uint8_t { load_word, load0, load1, load_again, loads };

struct ReaderState {
    std::uint8_t wanted = 0;    // generation, 0 before the reader has begun
    std::uint8_t executed = 0;  // bit a load
    std::uint8_t wrong = 0;     // bit a load that gave another generation than `wanted`
    std::uint8_t over = 0;
    auto operator<=>(const ReaderState&) const = default;
};

struct State {
    std::array<std::uint8_t, 3> memory{kFirstWord, kFirstWord, kFirstWord};
    std::array<Store, 4> buffer{};
    std::uint8_t buffered = 0;
    std::uint8_t step = store_odd, fills = 0, died = 0;
    std::uint8_t odd = 0;  // what the writer stored
    std::array<ReaderState, kReaders> readers{};
};

struct Found {
    std::size_t states = 0, accepted = 0, violations = 0;
};

class Search {
  public:
    explicit Search(Rules rules) : rules_(rules) {}

    // Everything that can be, or up to the first violation.
    Found run() {
        visit(State{});
        while (!open_.empty() && found_.violations == 0) {
            const State state = open_.back();
            open_.pop_back();
            flush_stores(state);
            step_writer(state);
            for (int reader = 0; reader < kReaders; ++reader) step_reader(state, reader);
        }
        found_.states = seen_.size();
        return found_;
    }

  private:
    void visit(State state) {
        static_assert(std::is_trivially_copyable_v<State> && alignof(State) == 1, "a state is its bytes");
        std::sort(state.readers.begin(), state.readers.end());  // readers are alike: which is which does not matter
        if (seen_.emplace(reinterpret_cast<const char*>(&state), sizeof state).second) open_.push_back(state);
    }

    // Any store that may become visible, does.
    void flush_stores(const State& state) {
        for (int i = 0; i < state.buffered; ++i) {
            const Store& store = state.buffer[i];
            bool first_of_place = true;
            for (int before = 0; before < i; ++before)
                first_of_place = first_of_place && state.buffer[before].place != store.place;
            if (!first_of_place || (store.release != 0 && i != 0)) continue;
            State next = state;
            next.memory[store.place] = store.value;
            std::copy(next.buffer.begin() + i + 1, next.buffer.end(), next.buffer.begin() + i);
            next.buffer.back() = {};
            next.buffered -= 1;
            visit(next);
        }
    }

    static bool push(State& state, Store store) {
        if (state.buffered == state.buffer.size()) return false;  // as a processor's, it is of some size
        state.buffer[state.buffered++] = store;
        return true;
    }

    // What the writer's own loads see: its last store, or memory.
    static std::uint8_t own_word(const State& state) {
        for (int i = state.buffered; i-- > 0;)
            if (state.buffer[i].place == word) return state.buffer[i].value;
        return state.memory[word];
    }

    void step_writer(const State& state) {
        if (state.step == writer_done) return;
        if (state.died == 0 && state.step != store_odd) {
            // Killed: its stores stay, a new writer finds the word odd and fills the slot again.
            State dead = state;
            dead.died = 1;
            dead.step = store_odd;
            visit(dead);
        }
        State next = state;
        bool possible = true;
        switch (state.step) {
            case store_odd:
                next.odd = static_cast<std::uint8_t>(writing_word(own_word(state)));
                possible = push(next, {word, next.odd, 0});
                break;
            case fence: possible = !rules_.writer_fence || state.buffered == 0; break;
            case write0: possible = push(next, {bytes0, generation_of(next), 0}); break;
            case write1: possible = push(next, {bytes1, generation_of(next), 0}); break;
            default: possible = push(next, {word, generation_of(next), rules_.release_even}); break;
        }
        if (!possible) return;
        next.step += 1;
        if (next.step == writer_done && ++next.fills < kFills) next.step = store_odd;
        visit(next);
    }

    static std::uint8_t generation_of(const State& state) {
        return static_cast<std::uint8_t>(published_word(state.odd));
    }

    bool may_load(const ReaderState& reader, int load) const {
        const auto has = [&](int earlier) { return (reader.executed >> earlier & 1) != 0; };
        if (has(load)) return false;
        if (rules_.acquire_load && load != load_word && !has(load_word)) return false;
        if (load == load_again) {
            if (!has(load_word)) return false;  // loads of one place stay in order
            if (rules_.acquire_fence && !(has(load0) && has(load1))) return false;
        }
        return true;
    }

    void step_reader(const State& state, int number) {
        const ReaderState& reader = state.readers[number];
        if (reader.over != 0) return;
        if (reader.wanted == 0) {
            for (const std::uint8_t generation : kGenerations) {
                State next = state;
                next.readers[number].wanted = generation;
                visit(next);
            }
            return;
        }
        for (int load = 0; load < loads; ++load) {
            if (!may_load(reader, load)) continue;
            State next = state;
            ReaderState& its = next.readers[number];
            const std::uint8_t value = state.memory[load == load0 ? bytes0 : load == load1 ? bytes1 : word];
            const bool of_word = load == load_word || load == load_again;
            const bool right = of_word ? accepts(map_entry(0, its.wanted), value) : value == its.wanted;
            its.executed |= static_cast<std::uint8_t>(1 << load);
            if (!right) its.wrong |= static_cast<std::uint8_t>(1 << load);
            check(its);
            visit(next);
        }
    }

    // Ends a reader that is refused, or has all.
    void check(ReaderState& reader) {
        const int looked = (rules_.first_check ? 1 << load_word : 0) | (rules_.second_check ? 1 << load_again : 0);
        const bool refused = (reader.wrong & looked) != 0;
        if (!refused && reader.executed != (1 << loads) - 1) return;
        if (!refused) found_.accepted += 1;
        if (!refused && (reader.wrong & (1 << load0 | 1 << load1)) != 0) found_.violations += 1;
        reader = {};
        reader.over = 1;
    }

    const Rules rules_;
    std::unordered_set<std::string> seen_;
    std::vector<State> open_;
    Found found_;
};

void check_needed(const char* name, Rules rules) {
    const Found found = Search(rules).run();
    std::printf("    without %s: a violation after %zu states\n", name, found.states);
    CHECK(found.violations > 0);
}

}  // namespace

TEST(no_interleaving_gives_a_reader_wrong_bytes) {
    const Found found = Search(Rules{}).run();
    std::printf("    %zu states, %zu reads accepted\n", found.states, found.accepted);
    CHECK_EQ(found.violations, 0u);
    CHECK(found.states > 10'000);
    CHECK(found.accepted > 100);
}

TEST(each_rule_is_needed) {
    check_needed("the first look at the word", {.first_check = false});
    check_needed("the second look at the word", {.second_check = false});
    check_needed("the writer's fence", {.writer_fence = false});
    check_needed("the release of the even word", {.release_even = false});
    check_needed("the acquire of the first look", {.acquire_load = false});
    check_needed("the acquire before the second look", {.acquire_fence = false});
}

TEST(words_go_on_from_any_value) {
    for (const std::uint64_t start : {std::uint64_t{0}, std::uint64_t{1}, kGenerationMask - 1, kGenerationMask,
                                      (std::uint64_t{7} << kGenerationBits) - 2, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
        const std::uint64_t odd = writing_word(start);
        const std::uint64_t even = published_word(odd);
        CHECK(!is_published(odd));
        CHECK(odd != start);
        CHECK(is_published(even));
        CHECK((even & kGenerationMask) != 0);
        CHECK(map_entry(0, even) != kNoEntry);
        CHECK(accepts(map_entry(3, even), even));
        CHECK(!accepts(map_entry(3, even), odd));
        CHECK(!accepts(map_entry(3, even), published_word(writing_word(even))));
        CHECK_EQ(slot_of(map_entry(kSlotsMax - 1, even)), kSlotsMax - 1);
    }
}

TEST_MAIN
