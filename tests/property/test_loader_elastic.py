"""What a step consumes depends on snapshot, seed, epoch, options, global batch and where the run resumed: nothing else.

Real loaders of one dataset, in two shapes of a cluster that hypothesis draws: ranks, nodes, deal, threads, prefetch,
Python workers. The steps have the same samples in both; each row comes once an epoch, over any change of shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastfeed.dataset.dataset import Dataset
from fastfeed.loader.loader import Loader
from tests.helpers.loader_data import write_rows

ROWS = 331

shapes = st.fixed_dictionaries({
    "nodes": st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5),  # one for each rank
    "deal": st.sampled_from(["fixed", "home", "auto"]),
    "threads": st.integers(1, 3),
    "prefetch_factor": st.integers(1, 6),
    "python_workers": st.integers(0, 2),
})
runs = st.fixed_dictionaries({
    "seed": st.integers(0, 2**64 - 1),
    "epoch": st.integers(0, 5),
    "shuffle": st.sampled_from(["window", "full", False]),
    "shuffle_window": st.integers(1, 6),
    "last": st.sampled_from(["drop", "pad", "short"]),
})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_rows(tmp_path_factory.mktemp("elastic") / "data", ROWS)


def ranks_of(dataset: Dataset, shape: dict[str, Any], run: dict[str, Any], global_batch: int) -> list[Loader]:
    size = len(shape["nodes"])

    def gather(text: str) -> Sequence[str]:
        """As if every other rank proposed the same."""
        return [json.dumps({**json.loads(text), "rank": rank}) for rank in range(size)]

    agreement = {} if shape["deal"] == "fixed" else {"nodes": shape["nodes"], "all_gather": gather}
    cost = {name: shape[name] for name in ("deal", "threads", "prefetch_factor", "python_workers")}
    return [Loader(dataset, global_batch_size=global_batch, rank=rank, world_size=size, columns=["id"],
                   map_batch=lambda batch: batch, block_rows=3, **run, **cost, **agreement) for rank in range(size)]


def steps_of(loaders: list[Loader], state: dict[str, Any] | None, count: int | None = None) -> list[list[int]]:
    """The rows of each step over all ranks, sorted; all ranks end together and are at the same place after each."""
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
    iterators = [iter(loader) for loader in loaders]
    steps: list[list[int]] = []
    while count is None or len(steps) < count:
        batches = [next(iterator, None) for iterator in iterators]
        if batches[0] is None:
            assert batches == [None] * len(batches)
            break
        rows = []
        for batch in batches:
            assert batch is not None
            assert batch["id"].tolist() == batch.rows.tolist()
            assert len(batch) >= 1
            rows += batch.rows[batch.valid].tolist()
        assert len({json.dumps(loader.state_dict()) for loader in loaders}) == 1
        steps.append(sorted(rows))
    return steps


def close(loaders: list[Loader]) -> None:
    for loader in loaders:
        loader.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(run=runs, shape=shapes, other=shapes, global_batch=st.integers(1, 60), position=st.integers(0, ROWS))
def test_a_step_has_the_same_samples_in_any_shape_of_a_cluster(dataset, run, shape, other, global_batch, position):
    steps = []
    for each in (shape, other):
        loaders = ranks_of(dataset, each, run, global_batch)
        steps.append(steps_of(loaders, {**loaders[0].state_dict(), "position": position}))
        close(loaders)
    assert steps[0] == steps[1]
    rows = [row for step in steps[0] for row in step]
    whole = (ROWS - position) // global_batch * global_batch if run["last"] == "drop" else ROWS - position
    assert len(set(rows)) == len(rows) == whole


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(run=runs, legs=st.lists(st.tuples(shapes, st.integers(1, 60), st.integers(1, 8)), min_size=1, max_size=4),
       last_shape=shapes)
def test_each_row_comes_once_an_epoch_over_any_changes_of_shape_and_batch_size(dataset, run, legs, last_shape):
    """Each leg goes some steps from the state of the one before."""
    run = {**run, "last": "short"}
    rows: list[int] = []
    state = None
    for shape, global_batch, count in [*legs, (last_shape, 50, None)]:
        loaders = ranks_of(dataset, shape, run, global_batch)
        rows += [row for step in steps_of(loaders, state, count) for row in step]
        state = loaders[0].state_dict()
        close(loaders)
    assert sorted(rows) == list(range(ROWS))
    assert state is not None
    assert (state["epoch"], state["position"]) == (run["epoch"], ROWS)
