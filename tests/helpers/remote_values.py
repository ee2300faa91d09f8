"""Samples in a form in which those of a local and of a remote dataset can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastfeed.dataset.dataset import Dataset


def plain(value: Any) -> Any:
    """Arrays as (dtype, shape, bytes), all else as it is."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return value


def samples_of(dataset: Dataset) -> list[Any]:
    """All samples, in order."""
    return [plain(sample) for sample in dataset]
