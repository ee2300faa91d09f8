"""How many batches are on their way: decided from waits and idleness, within a budget."""

from __future__ import annotations

from fastfeed.loader.depth import DEPTH_MAX, FREE_BYTES, WINDOW_STEPS, Depth

LARGE = 16 << 20  # bytes of a batch: more than what is free
THREADS = 2


def depths(depth: Depth, windows: int, *, wait_s: float, idle_share: float) -> list[int]:
    """The depth after each window of steps of 0.1 s: of each, `wait_s` is waited, and every thread is idle for
    `idle_share` of it."""
    found = []
    for number in range(1, windows * WINDOW_STEPS + 1):
        if depth.step(wait_s, 0.1 - wait_s):
            assert number % WINDOW_STEPS == 0
            depth.decide(number * 0.1 * idle_share * THREADS, LARGE)
            found.append(depth.batches(LARGE))
    return found


def test_it_begins_with_the_least_and_with_what_is_free():
    depth = Depth(1 << 30, THREADS)
    assert depth.batches(0) == 2
    assert depth.batches(LARGE) == 2
    assert depth.batches(FREE_BYTES // 10) == 10
    assert depth.batches(1) == DEPTH_MAX
    assert Depth(1 << 30, THREADS, least=5).batches(LARGE) == 5


def test_it_grows_where_the_consumer_waits_while_threads_are_idle():
    assert depths(Depth(1 << 30, THREADS), 10, wait_s=0.05, idle_share=0.3) == [3, 4, 6, 9, 13, 19, 28, 42, 63, 64]


def test_threads_that_are_always_at_work_are_the_limit_and_not_the_depth():
    assert depths(Depth(1 << 30, THREADS), 20, wait_s=0.09, idle_share=0.01)[-1] == 2


def test_a_consumer_that_never_waits_needs_no_more():
    assert depths(Depth(1 << 30, THREADS), 20, wait_s=0.001, idle_share=0.9)[-1] == 2


def test_the_budget_holds_whatever_the_need():
    depth = Depth(5 * LARGE, THREADS)
    assert depths(depth, 50, wait_s=0.05, idle_share=0.5)[-1] == 5
    assert depth.batches(2 * LARGE) == 2
    assert Depth(1, THREADS).batches(LARGE) == 2
