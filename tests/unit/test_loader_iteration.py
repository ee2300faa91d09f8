"""Iteration and state of a loader, sentence by sentence; over a reader without files."""

import contextlib
import itertools
import json
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from fastfeed.errors import ConfigError, CorruptDataError, LoaderTimeoutError
from fastfeed.loader.depth import DEPTH_MAX
from fastfeed.loader.loader import Loader
from tests.helpers.fake_dataset import FakeDataset
from tests.helpers.fake_reader import FakeReader


def loader_of(n: int = 20, *, fingerprint: str = "a" * 32, reader: FakeReader | None = None, **options: Any) -> Loader:
    arguments: dict[str, Any] = {"batch_size": 4, "shuffle": "full", "rank": 0, "world_size": 1, **options}
    if "global_batch_size" in options:
        del arguments["batch_size"]
    return Loader(FakeDataset(n, fingerprint), reader_factory=lambda: reader or FakeReader(), **arguments)


def ids(batches: Any) -> list[list[int]]:
    return [batch["id"].tolist() for batch in batches]


def flat(batches: Any) -> list[int]:
    return [int(row) for batch in batches for row in batch["id"][batch.valid]]


def take(loader: Loader, count: int) -> list[list[int]]:
    """`count` batches of a new iteration, which is then left."""
    iterator = iter(loader)
    return [next(iterator)["id"].tolist() for _ in range(count)]


def test_an_epoch_is_the_order_and_every_row_once():
    loader = loader_of()
    expected = loader.order.rows(0, 20).tolist()
    assert flat(loader) == expected
    assert sorted(expected) == list(range(20))


def test_iter_starts_at_the_beginning_of_the_epoch():
    loader = loader_of()
    assert take(loader, 2) == take(loader, 2)


def test_after_break_a_new_iter_repeats_the_same_epoch():
    loader = loader_of()
    first = take(loader, 3)
    assert ids(loader)[:3] == first
    assert loader.epoch == 0


def test_after_the_last_batch_the_state_is_the_epoch_and_n():
    loader = loader_of(22)  # two rows are dropped
    iterator = iter(loader)
    for _ in range(len(loader)):
        next(iterator)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 22)


def test_the_iter_after_a_complete_epoch_starts_the_next_one():
    loader = loader_of()
    first = ids(loader)
    assert loader.epoch == 0
    second = ids(loader)
    assert loader.epoch == 1
    assert first != second
    assert second == ids(loader_of(epoch=1))


def test_a_loop_that_is_left_at_the_last_batch_has_completed_the_epoch():
    loader = loader_of()
    take(loader, len(loader))
    take(loader, 1)
    assert loader.epoch == 1


def test_a_state_at_n_yields_nothing_once():
    loader = loader_of()
    list(loader)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    assert ids(resumed) == []
    assert ids(resumed) == ids(loader_of(epoch=1))


def test_set_epoch_with_the_current_epoch_keeps_a_loaded_position():
    loader = loader_of()
    take(loader, 2)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(0)
    assert ids(resumed) == ids(loader_of())[2:]


def test_set_epoch_with_the_current_epoch_keeps_a_loaded_end():
    loader = loader_of()
    list(loader)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(0)
    assert ids(resumed) == []


def test_set_epoch_with_another_epoch_resets_a_loaded_position():
    loader = loader_of()
    take(loader, 2)
    resumed = loader_of()
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(3)
    assert ids(resumed) == ids(loader_of(epoch=3))


def test_set_epoch_after_a_complete_epoch_says_which_comes_next():
    loader = loader_of()
    first = ids(loader)
    loader.set_epoch(0)
    assert loader.state_dict()["position"] == 0
    assert ids(loader) == first
    loader.set_epoch(7)
    assert ids(loader) == ids(loader_of(epoch=7))


def test_the_usual_loop_over_epochs_gives_each_epoch_once():
    loader = loader_of()
    for epoch in range(3):
        loader.set_epoch(epoch)
        assert ids(loader) == ids(loader_of(epoch=epoch))


@pytest.mark.parametrize("epoch", [-1, 1.5, True, "2"])
def test_set_epoch_takes_whole_numbers_only(epoch):
    with pytest.raises(ConfigError, match="set_epoch"):
        loader_of().set_epoch(epoch)


def test_the_first_iter_after_load_state_dict_goes_on_and_the_next_starts_over():
    loader = loader_of()
    whole = ids(loader)
    resumed = loader_of()
    other = loader_of()
    take(other, 2)
    resumed.load_state_dict(other.state_dict())
    assert take(resumed, 1) == whole[2:3]
    assert take(resumed, 1) == whole[:1]


def test_a_position_counts_batches_that_were_handed_out_not_those_read_ahead():
    reader = FakeReader()
    loader = loader_of(reader=reader, prefetch_factor=4)
    take(loader, 1)
    assert reader.submitted == 5
    assert loader.state_dict()["position"] == 4


def test_a_state_is_json_below_1_kb_and_the_same_on_every_rank():
    states = []
    for rank in range(3):
        loader = loader_of(30, rank=rank, world_size=3, shuffle="window", seed=(1 << 64) - 1)
        take(loader, 2)
        states.append(json.dumps(loader.state_dict()))
    assert len(set(states)) == 1
    assert len(states[0]) < 1024


@pytest.mark.parametrize("before", [{"world": 1, "batch": 4}, {"world": 3, "batch": 2}])
@pytest.mark.parametrize("after", [{"world": 1, "batch": 5}, {"world": 2, "batch": 3}, {"world": 4, "batch": 1}])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_resuming_with_another_world_and_batch_gives_exactly_the_rest(before, after, steps):
    first = [loader_of(31, rank=rank, world_size=before["world"], batch_size=before["batch"], last="short")
             for rank in range(before["world"])]
    iterators = [iter(loader) for loader in first]
    seen = [row for _ in range(steps) for iterator in iterators for row in flat([next(iterator)])]
    state = json.loads(json.dumps(first[0].state_dict()))
    rest = []
    for rank in range(after["world"]):
        loader = loader_of(31, rank=rank, world_size=after["world"], batch_size=after["batch"], last="short")
        loader.load_state_dict(state)
        rest += flat(loader)
    assert sorted(seen + rest) == list(range(31))


@pytest.mark.parametrize(("options", "reason"), [
    ({"fingerprint": "b" * 32}, "dataset fingerprint"), ({"shuffle": "window"}, "shuffle"),
])
def test_a_state_of_another_run_is_refused_with_the_reason(options, reason):
    loader = loader_of(**options)
    with pytest.raises(ConfigError, match=reason):
        loader.load_state_dict(loader_of().state_dict())
    loader.load_state_dict(loader_of(seed=3).state_dict(), strict=False)
    assert loader.state_dict()["seed"] == 3


def test_a_state_of_another_window_is_refused_only_where_the_order_has_windows():
    state = loader_of(shuffle="window", shuffle_window=8).state_dict()
    with pytest.raises(ConfigError, match="shuffle_window"):
        loader_of(shuffle="window", shuffle_window=9).load_state_dict(state)
    loader_of(shuffle_window=9).load_state_dict(loader_of(shuffle_window=8).state_dict())


@pytest.mark.parametrize("change", [{"state_version": 99}, {"position": 21}, {"position": -1}, {"epoch": -1},
                                    {"rows": None}, {"order": {"version": 2}}, {"transform_version": 9},
                                    {"seed": "a"}, {"seed": -1}, {"position": "1.5"}, {"position": 4.5},
                                    {"seed": 2**64}, {"epoch": 2**63}])
def test_a_state_that_makes_no_sense_is_refused_and_changes_nothing(change):
    loader = loader_of()
    before = loader.state_dict()
    with pytest.raises(ConfigError):
        loader.load_state_dict({**before, **change})
    assert loader.state_dict() == before


def test_something_that_is_no_state_is_refused():
    with pytest.raises(ConfigError, match="no state of a fastfeed loader"):
        loader_of().load_state_dict({"step": 3})


def test_a_state_brings_its_seed():
    loader = loader_of(seed=5)
    rest = ids(loader)[1:]
    take_one = loader_of(seed=5)
    take(take_one, 1)
    resumed = loader_of(seed=0)
    resumed.load_state_dict(take_one.state_dict())
    assert ids(resumed) == rest


def test_len_is_the_steps_of_a_whole_epoch():
    assert [len(loader_of(22, last=last)) for last in ("drop", "short", "pad")] == [5, 6, 6]
    assert len(loader_of(22, global_batch_size=7)) == 3
    assert len(loader_of(0)) == 0


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_gives_every_row_once_over_all_ranks(world):
    loaders = [loader_of(23, rank=rank, world_size=world, shuffle=False, last="short") for rank in range(world)]
    epochs = [list(loader) for loader in loaders]
    assert sorted(row for epoch in epochs for row in flat(epoch)) == list(range(23))
    assert len({len(epoch) for epoch in epochs}) == 1


def test_pad_repeats_the_first_rows_of_the_epoch_marked_invalid():
    loader = loader_of(6, last="pad")
    order = loader.order.rows(0, 6).tolist()
    last = list(loader)[-1]
    assert last.rows.tolist() == [order[4], order[5], order[0], order[1]]
    assert last.positions.tolist() == [4, 5, 6, 7]
    assert last.valid.tolist() == [True, True, False, False]


def test_an_older_iteration_says_that_it_has_ended():
    loader = loader_of()
    for begin_another in (lambda: iter(loader), lambda: loader.set_epoch(5),
                          lambda: loader.load_state_dict(loader.state_dict())):
        old = iter(loader)
        next(old)
        begin_another()
        with pytest.raises(ConfigError, match="has ended"):
            next(old)


def test_an_iteration_that_has_given_nothing_yet_goes_to_the_epoch_that_is_set():
    """Lightning calls iter() before set_epoch()."""
    loader = loader_of()
    iterator = iter(loader)
    loader.set_epoch(3)
    assert ids(iterator) == ids(loader_of(epoch=3))
    assert loader.epoch == 3
    resumed = loader_of()
    resumed.load_state_dict({**loader.state_dict(), "epoch": 0})
    iterator = iter(resumed)
    resumed.set_epoch(1)
    assert ids(iterator) == ids(loader_of(epoch=1))


def test_an_exhausted_iteration_stays_exhausted():
    iterator = iter(loader_of())
    assert len(list(iterator)) == 5
    assert list(iterator) == []


def test_a_bad_batch_raises_and_the_next_call_goes_on_behind_it():
    loader = loader_of(shuffle=False, reader=FakeReader(bad_rows=[5]))
    iterator = iter(loader)
    assert next(iterator)["id"].tolist() == [0, 1, 2, 3]
    with pytest.raises(CorruptDataError, match="row 5"):
        next(iterator)
    assert loader.state_dict()["position"] == 4
    assert next(iterator)["id"].tolist() == [8, 9, 10, 11]
    assert loader.state_dict()["position"] == 12


class StuckReader(FakeReader):
    """Times out until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def next(self, timeout_s: float) -> Any:
        if not self.released.wait(0.01):
            raise LoaderTimeoutError(f"no batch for {timeout_s:g} s: stage read, shard x, row 3")
        return super().next(timeout_s)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_timeout_names_its_place_and_loses_nothing(workers):
    reader = StuckReader()
    loader = loader_of(shuffle=False, timeout_s=2.5, reader=reader, transforms={"id": [abs]}, python_workers=workers)
    iterator = iter(loader)
    with pytest.raises(LoaderTimeoutError, match=r"2\.5 s: stage read"):
        next(iterator)
    reader.released.set()
    rows: list[int] = []
    while len(rows) < 20:
        with contextlib.suppress(LoaderTimeoutError):  # a worker may have begun to wait before the release
            rows += flat([next(iterator)])
    assert rows == list(range(20))
    loader.close()


def test_an_interrupt_ends_the_iteration_and_the_state_stays_good():
    def interrupt_at_8(batch: Any) -> Any:
        if interrupting and batch.rows[0] == 8:
            raise KeyboardInterrupt
        return batch

    interrupting = [True]
    loader = loader_of(shuffle=False, map_batch=interrupt_at_8, python_workers=0)
    iterator = iter(loader)
    assert [next(iterator).rows[0] for _ in range(2)] == [0, 4]
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    with pytest.raises(ConfigError, match="has ended"):
        next(iterator)
    interrupting.clear()
    loader.load_state_dict(loader.state_dict())
    assert flat(loader) == list(range(8, 20))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_iteration_that_begins_while_the_storage_is_stuck_loses_nothing(workers):
    reader = StuckReader()
    loader = loader_of(shuffle=False, reader=reader, timeout_s=2, transforms={"id": [abs]}, python_workers=workers)
    for _ in range(5):
        iter(loader)
        loader.set_epoch(1 - loader.epoch)
    iterator = iter(loader)
    reader.released.set()
    rows: list[int] = []
    while len(rows) < 20:
        with contextlib.suppress(LoaderTimeoutError):  # a worker may have begun to wait before the release
            rows += flat([next(iterator)])
    assert rows == list(range(20))
    loader.close()


def is_interrupted(call: Callable[[], Any], line_count: int) -> bool:
    """Call, and raise KeyboardInterrupt before line number `line_count` of the loader's Python; False: it has fewer."""
    left = [line_count]

    def count(frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return count

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: count if "/fastfeed/loader/" in frame.f_code.co_filename else None)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("call", [next, lambda iterator: iter(iterator._loader)], ids=["next", "iter"])
def test_wherever_an_interrupt_comes_the_state_stays_good(call, workers):
    """It may come between any two lines. Afterwards the older iterator goes on where the state is, or says that it has
    ended; and a state taken now gives exactly the rest, and the next epoch."""
    for line_count in itertools.count(1):
        loader = loader_of(shuffle=False, map_batch=lambda batch: batch, python_workers=workers, prefetch_factor=3)
        iterator = iter(loader)
        next(iterator)
        went_on = not is_interrupted(partial(call, iterator), line_count)
        state = loader.state_dict()
        rest = list(range(state["position"], 20))
        with contextlib.suppress(ConfigError):
            assert flat(iterator) == rest
        loader.load_state_dict(state)
        assert flat(loader) == rest
        assert flat(loader) == list(range(20))
        loader.close()
        if went_on:
            break


def test_what_a_signals_handler_raises_is_not_taken_for_a_failure_of_the_batch():
    class AlarmedReader(FakeReader):
        alarmed = False

        def next(self, timeout_s: float) -> Any:
            if self.submitted >= 4 and not self.alarmed:
                self.alarmed = True
                raise TimeoutError("the time for this step is over")
            return super().next(timeout_s)

    loader = loader_of(shuffle=False, reader=AlarmedReader(), prefetch_factor=2)
    iterator = iter(loader)
    assert [next(iterator)["id"][0] for _ in range(2)] == [0, 4]
    with pytest.raises(TimeoutError, match="for this step"):
        next(iterator)
    with pytest.raises(ConfigError, match="interrupted"):
        next(iterator)
    loader.load_state_dict(loader.state_dict())
    assert flat(loader) == list(range(8, 20))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_epoch_begins_to_be_read_before_this_one_ends(workers):
    """Five steps an epoch, three batches ahead: after the last batch three of the next epoch are on their way, and the
    next iter() goes on with them."""
    reader = FakeReader()
    loader = loader_of(reader=reader, prefetch_factor=3, map_batch=lambda batch: batch, python_workers=workers)
    for epoch in range(3):
        assert ids(loader) == ids(loader_of(epoch=epoch))
        assert reader.submitted == 5 * (epoch + 1) + 3
    assert reader.cancelled == 0
    loader.close()


def test_at_most_one_epoch_is_read_ahead():
    reader = FakeReader()
    loader = loader_of(4, reader=reader, prefetch_factor=10)
    assert len(ids(loader)) == 1
    assert reader.submitted == 2


def test_an_epoch_without_steps_is_not_read_ahead():
    assert ids(loader_of(0)) == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("elsewhere", ["set_epoch", "same_epoch", "load", "break"])
def test_what_was_read_ahead_of_the_boundary_is_forgotten_where_the_loader_goes_elsewhere(elsewhere, workers):
    reader = FakeReader()
    loader = loader_of(reader=reader, prefetch_factor=3, transforms={"id": [int]}, python_workers=workers)
    first = ids(loader)
    other = loader_of()
    take(other, 2)
    if elsewhere == "set_epoch":
        loader.set_epoch(7)
        assert ids(loader) == ids(loader_of(epoch=7))
    elif elsewhere == "same_epoch":
        loader.set_epoch(0)
        assert ids(loader) == first
    elif elsewhere == "load":
        loader.load_state_dict(other.state_dict())
        assert ids(loader) == first[2:]
    else:
        second = take(loader, 2)
        assert take(loader, 2) == second == ids(loader_of(epoch=1))[:2]
    loader.close()


def test_set_epoch_to_the_next_one_uses_what_was_read_ahead():
    reader = FakeReader()
    loader = loader_of(reader=reader, prefetch_factor=3)
    ids(loader)
    loader.set_epoch(1)
    assert ids(loader) == ids(loader_of(epoch=1))
    assert (reader.submitted, reader.cancelled) == (13, 0)


def test_a_failure_in_the_next_epoch_is_raised_when_its_batch_is_asked_for():
    loader = loader_of(shuffle=False, reader=FakeReader(bad_rows=[2]), prefetch_factor=8)
    iterator = iter(loader)
    with pytest.raises(CorruptDataError):
        next(iterator)
    assert ids(iterator) == ids(loader_of(shuffle=False))[1:]
    with pytest.raises(CorruptDataError):
        next(iter(loader))


def test_prefetch_keeps_to_its_budget_and_its_limits():
    def depth(**options: Any) -> int:
        reader = FakeReader(batch_bytes=1000)
        list(loader_of(4000, reader=reader, **options))
        return reader.in_flight_max

    assert depth(prefetch=5000) == 5
    assert depth(prefetch=1) == 2
    assert depth(prefetch="1GiB") == DEPTH_MAX
    assert depth(prefetch_factor=3) == 3
    assert depth(predownload=80) == 8  # 80 samples of 100 bytes


def test_prefetch_factor_one_reads_one_batch_ahead():
    reader = FakeReader()
    assert len(flat(loader_of(reader=reader, prefetch_factor=1))) == 20
    assert reader.in_flight_max == 1


def test_a_drop_that_leaves_nothing_gives_a_note(caplog):
    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        assert list(loader_of(3)) == []
    assert "last='drop' gives no batch" in caplog.text


def test_one_note_when_many_batches_are_held(caplog):
    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        list(loader_of(1000, reader=FakeReader(slots_held=500)))
    assert len([record for record in caplog.records if "500 batches are held" in record.getMessage()]) == 1


@pytest.mark.parametrize(("held", "batch_bytes", "notes"), [(64, 1000, 0), (65, 1000, 1), (10, 1 << 30, 1),
                                                            (4, 1 << 30, 0)])
def test_many_batches_or_many_bytes_are_worth_a_note(caplog, held, batch_bytes, notes):
    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        list(loader_of(1000, reader=FakeReader(slots_held=held, batch_bytes=batch_bytes)))
    assert len([record for record in caplog.records if "batches are held" in record.getMessage()]) == notes


def test_waits_are_charged_to_what_the_batch_took_and_python_to_python():
    reader = FakeReader()
    reader.spent_s = (0.0, 0.0, 0.0, 1000.0, 0.0)
    loader = loader_of(reader=reader, map_batch=lambda batch: batch, python_workers=0)
    list(loader)
    waits = loader.stats()["exposed_wait"]
    assert loader.stats()["bottleneck"] == "decode"
    assert waits["by_stage"]["decode_s"]["total_s"] > 0.99 * waits["total_s"] > 0
    assert 0 < waits["by_stage"]["python_s"]["total_s"] < waits["total_s"]
    assert loader.progress().startswith("data wait ")
    assert "(decode), p95" in loader.progress()


def test_depth_grows_where_the_loop_waits_while_the_reader_idles():
    reader = FakeReader(batch_bytes=16 << 20)
    loader = loader_of(1000, reader=reader, prefetch="256MiB")
    for _ in loader:
        reader.idle_s += 1.0
    assert 2 < loader.stats()["prefetch_batches"] <= 16
    assert reader.in_flight_max > 2


def test_close_is_idempotent_and_ends_iteration():
    reader = FakeReader()
    with loader_of(reader=reader) as loader:
        iterator = iter(loader)
        next(iterator)
    assert reader.is_closed
    loader.close()
    with pytest.raises(ConfigError, match="ended: the loader was closed"):
        next(iterator)
    with pytest.raises(ConfigError, match="closed"):
        iter(loader)


def test_a_loader_that_is_dropped_closes_its_reader():
    reader = FakeReader()
    loader = loader_of(reader=reader)
    next(iter(loader))
    gone = weakref.ref(loader)
    del loader
    assert gone() is None
    assert reader.is_closed


def test_a_loader_does_not_pickle_and_says_what_does():
    with pytest.raises(TypeError, match="Pickle its dataset and its state_dict"):
        pickle.dumps(loader_of())


def test_a_loader_takes_one_dataset():
    with pytest.raises(ConfigError, match="one dataset"):
        Loader(batch_size=4)
    with pytest.raises(ConfigError, match="one dataset"):
        Loader(FakeDataset(3), remote="x", batch_size=4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is a list, and no dataset"):
        Loader([(FakeDataset(3), 0.5)], batch_size=4)  # type: ignore[arg-type]


def test_stats_tell_steps_and_exposed_wait():
    loader = loader_of()
    assert loader.stats()["steps"] == 0
    assert loader.stats()["exposed_wait"]["p99_s"] == 0
    list(loader)
    stats = loader.stats()
    assert stats["steps"] == 5
    assert 0 < stats["exposed_wait"]["p50_s"] <= stats["exposed_wait"]["max_s"] <= stats["exposed_wait"]["total_s"]
    assert set(stats) == {"steps", "samples", "exposed_wait", "stages", "bytes", "errors", "deal", "images",
                          "bottleneck", "slots", "prefetch_batches", "threads", "readers", "io"}
    json.dumps(stats)


@pytest.mark.parametrize("workers", [0, 3])
def test_callables_and_their_randomness_resume_exactly(workers):
    def noise(value: Any, rng: np.random.Generator) -> float:
        return float(value) + float(rng.random())

    def loader() -> Loader:
        return loader_of(30, transforms={"id": [noise]}, python_workers=workers)

    whole = ids(loader())
    first = loader()
    take(first, 3)
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert ids(resumed) == whole[3:]


def test_collate_fn_gets_the_batch_and_its_result_is_yielded():
    assert list(loader_of(shuffle=False, collate_fn=lambda batch: batch["id"].sum())) == [6, 22, 38, 54, 70]


def test_columns_and_transforms_must_exist():
    with pytest.raises(ConfigError, match="nope"):
        loader_of(columns=["nope"])
    with pytest.raises(ConfigError, match="not among those read"):
        loader_of(columns=["id"], transforms={"text": [len]})
