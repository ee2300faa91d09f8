"""A loader against a model of what the documentation says of iter, next, set_epoch, states, break and the epoch's end.

The model knows the order and a few sentences; the loader has batches on their way, of this epoch and the next, with and
without workers for Python callables.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fastfeed.loader.loader import Loader
from fastfeed.order import Order
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader

ROWS = 13


class Model:
    """Where a run is. Steps of `batch` positions, the last one short."""

    def __init__(self, batch: int) -> None:
        self.batch, self.epoch, self.position = batch, 0, 0
        self.is_loaded = self.is_complete = False

    def begin(self) -> None:
        if self.is_complete:
            self.epoch, self.position = self.epoch + 1, 0
        elif not self.is_loaded:
            self.position = 0
        self.is_loaded = self.is_complete = False

    def next(self) -> list[int] | None:
        if self.position == ROWS:
            self.is_complete = True
            return None
        end = min(self.position + self.batch, ROWS)
        rows = Order(ROWS, epoch=self.epoch, shuffle="full").rows(self.position, end).tolist()
        self.position, self.is_complete = end, end == ROWS
        return rows

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch or self.is_complete:
            self.epoch, self.position, self.is_loaded = epoch, 0, False
        self.is_complete = False


class LoaderMachine(RuleBasedStateMachine):
    @initialize(batch=st.integers(1, 6), depth=st.integers(1, 9), workers=st.integers(0, 2))
    def make(self, batch: int, depth: int, workers: int) -> None:
        self.model = Model(batch)
        self.reader = FakeReader()
        self.loader = Loader(FakeDataset(ROWS), batch_size=batch, shuffle="full", last="short", rank=0, world_size=1,
                             prefetch_factor=depth, python_workers=workers, map_batch=lambda batch: batch,
                             reader_factory=lambda: self.reader)
        self.depth = depth
        self.iterator: Any = None
        self.is_fresh = False  # whether the iterator was not asked for a batch yet
        self.states: list[dict[str, Any]] = []

    def teardown(self) -> None:
        self.loader.close()

    @rule()
    def begin(self) -> None:
        self.iterator, self.is_fresh = iter(self.loader), True
        self.model.begin()

    @precondition(lambda self: self.iterator is not None)
    @rule(count=st.integers(1, 15))
    def next(self, count: int) -> None:
        self.is_fresh = False
        for _ in range(count):
            batch = next(self.iterator, None)
            assert (None if batch is None else batch.rows.tolist()) == self.model.next()
            if batch is not None:
                assert np.array_equal(batch["id"], batch.rows)
        assert self.reader.in_flight_max <= self.depth

    @rule(epoch=st.integers(0, 3))
    def set_epoch(self, epoch: int) -> None:
        if epoch != self.model.epoch and not self.is_fresh:
            self.iterator = None
        self.loader.set_epoch(epoch)
        self.model.set_epoch(epoch)
        # A running iteration of the same epoch goes on, unless that epoch was over.
        if self.iterator is not None and self.model.position == 0 and not self.is_fresh:
            self.iterator = None

    @rule()
    def save(self) -> None:
        self.states.append(self.loader.state_dict())
        assert self.states[-1]["epoch"] == self.model.epoch
        assert self.states[-1]["position"] == self.model.position

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        state = data.draw(st.sampled_from(self.states))
        self.loader.load_state_dict(state)
        self.model.epoch, self.model.position = state["epoch"], state["position"]
        self.model.is_loaded, self.model.is_complete = True, False
        self.iterator = None


TestLoaderMachine = LoaderMachine.TestCase
TestLoaderMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
