"""Exposed waits: totals, percentiles, and the stage that each was for."""

from __future__ import annotations

import pytest

from fastfeed.loader.waits import PROGRESS_STEPS, WAIT_STAGES, WAITS_KEPT, Waits

DECODING = (0.0, 1.0, 0.0, 3.0, 0.0, 0.0)  # thread-seconds as WAIT_STAGES
READING = (0.0, 9.0, 0.0, 1.0, 0.0, 0.0)


def test_nothing_was_waited_for_before_the_first_step():
    waits = Waits()
    assert waits.as_dict()["share"] == waits.as_dict()["p99_s"] == 0
    assert waits.bottleneck() == "training"
    assert waits.progress() == "data wait: no step yet"


def test_a_wait_is_charged_to_the_stages_of_its_batch():
    waits = Waits()
    for _ in range(100):
        waits.add(0.04, 0.06, DECODING)
    found = waits.as_dict()
    assert list(found["by_stage"]) == [f"{stage}_s" for stage in WAIT_STAGES]
    assert found["share"] == pytest.approx(0.4)
    assert found["by_stage"]["decode_s"]["total_s"] == pytest.approx(3.0)
    assert found["by_stage"]["read_s"]["p95_s"] == pytest.approx(0.01)
    assert sum(stage["total_s"] for stage in found["by_stage"].values()) == pytest.approx(found["total_s"])
    assert waits.bottleneck() == "decode"
    assert waits.progress() == "data wait 40% (decode), p95 40 ms"


def test_hardly_a_wait_means_that_training_is_the_bottleneck():
    waits = Waits()
    for _ in range(10):
        waits.add(0.001, 0.099, DECODING)
    assert waits.bottleneck() == "training"
    assert waits.progress() == "data wait 1%, p95 1 ms"


def test_totals_are_of_all_steps_and_percentiles_of_the_latest():
    waits = Waits()
    for _ in range(WAITS_KEPT + 10):
        waits.add(1.0, 0.0, DECODING)
    for _ in range(WAITS_KEPT):
        waits.add(2.0, 0.0, READING)
    found = waits.as_dict()
    assert (found["first_s"], found["max_s"], found["p50_s"]) == (1.0, 2.0, 2.0)
    assert found["total_s"] == 3 * WAITS_KEPT + 10
    assert found["by_stage"]["decode_s"]["total_s"] == pytest.approx(0.75 * (WAITS_KEPT + 10) + 0.2 * WAITS_KEPT)
    assert found["by_stage"]["read_s"]["p50_s"] == pytest.approx(1.8)


def test_progress_follows_the_latest_steps():
    waits = Waits()
    for _ in range(1000):
        waits.add(0.5, 0.5, DECODING)
    for _ in range(PROGRESS_STEPS):
        waits.add(0.25, 0.75, READING)
    assert waits.bottleneck() == "decode"
    assert waits.progress() == "data wait 25% (read), p95 250 ms"


def test_a_wait_that_was_given_up_counts_with_the_step_that_comes_after_it():
    waits = Waits()
    waits.give_up(wait_s=5.0, work_s=0.25)
    waits.give_up(wait_s=2.0, work_s=0.0)
    waits.add(wait_s=1.0, work_s=0.75)
    waits.add(wait_s=0.5, work_s=0.5)
    found = waits.as_dict()
    assert (found["total_s"], found["first_s"], found["max_s"]) == (8.5, 8.0, 8.0)
    assert found["share"] == pytest.approx(8.5 / 10.0)
