"""Callables at the top level of a module, so that processes can have them."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from fastfeed.dataset.batch import Batch


def upper(text: str) -> str:
    return text.upper()


def add_noise(value: Any, rng: np.random.Generator) -> float:
    return float(value) + rng.random()


def with_length(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "length": len(sample["text"])}


def drawn(batch: Batch, rng: np.random.Generator) -> Batch:
    batch.columns["drawn"] = rng.integers(0, 1 << 30, len(batch))
    return batch


def as_lists(batch: Any) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in batch.items()}


def fail_on_seven(value: Any) -> Any:
    if value == 7:
        raise ValueError("seven is not for me")
    return value


def unpicklable(batch: Batch) -> Any:
    return lambda: batch


class Unreadable:
    """Pickles, but does not unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def does_not_unpickle(batch: Any) -> Any:
    return Unreadable()


def process_id(batch: Batch) -> int:
    return os.getpid()


def sleep_on(batch: Batch) -> Any:
    threading.Event().wait()


def die(batch: Batch) -> Any:
    os._exit(9)
