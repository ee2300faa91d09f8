"""The native reader over small shards made by hand: what comes out, in which order, and what happens to bad bytes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fastfeed._native.feed import NativeBatch, OutputSpec, Reader, Snapshot
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError, FormatVersionError, LoaderTimeoutError
from tests.helpers.programs import unmeasured_environment
from tests.helpers.raw_shards import (
    ARRAY,
    BYTES,
    SCALAR,
    TENSOR,
    TEXT,
    Col,
    Shards,
    header,
    row_shards,
    stream_shards,
)

COLUMNS = [Col("label", SCALAR, "int64"), Col("data", BYTES)]


def payload_of(row: int) -> bytes:
    return bytes([row % 251]) * (row % 40)


def make(root: Path, counts: tuple[int, ...] = (30, 1, 50)) -> Shards:
    shards, first = [], 0
    for count in counts:
        rows = range(first, first + count)
        shards.append([list(rows), [payload_of(row) for row in rows]])
        first += count
    return row_shards(root, COLUMNS, shards)


def outputs_of(columns: list[Col]) -> list[OutputSpec]:
    return [column.output(index) for index, column in enumerate(columns)]


def reader_of(shards: Shards, *, io: str = "pread", open_files_max: int = 512, **options: object) -> Reader:
    return Reader(shards.snapshot(io=io, open_files_max=open_files_max), outputs_of(COLUMNS), **options)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def expect(batch: NativeBatch, numbers: np.ndarray) -> None:
    label, data = batch.columns
    for at, row in enumerate(numbers):
        start, end = data.offsets[at], data.offsets[at + 1]
        assert label[at] == max(row, 0)
        assert data.values[start:end].tobytes() == (payload_of(row) if row >= 0 else b"")
        assert batch.valid[at] == (row >= 0)


def corrupt(shards: Shards, shard: int, offset: int) -> None:
    content = bytearray(shards.path(shard).read_bytes())
    content[offset] ^= 1
    shards.path(shard).write_bytes(bytes(content))


def threads_of_readers() -> int:
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    return sum(name.startswith("ff-") for name in names)


def drain(reader: Reader, timeout_s: float) -> None:
    while reader.pending():
        reader.next(timeout_s)


class TestTake:
    def test_rows_come_in_the_order_asked_for_with_repeats_and_holes(self, tmp_path: Path) -> None:
        wanted = rows(70, 3, 3, -1, 30, 0, 80, 29)
        expect(reader_of(make(tmp_path)).take(wanted), wanted)

    def test_an_empty_batch_is_a_batch(self, tmp_path: Path) -> None:
        batch = reader_of(make(tmp_path)).take(rows())
        assert batch.columns[0].shape == (0,)
        assert batch.columns[1].offsets.tolist() == [0]

    def test_one_open_file_is_enough_for_any_number_of_shards(self, tmp_path: Path) -> None:
        shards = make(tmp_path, (2,) * 20)
        wanted = rows(*range(39, -1, -1))
        expect(reader_of(shards, open_files_max=1).take(wanted), wanted)

    def test_rows_outside_the_dataset_are_the_callers_mistake(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        for row in (81, -2):
            with pytest.raises(ConfigError, match="81 rows"):
                reader.take(rows(row))

    def test_arrays_are_writable_aligned_and_keep_their_memory(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        label = reader.take(rows(1, 2, 3)).columns[0]
        assert label.flags.writeable
        assert label.ctypes.data % 64 == 0
        reader.take(rows(4, 5, 6))
        gc.collect()
        assert label.tolist() == [1, 2, 3]
        assert reader.stats()["slots_held"] == 1

    def test_a_dropped_batch_gives_its_slot_to_the_next(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        for _ in range(20):
            reader.take(rows(1, 2))
        assert reader.stats()["slots"] == 1
        kept = [reader.take(rows(1, 2)) for _ in range(12)]
        assert reader.stats()["slots_held"] == len(kept)

    def test_batches_outlive_their_reader(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        batch = reader.take(rows(7, 8))
        reader.close()
        del reader
        gc.collect()
        expect(batch, rows(7, 8))


class TestSubmitAndNext:
    @pytest.mark.parametrize(("threads", "reader_threads"), [(1, 1), (3, 2)])
    def test_batches_come_in_the_order_of_submission(self, tmp_path: Path, threads: int, reader_threads: int) -> None:
        reader = reader_of(make(tmp_path, (400, 300)), threads=threads, reader_threads=reader_threads)
        rng = np.random.default_rng(0)
        batches = [rng.permutation(700)[: rng.integers(0, 700)].astype(np.int64) for _ in range(20)]
        for batch in batches:
            reader.submit(batch, batch, 0, 0)
        assert reader.pending() == 20
        for wanted in batches:
            expect(reader.next(30), wanted)
        assert reader.pending() == reader.ready() == 0
        stats = reader.stats()
        assert stats["batches"] == 20
        assert stats["samples"] == sum(map(len, batches))
        assert reader.pulse().batch_bytes > 0
        reader.close()

    def test_padding_is_delivered_but_marked(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        reader.submit(rows(5, 6), rows(0, 1), 0, 0, np.array([True, False]))
        batch = reader.next(30)
        assert batch.columns[0].tolist() == [5, 6]
        assert batch.valid.tolist() == [True, False]
        assert batch.positions.tolist() == [0, 1]

    def test_cancel_forgets_and_the_reader_goes_on(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path), io="fault:d")
        for _ in range(50):
            reader.submit(rows(1, 2), rows(1, 2), 0, 0)
        reader.cancel()
        assert reader.pending() == 0
        reader.submit(rows(9), rows(9), 0, 0)
        expect(reader.next(30), rows(9))

    def test_next_without_submit_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="without a submitted batch"):
            reader_of(make(tmp_path)).next(1)

    def test_a_timeout_names_stage_shard_and_row(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path, (200,)), io="fault:d")
        far_apart = np.arange(0, 200, dtype=np.int64)
        for _ in range(100):
            reader.submit(far_apart, far_apart, 0, 0)
        with pytest.raises(LoaderTimeoutError, match="stage"):
            drain(reader, timeout_s=0.001)

    def test_close_wakes_a_waiting_next(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path), io="fault:" + "d" * 9)
        failures: list[FastfeedError] = []
        started = threading.Event()

        def wait() -> None:
            started.set()
            try:
                while True:
                    reader.submit(rows(1), rows(1), 0, 0)
                    reader.next(30)
            except FastfeedError as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        started.wait()
        reader.close()
        reader.close()
        thread.join(30)
        assert "closed" in str(failures[0])

    def test_the_garbage_collector_frees_nothing_that_threads_still_read(self, tmp_path: Path) -> None:
        table = make(tmp_path).table()
        lives = weakref.ref(table.row_ends)
        seen: list[tuple[int, bool]] = []

        # The collector clears in the order in which things were made: the witness between the snapshot and the reader.
        # It is an array because the collector does not track arrays.
        snapshot = Snapshot(table, [column.spec() for column in COLUMNS])
        witness = [np.zeros(1)]
        goes = weakref.ref(witness[0], lambda _: seen.append((threads_of_readers(), lives() is not None)))
        reader = Reader(snapshot, outputs_of(COLUMNS), threads=2)
        reader.submit(rows(1), rows(1), 0, 0)
        cycle: list[object] = [snapshot, witness, reader]
        cycle.append(cycle)
        before = threads_of_readers()
        del table, snapshot, witness, reader, cycle
        gc.collect()
        assert goes() is None
        assert seen == [(before, True)]
        assert lives() is None
        assert threads_of_readers() == before - 3

    def test_arguments_must_agree(self, tmp_path: Path) -> None:
        reader = reader_of(make(tmp_path))
        with pytest.raises(ConfigError, match="positions"):
            reader.submit(rows(1, 2), rows(1), 0, 0)
        with pytest.raises(ConfigError, match="valid flags"):
            reader.submit(rows(1, 2), rows(1, 2), 0, 0, np.array([True]))
        with pytest.raises(ConfigError, match="on_error"):
            reader_of(make(tmp_path), on_error="ignore")
        with pytest.raises(ConfigError, match="threads"):
            reader_of(make(tmp_path), threads=0)


class TestSample:
    def test_values_are_pythons_own(self, tmp_path: Path) -> None:
        columns = [
            *(Col(f"s{dtype}", SCALAR, dtype) for dtype in (
                "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
                "float64")),
            Col("text", TEXT, codec=1), Col("maybe", TEXT, nullable=True), Col("tensor", TENSOR, "float16", (2, 3)),
            Col("boxes", ARRAY, "float32", (None, 4)), Col("empty", ARRAY, "int32", (None,)),
        ]
        tensor = np.arange(6, dtype=np.float16).reshape(2, 3)
        boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
        values = [[1]] * 12 + [["text " * 50], [None], [tensor], [boxes], [np.empty(0, np.int32)]]
        reader = Reader(row_shards(tmp_path, columns, [values]).snapshot(), outputs_of(columns))
        sample = reader.sample(0)
        assert list(sample[:12]) == [1] * 12
        assert [type(value) for value in sample[:12]] == [bool] + [int] * 8 + [float] * 3
        assert sample[12] == "text " * 50
        assert sample[13] is None
        np.testing.assert_array_equal(sample[14], tensor)
        np.testing.assert_array_equal(sample[15], boxes)
        assert sample[16].shape == (0,)
        sample[15][0] = 9   # writable
        with pytest.raises(ConfigError, match="row 1"):
            reader.sample(1)

    def test_bad_bytes_raise_and_name_the_row(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        corrupt(shards, 2, 4096 + 20)
        with pytest.raises(CorruptDataError, match=r"row 0 of the shard \(row 31 of the dataset\)"):
            reader_of(shards).sample(31)

    @pytest.mark.parametrize("codec", [0, 1])
    @pytest.mark.parametrize("cast", [None, "float32"])
    def test_values_that_no_type_has_are_corrupt(self, tmp_path: Path, codec: int, cast: str | None) -> None:
        # Frames of another writer, with crcs that are right.
        cases: tuple[tuple[Col, object, str, str], ...] = (
            (Col("flag", SCALAR), 2, "bool", "truth value is 2"),
            (Col("mask", TENSOR, shape=(3,)), (0, 1, 2), "bool", "truth value is 2"),
            (Col("mask", ARRAY, shape=(None,), codec=codec), [0, 1, 2] * 50, "bool", "truth value is 2"),
            (Col("boxes", ARRAY, "int16", (None, 2), codec), [0] * 101, "int16", "202 bytes are no whole number"),
        )
        for number, (column, value, dtype, match) in enumerate(cases):
            folder = tmp_path / str(number)
            folder.mkdir()
            snapshot = row_shards(folder, [column], [[[value]]]).snapshot()
            reader = Reader(snapshot, [column.output(0, dtype=dtype, cast=cast)])
            with pytest.raises(CorruptDataError, match=match):
                reader.take(rows(0))
            with pytest.raises(CorruptDataError, match=match):
                reader.sample(0)

    def test_a_text_that_is_not_utf8_is_corrupt(self, tmp_path: Path) -> None:
        columns = [Col("text", TEXT)]
        shards = row_shards(tmp_path, columns, [[[b"\xff\xfe"]]])
        with pytest.raises(CorruptDataError, match="UTF-8"):
            Reader(shards.snapshot(), outputs_of(columns)).sample(0)


class TestBadBytes:
    def test_the_lowest_position_in_the_batch_is_raised_whatever_the_threads(self, tmp_path: Path) -> None:
        shards = make(tmp_path, (300, 300))
        for shard in (0, 1):
            content = bytearray(shards.path(shard).read_bytes())
            content[4096 + 4] ^= 1   # row 0 of each shard
            shards.path(shard).write_bytes(bytes(content))
        wanted = np.arange(599, -1, -1, dtype=np.int64)   # row 300 comes before row 0
        for threads in (1, 4):
            reader = reader_of(shards, threads=threads)
            reader.submit(wanted, wanted, 0, 0)
            reader.submit(rows(5), rows(5), 0, 0)
            with pytest.raises(CorruptDataError, match="row 300 of the dataset"):
                reader.next(30)
            expect(reader.next(30), rows(5))

    def test_skip_makes_holes_and_counts_them(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        corrupt(shards, 0, 4096 + 9)
        reader = reader_of(shards, on_error="skip")
        batch = reader.take(rows(0, 1, 2))
        assert batch.valid.tolist() == [False, True, True]
        assert batch.columns[0].tolist() == [0, 1, 2]
        assert batch.columns[1].offsets.tolist() == [0, 0, 1, 3]
        stats = reader.stats()
        assert stats["holes"] == 1
        assert "row 0 of the shard" in stats["first_errors"][0]

    @pytest.mark.parametrize("script", ["....E", "...s", "....f", ".....z", ".E.s.f.z"])
    def test_faults_make_holes_and_never_wrong_bytes(self, tmp_path: Path, script: str) -> None:
        """The first read of a shard is its header, so the script may hit that too."""
        reader = reader_of(make(tmp_path, (60, 60)), io="fault:" + script, on_error="skip")
        delivered = 0
        for seed in range(30):
            wanted = np.random.default_rng(seed).permutation(120)[:9].astype(np.int64)
            batch = reader.take(wanted)
            expect(batch, np.where(batch.valid, wanted, -1))
            delivered += int(batch.valid.sum())
        assert delivered > 0
        assert reader.stats()["holes"] == 270 - delivered > 0

    def test_an_io_error_is_an_oserror_with_the_files_name(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        with pytest.raises(OSError, match="row 3 of the dataset") as raised:
            reader_of(shards, io="fault:.E").take(rows(3))
        assert raised.value.filename == str(shards.path(0))

    def test_a_short_read_is_a_truncated_file(self, tmp_path: Path) -> None:
        with pytest.raises(CorruptDataError, match="truncated"):
            reader_of(make(tmp_path), io="fault:.s").take(rows(3))

    def test_a_fault_script_is_checked(self, tmp_path: Path) -> None:
        for io in ("fault:", "fault:q", "mmap"):
            with pytest.raises(ConfigError, match="io="):
                make(tmp_path).snapshot(io=io)


class TestShardFiles:
    def test_a_missing_shard_is_named(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        shards.path(1).unlink()
        reader = reader_of(shards)
        with pytest.raises(CorruptDataError, match="no such file"):
            reader.take(rows(30))
        expect(reader.take(rows(29, 31)), rows(29, 31))

    def test_a_file_of_another_size_is_corrupt(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        os.truncate(shards.path(0), shards.file_bytes[0] - 1)
        with pytest.raises(CorruptDataError, match="manifest says"):
            reader_of(shards).take(rows(0))

    @pytest.mark.parametrize(
        ("changed", "error", "match"),
        [
            ({"magic": b"NOTSHARD"}, CorruptDataError, "FFSHARD1"),
            ({"uid": bytes(16)}, CorruptDataError, "another shard's uid"),
            ({"layout": 1}, CorruptDataError, "layout 1"),
            ({"major": 2}, FormatVersionError, "Upgrade"),
            ({"incompatible": 4}, FormatVersionError, "flags 4"),
        ],
    )
    def test_a_header_that_does_not_fit_is_refused(
        self, tmp_path: Path, changed: dict[str, object], error: type[Exception], match: str
    ) -> None:
        shards = make(tmp_path)
        fields = {"uid": shards.uids[0], "layout": 0, **changed}
        content = shards.path(0).read_bytes()
        shards.path(0).write_bytes(header(**fields) + content[4096:])
        with pytest.raises(error, match=match):
            reader_of(shards).take(rows(0))

    def test_a_damaged_header_is_refused(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        corrupt(shards, 0, 100)
        with pytest.raises(CorruptDataError, match="crc32c"):
            reader_of(shards).take(rows(0))

    def test_a_folder_in_the_place_of_a_shard_is_corrupt(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        shards.path(0).unlink()
        shards.path(0).mkdir()
        with pytest.raises(CorruptDataError, match="regular file"):
            reader_of(shards).take(rows(0))

    def test_a_fifo_in_the_place_of_a_shard_is_corrupt_and_nobody_waits_for_it(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        shards.path(0).unlink()
        os.mkfifo(shards.path(0))
        with pytest.raises(CorruptDataError, match="regular file"):
            reader_of(shards).take(rows(0))


class TestHostileTables:
    @pytest.mark.parametrize("value", [0, 1, 511, 2**32 - 1])
    def test_index_values_out_of_bounds_are_corrupt_at_use(self, tmp_path: Path, value: int) -> None:
        shards = make(tmp_path)
        at = shards.row_index_at[0] + 4 * 5
        shards.index[at : at + 4] = value.to_bytes(4, "little")
        reader = reader_of(shards)
        for row in (4, 5):
            with pytest.raises(CorruptDataError, match=rf"row {row} of the dataset"):
                reader.take(rows(row))

    def test_an_index_outside_its_file_is_corrupt_at_once(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        shards.row_index_at[1] = len(shards.index) - 3
        with pytest.raises(CorruptDataError, match="not inside"):
            shards.snapshot()

    def test_a_missing_index_is_corrupt_where_rows_differ_in_size(self, tmp_path: Path) -> None:
        shards = make(tmp_path)
        shards.row_index_at[0] = 0
        with pytest.raises(CorruptDataError, match="there is none"):
            reader_of(shards).take(rows(0))

    def test_numbers_that_contradict_each_other_are_corrupt(self, tmp_path: Path) -> None:
        wrong = (("payload_ends", 10**9, "payload"), ("payload_ends", 5, "payload"), ("rows", -1, "rows"))
        for field, value, match in wrong:
            shards = make(tmp_path)
            getattr(shards, field)[0] = value
            with pytest.raises(CorruptDataError, match=match):
                shards.snapshot()

    def test_columns_of_different_lengths_are_the_callers_mistake(self, tmp_path: Path) -> None:
        table = make(tmp_path).table()
        with pytest.raises(ConfigError, match="uids"):
            Snapshot(table._replace(uids=table.uids[:-1]), [column.spec() for column in COLUMNS])
        with pytest.raises(CorruptDataError, match="index file 7"):
            Snapshot(table._replace(index_file=table.index_file + np.uint32(7)), [column.spec() for column in COLUMNS])
        with pytest.raises(CorruptDataError, match="dictionary set 9"):
            Snapshot(table._replace(dictionary_set=table.dictionary_set + np.uint32(9)),
                     [column.spec() for column in COLUMNS])
        with pytest.raises(CorruptDataError, match="path offsets"):
            Snapshot(table._replace(path_data=b"short"), [column.spec() for column in COLUMNS])

    def test_outputs_must_fit_their_columns(self, tmp_path: Path) -> None:
        snapshot = make(tmp_path).snapshot()
        for output, match in (
            (OutputSpec(7), "no column 7"),
            (OutputSpec(0, dtype="int32"), "items of 8"),
            (OutputSpec(0, dtype="complex64"), "unknown item type"),
            (OutputSpec(1, cast="int8"), "cannot be cast"),
            (OutputSpec(0, dtype="int64", shape=(2,)), "shape"),
        ):
            with pytest.raises(ConfigError, match=match):
                Reader(snapshot, [output])


class TestStreams:
    DOCUMENTS = (
        ((1, 2, 3), (), (4, 5)),
        (tuple(range(100, 5100)),),
        (),
        ((6,),),
    )

    def tokens(self) -> np.ndarray:
        flat = [token for shard in self.DOCUMENTS for document in shard for token in document]
        return np.array(flat, dtype=np.uint16)

    @pytest.mark.parametrize(("window", "stride"), [(1, 1), (7, 3), (2049, 2048), (5006, 1)])
    @pytest.mark.parametrize("cast", [None, "int64"])
    def test_windows_cross_shards(self, tmp_path: Path, window: int, stride: int, cast: str | None) -> None:
        shards = stream_shards(tmp_path, "uint16", self.DOCUMENTS)
        snapshot = shards.snapshot(window=window, stride=stride)
        tokens = self.tokens()
        count = (len(tokens) - window) // stride + 1
        assert len(snapshot) == count
        reader = Reader(snapshot, [OutputSpec(0, dtype="uint16", cast=cast)])
        wanted = np.random.default_rng(0).permutation(count)[:50].astype(np.int64)
        got = reader.take(wanted).columns[0]
        assert got.dtype == np.dtype(cast or "uint16")
        np.testing.assert_array_equal(got, [tokens[i * stride : i * stride + window] for i in wanted])
        np.testing.assert_array_equal(reader.sample(count - 1)[0], tokens[(count - 1) * stride :][:window])

    def test_documents_are_ragged(self, tmp_path: Path) -> None:
        shards = stream_shards(tmp_path, "uint32", self.DOCUMENTS)
        reader = Reader(shards.snapshot(), [OutputSpec(0, dtype="uint32")])
        documents = [document for shard in self.DOCUMENTS for document in shard]
        batch = reader.take(rows(4, 1, 0, 3)).columns[0]
        got = [tuple(batch.values[a:b]) for a, b in pairwise(batch.offsets)]
        assert got == [documents[i] for i in (4, 1, 0, 3)]
        assert tuple(reader.sample(2)[0]) == documents[2]
        assert tuple(reader.sample(1)[0]) == ()

    def test_a_window_longer_than_the_stream_is_no_row(self, tmp_path: Path) -> None:
        assert len(stream_shards(tmp_path, "uint16", self.DOCUMENTS).snapshot(window=5007, stride=1)) == 0

    def test_a_bad_page_is_raised_or_a_hole(self, tmp_path: Path) -> None:
        shards = stream_shards(tmp_path, "uint16", self.DOCUMENTS)
        corrupt(shards, 1, 4096 + 4096 + 5)
        snapshot = shards.snapshot(window=100, stride=100)
        output = [OutputSpec(0, dtype="uint16")]
        with pytest.raises(CorruptDataError, match="page 1"):
            Reader(snapshot, output).take(rows(*range(50)))
        skipping = Reader(snapshot, output, on_error="skip")
        batch = skipping.take(rows(*range(50)))
        assert 0 < skipping.stats()["holes"] < 50
        for at in range(50):
            expected = self.tokens()[at * 100 :][:100] if batch.valid[at] else np.zeros(100)
            np.testing.assert_array_equal(batch.columns[0][at], expected)

    def test_hostile_document_starts_are_corrupt(self, tmp_path: Path) -> None:
        shards = stream_shards(tmp_path, "uint16", self.DOCUMENTS)
        at = shards.row_index_at[0] + 4
        shards.index[at : at + 4] = (2**32 - 1).to_bytes(4, "little")
        with pytest.raises(CorruptDataError, match="tokens"):
            Reader(shards.snapshot(), [OutputSpec(0, dtype="uint16")]).take(rows(0))

    def test_options_of_a_stream_are_checked(self, tmp_path: Path) -> None:
        shards = stream_shards(tmp_path, "uint16", self.DOCUMENTS)
        with pytest.raises(ConfigError, match="stride"):
            shards.snapshot(window=5)
        with pytest.raises(ConfigError, match="2 GiB"):
            shards.snapshot(window=2**40, stride=1)
        with pytest.raises(ConfigError, match="2 bytes"):
            Reader(shards.snapshot(), [OutputSpec(0, dtype="uint32")])
        with pytest.raises(ConfigError, match="open_files_max"):
            shards.snapshot(open_files_max=0)
        with pytest.raises(ConfigError, match="for streams"):
            make(tmp_path).snapshot(window=5, stride=1)


class TestProcesses:
    def test_a_forked_child_is_told_to_make_its_own_and_the_parent_goes_on(self, tmp_path: Path) -> None:
        snapshot = make(tmp_path).snapshot()
        reader = Reader(snapshot, outputs_of(COLUMNS))
        batch = reader.take(rows(1))
        reader.submit(rows(2), rows(2), 0, 0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                reader.next(1)
            except FastfeedError:
                try:
                    Reader(snapshot, outputs_of(COLUMNS))
                except FastfeedError:
                    reader.close()
                    del batch, reader, snapshot
                    gc.collect()
                    status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        expect(reader.next(30), rows(2))

    PROGRAM = """
import os, signal, sys, threading
import numpy as np
from pathlib import Path
from tests.unit.test_feed_reader import make, reader_of, rows
reader = reader_of(make(Path(sys.argv[2])), io="fault:d")
for _ in range(200):
    reader.submit(rows(1, 2), rows(1, 2), 0, 0)
if sys.argv[1] == "interrupt":
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    while True:
        reader.next(60)
"""

    def run(self, what: str, root: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", self.PROGRAM, what, str(root)], capture_output=True, text=True,
                              timeout=60, check=False, env=unmeasured_environment())

    STARVED = """
import resource, sys
import numpy as np
from pathlib import Path
from fastfeed._native.feed import Reader
from tests.helpers.raw_shards import BYTES, TEXT, Col, row_shards
numbers = np.arange(3000)
columns = [Col("data", BYTES), Col("text", TEXT, codec=1)]
values = [[bytes(2000)] * 3000, [f"hello {number} " * 20 for number in numbers]]
snapshot = row_shards(Path(sys.argv[1]), columns, [values]).snapshot()
reader = Reader(snapshot, [column.output(index) for index, column in enumerate(columns)], threads=3)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    for _ in range(3):
        reader.submit(numbers, numbers, 0, 0)
    while reader.pending():
        reader.next(5)
except (MemoryError, OSError):
    pass
"""

    @pytest.mark.parametrize("room_kib", [33_300, 36_000, 40_000])
    def test_threads_without_memory_end_the_reader_and_not_the_process(self, tmp_path: Path, room_kib: int) -> None:
        command = [sys.executable, "-c", self.STARVED, str(tmp_path), str(room_kib << 10)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                              env=unmeasured_environment())
        # The C library itself may give up where it has no room for a new thread's data.
        assert done.returncode == 0 or "thread-local data" in done.stderr, done.stderr

    def test_leaving_without_close_ends_quietly(self, tmp_path: Path) -> None:
        done = self.run("leave", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")

    def test_an_interrupt_ends_a_wait(self, tmp_path: Path) -> None:
        done = self.run("interrupt", tmp_path)
        assert "KeyboardInterrupt" in done.stderr
        assert done.returncode in (1, 130, -signal.SIGINT)
