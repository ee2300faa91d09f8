"""Trainings over views, with weights and token budgets, that are killed and go on: see test_loader_kill.py.

`FASTFEED_KILL_ROUNDS=500 python -m pytest tests/fault/test_views_kill.py` runs many trainings.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

import fastfeed as ff
from tests.fault.test_loader_kill import EPOCHS, KILLS_MAX, ROUNDS, ROWS, Training, train
from tests.helpers.loader_data import write_rows
from tests.helpers.training_program import view_of

VIEWS: dict[str, list[tuple[str, Any]]] = {
    "filter": [("filter", "weight is not null and id >= 50")],
    "select": [("select", list(range(399, 0, -3)))],
    "split": [("split", {"train": 0.8, "val": 0.2})],
    "chain": [("split", {"train": 0.8, "val": 0.2}), ("filter", "id < 300")],
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "weights": {"weights": "id", "epoch_samples": 250},
    "budget": {"length_column": "text.bytes"},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    return write_rows(tmp_path_factory.mktemp("kill") / "data", ROWS)


def drawn_options(rng: random.Random, common: dict[str, Any], kind: str) -> dict[str, Any]:
    size = {"global_max_tokens": rng.randint(300, 3000)} if kind == "budget" else {"batch_size": rng.randint(3, 17)}
    return {**common, **size, "world_size": rng.randint(1, 3), "prefetch_factor": rng.randint(1, 8)}


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(max(1, ROUNDS // 2)))
def test_what_was_consumed_up_to_the_checkpoints_is_exactly_the_epochs(
    dataset: ff.Dataset, number: int, kind: str
) -> None:
    rng = random.Random(f"{number} {kind}")
    name, shuffle = rng.choice(list(VIEWS)), rng.choice(["full", "window"])
    common = {"place": dataset.url, "view": VIEWS[name], "last": "short", "shuffle": shuffle, "shuffle_window": 2,
              "seed": 7, "threads": 1, "columns": ["id"], "deal": "fixed", **KINDS[kind]}  # fmt: skip
    training = Training()
    for kill in range(KILLS_MAX + 1):
        steps_until_kill = rng.randint(1, 15) if kill < KILLS_MAX else None
        if train(training, drawn_options(rng, common, kind), steps_until_kill, rng.randint(1, 4)):
            break
    view = view_of(dataset, VIEWS[name])
    keywords = {key: value for key, value in common.items() if key not in ("place", "view", "length_column")}
    expected = []
    with ff.Loader(view, batch_size=64, rank=0, world_size=1, **keywords) as alone:
        for _ in range(EPOCHS):
            for batch in alone:
                expected += [(alone.epoch, position, row)
                             for position, row in zip(batch.positions.tolist(), batch.rows.tolist(), strict=True)]
    assert training.consumed == expected
