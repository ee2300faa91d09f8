"""Mixtures as functions: both ways, exact counts, the core against the oracle, passes that go on, stop rules."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastfeed._native.mixture import MixtureEpoch, source_seed
from fastfeed.loader.mixture import Mixture
from fastfeed.loader.mixture_order import MixtureOrder
from fastfeed.loader.mixture_plan import (
    AllExhausted,
    FirstExhausted,
    SampleCount,
    Segment,
    Stage,
    integer_weights,
    plan_epoch,
    stage_of,
    totals,
    whole_epoch,
)
from tests.helpers import mixture_oracle
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.mixture_oracle import OracleMixture

SEEDS = st.integers(0, 2**64 - 1)


@st.composite
def segments(draw: st.DrawFn) -> tuple[mixture_oracle.Segment, ...]:
    """Segments of every form: one period a cycle or several, small tables and networks, sources that do not come."""
    sources = draw(st.integers(1, 5))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        denominator = draw(st.sampled_from([1, 1, 2, 7]))
        most = draw(st.sampled_from([2, 30, 300]))
        counts = draw(st.lists(st.integers(0, most), min_size=sources, max_size=sources))
        counts[0] += sources * denominator  # what the core asks of a cycle that is cut
        made.append(mixture_oracle.Segment(draw(st.integers(0, 9)), denominator, tuple(counts)))
    return tuple(made)


@settings(max_examples=60, deadline=None)
@given(segments(), SEEDS, SEEDS, st.booleans(), st.data())
def test_the_core_is_the_oracle_both_ways(made, seed, epoch, shuffled, data):
    oracle, core = OracleMixture(made, seed, epoch, shuffled), MixtureEpoch(seed, epoch, shuffled, made)
    assert core.length == oracle.length
    if core.length == 0:
        return
    sources, indexes = core.picks(np.arange(core.length))
    for position in data.draw(st.lists(st.integers(0, core.length - 1), min_size=1, max_size=8)):
        sample = int(sources[position]), int(indexes[position])
        assert sample == oracle.pick(position)
        assert oracle.position(*sample) == position
    assert core.positions_of(sources, indexes).tolist() == list(range(core.length))
    for source, total in enumerate(core.totals):
        assert sorted(indexes[sources == source]) == list(range(total))
    scattered = np.random.default_rng(seed % 1000).permutation(core.length)
    again = core.picks(scattered)
    assert (again[0] == sources[scattered]).all()
    assert (again[1] == indexes[scattered]).all()
    assert (core.positions_of(*again) == scattered).all()


@settings(max_examples=40, deadline=None)
@given(segments(), SEEDS)
def test_every_period_has_its_exact_counts(made, seed):
    core = MixtureEpoch(seed, 0, True, made)
    for period in OracleMixture(made, seed, 0).periods():
        sources, _ = core.picks(np.arange(period.start, period.start + period.size))
        assert np.bincount(sources, minlength=len(period.counts)).tolist() == list(period.counts)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    datasets = [FakeDataset(draw(st.integers(1, 60)), f"{number:032x}") for number in range(draw(st.integers(1, 4)))]
    n = len(datasets)
    way = draw(st.sampled_from(["weights", "repeats", "counts", "schedule"]))
    if way == "repeats":
        return Mixture(datasets, repeats=draw(st.lists(st.sampled_from([1, 2, 1.5, 3]), min_size=n, max_size=n)))
    if way == "counts":
        return Mixture(datasets, counts=draw(st.lists(st.integers(1, 150), min_size=n, max_size=n)))
    stop = draw(st.sampled_from(["all_exhausted", 200, 531]))
    if way == "weights":
        weights = draw(st.lists(st.sampled_from([1, 2, 5, .5]), min_size=n, max_size=n))
        return Mixture(zip(datasets, weights, strict=True), stop=stop)
    changes = sorted(draw(st.sets(st.integers(1, 400), max_size=3)))
    schedule = [(at, draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))) for at in [0, *changes]]
    return Mixture(datasets, schedule=schedule, stop=stop)


ORDERS = st.fixed_dictionaries({"shuffle": st.sampled_from(["window", "full", False]),
                                "shuffle_window": st.integers(1, 5), "block_rows": st.none() | st.integers(1, 9)})


@settings(max_examples=60, deadline=None)
@given(mixtures(), SEEDS, st.integers(0, 5), ORDERS)
def test_positions_and_rows_are_each_others_inverse(mixture, seed, epoch, options):
    order = mixture.order(seed, epoch, **options)
    rows, sources = order.rows(0, len(order))
    where: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(zip(sources.tolist(), rows.tolist(), strict=True)):
        where.setdefault(sample, []).append(position)
    assert np.bincount(sources, minlength=len(mixture.datasets)).tolist() == list(mixture.counts)
    for source, dataset in enumerate(mixture.datasets):
        for row in range(len(dataset)):
            assert order.positions(source, row) == where.get((source, row), [])
    assert order[len(order) - 1] == order[-1] == (sources[-1], rows[-1])


@settings(max_examples=40, deadline=None)
@given(mixtures(), SEEDS, ORDERS, st.data())
def test_rows_are_the_oracles(mixture, seed, options, data):
    epoch = data.draw(st.integers(0, 2**20))
    order = mixture.order(seed, epoch, **options)
    oracle = OracleMixture(mixture.segments, seed, epoch, options["shuffle"] is not False)
    for position in data.draw(st.lists(st.integers(0, len(order) - 1), min_size=1, max_size=5)):
        source, index = oracle.pick(position)
        block_rows = options["block_rows"] or FakeDataset.block_rows
        number, row = mixture_oracle.row_of(index, source, len(mixture.datasets[source]), mixture.counts[source], seed,
                                            epoch, (options["shuffle"], options["shuffle_window"], block_rows))
        assert order[position] == (source, row)
        assert number in order.passes(source)
        assert order.positions_of([source], [row], [number]).tolist() == [position]


@settings(max_examples=15, deadline=None)
@given(mixtures(), SEEDS, ORDERS, st.integers(0, 2**30))
def test_consecutive_epochs_go_on_with_passes_that_have_every_row_once(mixture, seed, options, first):
    epochs = [mixture.order(seed, first + number, **options) for number in range(4)]
    for source, dataset in enumerate(mixture.datasets):
        came: Counter[tuple[int, int]] = Counter()
        rows = np.arange(len(dataset))
        for order in epochs:
            for number in order.passes(source):
                found = order.positions_of(np.full(len(rows), source), rows, np.full(len(rows), number))
                came.update((number, row) for row in rows[found >= 0].tolist())
        assert set(came.values()) == {1}
        assert sum(came.values()) == 4 * mixture.counts[source]
        whole = range(epochs[0].passes(source).start + 1, epochs[-1].passes(source).stop - 1)
        for number in whole:
            assert all(came[number, row] == 1 for row in rows.tolist())


def test_passes_have_orders_of_their_own():
    mixture = Mixture([FakeDataset(500), FakeDataset(500)], repeats=[2, 1])
    order = mixture.order(seed=3)
    rows, sources = order.rows(0, len(order))
    first = [order.positions_of([0] * 500, np.arange(500), [number] * 500) for number in (0, 1)]
    orders = [np.argsort(positions) for positions in first]
    assert (orders[0] != orders[1]).mean() > 0.9
    assert (np.argsort(order.positions_of([1] * 500, np.arange(500), [0] * 500)) != orders[0]).mean() > 0.9
    assert sorted(rows[sources == 0]) == sorted([*range(500), *range(500)])


# --- where an epoch ends --------------------------------------------------------------------------------------

@st.composite
def stages(draw: st.DrawFn) -> tuple[list[int], list[Stage]]:
    """Sizes, and stages that begin at ascending positions."""
    sources = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 3000), min_size=sources, max_size=sources))
    made, start = [], 0
    for _ in range(draw(st.integers(1, 3))):
        most = draw(st.sampled_from([3, 50, 20_000]))
        made.append(stage_of(draw(st.lists(st.integers(1, most), min_size=sources, max_size=sources)), start))
        start += draw(st.integers(1, 4000))
    return sizes, made


@given(stages())
def test_first_exhausted_ends_with_a_source_that_gave_all_and_none_that_gave_more(drawn):
    sizes, made = drawn
    counts = totals(plan_epoch(made, FirstExhausted(tuple(sizes))), len(sizes))
    assert any(count == size for count, size in zip(counts, sizes, strict=True))
    assert all(count <= size for count, size in zip(counts, sizes, strict=True))


@given(stages())
def test_all_exhausted_ends_when_the_last_source_has_given_all(drawn):
    sizes, made = drawn
    counts = totals(plan_epoch(made, AllExhausted(tuple(sizes))), len(sizes))
    assert all(count >= size for count, size in zip(counts, sizes, strict=True))
    assert any(count == size for count, size in zip(counts, sizes, strict=True))


@given(stages(), st.integers(1, 9000))
def test_an_epoch_of_a_number_of_samples_has_that_many(drawn, samples):
    sizes, made = drawn
    segments = plan_epoch(made, SampleCount(samples))
    assert sum(totals(segments, len(sizes))) == samples


@given(stages(), st.integers(1, 9000))
def test_every_stage_begins_within_a_period_of_where_it_should(drawn, samples):
    sizes, made = drawn
    assume(len({stage.counts for stage in made}) == len(made))  # so that segments tell their stage
    segments = plan_epoch(made, SampleCount(samples))
    for stage, following in pairwise(made):
        before = made[: made.index(following)]
        periods = [segment for segment in segments if any(segment[1:] == (s.denominator, s.counts) for s in before)]
        begins = sum(totals(periods, len(sizes)))
        longest = max(-(-stage.cycle // stage.denominator) + len(sizes) for stage in before)
        assert begins < following.start + longest
        assert begins >= min(following.start, samples - longest)


@given(stages(), st.integers(1, 9000))
def test_proportions_hold_from_the_beginning_to_any_position_of_a_stage(drawn, samples):
    """Up to any whole period the count of each source is within one of its share; inside of one, by a period."""
    _, made = drawn
    stage = made[0]
    periods = stage.whole_periods(samples)
    taken = stage.taken(periods)
    assert sum(taken) <= samples < sum(stage.taken(periods + 1))
    for count, got in zip(stage.counts, taken, strict=True):
        assert 0 <= Fraction(periods * count, stage.denominator) - got < 1


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=6))
def test_counts_are_exact_however_large(counts):
    segments = whole_epoch(counts)
    assert list(totals(segments, len(counts))) == counts
    ((_, denominator, cycle),) = segments
    assert sum(cycle) // denominator <= 4096 or denominator == 1 << 31


# --- weights --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("weights", "integers"),
    [([.7, .3], (7, 3)), ([1, 1, 2], (1, 1, 2)), ([2, 4], (1, 2)), ([1 / 3, 2 / 3], (1, 2)),
     ([.1, .2, .7], (1, 2, 7)), ([Fraction(1, 7), Fraction(2, 3)], (3, 14)), ([3, .5], (6, 1)),
     ([np.float32(.5), np.int64(2)], (1, 4))],
)  # fmt: skip
def test_weights_that_are_fractions_are_exact(weights, integers):
    assert integer_weights(weights) == (integers, 0.0)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8))
def test_other_weights_are_followed_to_one_in_a_million(weights):
    counts, error = integer_weights(weights)
    total = sum(map(Fraction, weights))
    differences = [abs(Fraction(count, sum(counts)) - Fraction(weight) / total)
                   for count, weight in zip(counts, weights, strict=True)]
    assert max(differences) < 2e-6
    assert error <= 2e-6
    assert error == pytest.approx(float(max(differences)), abs=1e-15)


# --- statistics -----------------------------------------------------------------------------------------------

def test_any_part_of_an_epoch_has_the_sources_in_their_proportions():
    """From any position to any other: whole periods are exact, so only the two at the ends may differ."""
    order = Mixture([(FakeDataset(10**6), .7), (FakeDataset(10**6), .2), (FakeDataset(10**6), .1)]).order(seed=1)
    rng = np.random.default_rng(0)
    for length in (10, 256, 5000):
        for start in rng.integers(0, len(order) - length, 50):
            _, sources = order.rows(int(start), int(start) + length)
            counts = np.bincount(sources, minlength=3)
            assert np.abs(counts - length * np.array([.7, .2, .1])).max() <= 10


def test_proportions_that_need_a_long_cycle_hold_in_every_batch_as_by_chance_and_in_every_period_exactly():
    """1,000,003 to 3,000,017: periods of about 4,096; a batch of 256 is a draw from one, hypergeometric."""
    order = Mixture([FakeDataset(2_000_000), FakeDataset(4_000_000)], counts=[1_000_003, 3_000_017]).order(seed=5)
    share = 1_000_003 / 4_000_020
    deviations = []
    for start in range(0, 2_000_000, 40_000):
        _, sources = order.rows(start, start + 256)
        deviations.append((np.bincount(sources, minlength=2)[0] - 256 * share) / np.sqrt(256 * share * (1 - share)))
    assert abs(np.mean(deviations)) < 0.6
    assert 0.6 < np.std(deviations) < 1.4
    _, sources = order.rows(0, 400_000)
    counts = np.cumsum(sources == 0)[4095::4096]
    assert np.abs(counts - share * 4096 * np.arange(1, len(counts) + 1)).max() < 4096 * .25


@pytest.mark.parametrize("weights", [(1, 1), (7, 3), (500, 500), (1, 1, 1, 1, 1)])
def test_sources_are_mixed_inside_a_batch_and_not_in_runs(weights):
    """The number of places at which the source changes, against that of sources drawn by chance."""
    order = Mixture([(FakeDataset(10**6), weight) for weight in weights]).order(seed=2)
    _, sources = order.rows(0, 100_000)
    expected = 1 - sum((weight / sum(weights)) ** 2 for weight in weights)
    changes = (sources[1:] != sources[:-1]).mean()
    assert expected * .98 < changes < min(1.0, expected * 1.6)  # short periods avoid repeats a little


def test_every_place_of_a_period_gets_every_source_alike():
    mixture = Mixture([(FakeDataset(10**6), 6), (FakeDataset(10**6), 3), (FakeDataset(10**6), 1)])
    _, sources = mixture.order(seed=9).rows(0, 200_000)
    places = sources.reshape(-1, 10)
    for source, share in enumerate((.6, .3, .1)):
        hits = (places == source).sum(axis=0)
        expected = len(places) * share
        assert ((hits - expected) ** 2 / (expected * (1 - share))).sum() < 40  # chi-square of 10 places


def test_epochs_and_seeds_mix_differently():
    mixture = Mixture([(FakeDataset(10**5), 1), (FakeDataset(10**5), 1)])
    first = mixture.order(seed=1).rows(0, 10_000).sources
    for other in (mixture.order(seed=2), mixture.order(seed=1, epoch=1)):
        same = (other.rows(0, 10_000).sources == first).mean()
        assert .45 < same < .55


def test_an_order_of_trillions_of_samples_costs_nothing_to_make():
    mixture = Mixture([FakeDataset(2**40), FakeDataset(2**41)], repeats=[3, 1])
    order = mixture.order(seed=4, epoch=2**40)
    positions = np.random.default_rng(0).integers(0, len(order), 1000)
    rows, sources = order.picks(positions)
    for position, source, row in zip(positions.tolist(), sources.tolist(), rows.tolist(), strict=True):
        assert position in order.positions(source, row)


def test_source_seeds_are_the_oracles():
    assert [source_seed(7, k) for k in range(4)] == [mixture_oracle.source_seed(7, k) for k in range(4)]


def test_an_order_says_what_it_is_and_pickles(tmp_path):
    import pickle

    order = Mixture([(FakeDataset(30), 2), (FakeDataset(10), 1)]).order(seed=5, epoch=1)
    again = pickle.loads(pickle.dumps(order))
    assert isinstance(again, MixtureOrder)
    assert again.rows(0, 10).rows.tolist() == order.rows(0, 10).rows.tolist()
    assert repr(order) == "MixtureOrder(30 samples of 2 sources, seed=5, epoch=1, shuffle='window')"
    assert Segment(10, 1, (2, 1)) in order.recipe.segments


def test_many_positions_at_once_are_as_few_at_a_time():
    order = Mixture([FakeDataset(900), FakeDataset(5000)], repeats=[40, 8]).order(seed=3, epoch=2)
    rows, sources = order.rows(0, len(order))
    for start in range(0, len(order), 7001):
        part = order.rows(start, min(start + 7001, len(order)))
        assert (part.rows == rows[start : start + 7001]).all()
        assert (part.sources == sources[start : start + 7001]).all()
    passes = np.full(len(rows), order.passes(0).start)
    back = order.positions_of(sources, rows, passes)
    inside = back >= 0
    assert inside.any()
    assert (rows[back[inside]] == rows[inside]).all()
    assert (sources[back[inside]] == sources[inside]).all()
