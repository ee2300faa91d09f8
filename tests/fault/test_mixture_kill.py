"""Trainings over mixtures that are killed and go on with other ranks and batches: see test_loader_kill.py.

`FASTFEED_KILL_ROUNDS=500 python -m pytest tests/fault/test_mixture_kill.py` runs many trainings.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastfeed as ff
from tests.fault.test_loader_kill import EPOCHS, KILLS_MAX, ROUNDS, Training, train
from tests.helpers.loader_data import write_rows
from tests.helpers.training_program import SOURCES_MAX

SIZES = (170, 60, 90)
MIXTURES: dict[str, dict[str, Any]] = {
    "repeats": {"repeats": [1, 2, 1.5]},
    "schedule": {"schedule": [[0, [5, 1, 0]], [120, [1, 1, 2]]], "stop": 350},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("kill")
    return [write_rows(Path(root) / str(number), size).url for number, size in enumerate(SIZES)]


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("number", range(max(1, ROUNDS // 2)))
def test_what_was_consumed_of_a_mixture_is_exactly_its_epochs(sources: list[str], number: int) -> None:
    rng = random.Random(number)
    arguments = {"sources": sources, **rng.choice(list(MIXTURES.values()))}
    training = Training()
    for kill in range(KILLS_MAX + 1):
        options = {"mixture": arguments, "batch_size": rng.randint(3, 17), "world_size": rng.randint(1, 4),
                   "last": "short", "seed": 7, "threads": 1, "columns": ["id"]}
        steps_until_kill = rng.randint(1, 20) if kill < KILLS_MAX else None
        if train(training, options, steps_until_kill, rng.randint(1, 6)):
            break
    mixture = ff.Mixture(**arguments)
    expected = []
    for epoch in range(EPOCHS):
        rows, numbers = mixture.order(seed=7, epoch=epoch).rows(0, len(mixture))
        said = rows * SOURCES_MAX + np.asarray(numbers)
        expected += [(epoch, position, row) for position, row in enumerate(said.tolist())]
    assert training.consumed == expected
