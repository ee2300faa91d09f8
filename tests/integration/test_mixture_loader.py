"""Loaders over mixtures of real datasets: the right rows of the right sources, on any cluster, from any place on."""

from __future__ import annotations

import json
import pickle
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastfeed as ff
from tests.helpers.loader_data import sample_of, write_images, write_rows, write_tokens

SIZES = (140, 45, 60)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[ff.Dataset]:
    root = tmp_path_factory.mktemp("sources")
    return [write_rows(root / str(number), size) for number, size in enumerate(SIZES)]


def samples_of(batch: ff.Batch) -> list[tuple[int, int, int]]:
    """(position, source, row) of the valid samples."""
    every = zip(batch.positions.tolist(), batch.source.tolist(), batch.rows.tolist(), strict=True)
    return [sample for sample, valid in zip(every, batch.valid.tolist(), strict=True) if valid]


def check_values(batch: ff.Batch) -> None:
    for at, row in enumerate(batch.rows.tolist()):
        expected = sample_of(row)
        assert batch["id"][at] == expected["id"]
        assert batch["text"][at] == expected["text"]
        assert batch["boxes"][at].tolist() == expected["boxes"].tolist()
        assert batch.nulls["weight"][at] == (expected["weight"] is None)


def test_a_batch_says_of_which_source_and_row_each_sample_is(sources):
    mixture = ff.Mixture(zip(sources, (.5, .3, .2), strict=True))
    with ff.Loader(mixture, batch_size=16, seed=3, last="short") as loader:
        found = []
        for batch in loader:
            assert batch.source.dtype == np.int64
            check_values(batch)
            found += samples_of(batch)
        order = loader.order.rows(0, len(mixture))
    assert found == list(zip(range(len(mixture)), order.sources.tolist(), order.rows.tolist(), strict=True))
    assert len(mixture) == sum(mixture.counts) == loader.state_dict()["position"]


@settings(max_examples=12, deadline=None)
@given(world=st.integers(1, 4), global_batch=st.integers(4, 50), last=st.sampled_from(["drop", "pad", "short"]),
       epoch=st.integers(0, 3), shuffle=st.sampled_from(["window", "full", False]))
def test_steps_have_the_same_samples_on_any_cluster(sources, world, global_batch, last, epoch, shuffle):
    mixture = ff.Mixture(sources, repeats=[1, 2, 1.5])
    order = mixture.order(seed=9, epoch=epoch, shuffle=shuffle)
    loaders = [ff.Loader(mixture, global_batch_size=global_batch, rank=rank, world_size=world, last=last, seed=9,
                         epoch=epoch, shuffle=shuffle, columns=["id"]) for rank in range(world)]
    came = []
    for step in zip(*loaders, strict=True):
        came += sorted(sample for batch in step for sample in samples_of(batch))
    for loader in loaders:
        loader.close()
    rows, numbers = order.rows(0, len(order))
    whole = len(order) // global_batch * global_batch if last == "drop" else len(order)
    assert came == list(zip(range(whole), numbers[:whole].tolist(), rows[:whole].tolist(), strict=True))
    if last != "drop":
        assert [Counter(source for _, source, _ in came)[k] for k in range(3)] == list(mixture.counts)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 4)), min_size=2, max_size=4))
def test_a_run_goes_on_with_other_batches_and_ranks_as_if_nothing_had_happened(sources, legs):
    """Each leg: ranks, batch size a rank, steps. The last one runs to the end."""
    mixture = ff.Mixture(sources, schedule=[(0, [3, 1, 0]), (40, [1, 1, 1])], stop=180)
    state: dict[str, Any] | None = None
    came = []
    for number, (world, batch_size, steps) in enumerate(legs):
        loaders = [ff.Loader(mixture, batch_size=batch_size, rank=rank, world_size=world, seed=2, last="short",
                             columns=["id"]) for rank in range(world)]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        iterations = [iter(loader) for loader in loaders]
        left = steps if number < len(legs) - 1 else 10**9
        while left and all(batches := [next(iteration, None) for iteration in iterations]):
            came += sorted(sample for batch in batches for sample in samples_of(batch))
            left -= 1
        states = [loader.state_dict() for loader in loaders]
        assert all(each == states[0] for each in states)
        state = json.loads(json.dumps(states[0]))
        assert len(json.dumps(state)) < 1024
        for loader in loaders:
            loader.close()
    assert (state["epoch"], state["position"]) == (0, 180)
    rows, numbers = mixture.order(seed=2).rows(0, 180)
    assert came == list(zip(range(180), numbers.tolist(), rows.tolist(), strict=True))


def test_the_next_epoch_goes_on_with_the_sources_passes(sources):
    """Of 140 rows 45 come an epoch: after four epochs every row came at least once and none more than twice."""
    mixture = ff.Mixture([(sources[0], 1), (sources[1], 1)])
    assert mixture.counts == (45, 45)
    came: Counter[int] = Counter()
    with ff.Loader(mixture, batch_size=10, last="short", columns=["id"]) as loader:
        for _ in range(4):
            second = []
            for batch in loader:
                came.update(batch.rows[batch.source == 0].tolist())
                second += batch.rows[batch.source == 1].tolist()
            assert sorted(second) == list(range(45))
    assert len(came) == 140
    assert set(came.values()) == {1, 2}
    assert sum(came.values()) == 180


# --- what sources may differ in ---------------------------------------------------------------------------------

def written(place: Path, schema: ff.Schema, *samples: dict[str, Any]) -> ff.Dataset:
    with ff.DatasetWriter(place, schema) as writer:
        for sample in samples:
            writer.write(sample)
    return ff.open(place)


def test_batches_have_the_columns_that_all_sources_have(tmp_path, sources):
    other = written(tmp_path / "other", ff.Schema({"extra": ff.Bytes(), "text": ff.Text(), "id": ff.Scalar("int64")}),
                    {"extra": b"x", "text": "other", "id": 1000})
    with ff.Loader(ff.Mixture([sources[0], other], counts=[3, 2]), batch_size=5, shuffle=False) as loader:
        (batch,) = loader
    assert batch.keys() == ["id", "text"]
    assert batch["id"].tolist() == [0, 1, 2, 1000, 1000]
    assert batch["text"].tolist()[3:] == ["other", "other"]
    with pytest.raises(ff.ConfigError, match=r"no columns \['vector'\] in source 1 of the mixture, .*other"):
        ff.Loader(ff.Mixture([sources[0], other], counts=[3, 2]), batch_size=5, columns=["id", "vector"])


@pytest.mark.parametrize(
    ("column", "value", "difference"),
    [
        (ff.Scalar("int32"), 1, "'id' is int64 in source 0 .* and int32 in source 1"),
        (ff.Tensor("int64", (2,)), np.zeros(2, np.int64), r"and int64 of shape \(2\) in source 1"),
        (ff.Text(), "1", "and text in source 1"),
    ],
)  # fmt: skip
def test_a_common_name_of_another_type_is_an_error_that_names_the_difference(
    tmp_path, sources, column, value, difference
):
    other = written(tmp_path / "other", ff.Schema({"id": column}), {"id": value})
    with pytest.raises(ff.ConfigError, match=difference):
        ff.Loader(ff.Mixture([(sources[0], 1), (other, 1)]), batch_size=2)


def test_a_cast_gives_a_common_type(tmp_path, sources):
    other = written(tmp_path / "other", ff.Schema({"id": ff.Scalar("int16")}), {"id": 7})
    mixture = ff.Mixture([sources[0], other], counts=[2, 1])
    with ff.Loader(mixture, batch_size=3, shuffle=False, transforms={"id": [ff.Cast("float32")]}) as loader:
        (batch,) = loader
    assert batch["id"].dtype == np.float32
    assert batch["id"].tolist() == [0, 1, 7]


def test_without_a_common_column_there_is_no_loader(tmp_path, sources):
    other = written(tmp_path / "other", ff.Schema({"name": ff.Text()}), {"name": "x"})
    with pytest.raises(ff.ConfigError, match="no column in common"):
        ff.Loader(ff.Mixture([(sources[0], 1), (other, 1)]), batch_size=2)


def test_images_of_several_sources_are_decoded_alike(tmp_path):
    images = [write_images(tmp_path / name, 12) for name in "ab"]
    chain = [ff.image.RandomResizedCrop(16), ff.image.RandomHorizontalFlip()]
    with ff.Loader(ff.Mixture(images, repeats=[1, 1]), batch_size=24, transforms={"image": chain}, seed=4) as loader:
        (batch,) = loader
    assert batch["image"].shape == (24, 3, 16, 16)
    assert Counter(batch.source.tolist()) == {0: 12, 1: 12}
    for at, (source, row) in enumerate(zip(batch.source, batch.rows, strict=True)):
        reader = ff.Loader(images[source], batch_size=1, transforms={"image": chain}, seed=4)._reader_factory()
        alone = reader.take(np.array([row]), np.array([at]), 4, 0)
        assert (alone.columns[0][0] == batch["image"][at]).all()


def test_windows_of_several_corpora(tmp_path):
    corpora = [write_tokens(tmp_path / name, 100).windows(8, stride=7) for name in "ab"]
    mixture = ff.Mixture([(corpora[0], 3), (corpora[1], 1)])
    with ff.Loader(mixture, batch_size=16, last="short") as loader:
        for batch in loader:
            assert (batch["tokens"] == batch.rows[:, None] * 7 + np.arange(8)).all()
    other = write_tokens(tmp_path / "c", 100).windows(9)
    with pytest.raises(ff.ConfigError, match=r"uint16 of shape \(8\) in source 0 .* uint16 of shape \(9\) in source 1"):
        ff.Loader(ff.Mixture([(corpora[0], 1), (other, 1)]), batch_size=2)


def test_views_and_several_views_of_one_dataset_are_sources(sources):
    even, odd = sources[0].select(np.arange(0, 140, 2)), sources[0].select(np.arange(1, 140, 2))
    with ff.Loader(ff.Mixture([even, odd, sources[1]], repeats=[1, 1, 1]), batch_size=40, last="short") as loader:
        for batch in loader:
            row = batch["id"]
            assert (row[batch.source == 0] == batch.rows[batch.source == 0] * 2).all()
            assert (row[batch.source == 1] == batch.rows[batch.source == 1] * 2 + 1).all()
            assert (row[batch.source == 2] == batch.rows[batch.source == 2]).all()


# --- samples that cannot be read --------------------------------------------------------------------------------

@pytest.fixture
def damaged(tmp_path: Path) -> list[ff.Dataset]:
    """Two datasets; in the second, one shard has a byte that is wrong in every 4 KiB."""
    made = [write_rows(tmp_path / name, 80) for name in "ab"]
    shard = sorted((tmp_path / "b" / "shards").iterdir())[0]
    content = bytearray(shard.read_bytes())
    for at in range(4200, min(len(content), 20_000), 900):
        content[at] ^= 0xFF
    shard.chmod(0o644)
    shard.write_bytes(bytes(content))
    return made


def test_skipped_samples_are_holes_of_their_source(damaged):
    mixture = ff.Mixture(damaged, repeats=[1, 1])
    holes = []
    with ff.Loader(mixture, batch_size=32, on_error="skip", last="short", seed=1) as loader:
        for batch in loader:
            holes += list(zip(batch.source[~batch.valid].tolist(), batch.rows[~batch.valid].tolist(), strict=True))
    assert holes
    assert {source for source, _ in holes} == {1}
    assert len(set(holes)) == len(holes)


def test_substitutes_come_from_the_same_source(damaged):
    mixture = ff.Mixture(damaged, repeats=[1, 1])
    order = mixture.order(seed=1)
    replaced = []
    with ff.Loader(mixture, batch_size=32, on_error="substitute", last="short", seed=1) as loader:
        for batch in loader:
            check_values(batch)
            for at in np.flatnonzero(~batch.valid):
                source, row = order[int(batch.positions[at])]
                assert source == batch.source[at] == 1
                assert row != batch.rows[at]
                replaced.append(row)
    assert replaced


def test_a_bad_sample_is_raised_with_the_file_of_its_source(damaged):
    with (ff.Loader(ff.Mixture(damaged, repeats=[1, 1]), batch_size=160) as loader,
          pytest.raises(ff.CorruptDataError, match="/b/shards/")):  # fmt: skip
        next(iter(loader))


# --- states -----------------------------------------------------------------------------------------------------

def test_the_state_of_another_mixture_is_refused_with_the_reason(sources):
    def loader(mixture: ff.Mixture | ff.Dataset, **options: Any) -> ff.Loader:
        return ff.Loader(mixture, batch_size=8, **options)

    a, b = sources[:2]
    state = loader(ff.Mixture([(a, .7), (b, .3)])).state_dict()
    loader(ff.Mixture([(a, 7), (b, 3)])).load_state_dict(state)
    for other, reason in (
        (ff.Mixture([(a, .6), (b, .4)]), "proportions is '7:3', this loader's is '3:2'"),
        (ff.Mixture([(b, .7), (a, .3)]), "dataset fingerprint"),
        (ff.Mixture([(a, .7), (b, .3)], stop="all_exhausted"), "samples is 150, this loader's is 200"),
        (ff.Mixture([a, b], schedule=[(0, [7, 3]), (50, [1, 1])], stop=150), "proportions"),
        (a, "dataset fingerprint"),
    ):
        with pytest.raises(ff.ConfigError, match=reason):
            loader(other).load_state_dict(state)
    with pytest.raises(ff.ConfigError, match="its mixture is "):
        loader(ff.Mixture([(a, .7), (b, .3)]), block_rows=3).load_state_dict(state)
    loader(ff.Mixture([(a, .6), (b, .4)])).load_state_dict(state, strict=False)


def test_a_state_of_many_sources_is_below_a_kilobyte(sources):
    mixture = ff.Mixture([(sources[number % 3], number + 1) for number in range(300)], stop=100_000)
    with ff.Loader(mixture, batch_size=8, columns=["id"]) as loader:
        assert len(json.dumps(loader.state_dict())) < 700
        batch = next(iter(loader))
    assert all(batch["id"] == batch.rows)


def test_loading_a_state_costs_nothing_however_far_it_is(sources, benchmark):
    mixture = ff.Mixture([(sources[0], 2), (sources[1], 1)], stop=10**9)
    loader = ff.Loader(mixture, batch_size=8)
    state = {**loader.state_dict(), "position": 987_654_321}
    benchmark(loader.load_state_dict, state)
    assert loader.state_dict()["position"] == 987_654_321


# --- what a mixture is ------------------------------------------------------------------------------------------

def test_a_mixture_says_what_it_is_and_pickles_small(sources):
    mixture = ff.Mixture(zip(sources, (1, 1, 2), strict=True), stop=400)
    assert repr(mixture) == "Mixture(3 sources, 1:1:2, stop=400: 400 samples an epoch, 100, 100, 200 of each)"
    data = pickle.dumps(mixture)
    again = pickle.loads(data)
    assert len(data) < 1500
    assert (repr(again), again.fingerprint, again.segments) == (repr(mixture), mixture.fingerprint, mixture.segments)
    for each in (ff.Mixture(sources, counts=[1, 2, 3]), ff.Mixture(sources, repeats=[1, 2.5, 3]),
                  ff.Mixture(sources, schedule=[(0, [1, 0, 1]), (9, [0, 1, 1])], stop="steps", steps=4,
                             global_batch_size=16)):  # fmt: skip
        assert repr(pickle.loads(pickle.dumps(each))) == repr(each)


def test_steps_are_counted_in_the_batch_that_is_named_and_not_in_the_loaders(sources):
    mixture = ff.Mixture([(sources[0], 1), (sources[1], 1)], stop="steps", steps=4, global_batch_size=16)
    assert (len(mixture), mixture.counts) == (64, (32, 32))
    with ff.Loader(mixture, batch_size=5, last="short", columns=["id"]) as loader:
        assert sum(len(batch) for batch in loader) == 64


def test_places_serve_as_sources(sources):
    mixture = ff.Mixture([(sources[0].url, 1), (Path(sources[1].url), 1)])
    assert [dataset.fingerprint for dataset in mixture.datasets] == [each.fingerprint for each in sources[:2]]
    with pytest.raises(ff.ConfigError, match="give one dataset"):
        ff.Loader(mixture, remote=sources[0].url, batch_size=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": [1, 2]}, "2 counts for 3 sources"),
        ({"repeats": [1, 2]}, "2 repeats for 3 sources"),
        ({"repeats": [1, 2, -1]}, "must not be negative"),
        ({"repeats": [1, 2, "x"]}, "must be a number"),
        ({"repeats": [1, 2, 1e-9]}, "source 2 would give no sample"),
        ({"repeats": [0, 0, 1e-9]}, "source 0 would give no sample"),
        ({"counts": [1, 2, 0]}, "counts=0: it must be at least 1"),
        ({"counts": [1, 2, 3.5]}, "counts=3.5: it must be an integer"),
        ({"counts": [1, 2, 2**50]}, "at most 281474976710656 are possible"),
        ({"counts": [1, 1, 1], "stop": 5}, "leave stop=, steps= and"),
        ({"counts": [1, 1, 1], "repeats": [1, 1, 1]}, r"this is repeats= and counts="),
        ({}, "this is none"),
        ({"schedule": [(1, [1, 1, 1])]}, "begin at 0, and ascend"),
        ({"schedule": [(0, [1, 1, 1]), (0, [1, 1, 1])]}, "begin at 0, and ascend"),
        ({"schedule": [(0, [1, 1])]}, "2 weights at position 0 for 3 sources"),
        ({"schedule": []}, "list of pairs"),
        ({"schedule": 9}, "a list is needed"),
        ({"schedule": [(0, 1)]}, "a list is needed"),
        ({"schedule": [(0, [1, 1, 1]), (5.5, [1, 1, 1])]}, "it must be an integer"),
        ({"repeats": 2}, "a list is needed"),
        ({"counts": 2}, "a list is needed"),
        ({"repeats": [1, 2, "3"]}, "must be a number"),
        ({"schedule": [(0, [1, 1, 1]), (9, [1, 0, 0])], "stop": "all_exhausted"}, "the epoch would never end"),
        ({"schedule": [(0, [1, 1, 1])], "stop": "steps"}, "needs steps= and global_batch_size="),
        ({"schedule": [(0, [1, 1, 1])], "stop": 3, "steps": 5}, "needs steps= and global_batch_size="),
        ({"schedule": [(0, [1, 1, 1])], "stop": "first"}, "stop='first': choose"),
        ({"schedule": [(0, [1, 1, 1])], "stop": 0}, "stop=0: it must be at least 1"),
        ({"schedule": [(0, [1000, 1, 1])], "stop": 5}, "would give no sample: an epoch has 5"),
    ],
)  # fmt: skip
def test_arguments_that_mean_nothing_are_refused(sources, arguments, message):
    with pytest.raises(ff.ConfigError, match=message):
        ff.Mixture(sources, **arguments)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1, 1, 0), "a weight of 0 leaves a source out"), ((1, 1, -1), "must not be negative"),
     ((1, 1, float("nan")), "must be a number"), ((1, 1, float("inf")), "must be a number"),
     ((0, 0, 0), "at least one must be above 0"), ((1, 1, 1e-12), "less than one in 1048576 of all weights"),
     ((1, 2**41 + 1, 1), "must sum up to at most"), ((1, 1, "much"), "must be a number"),
     ((1, 1, True), "must be a number")],
)  # fmt: skip
def test_weights_that_mean_nothing_are_refused(sources, weights, message):
    with pytest.raises(ff.ConfigError, match=message):
        ff.Mixture(zip(sources, weights, strict=True), stop=10**8)


def test_sources_that_are_none_are_refused(tmp_path, sources):
    empty = written(tmp_path / "empty", ff.Schema({"id": ff.Scalar("int64")}))
    mixture = ff.Mixture([(sources[0], 1)])
    for wrong, message in (
        ([], "a mixture of 0 sources"),
        (5, "a list is needed"),
        (sources[0].url, "a list is needed"),
        ([(sources[0], 1), sources[1]], "all pairs"),
        ([(sources[0], 1), (empty, 1)], "has no rows"),
        ([(mixture, 1), (sources[1], 1)], "is a Mixture, and no dataset"),
        ([(sources[0], 1, 2)], "all pairs"),
        ([(sources[0], 1)] * 1025, "give from 1 to 1024"),
    ):
        with pytest.raises(ff.ConfigError, match=message):
            ff.Mixture(wrong)


def test_weights_that_cannot_be_followed_exactly_say_by_how_much(sources):
    mixture = ff.Mixture(zip(sources, (.123456789, .3, .57654321), strict=True), stop=10**6)
    assert 0 < mixture.weight_error < 1e-6
    assert "weights within" in repr(mixture)
    assert ff.Mixture(zip(sources, (.2, .3, .5), strict=True)).weight_error == 0


def test_outside_of_an_order_is_an_error(sources):
    order = ff.Mixture([(sources[0], 1), (sources[1], 1)]).order()
    for call in (lambda: order[90], lambda: order[-91], lambda: order.rows(0, 91), lambda: order.positions(2, 0),
                 lambda: order.positions(0, 140), lambda: order.picks(np.array([90])),
                 lambda: order.passes(-1)):  # fmt: skip
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ff.ConfigError, match="1 sources, 2 rows and 1 passes"):
        order.positions_of([0], [1, 2], [0])
    assert order.positions_of([0, 0], [1, 1], [5, -3]).tolist() == [-1, -1]


def test_many_sources_share_the_files_that_a_process_may_open(tmp_path):
    """150 sources of five shards, where 1,024 files may be open: one of each stays open."""
    places = [write_rows(tmp_path / str(number), 1800).url for number in range(2)]
    mixture = ff.Mixture([(ff.open(places[number % 2]), 1) for number in range(150)])
    assert len(list(mixture.datasets[0].shards())) >= 5
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        with ff.Loader(mixture, batch_size=4000, columns=["id"], threads=1) as loader:
            for batch in loader:
                assert (batch["id"] == batch.rows).all()
            held = len(list(Path("/proc/self/fd").iterdir()))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert held < 800
