"""Python callables: what they are given, what becomes of their results, and that workers change nothing."""

import multiprocessing
import os
import threading

import numpy as np
import pytest

from fastfeed.dataset.batch import Batch, Ragged
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError, LoaderTimeoutError, TransformError
from fastfeed.loader.callables import Callables, RunKey, make_callables, sample_rng
from fastfeed.loader.collate import collate_values
from fastfeed.loader.options import PythonMode
from fastfeed.loader.process import CallableProcess
from fastfeed.loader.reading import BatchReader, Wish
from fastfeed.loader.stage import InlineStage, Stage, make_stage
from tests.helpers import loader_callables as functions
from tests.helpers.fake_reader import FakeReader

KEY = RunKey(seed=5, epoch=2)
TIMEOUT_S = 30.0


def stage_of(
    callables: Callables, workers: int = 0, mode: PythonMode = PythonMode.THREADS, reader: FakeReader | None = None
) -> Stage:
    batches = BatchReader(reader or FakeReader(), ("id", "text"), ("scalar", "text"))
    return make_stage(batches, callables, workers, mode, TIMEOUT_S)


def wish(*rows: int, first: int = 100) -> Wish:
    positions = np.arange(first, first + len(rows), dtype=np.int64)
    return Wish(np.array(rows, np.int64), positions, None, KEY)


def one(callables: Callables, *rows: int, **arguments: object):
    stage = stage_of(callables, **arguments)
    try:
        stage.submit(wish(*rows))
        return stage.next(TIMEOUT_S).value
    finally:
        stage.close()


def test_without_callables_a_batch_goes_through_as_it_is():
    batch = one(make_callables({}), 3, 1)
    assert batch["id"].tolist() == [3, 1]
    assert batch["text"].tolist() == ["row 3", "row 1"]


def test_a_column_callable_sees_values_and_leaves_other_columns_alone():
    batch = one(make_callables({"text": [functions.upper]}), 3, 1)
    assert batch["text"].tolist() == ["ROW 3", "ROW 1"]
    assert batch["id"].tolist() == [3, 1]


def test_map_sample_sees_the_sample_after_the_column_callables():
    batch = one(make_callables({"text": [lambda text: text * 2]}, functions.with_length), 3, 10)
    assert batch["length"].tolist() == [10, 12]
    assert list(batch) == ["id", "text", "length"]


def test_map_batch_sees_the_batch_and_collate_makes_what_is_yielded():
    made = one(make_callables({}, batch=functions.drawn, collate=functions.as_lists), 3, 1)
    assert made["id"] == [3, 1]
    assert len(made["drawn"]) == 2


def test_finish_runs_between_map_batch_and_collate():
    seen = []

    def note(name):
        return lambda batch: (seen.append(name), batch)[1]

    one(make_callables({}, note("sample"), note("batch"), note("finish"), note("collate")), 1)
    assert seen == ["sample", "batch", "finish", "collate"]


def test_an_rng_is_keyed_by_seed_epoch_position_row_and_callable():
    draws = {sample_rng(RunKey(seed, epoch), position, row, number).integers(1 << 62)
             for seed in (0, 1) for epoch in (0, 1) for position in (0, 1) for row in (0, 1) for number in (1, 2)}
    assert len(draws) == 32
    assert sample_rng(KEY, 3, 4, 1).random() == sample_rng(KEY, 3, 4, 1).random()


def test_an_rng_is_the_documented_philox():
    bits = np.random.Philox(key=np.array([5, 2], np.uint64), counter=np.array([0, 1, 9, 100], np.uint64))
    batch = one(make_callables({"id": [functions.add_noise]}), 9)
    assert batch["id"][0] == 9 + np.random.Generator(bits).random()


CALLABLES = make_callables({"id": [functions.add_noise], "text": [functions.upper]}, functions.with_length,
                           functions.drawn, None, functions.as_lists)


def results(workers: int, mode: PythonMode) -> list[dict[str, list[object]]]:
    stage = stage_of(CALLABLES, workers, mode)
    try:
        for number in range(12):
            stage.submit(wish(*range(number, number + 5), first=10 * number))
        return [stage.next(TIMEOUT_S).value for _ in range(12)]
    finally:
        stage.close()


@pytest.mark.parametrize(("workers", "mode"), [(1, PythonMode.THREADS), (4, PythonMode.THREADS),
                                               (2, PythonMode.PROCESSES)])
def test_results_are_equal_and_in_order_for_any_workers(workers, mode):
    assert results(workers, mode) == results(0, PythonMode.THREADS)


def test_processes_are_other_processes():
    assert one(make_callables({}, collate=functions.process_id), 1, workers=1, mode=PythonMode.PROCESSES) != os.getpid()


def test_threads_are_other_threads():
    names = one(make_callables({}, collate=lambda batch: threading.current_thread().name), 1, workers=1)
    assert names == "fastfeed-python-0"


@pytest.mark.parametrize(("workers", "mode"), [(0, PythonMode.THREADS), (1, PythonMode.THREADS),
                                               (1, PythonMode.PROCESSES)])
def test_an_exception_names_callable_row_and_column_and_the_next_batch_follows(workers, mode):
    stage = stage_of(make_callables({"id": [functions.fail_on_seven]}), workers, mode)
    try:
        stage.submit(wish(6, 7))
        stage.submit(wish(8, 9))
        with pytest.raises(TransformError, match=r"transforms\['id'\]: fail_on_seven failed on row 7") as caught:
            stage.next(TIMEOUT_S)
        assert "ValueError: seven is not for me" in str(caught.value)
        assert "loader_callables.py" in str(caught.value)
        assert stage.next(TIMEOUT_S).value["id"].tolist() == [8, 9]
    finally:
        stage.close()


def test_an_exception_in_a_thread_has_its_cause():
    with pytest.raises(TransformError) as caught:
        one(make_callables({"id": [functions.fail_on_seven]}), 7, workers=1)
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_exception_of_a_batch_callable_names_the_position():
    with pytest.raises(TransformError, match=r"map_batch: .* failed on the batch at position 100: KeyError"):
        one(make_callables({}, batch=lambda batch: batch["missing"]), 7)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_batch_raises_once_and_the_next_one_follows(workers):
    stage = stage_of(make_callables({"text": [functions.upper]}), workers, reader=FakeReader(bad_rows=[7]))
    try:
        stage.submit(wish(6, 7))
        stage.submit(wish(8, 9))
        with pytest.raises(CorruptDataError, match="row 7"):
            stage.next(TIMEOUT_S)
        assert stage.next(TIMEOUT_S).value["id"].tolist() == [8, 9]
    finally:
        stage.close()


def test_holes_are_not_shown_to_per_sample_callables():
    reader = FakeReader(bad_rows=[7], holes=True)
    batch = one(make_callables({"text": [lambda text: len(text) / len(text)]}), 6, 7, 8, reader=reader)
    assert batch["text"].tolist() == [1, 0, 1]
    assert batch.valid.tolist() == [True, False, True]


def test_holes_are_not_shown_to_map_sample():
    reader = FakeReader(bad_rows=[7], holes=True)
    batch = one(make_callables({}, functions.with_length), 6, 7, reader=reader)
    assert batch["length"].tolist() == [5, 0]
    assert batch["text"].tolist() == ["row 6", ""]


def test_padding_is_masked_but_shown():
    stage = stage_of(make_callables({"text": [functions.upper]}))
    stage.submit(wish(6, 7)._replace(valid=np.array([True, False])))
    batch = stage.next(TIMEOUT_S).value
    assert batch.valid.tolist() == [True, False]
    assert batch["text"].tolist() == ["ROW 6", "ROW 7"]


def test_map_sample_must_return_a_sample():
    with pytest.raises(ConfigError, match="map_sample returned int for row 3"):
        one(make_callables({}, lambda sample: 1), 3)


def test_map_sample_must_return_the_same_columns_for_all():
    with pytest.raises(ConfigError, match="map_sample returned the columns"):
        one(make_callables({}, lambda sample: {"a": 1} if sample["id"] == 3 else {"b": 1}), 3, 4)


def test_processes_need_callables_that_pickle():
    with pytest.raises(ConfigError, match="top level of a module"):
        stage_of(make_callables({}, lambda sample: sample), 1, PythonMode.PROCESSES)


def test_a_result_that_does_not_pickle_is_an_error_of_its_batch():
    with pytest.raises(TransformError, match="cannot leave its process"):
        one(make_callables({}, batch=functions.unpicklable), 1, workers=1, mode=PythonMode.PROCESSES)


def test_a_process_that_dies_is_an_error_with_its_exit_code():
    with pytest.raises(FastfeedError, match="exit code 9"):
        one(make_callables({}, batch=functions.die), 1, workers=1, mode=PythonMode.PROCESSES)


def test_a_process_in_the_middle_of_a_batch_ends_when_its_loader_closes():
    stage = stage_of(make_callables({}, batch=functions.sleep_on), 1, PythonMode.PROCESSES)
    stage.submit(wish(1))
    with pytest.raises(LoaderTimeoutError):
        stage.next(0.01)
    stage.close()
    assert not [process for process in multiprocessing.active_children() if process.name == "fastfeed-python"]


def test_a_closed_process_takes_no_more_batches():
    process = CallableProcess(make_callables({}))
    process.close()
    with pytest.raises(FastfeedError, match="closed"):
        process.run(BatchReader(FakeReader(), (), ()))  # type: ignore[arg-type]


def test_a_wait_for_a_callable_ends_with_a_timeout_that_names_stage_and_row():
    began, release = threading.Event(), threading.Event()

    def held(batch: Batch) -> bool:
        began.set()
        return release.wait(TIMEOUT_S)

    stage = stage_of(make_callables({}, batch=held), 1)
    try:
        stage.submit(wish(1))
        stage.submit(wish(2))
        assert began.wait(TIMEOUT_S)
        with pytest.raises(LoaderTimeoutError, match=r"stage python, .* row 1 \(position 100\); 1 of 1 workers"):
            stage.next(0.05)
        release.set()
        assert stage.next(TIMEOUT_S).value is True
    finally:
        stage.close()


def test_cancel_forgets_what_was_submitted():
    stage = stage_of(make_callables({"text": [functions.upper]}), 2)
    try:
        for number in range(6):
            stage.submit(wish(number))
        stage.cancel()
        stage.submit(wish(50))
        assert stage.next(TIMEOUT_S).value["text"].tolist() == ["ROW 50"]
    finally:
        stage.close()


def test_a_closed_stage_says_so_and_closes_its_reader():
    reader = FakeReader()
    stage = stage_of(make_callables({"text": [functions.upper]}), 1, reader=reader)
    stage.close()
    stage.close()
    assert reader.is_closed
    with pytest.raises(FastfeedError, match="closed"):
        stage.next(TIMEOUT_S)


def test_workers_are_there_only_for_work():
    assert isinstance(stage_of(make_callables({}), 4), InlineStage)
    assert isinstance(stage_of(make_callables({}, finish=str), 4), InlineStage)


def test_python_time_is_counted():
    for workers in (0, 1):
        stage = stage_of(make_callables({"text": [functions.upper]}), workers)
        stage.submit(wish(1))
        stage.next(TIMEOUT_S)
        assert stage.python_s() > 0
        stage.close()


@pytest.mark.parametrize(("values", "dtype"), [
    ([1, 2, None], "int64"), ([1.5, 2], "float64"), ([True, False], "bool"),
    ([np.float32(1), np.float32(2)], "float32"), ([np.uint8(1), np.int16(2)], "int16"),
])
def test_numbers_become_one_array(values, dtype):
    column = collate_values(values)
    assert column.dtype == dtype
    assert column.tolist() == [0 if value is None else value for value in values]


def test_arrays_of_one_shape_are_stacked_and_holes_are_zeros():
    column = collate_values([np.ones((2, 3), np.float32), None])
    assert column.shape == (2, 2, 3)
    assert column.dtype == np.float32
    assert column[1].sum() == 0


def test_arrays_that_differ_in_size_become_ragged():
    column = collate_values([np.ones(2), np.ones(0), None, np.ones(3)])
    assert isinstance(column, Ragged)
    assert [len(value) for value in column] == [2, 0, 0, 3]
    boxes = collate_values([np.ones((2, 4)), np.ones((1, 4))])
    assert [value.shape for value in boxes] == [(2, 4), (1, 4)]


def test_arrays_of_different_dimensions_and_mixtures_stay_lists():
    assert isinstance(collate_values([np.ones(2), np.ones((2, 2))]), list)
    assert collate_values(["a", 1]) == ["a", 1]
    assert collate_values([{"a": 1}, None]) == [{"a": 1}, None]
    assert collate_values([None, None]) == [None, None]


def test_str_and_bytes_become_ragged():
    assert collate_values(["ä", None, "b"]).tolist() == ["ä", "", "b"]
    assert collate_values([b"a", None]).tolist() == [b"a", b""]
