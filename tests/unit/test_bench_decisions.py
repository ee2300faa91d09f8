"""What `fastfeed bench` decides and says, as functions of values: no datasets, no processes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed.bench.diagnosis import Facts, busy_stages, diagnose
from fastfeed.bench.emulate import (
    ACCELERATORS_MAX,
    Run,
    Settings,
    accelerators_max,
    bound_of,
    free_memory_bytes,
    run_of,
    scaled,
)
from fastfeed.bench.feeding import Rates, Reading
from fastfeed.bench.ladder import LadderOptions, steps_of
from fastfeed.bench.search import largest
from fastfeed.bench.workload_data import bytes_of_noise, record_count, record_sizes
from fastfeed.bench.workloads import WORKLOADS
from fastfeed.errors import ConfigError

STAGES = {"read": 0.1, "verify": 0.1, "decode": 1.8, "place": 0.0}
FACTS: dict[str, Any] = {"wall_s": 1.0, "cores": 2, "threads": 2, "cores_busy": 1.9, "stages_s": STAGES}


class TestDiagnosis:
    @pytest.mark.parametrize(
        ("facts", "bound", "change"),
        [
            ({}, "the cores: 1.9 of 2 cores are busy, 90%", "more cores"),
            ({"speedup": 1.9}, "the cores", "more cores: 2 threads gave 1.90 x what one did"),
            ({"image_size": 224, "image_side": 1365.0}, "the cores", "fastfeed convert --image-size 448: the pictures"),
            ({"image_size": 224, "image_side": 375.0}, "the cores", "more cores"),
            ({"stages_s": {**STAGES, "verify": 5.0}}, "the cores", "more cores"),
            ({"stages_s": {**STAGES, "read": 8.65}, "cores_busy": 0.5}, "storage: 82%", "a faster disk"),
            ({"stages_s": {"read": 9.0}, "cores_busy": 0.5, "is_remote": True, "url": "s3://b/a",
              "tiers": {"local": 0, "slab": 60, "ring": 40}}, "storage", "fastfeed cache warm s3://b/a: 40% of the"),
            ({"cores_busy": 0.4}, "other processes", "a quiet machine"),
            ({"stages_s": {"decode": 0.8}, "cores_busy": 1.0, "threads": 1}, "threads: 1 of them on 2 cores",
             "--threads 2"),
            ({"stages_s": {"decode": 0.3}, "cores_busy": 0.3}, "handing over", "a larger --batch-size"),
        ],
    )
    def test_names_what_bounds_the_rate_and_what_helps_most(
        self, facts: dict[str, Any], bound: str, change: str
    ) -> None:
        found = diagnose(Facts(**{**FACTS, **facts}))
        assert found.bound.startswith(bound)
        assert found.changes[0].startswith(change)

    def test_data_that_is_not_in_memory_is_told(self) -> None:
        found = diagnose(Facts(**{**FACTS, "stages_s": {"read": 9.0}, "cores_busy": 0.5, "in_memory": 0.25}))
        assert "more memory: 25% of the data was in it" in found.changes

    def test_waits_for_storage_are_a_stage_of_their_own_and_idleness_is_none(self) -> None:
        counted = {"locate_s": 1.0, "read_s": 4.0, "read_wait_s": 3.0, "decode_s": 2.0, "idle_s": 9.0}
        assert busy_stages(counted) == {"locate": 1.0, "read": 1.0, "decode": 2.0, "wait": 3.0}
        assert busy_stages({"read_s": 4.0, "read_wait_s": 0.0}) == {"read": 4.0}
        found = diagnose(Facts(**{**FACTS, "cores_busy": 0.5, "stages_s": busy_stages(counted)}))
        assert found.bound.startswith("storage: 43%")

    def test_rates_are_differences_between_two_readings(self) -> None:
        before = Reading(10.0, 1.0, 0, 1_000_000, {"decode_s": 1.0, "read_s": 3.0, "place_s": 1.0})
        after = Reading(12.0, 4.8, 500, 5_000_000, {"decode_s": 4.0, "read_s": 4.0, "place_s": 1.0})
        assert Rates.between(before, after, threads=2).idle_share == 0
        rates = Rates.between(before, after, threads=2)
        assert (rates.seconds, rates.samples_per_s, rates.stored_mb_per_s, rates.cores_busy) == (2.0, 250.0, 2.0, 1.9)
        assert rates.stages() == [
            {"stage": "decode", "share": 0.75, "us_per_sample": 6000.0, "alone_samples_per_s": 333.3},
            {"stage": "read", "share": 0.25, "us_per_sample": 2000.0, "alone_samples_per_s": 1000.0},
        ]


class TestLadder:
    @pytest.mark.parametrize(
        ("threads", "has_images", "cores", "rungs"),
        [
            (None, True, 2, [("stored bytes", None, 2.0), ("samples", 1, 2.0), ("samples", None, 6.0)]),
            (None, False, 2, [("samples", 1, 4.0), ("samples", None, 6.0)]),
            (None, False, 1, [("samples", None, 10.0)]),
            ((4, 2), True, 9, [("stored bytes", 2, 2.0), ("samples", 4, 2.0), ("samples", 2, 6.0)]),
            ((3,), False, 9, [("samples", 3, 10.0)]),
        ],
    )
    def test_the_last_rung_is_the_result_and_has_most_of_the_time(
        self, threads: tuple[int, ...] | None, has_images: bool, cores: int, rungs: list[tuple[str, int | None, float]]
    ) -> None:
        options = LadderOptions(seconds=10.0, batch_size=1, threads=threads)
        steps = steps_of(options, has_images=has_images, cores=cores)
        assert [(step.name, step.threads) for step in steps] == [rung[:2] for rung in rungs]
        assert [step.seconds for step in steps] == pytest.approx([rung[2] for rung in rungs])


class TestSearch:
    @given(result=st.integers(0, 300), guess=st.integers(0, 400), limit=st.integers(1, 300))
    def test_finds_what_trying_all_would_find_without_trying_one_twice(
        self, result: int, guess: int, limit: int
    ) -> None:
        tried: list[int] = []

        def passes(count: int) -> bool:
            tried.append(count)
            return count <= result

        assert largest(passes, guess, limit) == min(result, limit)
        assert len(tried) == len(set(tried))
        assert all(1 <= count <= limit for count in tried)
        distance = abs(min(result, limit) - min(max(guess, 1), limit))
        assert len(tried) <= 2 * (distance + 1).bit_length() + 2


class TestWorkloads:
    @pytest.mark.parametrize(
        ("name", "accelerator", "mb_per_s"),
        [("unet3d", "a100", 1614), ("unet3d", "h100", 3177), ("unet3d", "b200", 6335), ("resnet50", "a100", 105),
         ("resnet50", "h100", 205), ("cosmoflow", "a100", 513), ("cosmoflow", "h100", 808), ("retinanet", "b200", 163),
         ("dlrm", "b200", 33_249), ("flux", "b200", 77)],
    )
    def test_need_what_the_workload_files_make_them_need(self, name: str, accelerator: str, mb_per_s: int) -> None:
        workload = WORKLOADS[name]
        settings = Settings(workload=workload, accelerator=accelerator, seconds=1.0)
        assert settings.needed_per_s * workload.record_bytes / 1e6 == pytest.approx(mb_per_s, rel=0.005)

    @pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)
    def test_fields_make_up_a_record(self, workload: Any) -> None:
        sizes = [np.dtype(field.dtype).itemsize * field.length for field in workload.fields]
        assert sum(sizes) in (0, workload.record_bytes)

    def test_a_batch_is_what_is_read_of_it(self) -> None:
        assert WORKLOADS["dlrm"].batch_bytes == 16_384 * 160
        assert WORKLOADS["resnet50"].batch_bytes == 400 * 114_660

    def test_an_accelerator_without_a_time_is_refused(self) -> None:
        assert [WORKLOADS[name].accelerator(None) for name in ("unet3d", "flux")] == ["h100", "b200"]
        with pytest.raises(ConfigError, match="retinanet has times for b200"):
            WORKLOADS["retinanet"].accelerator("h100")

    def test_records_have_the_mean_that_the_workload_has_whatever_their_spread(self) -> None:
        for workload in WORKLOADS.values():
            sizes = record_sizes(workload, np.random.default_rng(0), 20_000)
            assert sizes.mean() == pytest.approx(workload.record_bytes, rel=0.01)
            assert sizes.min() > 0
        assert record_count(WORKLOADS["unet3d"], 1) == 7
        assert record_count(WORKLOADS["resnet50"], 1_146_600_000) == 10_000

    @given(size=st.integers(0, 100), seed=st.integers(0, 9))
    def test_noise_of_any_size_goes_round_the_end(self, size: int, seed: int) -> None:
        noise = np.arange(16, dtype=np.uint8)
        found = bytes_of_noise(noise, np.random.default_rng(seed), size)
        assert len(found) == size
        assert all((after - before) % 16 == 1 for before, after in pairwise(found))


def report(**changes: Any) -> dict[str, Any]:
    return {"steps": 10, "seconds": 5.0, "waits_s": [0.1] * 10, "cpu_s": 2.0, "samples": 110, "bytes": 11_000_000,
            "all_s": 11.0, "stages": {"read_s": 1.0, "verify_s": 3.0}, **changes}


def a_run(**changes: Any) -> Run:
    fields: dict[str, Any] = {"accelerators": 2, "au": 0.8, "steps": 10, "seconds": 5.0, "samples_per_s": 20.0,
                              "mb_per_s": 300.0, "waited": 0.15, "wait_ms": {"p50": 1.0}, "cores_busy": 1.5,
                              "stages_s": {}}
    return Run(**{**fields, **changes})


class TestRuns:
    def test_utilisation_is_compute_time_over_the_time_of_the_steps_and_the_mean_over_accelerators(self) -> None:
        run = run_of([report(), report(seconds=10.0, waits_s=[0.3] * 10)], step_s=0.4)
        assert run.au == pytest.approx((0.8 + 0.4) / 2)
        assert (run.accelerators, run.steps, run.seconds) == (2, 10, 10.0)
        assert (run.samples_per_s, run.mb_per_s) == pytest.approx((20.0, 2.0))
        assert run.waited == pytest.approx((0.2 + 0.3) / 2)
        assert run.wait_ms == {"p50": 200.0, "p95": 300.0, "p99": 300.0}
        assert run.cores_busy == pytest.approx(0.6)
        assert run.stages_s == {"read": 2.0, "verify": 6.0}

    def test_says_what_bounds_the_number_of_accelerators(self) -> None:
        missed = [a_run(au=0.5), a_run(stages_s={"read": 1.0, "verify": 3.0})]
        assert bound_of(2, 9, 2, missed, 2) == "the number that was asked for"
        assert bound_of(9, 9, None, missed, 2).startswith("memory: the batches of 10")
        assert bound_of(1, 9, None, missed, 2) == (
            "2 accelerators waited 15% of the time for batches and 5% for each other and for a core, at 300 MB/s with "
            "1.5 of 2 cores busy, 75% of the threads' time in verify")
        assert bound_of(0, 9, 2, [a_run()], 2).endswith("1.5 of 2 cores busy")

    def test_as_many_are_tried_as_fit_into_memory(self) -> None:
        assert accelerators_max(WORKLOADS["unet3d"], 20 << 30) == 2
        assert accelerators_max(WORKLOADS["unet3d"], 1 << 30) == 1
        assert accelerators_max(WORKLOADS["cosmoflow"], 1 << 50) == ACCELERATORS_MAX
        assert free_memory_bytes() > 0

    def test_says_what_differs_from_the_rules(self) -> None:
        settings = Settings(workload=WORKLOADS["resnet50"], accelerator="h100", seconds=3.0)
        small = scaled(settings, 4000, 1 << 30, 16 << 30, [a_run()])
        assert len(small) == 4
        assert "1.1 GB of data are 0.062 x the memory" in small[1]
        assert small[2].endswith("has 8 steps; the rules ask for 500; records come more than once in it, for they are "
                                 "too few")
        assert len(scaled(settings, 4_000_000, 1 << 40, 16 << 30, [a_run()])) == 2
