"""Trainings that are killed, and go on from their last checkpoint with other ranks and other batches.

Real processes, kill -9 at random moments. What was consumed up to each checkpoint that was used, concatenated, is
exactly the epochs. `FASTFEED_KILL_ROUNDS=500 python -m pytest tests/fault/test_loader_kill.py` runs many trainings.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastfeed.dataset.dataset import Dataset
from fastfeed.order import Order
from tests.helpers.loader_data import write_rows
from tests.helpers.programs import unmeasured_environment

ROUNDS = int(os.environ.get("FASTFEED_KILL_ROUNDS", "2"))
ROWS, EPOCHS = 400, 2
KILLS_MAX = 3


class Training:
    """What a training has consumed: for good, up to its last checkpoint, and since then."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self.consumed: list[tuple[int, int, int]] = []  # (epoch, position, row)
        self._since: list[tuple[int, int, int]] = []

    def step(self, lines: list[dict[str, Any]]) -> None:
        assert all(line["state"] == lines[0]["state"] for line in lines), "ranks have different states"
        for line in lines:
            self._since += [(line["epoch"], position, row)
                            for position, row in zip(line["positions"], line["rows"], strict=True)]
        self._last_state = lines[0]["state"]

    def checkpoint(self) -> None:
        assert len(json.dumps(self._last_state)) < 1024
        self.consumed += self._since
        self.state, self._since = json.loads(json.dumps(self._last_state)), []

    def killed(self) -> None:
        self._since = []


@contextmanager
def ranks_of(world_size: int, options: dict[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.training_program", json.dumps({**options, "rank": rank})],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=unmeasured_environment())
        for rank in range(world_size)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def heard(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """One line of each rank."""
    lines = []
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"a rank ended with code {process.wait()}"
        lines.append(json.loads(line))
    return lines


def tell(processes: list[subprocess.Popen[str]], answer: Any) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(answer) + "\n")
        process.stdin.flush()


def train(training: Training, options: dict[str, Any], steps_until_kill: int | None, checkpoint_steps: int) -> bool:
    """Go on from the last checkpoint; whether the training came to its end. The kill hits ranks that make a step."""
    world_size = options["world_size"]
    with ranks_of(world_size, {**options, "state": training.state, "epochs": EPOCHS}) as processes:
        steps = 0
        while True:
            lines = heard(processes)
            if "gather" in lines[0]:
                tell(processes, [line["gather"] for line in lines])
                continue
            if "done" in lines[0]:
                training.checkpoint()
                return True
            training.step(lines)
            steps += 1
            if steps % checkpoint_steps == 0:
                training.checkpoint()
            tell(processes, "go")
            if steps == steps_until_kill:
                training.killed()
                return False


def drawn_options(rng: random.Random, dataset: Dataset, deal: str, shuffle: str) -> dict[str, Any]:
    world_size = rng.randint(1, 4)
    return {"place": dataset.url, "batch_size": rng.randint(3, 17), "world_size": world_size, "last": "short",
            "shuffle": shuffle, "shuffle_window": 2, "seed": 7, "threads": 1, "columns": ["id"], "deal": deal,
            "nodes": [f"node-{rng.randint(0, 2)}" for _ in range(world_size)] if deal == "home" else None,
            "prefetch_factor": rng.randint(1, 8)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_rows(tmp_path_factory.mktemp("kill") / "data", ROWS)


@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("deal", ["fixed", "home"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_was_consumed_up_to_the_checkpoints_is_exactly_the_epochs(dataset: Dataset, number: int, deal: str):
    rng = random.Random(f"{number} {deal}")
    training = Training()
    shuffle = rng.choice(["full", "window"])
    for kill in range(KILLS_MAX + 1):
        steps_until_kill = rng.randint(1, 20) if kill < KILLS_MAX else None
        if train(training, drawn_options(rng, dataset, deal, shuffle), steps_until_kill, rng.randint(1, 6)):
            break
    expected = [(epoch, position, row) for epoch in range(EPOCHS)
                for position, row in enumerate(Order(ROWS, seed=7, epoch=epoch, shuffle=shuffle, shuffle_window=2,
                                                     block_rows=dataset.block_rows).rows(0, ROWS).tolist())]
    if deal == "fixed":
        assert training.consumed == expected  # in order of steps, then of ranks
    assert sorted(training.consumed) == expected
