"""A matrix of trainings that stop and go on: views, weights and budgets, each with other ranks and other batches.

In one process, with readers that know rows only. What was consumed up to each state, concatenated, is exactly the
epoch. `FASTFEED_RESUME_RUNS=5000 python -m pytest --timeout=0 tests/property/test_views_resume.py` tries many.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastfeed as ff
from fastfeed.errors import ConfigError
from tests.helpers.fake_reader import FakeReader
from tests.helpers.loader_data import write_rows, write_tokens

RUNS = int(os.environ.get("FASTFEED_RESUME_RUNS", "100"))
ROWS = 300
SEED = 11
VIEWS = ["whole", "filter", "select", "list", "slice", "split", "chain"]


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    return write_rows(tmp_path_factory.mktemp("resume") / "data", ROWS)


def view_of(ds: ff.Dataset, name: str) -> ff.Dataset:
    return {
        "whole": lambda: ds,
        "filter": lambda: ds.filter("weight is not null and id >= 20"),
        "select": lambda: ds.select(np.arange(ROWS) % 3 != 1),
        "list": lambda: ds.select(np.random.default_rng(0).integers(0, ROWS, 150)),
        "slice": lambda: ds.select(slice(250, 10, -2)),
        "split": lambda: ds.split({"train": 0.7, "val": 0.3}, seed=2)["train"],
        "chain": lambda: ds.split({"a": 0.5, "b": 0.5})["a"].filter("id > 9").select(slice(None, None, 2)),
    }[name]()


def loaders(view: ff.Dataset | ff.Mixture, world_size: int, **options: Any) -> list[ff.Loader]:
    return [ff.Loader(view, rank=rank, world_size=world_size, reader_factory=FakeReader, columns=["id", "text"],
                      seed=SEED, epoch=3, shuffle_window=2, deal="fixed", **options)
            for rank in range(world_size)]  # fmt: skip


class Consumed:
    """Everything that all ranks were given for good."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.rows: list[int] = []
        self.physical: list[int] = []

    def add(self, batches: tuple[Any, ...]) -> None:
        for batch in batches:
            self.positions += batch.positions[batch.valid].tolist()
            self.rows += batch.rows[batch.valid].tolist()
            self.physical += batch["id"][batch.valid].tolist()


def run(ranks: list[ff.Loader], state: dict[str, Any] | None, steps: int, consumed: Consumed) -> dict[str, Any]:
    """Go on from `state` for at most so many steps; the state then, which all ranks agree on."""
    for rank in ranks:
        if state is not None:
            rank.load_state_dict(state)
    for _, batches in zip(range(steps), zip(*ranks, strict=True), strict=False):
        consumed.add(batches)
    states = [json.dumps(rank.state_dict()) for rank in ranks]
    assert len(set(states)) == 1
    assert len(states[0]) < 1024
    after: dict[str, Any] = json.loads(states[0])
    return after


sizes = st.one_of(
    st.builds(lambda size: {"batch_size": size}, st.integers(1, 40)),
    st.builds(lambda tokens: {"global_max_tokens": tokens, "length_column": "text.bytes"}, st.integers(60, 3000)))


@settings(max_examples=RUNS, deadline=None)
@given(name=st.sampled_from(VIEWS), weights=st.sampled_from([None, None, "id", "text.bytes"]),
       parts=st.lists(st.tuples(st.integers(1, 5), sizes, st.integers(0, 12)), max_size=4),
       last=st.tuples(st.integers(1, 5), sizes), shuffle=st.sampled_from(["window", "full", False]),
       samples=st.integers(1, 400))  # fmt: skip
def test_what_was_consumed_up_to_each_state_is_exactly_the_epoch(
    ds: ff.Dataset, name: str, weights: str | None, parts: list[Any], last: Any, shuffle: Any, samples: int
) -> None:
    view = view_of(ds, name)
    options: dict[str, Any] = {"last": "short", "shuffle": shuffle}
    if weights is not None:
        options |= {"weights": weights, "epoch_samples": samples}
    consumed, state = Consumed(), None
    for world_size, size, steps in [*parts, (*last, 10**6)]:
        state = run(loaders(view, world_size, **options, **size), state, steps, consumed)
    alone = Consumed()
    run(loaders(view, 1, batch_size=7, **options), None, 10**6, alone)
    length = len(view) if weights is None else samples
    assert consumed.positions == alone.positions == list(range(length))
    assert consumed.rows == alone.rows
    assert consumed.physical == view.physical_rows(np.array(consumed.rows)).tolist()
    if weights is None:
        assert sorted(consumed.rows) == list(range(len(view)))


@settings(max_examples=RUNS // 4, deadline=None)
@given(st.sampled_from(VIEWS), st.integers(100, 3000), st.integers(1, 5), st.integers(1, 5))
def test_the_samples_of_a_step_do_not_depend_on_the_ranks(
    ds: ff.Dataset, name: str, tokens: int, a: int, b: int
) -> None:
    view = view_of(ds, name)
    steps = []
    for world_size in (a, b):
        ranks = loaders(view, world_size, global_max_tokens=tokens, length_column="text.bytes", last="drop")
        steps.append([[row for batch in batches for row in batch.rows[batch.valid].tolist()]
                      for batches in zip(*ranks, strict=True)])  # fmt: skip
        assert {len(rank) for rank in ranks} == {len(steps[-1])}
    assert steps[0] == steps[1]
    lengths = np.maximum(view.lane("text.bytes"), 1)
    assert all(lengths[rows].sum() <= tokens for rows in steps[0])


def test_states_of_another_view_or_other_weights_are_refused(ds: ff.Dataset) -> None:
    view = ds.filter("id < 100")
    state = loaders(view, 1, batch_size=4)[0].state_dict()
    with pytest.raises(ConfigError, match="dataset fingerprint"):
        loaders(ds.filter("id < 101"), 1, batch_size=4)[0].load_state_dict(state)
    loaders(ds.select(slice(0, 100)).filter("id < 100"), 2, batch_size=4)[0].load_state_dict(state)
    with pytest.raises(ConfigError, match="its weights is None, this loader's is 'id'"):
        loaders(view, 1, batch_size=4, weights="id")[0].load_state_dict(state)
    weighted = loaders(view, 1, batch_size=4, weights="id", epoch_samples=9)[0].state_dict()
    with pytest.raises(ConfigError, match="its epoch_samples is 9"):
        loaders(view, 1, batch_size=4, weights="id", epoch_samples=10)[0].load_state_dict(weighted)


def test_padding_and_substitution_go_with_views_and_weights(ds: ff.Dataset) -> None:
    view = ds.filter("id >= 200")
    consumed = Consumed()
    ranks = loaders(view, 3, batch_size=7, last="pad", weights="id")
    for batches in zip(*ranks, strict=True):
        assert {len(batch) for batch in batches} == {7}
        consumed.add(batches)
    assert consumed.positions == list(range(len(view)))


def test_an_epoch_of_nothing_has_no_steps(ds: ff.Dataset) -> None:
    empty = ds.filter("id < 0")
    for options in ({"batch_size": 4}, {"batch_size": 4, "weights": "id"},
                    {"global_max_tokens": 100, "length_column": "text.bytes"}):  # fmt: skip
        loader = loaders(empty, 1, **options)[0]
        assert len(loader) == 0
        assert list(loader) == []


def test_sizes_that_contradict_each_other_are_refused(ds: ff.Dataset) -> None:
    for options, message in (
        ({"batch_size": 4, "global_max_tokens": 100}, "either batch_size= .* or global_max_tokens="),
        ({}, "got batch_size=None, global_batch_size=None, global_max_tokens=None"),
        ({"batch_size": 4, "length_column": "id"}, "length_column= says how long"),
        ({"batch_size": 4, "epoch_samples": 9}, "epoch_samples= is how many"),
        ({"global_max_tokens": 100, "last": "pad", "length_column": "id"}, "last='pad' fills steps"),
        ({"global_max_tokens": 100, "length_column": "weight"}, "holds float32; lengths are whole numbers"),
        ({"global_max_tokens": 100}, "needs length_column="),
        ({"batch_size": 4, "weights": 3}, "weights=3: the name of a lane"),
        ({"batch_size": 4, "weights": "weight"}, "rows have none \\(null\\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            loaders(ds, 1, **options)


def test_windows_need_no_budget(tmp_path_factory: pytest.TempPathFactory) -> None:
    stream = write_tokens(tmp_path_factory.mktemp("resume") / "tokens", 100)
    with pytest.raises(ConfigError, match="every window has 16 tokens; use global_batch_size=4"):
        ff.Loader(stream.windows(16), global_max_tokens=64)
    with ff.Loader(stream, global_max_tokens=64, last="short", threads=1) as loader:
        assert sum(len(document) for batch in loader for document in batch["tokens"].tolist()) == stream.tokens
        assert len(loader) == sum(1 for _ in loader)


@settings(max_examples=RUNS // 5, deadline=None)
@given(parts=st.lists(st.tuples(st.integers(1, 4), sizes, st.integers(0, 10)), max_size=3),
       last=st.tuples(st.integers(1, 4), sizes))  # fmt: skip
def test_mixtures_of_views_go_on_exactly_by_samples_and_by_tokens(ds: ff.Dataset, parts: list[Any], last: Any) -> None:
    mixture = ff.Mixture([(view_of(ds, "filter"), 2), (view_of(ds, "split"), 1), (view_of(ds, "list"), 1)])
    consumed, alone, state = Consumed(), Consumed(), None
    for world_size, size, steps in [*parts, (*last, 10**6)]:
        state = run(loaders(mixture, world_size, last="short", **size), state, steps, consumed)
    run(loaders(mixture, 1, batch_size=9, last="short"), None, 10**6, alone)
    assert consumed.positions == alone.positions == list(range(len(alone.positions)))
    assert (consumed.rows, consumed.physical) == (alone.rows, alone.physical)
