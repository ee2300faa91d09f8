"""A rank of a training: python -m tests.helpers.training_program '<options of the loader as JSON>'

Steps in lockstep with the other ranks, as a training with collective operations does: after each step it prints one
line of JSON (epoch, rows, positions, state) and waits for a line of its starter, who has heard all ranks by then. A
line with "gather" asks for what all ranks gave. `place`, `epochs` and `state` are among the options, and `view` may be:
pairs of a method of Dataset and its argument. In stead of a place, `mixture` may give the arguments of one, `sources`
among them. The rest goes to the loader. Ends when its input ends.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import fastfeed as ff

# A row of source k of a mixture is said as row * SOURCES_MAX + k.
SOURCES_MAX = 1024


def exchange(line: dict[str, Any]) -> Any:
    """Say `line`, and return the answer."""
    print(json.dumps(line), flush=True)
    answer = sys.stdin.readline()
    if not answer:
        sys.exit(0)
    return json.loads(answer)


def gather(text: str) -> Sequence[str]:
    answers: list[str] = exchange({"gather": text})
    return answers


def view_of(dataset: ff.Dataset, steps: Sequence[tuple[str, Any]]) -> ff.Dataset:
    """The view that the steps make; of a split its first part."""
    for method, argument in steps:
        view = getattr(dataset, method)(argument)
        dataset = next(iter(view.values())) if method == "split" else view
    return dataset


def main(options: dict[str, Any]) -> None:
    epochs, state, mixture = options.pop("epochs"), options.pop("state"), options.pop("mixture", None)
    source = ff.Mixture(**mixture) if mixture else view_of(ff.open(options.pop("place")), options.pop("view", []))
    with ff.Loader(source, all_gather=gather if options.get("deal") == "home" else None, **options) as loader:
        if state is not None:
            loader.load_state_dict(state)
        while True:
            for batch in loader:
                rows = batch.rows if batch.source is None else batch.rows * SOURCES_MAX + batch.source
                exchange({"epoch": loader.epoch, "rows": rows[batch.valid].tolist(),
                          "positions": batch.positions[batch.valid].tolist(), "state": loader.state_dict()})
            if loader.epoch + 1 == epochs:
                break
    print(json.dumps({"done": True}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
