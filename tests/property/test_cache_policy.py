"""Policies of the cache: csrc against the plain oracle, and the two rules of MIN and resident."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastfeed._native.policy import simulate
from fastfeed.errors import ConfigError
from tests.helpers import policy_oracle as oracle

CHUNKS = 12
POLICIES = {"resident": 0, "min": 1, "lru": 2}


@st.composite
def uses(draw: st.DrawFn) -> list[oracle.Use]:
    count = draw(st.integers(0, 60))
    begin, found = 0, []
    for _ in range(count):
        begin += draw(st.integers(0, 3))
        length = draw(st.sampled_from([0, 0, 1, 2, 5, 12]))
        part = draw(st.sampled_from([256, 256, 255, 192, 191, 100, 64, 63, 1]))
        found.append(oracle.Use(begin, begin + length, draw(st.integers(0, CHUNKS - 1)), part, draw(st.booleans())))
    return found


def run(policy: int, of: list[oracle.Use], ranks: list[int], capacity: int, **counted: int) -> dict[str, int]:
    begins, ends, chunks, parts, dense = ([use[column] for use in of] for column in range(5))
    return simulate(policy, np.array(chunks, np.uint32), np.array(begins, np.int64), np.array(ends, np.int64),
                    np.array(parts, np.uint16), np.array(dense, np.uint8), np.array(ranks, np.uint64), capacity,
                    **counted)  # fmt: skip


@given(uses(), st.permutations(range(CHUNKS)), st.integers(0, CHUNKS), st.sampled_from(sorted(POLICIES)))
def test_every_policy_costs_what_the_oracle_says(
    of: list[oracle.Use], ranks: list[int], capacity: int, policy: str
) -> None:
    assert run(POLICIES[policy], of, ranks, capacity) == asdict(oracle.simulate(policy, of, ranks, capacity))


@given(uses(), st.permutations(range(CHUNKS)), st.integers(0, CHUNKS), st.integers(0, 60), st.integers(0, 60))
def test_only_uses_of_the_counted_time_are_counted(
    of: list[oracle.Use], ranks: list[int], capacity: int, first: int, last: int
) -> None:
    found = run(1, of, ranks, capacity, count_from=first, count_until=last)
    assert found == asdict(oracle.simulate("min", of, ranks, capacity, first, last))


@given(st.lists(st.integers(0, CHUNKS - 1), max_size=120), st.integers(1, CHUNKS))
def test_s3fifo_hits_what_the_oracle_hits(names: list[int], capacity: int) -> None:
    of = [oracle.Use(time, time, name) for time, name in enumerate(names)]
    assert run(3, of, list(range(CHUNKS)), capacity)["hits"] == oracle.simulate_s3fifo(names, capacity)


@given(st.lists(st.integers(0, CHUNKS - 1), max_size=80), st.integers(0, CHUNKS))
def test_no_policy_hits_more_than_min_where_chunks_are_read_at_once(names: list[int], capacity: int) -> None:
    of = [oracle.Use(time, time, name) for time, name in enumerate(names)]
    hits = {policy: run(policy, of, list(range(CHUNKS)), capacity)["hits"] for policy in range(4)}
    assert max(hits.values()) == hits[1]


def test_for_one_job_resident_hits_as_often_as_min_and_writes_nothing_after_the_first_epoch() -> None:
    rng = np.random.default_rng(0)
    names = np.concatenate([rng.permutation(100) for _ in range(6)])
    of = [oracle.Use(time, time, int(name)) for time, name in enumerate(names)]
    ranks = np.empty(100, np.int64)
    ranks[names[:100]] = np.arange(100)
    found = [run(policy, of, ranks.tolist(), 25, count_from=100) for policy in (0, 1)]
    assert found[0]["hits"] == 125
    assert abs(found[1]["hits"] - 125) <= 1
    assert found[0]["writes"] == 0 < found[1]["writes"]


def test_uses_out_of_order_are_refused() -> None:
    backwards = [oracle.Use(5, 5, 0), oracle.Use(4, 4, 0)]
    with pytest.raises(ConfigError, match="use 1 of a simulation"):
        run(0, backwards, [0], 1)
    with pytest.raises(ConfigError, match="use 0 of a simulation"):
        run(0, [oracle.Use(0, 0, 3)], [0], 1)
    with pytest.raises(ConfigError, match="not known"):
        run(4, [], [0], 1)
