"""Metrics and history: what a report says, under names that a query can use."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastfeed.daemon.counters import MissReason, Tier
from fastfeed.daemon.history import POINTS_MAX, History, Reading, rates
from fastfeed.daemon.metrics import LATENCY_NAME, METRICS, exposition, names
from fastfeed.daemon.report import Report, to_json
from tests.helpers.daemon_reports import GIB, NOW_S, job, pool, report

UNITS = ("_bytes", "_seconds", "_ratio", "_total", "_chunks", "_slots", "_requests", "_state")
# Counts of things that have no unit beside their name.
PLAIN = {
    "fastfeed_cache_fetches_in_flight",
    "fastfeed_cache_clients",
    "fastfeed_cache_draining",
    "fastfeed_cache_request_fetches_max",
    "fastfeed_cache_job_epoch",
}


def samples(said: Report) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(exposition(said).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(said: Report, name: str, **labels: str) -> float:
    return samples(said)[f"fastfeed_cache_{name}", frozenset(labels.items())]


class TestExposition:
    def test_every_metric_of_the_table_has_a_sample_and_there_are_no_others(self) -> None:
        found = {name for name, _ in samples(report())}
        assert found - names() == {name + "_created" for name in names()} & found
        assert names() - found == set()

    def test_names_carry_their_unit_and_help_says_what_a_value_means(self) -> None:
        for described in METRICS:
            assert described.name.endswith(UNITS) or described.name in PLAIN, described.name
            assert described.help.endswith("."), described.name
            assert re.search(r"[a-z]", described.help), described.name

    def test_counters_end_in_total_and_gauges_do_not(self) -> None:
        for described in METRICS:
            assert described.name.endswith("_total") == (described.kind.__name__ == "CounterMetricFamily")

    def test_bytes_by_tier(self) -> None:
        said = report()
        assert value(said, "read_bytes_total", pool="ml", tier="slab") == 400 * GIB
        assert value(said, "read_bytes_total", pool="ml", tier="ring") == 4 * GIB
        assert value(said, "read_bytes_total", pool="ml", tier="origin") == 90 * GIB

    def test_fetched_bytes_by_purpose_add_up_to_the_origins(self) -> None:
        said = report()
        parts = [
            value(said, "fetched_bytes_total", pool="ml", purpose=each) for each in ("demand", "exact", "prefetch")
        ]
        assert parts == [28 * GIB, 2 * GIB, 60 * GIB]

    def test_a_reason_that_never_came_is_a_zero_so_that_a_rate_exists(self) -> None:
        said = report()
        assert value(said, "misses_total", pool="ml", reason="absent") == 700
        assert value(said, "misses_total", pool="ml", reason="bad_bytes") == 0

    def test_a_disk_is_in_one_state(self) -> None:
        said = report()
        states = {
            each: value(said, "disk_state", pool="ml", disk="nvme1", state=each) for each in ("ok", "suspect", "out")
        }
        assert states == {"ok": 0, "suspect": 1, "out": 0}

    def test_latency_is_a_histogram_whose_last_bucket_is_the_count(self) -> None:
        said = samples(report())
        labels = {"pool": "ml", "origin": "s3://data"}
        assert said[LATENCY_NAME + "_bucket", frozenset({**labels, "le": "+Inf"}.items())] == 1000
        assert said[LATENCY_NAME + "_bucket", frozenset({**labels, "le": "0.05"}.items())] == 900
        assert said[LATENCY_NAME + "_count", frozenset(labels.items())] == 1000
        assert said[LATENCY_NAME + "_sum", frozenset(labels.items())] == pytest.approx(900 * 0.04 + 99 * 0.2 + 3)

    def test_labels_that_users_wrote_are_escaped(self) -> None:
        said = report(pool(jobs=(job('a"b\n\\', 7, url="s3://x/\u00e4"),)))
        assert (
            value(said, "job_epoch", pool="ml", job='a"b\n\\', dataset="s3://x/\u00e4", rank="0", registration="7") == 2
        )

    def test_a_daemon_without_pools_still_has_a_page_of_metrics(self) -> None:
        said = dataclasses.replace(report(), pools=())
        assert value(said, "draining") == 0

    def test_the_write_budget_that_is_left(self) -> None:
        assert value(report(), "write_budget_left_ratio", pool="ml") == pytest.approx(0.9)
        assert value(report(pool(write_bytes_per_day_max=None)), "write_budget_left_ratio", pool="ml") == 1


class TestReport:
    def test_somebody_of_one_pool_sees_that_pool_only(self) -> None:
        seen = report(pool("ml"), pool("web")).seen_by({"web"})
        assert [each.name for each in seen.pools] == ["web"]
        assert seen.troubles == ()
        assert len(report().seen_by({"ml"}).troubles) == 2
        assert report().seen_by(None) == report()

    def test_it_is_json_with_quantiles_of_latency(self) -> None:
        said = to_json(report())
        assert said["pools"][0]["fetch"]["misses"] == {"absent": 700, "arriving": 300}
        assert said["pools"][0]["origins"][0]["latency"] == {"p50_s": 0.05, "p90_s": 0.05, "p99_s": 0.25}

    def test_a_quantile_above_the_last_bound_or_of_nothing_is_not_known(self) -> None:
        origin = report().pools[0].origins[0]
        origin.counters.latency_counts = [0] * len(origin.counters.latency_counts)
        assert origin.latency_s(0.5) is None
        origin.counters.answered(1e6)
        assert origin.latency_s(0.5) is None


class TestHistory:
    def test_a_point_is_what_happened_between_two_readings(self) -> None:
        before = Reading(100, 10, 50, 8, 2, 1.0, 2)
        after = Reading(300, 20, 150, 16, 4, 2.0, 2)
        assert rates(before, after, 2.0) == {
            "slab_bytes_per_s": 100, "ring_bytes_per_s": 5, "origin_bytes_per_s": 50, "hits_per_s": 4,
            "misses_per_s": 1, "waited_ratio": 0.25,
        }  # fmt: skip

    def test_counters_that_go_back_count_as_nothing_and_jobs_that_change_give_no_share(self) -> None:
        point = rates(Reading(100, 10, 50, 8, 2, 1.0, 1), Reading(0, 0, 0, 0, 0, 0.0, 2), 1.0)
        assert point.pop("waited_ratio") is None
        assert set(point.values()) == {0}

    def test_it_keeps_an_hour_and_shows_pools_to_their_users(self) -> None:
        history = History()
        for step in range(POINTS_MAX + 10):
            history.add(report(pool("ml"), pool("web"), now_s=NOW_S + 5 * step))
        series = history.series({"web"})
        assert len(series) == POINTS_MAX
        assert set(series[0]["pools"]) == {"web"}
        assert set(history.series(None)[0]["pools"]) == {"ml", "web"}
        assert math.isclose(series[-1]["time_s"], NOW_S + 5 * (POINTS_MAX + 9))

    def test_a_clock_that_stands_still_or_goes_back_makes_no_point(self) -> None:
        history = History()
        for now_s in (NOW_S, NOW_S, NOW_S - 5):
            history.add(report(now_s=now_s))
        assert history.series(None) == []

    def test_a_pool_that_is_new_has_its_first_point_a_step_later(self) -> None:
        history = History()
        history.add(report(pool("ml")))
        history.add(report(pool("ml"), pool("new"), now_s=NOW_S + 5))
        assert set(history.series(None)[0]["pools"]) == {"ml"}


def test_labels_of_reasons_and_tiers_are_words() -> None:
    for each in (*MissReason, *Tier):
        assert re.fullmatch(r"[a-z_]+", each)
