"""on_error="substitute": another row in the place of a bad one, the same on every rank; steps and state unchanged."""

import contextlib
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastfeed.dataset.batch import Batch, Ragged
from fastfeed.errors import CorruptDataError, LoaderTimeoutError
from fastfeed.loader.loader import Loader
from fastfeed.loader.sampler import OrderEpoch
from fastfeed.loader.substitute import SUBSTITUTE_ATTEMPTS, Substitutes, patched, substitute_position
from fastfeed.order import Order
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader

BAD = (3, 7, 8)


def loader_of(n: int = 20, *, bad: Any = BAD, reader: FakeReader | None = None, **options: Any) -> Loader:
    arguments: dict[str, Any] = {"batch_size": 4, "shuffle": "full", "on_error": "substitute", "rank": 0,
                                 "world_size": 1, "last": "short", **options}
    return Loader(FakeDataset(n), reader_factory=lambda: reader or FakeReader(bad_rows=bad, holes=True), **arguments)


def expected_row(order: Order, seed: int, epoch: int, position: int, bad: Any = BAD) -> int:
    """What docs/loader.md says."""
    for attempt in range(8):
        row = order[substitute_position(seed, epoch, position, attempt, order.n)]
        if row not in bad:
            return row
    raise AssertionError("eight bad rows")


def test_the_function_is_the_one_of_the_documentation():
    """Golden: a change would make runs that are resumed train on other samples."""
    assert [substitute_position(1, 2, 3, attempt, 1000) for attempt in range(4)] == GOLDEN


GOLDEN = [234, 568, 402, 168]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_bad_rows_are_replaced_by_the_documented_function(seed, workers):
    loader = loader_of(seed=seed, epoch=2, map_batch=lambda batch: batch, python_workers=workers)
    order = loader.order
    for batch in loader:
        for number, position in enumerate(batch.positions.tolist()):
            is_bad = order[position] in BAD
            row = expected_row(order, seed, 2, position) if is_bad else order[position]
            assert (batch.rows[number], batch["id"][number], batch["text"][number]) == (row, row, f"row {row}")
            assert batch.valid[number] == (not is_bad)


def test_a_substitute_that_storage_does_not_give_is_waited_for_until_the_timeout_and_comes_later():
    class StuckReader(FakeReader):
        released = threading.Event()

        def take(self, rows: np.ndarray, positions: np.ndarray, seed: int, epoch: int, **others: Any) -> Any:
            assert self.released.wait(60)
            return super().take(rows, positions, seed, epoch, **others)

    reader = StuckReader(bad_rows=[0], holes=True)
    loader = loader_of(reader=reader, shuffle=False, timeout_s=0.05)
    iterator = iter(loader)
    with pytest.raises(LoaderTimeoutError):
        next(iterator)
    reader.released.set()
    positions: list[int] = []
    while len(positions) < 20:
        with contextlib.suppress(LoaderTimeoutError):
            positions += next(iterator).positions.tolist()
    assert positions == list(range(20))
    loader.close()


def test_every_rank_takes_the_same_substitute():
    one = {position: row for batch in loader_of()
           for position, row in zip(batch.positions.tolist(), batch.rows.tolist(), strict=True)}
    three = {position: row for rank in range(3) for batch in loader_of(rank=rank, world_size=3, batch_size=2)
             for position, row in zip(batch.positions.tolist(), batch.rows.tolist(), strict=True)}
    assert one == three
    assert not set(one.values()) & set(BAD)


def test_callables_see_substitutes_and_the_state_counts_positions_only():
    loader = loader_of(shuffle=False, transforms={"id": [lambda value: int(value) + 100]})
    iterator = iter(loader)
    first = next(iterator)
    assert first["id"].tolist() == [row + 100 for row in first.rows]
    state = loader.state_dict()
    assert state["position"] == 4
    assert set(state) == set(loader_of(bad=()).state_dict())


def test_substitutes_are_counted_when_their_batch_is_handed_out():
    loader = loader_of(shuffle=False)
    iterator = iter(loader)
    counts = [loader.stats()["errors"]["substituted"] for _ in iterator]
    assert counts == [1, 2, 3, 3, 3]
    assert loader.stats()["errors"]["skipped"] == 0


def test_skipped_samples_are_counted_when_their_batch_is_handed_out():
    loader = loader_of(shuffle=False, on_error="skip")
    counts = []
    for batch in loader:
        counts.append(loader.stats()["errors"]["skipped"])
        assert batch.valid.tolist() == [row not in BAD for row in batch.rows]
    assert counts == [1, 2, 3, 3, 3]


def test_eight_bad_rows_in_a_row_raise_once_and_the_next_batch_follows():
    bad = set(range(1, 20))
    order = Order(20, shuffle="full", block_rows=4)
    position = next(p for p in range(20) if order[p] in bad and all(
        order[substitute_position(0, 0, p, attempt, 20)] in bad for attempt in range(8)))
    reader = FakeReader(bad_rows=bad, holes=True)
    loader = loader_of(bad=bad, reader=reader, batch_size=1, prefetch_factor=1)
    iterator = iter(loader)
    outcomes = []
    for _ in range(20):
        try:
            outcomes.append(int(next(iterator).rows[0]))
        except CorruptDataError as error:
            outcomes.append(str(error))
    assert f"position {position}) cannot be read, and neither can the 8 rows" in outcomes[position]
    assert 0 in outcomes  # the one good row, and wherever it is a substitute
    assert reader.taken <= 20 * SUBSTITUTE_ATTEMPTS


def test_padding_that_is_bad_is_substituted_by_its_own_position():
    loader = loader_of(6, bad=(0,), shuffle=False, last="pad")
    last = list(loader)[-1]
    assert last.positions.tolist() == [4, 5, 6, 7]
    assert last.valid.tolist() == [True, True, False, False]
    assert last.rows.tolist() == [4, 5, expected_row(loader.order, 0, 0, 6, bad=(0,)), 1]


def batch_of(rows: list[int], *, nullable: bool = False) -> Batch:
    values = [np.full((row % 3, 2), row, np.float32) for row in rows]
    offsets = np.cumsum([0, *(value.size for value in values)], dtype=np.int64)
    flat = np.concatenate([value.reshape(-1) for value in values])
    nulls = np.array([row % 2 == 0 for row in rows]) if nullable else None
    ragged = Ragged(flat, offsets, np.array([value.shape for value in values], np.int64), "array", nulls)
    about = np.array(rows, np.int64)
    return Batch({"boxes": ragged, "id": about.copy()}, about.copy(), about + 100, np.ones(len(rows), bool),
                 {"boxes": nulls, "id": None}, about % 2)


def test_patching_gives_what_reading_the_other_rows_would_have_given():
    rng = np.random.default_rng(0)
    for nullable in (False, True):
        for _ in range(50):
            rows = rng.integers(0, 30, 7).tolist()
            places = np.flatnonzero(rng.random(7) < 0.4)
            others = rng.integers(0, 30, len(places) + 2)
            numbers = rng.permutation(len(others))[: len(places)]
            patch = patched(batch_of(rows, nullable=nullable), places, batch_of(others.tolist(), nullable=nullable),
                            numbers)
            wanted = np.array(rows)
            wanted[places] = others[numbers]
            expected = batch_of(wanted.tolist(), nullable=nullable)
            assert patch.to_dict() == expected.to_dict()
            assert patch.rows.tolist() == wanted.tolist()
            assert patch.source is not None
            assert patch.source.tolist() == (wanted % 2).tolist()
            assert patch.positions.tolist() == [row + 100 for row in rows]


def test_a_substitute_keeps_its_places_position_for_random_transforms():
    asked = []

    class Recorder:
        def take(self, rows: Any, positions: Any, seed: int, epoch: int, *, sources: Any = None) -> Any:
            asked.append((rows.tolist(), positions.tolist(), seed, epoch))
            return SimpleNamespace(columns=[rows], nulls=[None], rows=rows, positions=positions,
                                   valid=np.ones(len(rows), bool))

    order = Order(50, seed=5, epoch=6, shuffle="full")
    substitutes = Substitutes(Recorder(), [FakeDataset(50)], ["id"], ["scalar"])  # type: ignore[list-item]
    batch = Batch({"id": np.zeros(2, np.int64)}, np.array([1, 2]), np.array([10, 11]), np.array([True, False]))
    filled = substitutes.fill(batch, OrderEpoch(order), 5, 6)
    row = order[substitute_position(5, 6, 11, 0, 50)]
    assert asked == [([row], [11], 5, 6)]
    assert filled["id"].tolist() == [0, row]
    assert filled.valid.tolist() == [True, False]
