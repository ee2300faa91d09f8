// How many threads read ahead, and what is kept of who did what.
#include "check.hpp"
#include "feed/reader_count.hpp"
#include "feed/trace.hpp"

using namespace ff;

namespace {

constexpr std::size_t kGroups = 32;  // a window

// A window of groups that each take `work_s` and wait for `wait_s`. Returns how many readers are wanted then.
std::size_t after(ReaderCount& readers, double work_s, double wait_s) {
    for (std::size_t group = 1; group <= kGroups; ++group) {
        const std::size_t before = readers.count();
        readers.read(0, wait_s);
        const bool changed = readers.decoded(work_s);
        CHECK(!changed || (group == kGroups && readers.count() != before));
    }
    return readers.count();
}

}  // namespace

TEST(a_reader_a_decoder_reads_while_nothing_is_known) {
    CHECK_EQ(ReaderCount(3, 16).count(), 3u);
    CHECK_EQ(ReaderCount(64, 16).count(), 16u);
}

TEST(nobody_reads_ahead_where_reads_do_not_wait) {
    ReaderCount readers(4, 16);
    CHECK_EQ(after(readers, 1e-3, 0), 0u);
    CHECK_EQ(after(readers, 1e-3, 0.04e-3), 0u);
}

TEST(as_many_read_ahead_as_hide_the_waits) {
    ReaderCount readers(4, 16);
    CHECK_EQ(after(readers, 1e-3, 0.1e-3), 1u);
    CHECK_EQ(after(readers, 1e-3, 1e-3), 4u);
    CHECK_EQ(after(readers, 1e-3, 2.6e-3), 11u);
    CHECK_EQ(after(readers, 1e-3, 1), 16u);
    CHECK_EQ(after(readers, 0, 1), 16u);  // nothing but waits
    CHECK_EQ(after(readers, 1e-3, 0), 0u);
}

TEST(spans_are_kept_only_while_somebody_wants_them) {
    Trace trace;
    trace.add(0, Stage::read, 10, 1e-6);
    CHECK(trace.take().empty());
    trace.set_on(true);
    trace.add(3, Stage::decode, 10, 1e-6);
    trace.add(3, Stage::place, 10, 0);  // nothing was done
    trace.set_on(false);
    const auto spans = trace.take();
    CHECK_EQ(spans.size(), 1u);
    CHECK(spans[0].thread == 3 && spans[0].stage == Stage::decode);
    CHECK(spans[0].begin_ns == 10 && spans[0].end_ns == 1010);
    CHECK(trace.take().empty());
}

TEST(a_trace_that_nobody_takes_stays_small_and_begins_anew) {
    Trace trace;
    trace.set_on(true);
    for (int i = 0; i < 70000; ++i) trace.add(0, Stage::read, 1, 1e-6);
    trace.set_on(false);
    trace.set_on(true);
    trace.add(1, Stage::read, 1, 1e-6);
    CHECK_EQ(trace.take().size(), 1u);
    for (int i = 0; i < 70000; ++i) trace.add(0, Stage::read, 1, 1e-6);
    CHECK_EQ(trace.take().size(), std::size_t{1} << 16);
}

TEST(a_mark_is_pushed_and_popped_around_its_scope) {
    static int depth, pushed;  // of this test: the functions of a C library have no state of ours
    depth = pushed = 0;
    const StageMarks marks{[](const char*) { return pushed += 1, depth++; }, [] { return depth--; }};
    {
        const StageMark outer(marks, "outer");
        const StageMark inner(marks, "inner");
        CHECK_EQ(depth, 2);
    }
    CHECK_EQ(depth, 0);
    CHECK_EQ(pushed, 2);
    const StageMark none(StageMarks{}, "nobody looks");
}

TEST_MAIN
