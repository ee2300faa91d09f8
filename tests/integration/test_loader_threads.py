"""Where a loader's threads run, how many there are, and that a batch's memory comes back by every way out of numpy."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fastfeed as ff
import fastfeed.torch as fft
from tests.helpers.programs import unmeasured_environment
from tests.helpers.ranks import run_program

ROWS = 2000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("threads") / "data"
    with ff.DatasetWriter(place, ff.Schema({"x": ff.Tensor("float32", (256,)), "text": ff.Text()})) as writer:
        for row in range(ROWS):
            writer.write({"x": np.full(256, row, np.float32), "text": "t" * (row % 100)})
    return place
