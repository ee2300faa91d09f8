"""Drawing with replacement by weights: against an oracle of plain integers and fractions, and what it promises."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastfeed as ff
from fastfeed.errors import ConfigError
from fastfeed.loader.options import read_options
from fastfeed.loader.weights import EPOCH_SAMPLES_MAX, TOTAL_BITS, WeightedEpoch, WeightedSampler, fixed_point
from fastfeed.order import Order
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.order_oracle import derive


def sampler_of(weights: Any, **arguments: Any) -> WeightedSampler:
    options = read_options({"batch_size": 1, "weights": "id", **arguments})
    dataset: Any = FakeDataset(len(weights), id=np.asarray(weights))
    return WeightedSampler(dataset, options)


def oracle_rows(weights: list[int], length: int, seed: int, epoch: int) -> list[int]:
    """The row of each virtual row, by exact fractions and a linear search."""
    total = sum(weights)
    offset = (derive(derive(int.from_bytes(b"weights", "big"), seed), epoch) * total) >> 64
    rows = []
    for virtual in range(length):
        point, below = Fraction(virtual * total + offset, length), 0
        for row, weight in enumerate(weights):
            if below <= point < below + weight:
                rows.append(row)
                break
            below += weight
    return rows


lists = st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(sum)


@settings(max_examples=150, deadline=None)
@given(lists, st.integers(1, 200), st.integers(0, 2**64 - 1), st.integers(0, 2**63))
def test_virtual_rows_are_those_of_the_oracle(weights: list[int], length: int, seed: int, epoch: int) -> None:
    drawn = WeightedEpoch(Order(length, shuffle=False), np.cumsum(weights), seed, epoch)
    assert drawn.rows_of(np.arange(length)).tolist() == oracle_rows(weights, length, seed, epoch)


@settings(max_examples=150, deadline=None)
@given(lists, st.integers(1, 300), st.integers(0, 99), st.sampled_from(["window", "full", False]))
def test_each_row_comes_within_one_of_its_expectation(weights: list[int], length: int, seed: int, shuffle: Any) -> None:
    epoch = sampler_of(weights, epoch_samples=length, shuffle=shuffle, shuffle_window=3).at_epoch(seed, 1)
    counts = Counter(epoch.picks(np.arange(length)).rows.tolist())
    assert sum(counts.values()) == epoch.length == length
    for row, weight in enumerate(weights):
        expected = Fraction(length * weight, sum(weights))
        assert abs(counts[row] - expected) < 1 + Fraction(1, 1 << 30)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1e30, allow_subnormal=True), min_size=1, max_size=60).filter(any))
def test_fixed_point_keeps_proportions_and_its_sum_fits(weights: list[float]) -> None:
    given_weights = np.array(weights)
    fixed = fixed_point(given_weights, "weights").astype(object)
    assert sum(fixed) < 1 << TOTAL_BITS
    assert [weight > 0 for weight in weights] == [number > 0 for number in fixed]
    largest = int(np.argmax(given_weights))
    for weight, number in zip(weights, fixed, strict=True):
        exact = Fraction(weight) / Fraction(weights[largest]) * int(fixed[largest])
        assert abs(exact - number) <= 2


def test_the_largest_totals_and_epochs_do_not_overflow() -> None:
    ends = np.cumsum(fixed_point(np.array([1.0, 3.0, 0.0, 1.0]), "weights"))
    drawn = WeightedEpoch(Order(EPOCH_SAMPLES_MAX, shuffle=False), ends, 5, 6)
    last = np.array([0, EPOCH_SAMPLES_MAX // 2, EPOCH_SAMPLES_MAX - 1])
    assert drawn.rows_of(last).tolist() == [0, 1, 3]
    exact = [(int(v) * int(ends[-1]) + drawn._offset) // EPOCH_SAMPLES_MAX for v in last]
    assert drawn.rows_of(last).tolist() == [int(np.searchsorted(ends, point, side="right")) for point in exact]


def test_epochs_and_seeds_draw_differently_and_each_the_same_again() -> None:
    sampler = sampler_of(np.linspace(0.1, 3, 500))
    positions = np.arange(500)
    first = [np.sort(sampler.at_epoch(seed, epoch).picks(positions).rows).tolist() for seed, epoch in
             ((0, 0), (0, 1), (1, 0), (0, 0))]  # fmt: skip
    assert first[0] == first[3]
    assert first[0] != first[1] != first[2] != first[0]


def test_over_many_epochs_rows_come_as_often_as_their_weights_say() -> None:
    """A row of a weight below one draw an epoch comes in its share of epochs."""
    sampler = sampler_of([0.1, 1.0, 0.4, 2.0], epoch_samples=4)
    counts = Counter(row for epoch in range(3000) for row in sampler.at_epoch(9, epoch).picks(np.arange(4)).rows)
    for row, weight in enumerate([0.1, 1.0, 0.4, 2.0]):
        assert counts[row] / 12000 == pytest.approx(weight / 3.5, abs=0.01)


def test_equal_weights_are_every_row_once() -> None:
    rows = sampler_of(np.ones(97)).at_epoch(3, 4).picks(np.arange(97)).rows
    assert sorted(rows.tolist()) == list(range(97))


def test_the_state_names_the_lane_and_the_epochs_length() -> None:
    assert sampler_of([1, 2], epoch_samples=7).describe() == {
        "version": 2, "shuffle": "window", "shuffle_window": 1024, "block_rows": 4, "weights": "id",
        "weights_version": 1, "epoch_samples": 7}  # fmt: skip
    assert sampler_of([1, 2], shuffle=False).describe()["block_rows"] == 0
    assert sampler_of(np.ones(40), epoch_samples=10).describe()["block_rows"] == 1


def test_a_state_stays_below_a_kilobyte_whatever_the_lane_is_called(tmp_path: Path) -> None:
    for letter in "ж€😀":
        names = [letter * (255 // len(letter.encode())), letter * 41]
        place = tmp_path / str(ord(letter))
        with ff.DatasetWriter(place, ff.Schema(dict.fromkeys(names, ff.Scalar("int32")))) as writer:
            writer.write(dict.fromkeys(names, 1))
        long, other = (ff.Loader(place, batch_size=1, weights=name) for name in names)
        assert len(json.dumps(long.state_dict())) < 1024 - 100  # a deal may add as much
        with pytest.raises(ConfigError, match="its weights is"):
            other.load_state_dict(long.state_dict())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -0.5], "row 1 has the weight -0.5"),
        ([float("nan"), 1.0], "row 0 has the weight nan"),
        ([1.0, float("inf")], "row 1 has the weight inf"),
        ([0, 0], "all 2 weights are 0"),
        (np.ma.MaskedArray([1.0, 2.0], [False, True]), r"1 of 2 rows have none \(null\), the first is row 1"),
    ],
)
def test_what_is_no_weight_is_refused(weights: Any, message: str) -> None:
    dataset: Any = FakeDataset(2, id=weights if isinstance(weights, np.ma.MaskedArray) else np.array(weights))
    with pytest.raises(ConfigError, match=message):
        WeightedSampler(dataset, read_options({"batch_size": 1, "weights": "id"}))


def test_a_nullable_lane_without_nulls_is_fine() -> None:
    dataset: Any = FakeDataset(2, id=np.ma.MaskedArray([1.0, 2.0], [False, False]))
    assert WeightedSampler(dataset, read_options({"batch_size": 1, "weights": "id"})).at_epoch(0, 0).length == 2


def test_limits_are_said() -> None:
    with pytest.raises(ConfigError, match="at most 2147483647"):
        sampler_of([1], epoch_samples=EPOCH_SAMPLES_MAX + 1)
    with pytest.raises(ConfigError, match="there is no lane 'weight'"):
        WeightedSampler(FakeDataset(2), read_options({"batch_size": 1, "weights": "weight"}))  # type: ignore[arg-type]
    assert sampler_of([]).at_epoch(0, 0).length == 0
    assert sampler_of([]).at_epoch(0, 0).picks(np.zeros(0, np.int64)).rows.tolist() == []
