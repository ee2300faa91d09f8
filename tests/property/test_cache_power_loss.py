"""Power losses, kills and torn writes in any order: no slot is handed out whose bytes are not its chunk's, and nothing
that was durable is lost. A long run:

FASTFEED_POWER_LOSSES=5000 python -m pytest --timeout=0 tests/property/test_cache_power_loss.py
"""

from __future__ import annotations

import os
import random
from contextlib import suppress

import hypothesis.strategies as st
from hypothesis import given, settings

from fastfeed.cache.faulty import Fault, KilledError
from fastfeed.cache.pool import Pool
from tests.helpers.cache_pools import KEY, Place, abandon_as_after_a_crash, body, keep_house, place
from tests.helpers.power import Power

RUNS = int(os.environ.get("FASTFEED_POWER_LOSSES", "25"))
CHUNKS = 8
LENGTH = 70_000  # two checks: enough to be torn, and quick


def fill(pool: Pool, chunk: int) -> None:
    reservation = pool.reserve(KEY, chunk, LENGTH)
    if reservation is not None:
        pool.fill(reservation, body(KEY, chunk, LENGTH))
    pool.settle()


def places(pool: Pool) -> dict[int, int]:
    """Chunk -> map entry (the slot, and which filling of it) of all that is there; each with its bytes. A slot that
    fails its checksum raises."""
    found = {}
    for chunk in range(CHUNKS):
        if located := pool.find(KEY, chunk):
            assert pool.read(located, KEY, chunk, 0, LENGTH) == body(KEY, chunk, LENGTH)
            found[chunk] = located.entry
    return found


class Life:
    """A pool, the machine under it, and what must survive."""

    def __init__(self, here: Place, slots: int) -> None:
        self.here, self.slots = here, slots
        self.power = Power(here)
        self.pool = here.open(slots=slots)
        self.durable: dict[int, int] = {}

    def fill(self, chunk: int) -> None:
        fill(self.pool, chunk)

    def tear(self, chunk: int) -> None:
        """A write that fails half-way; the disk is well again soon after."""
        self.here.faults.set("fill", Fault.TORN)
        fill(self.pool, chunk)
        self.here.faults.clear()
        for _ in range(5):
            self.here.clock.now_s += 2
            keep_house(self.pool)

    def sync(self, chunk: int) -> None:
        """Twice: what waits for its check is checked first, and the watermark moves after it."""
        for _ in range(2):
            self.here.clock.now_s += 11
            keep_house(self.pool)
        self.durable = places(self.pool)

    def kill(self, chunk: int) -> None:
        """In the middle of a write."""
        reservation = self.pool.reserve(KEY, chunk, LENGTH)
        if reservation is not None:
            self.here.faults.set("fill", Fault.KILLED)
            with suppress(KilledError):
                self.pool.fill(reservation, body(KEY, chunk, LENGTH))
            self.here.faults.clear()
        before = places(self.pool)
        abandon_as_after_a_crash(self.pool)
        self.pool = self.here.open(slots=self.slots)
        assert places(self.pool) == before, "nothing that was published is lost"

    def lose_power(self, seed: int) -> None:
        after = places(self.pool)
        untouched = {chunk for chunk in self.durable if after.get(chunk) == self.durable[chunk]}
        abandon_as_after_a_crash(self.pool)
        self.power.fail(random.Random(seed))
        self.pool = self.here.open(slots=self.slots)
        places(self.pool)
        if seed % 2:
            keep_house(self.pool)
            assert untouched <= places(self.pool).keys()
        self.durable = {}


actions = [Life.fill] * 6 + [Life.tear, Life.sync, Life.sync, Life.kill]
step = st.tuples(st.sampled_from(actions), st.integers(0, CHUNKS - 1))
loss = st.tuples(st.just(Life.lose_power), st.integers(0, 1000))
lives = st.lists(st.tuples(st.lists(step, max_size=10), loss), min_size=1, max_size=3)


@settings(max_examples=RUNS, deadline=None)
@given(lives=lives, slots=st.integers(2, 6))
def test_what_is_found_after_power_losses_is_right(lives, slots) -> None:  # type: ignore[no-untyped-def]
    with place() as here:
        life = Life(here, slots)
        for steps, loss in lives:
            for action, argument in [*steps, loss]:
                action(life, argument)
                places(life.pool)
        abandon_as_after_a_crash(life.pool)
