"""Writers: what they accept, where shards end, that they leave all or nothing, and how a commit can fail."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastfeed as ff
from fastfeed.dataset import pending
from fastfeed.dataset.commit import COMMIT_ATTEMPTS_MAX, commit, commit_shards
from fastfeed.dataset.folder import manifest_name, snapshot_numbers
from fastfeed.dataset.pending import SampleBuffer, TrainingSet, slices
from fastfeed.errors import CommitConflictError, ConfigError
from fastfeed.format import dictionary
from fastfeed.format.encode import SampleEncoder
from fastfeed.format.seal import SealedShard
from fastfeed.format.writer import ShardWriter
from fastfeed.storage.faulty import FaultyStorage
from fastfeed.storage.local import LocalStorage

NUMBERS = ff.Schema({"id": ff.Scalar("int64"), "blob": ff.Bytes()})


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_numbers(place: Path, rows: int, **options: Any) -> ff.Dataset:
    with ff.DatasetWriter(place, NUMBERS, **options) as writer:
        for row in range(rows):
            writer.write({"id": row, "blob": b"x" * (row % 300)})
    return ff.open(place)


def test_a_path_need_not_be_utf8(tmp_path: Path) -> None:
    ds = write_numbers(tmp_path / os.fsdecode(b"caf\xe9 \xff"), 5)
    assert ds.take([4])["id"].tolist() == [4]
    assert ds[3]["id"] == 3


class TestRolling:
    def test_shards_are_as_full_as_whole_frames_make_them(self, tmp_path: Path) -> None:
        ds = write_numbers(tmp_path / "set", 3000, shard_size="64KiB")
        ends = [shard.payload_end for shard in ds.shards()]
        assert len(ends) > 3
        assert all((64 << 10) - 320 < end <= 64 << 10 for end in ends[:-1])
        assert [value["id"] for value in ds] == list(range(3000))

    def test_a_frame_larger_than_a_shard_has_one_of_its_own(self, tmp_path: Path) -> None:
        with ff.DatasetWriter(tmp_path / "set", NUMBERS, shard_size="64KiB") as writer:
            for row, size_bytes in enumerate((10, 100_000, 10, 200_000, 300_000, 10)):
                writer.write({"id": row, "blob": bytes(size_bytes)})
        ds = ff.open(tmp_path / "set")
        assert [shard.rows for shard in ds.shards()] == [1] * 6
        assert [len(value["blob"]) for value in ds] == [10, 100_000, 10, 200_000, 300_000, 10]

    def test_calls_leave_no_trace_in_the_shards(self, tmp_path: Path) -> None:
        one = write_numbers(tmp_path / "one", 3000, shard_size="64KiB")
        blobs = pa.array([b"x" * (row % 300) for row in range(3000)], pa.binary())
        table = pa.record_batch({"blob": blobs, "id": pa.array(range(3000))})
        with ff.DatasetWriter(tmp_path / "two", NUMBERS, shard_size="64KiB") as writer:
            writer.write({"id": 0, "blob": b""})
            writer.write_batch(table.slice(1, 1777))
            writer.write_batch(table.slice(0, 0))
            for row in range(1778, 3000):
                writer.write({"id": row, "blob": b"x" * (row % 300)})
        assert [shard.uid for shard in ff.open(tmp_path / "two").shards()] == [shard.uid for shard in one.shards()]

    def test_documents_are_not_cut_between_shards(self, tmp_path: Path) -> None:
        with ff.TokenWriter(tmp_path / "set", "uint32", shard_size="64KiB", metadata={"tokenizer": "x"}) as writer:
            for length in (10_000, 10_000, 100_000, 5):
                writer.write(np.arange(length))
        ds = ff.open(tmp_path / "set")
        assert [shard.tokens for shard in ds.shards()] == [10_000, 10_000, 100_000, 5]
        assert ds.metadata == {"tokenizer": "x"}


class TestDictionaries:
    def test_zstd_columns_get_a_dictionary_from_the_first_samples(self, tmp_path: Path) -> None:
        schema = ff.Schema({"text": ff.Text(codec="zstd"), "noise": ff.Bytes(codec="zstd"), "id": ff.Scalar("int64")})
        generator = np.random.default_rng(0)
        with ff.DatasetWriter(tmp_path / "set", schema) as writer:
            for row in range(3000):
                text = f"The quick brown fox number {row} jumps over the lazy dog {row * 7}."
                writer.write({"text": text, "noise": generator.bytes(9), "id": row})
        ds = ff.open(tmp_path / "set")
        assert "text" in ds.shards()[0].dictionaries
        stored_bytes = sum(shard.payload_end for shard in ds.shards())
        assert stored_bytes < 0.75 * sum(len(value["text"]) + 40 for value in ds)
        assert ds[2999]["text"].endswith("lazy dog 20993.")

    def test_the_same_rows_in_batches_give_the_same_dictionaries(self, tmp_path: Path) -> None:
        schema = ff.Schema({"text": ff.Text(codec="zstd", nullable=True), "id": ff.Scalar("int64", nullable=True)})
        texts = [f"sample {row} of many, all of them alike in most of their words" for row in range(3000)]
        with ff.DatasetWriter(tmp_path / "one", schema) as writer:
            for text in texts:
                writer.write({"text": text})
        with ff.DatasetWriter(tmp_path / "two", schema) as writer:
            writer.write_batch(pa.record_batch({"text": texts[:1500]}))
            writer.write_batch(pa.record_batch({"text": texts[1500:]}))
        uids = [[shard.uid for shard in ff.open(tmp_path / name).shards()] for name in ("one", "two")]
        assert uids[0] == uids[1]

    def test_training_ends_when_every_column_has_enough_or_too_much_waits(self) -> None:
        schema = ff.Schema({"text": ff.Text(codec="zstd"), "blob": ff.Bytes()})
        training = TrainingSet(schema)
        training.add([{"text": "x" * 1000, "blob": b""}] * 100)
        assert not training.complete
        training.add([{"text": "x", "blob": bytes(pending.PENDING_BYTES_MAX)}])
        assert training.complete
        full = TrainingSet(schema)
        full.add([{"text": "x" * dictionary.sample_budget_bytes(), "blob": b""}])
        assert full.complete
        without = TrainingSet(ff.Schema({"text": ff.Text(codec="zstd", nullable=True), "blob": ff.Bytes()}))
        without.add(pa.record_batch({"blob": [b"x"]}))
        assert without.train(3, 1 << 20) == {}


class TestBuffers:
    def test_what_the_caller_changes_afterwards_is_not_changed_here(self, tmp_path: Path) -> None:
        schema = ff.Schema(
            {
                "a": ff.Array("int64", (None,)),
                "b": ff.Bytes(),
                "c": ff.Bytes(),
                "j": ff.Json(),
                "t": ff.Tensor("int8", (2,)),
            }
        )
        array, data, value, items = np.arange(3), bytearray(b"abc"), {"k": [1]}, [1, 2]
        with ff.DatasetWriter(tmp_path / "set", schema) as writer:
            writer.write({"a": array, "b": data, "c": memoryview(data), "j": value, "t": items})
            array[:], data[:], items[0] = 9, b"xyz", 9
            value["k"].append(2)
        found = ff.open(tmp_path / "set")[0]
        assert (found["a"].tolist(), found["b"], found["c"]) == ([0, 1, 2], b"abc", b"abc")
        assert (found["j"], found["t"].tolist()) == ({"k": [1]}, [1, 2])

    def test_a_buffer_is_full_by_rows_or_bytes(self) -> None:
        by_rows, by_bytes = SampleBuffer(), SampleBuffer()
        for _ in range(pending.BATCH_ROWS_MAX - 1):
            by_rows.add({"x": 1})
        assert not by_rows.full
        by_rows.add({"x": 1})
        by_bytes.add({"x": bytes(pending.BATCH_BYTES_MAX // 2), "y": np.zeros(pending.BATCH_BYTES_MAX // 2, np.uint8)})
        assert by_rows.full
        assert by_bytes.full
        assert len(by_rows.drain()) == pending.BATCH_ROWS_MAX
        assert len(by_rows) == 0

    def test_record_batches_are_cut_by_rows_and_bytes(self) -> None:
        assert [part.num_rows for part in slices(pa.record_batch({"x": range(2500)}))] == [1024, 1024, 452]
        large = pa.record_batch({"x": pa.array([bytes(3 << 20)] * 3, pa.large_binary())})
        assert [part.num_rows for part in slices(large)] == [1, 1, 1]
        assert list(slices(pa.record_batch({"x": pa.array([], pa.int64())}))) == []


class TestAllOrNothing:
    def test_an_exception_in_the_block_commits_nothing_and_leaves_nothing(self, tmp_path: Path) -> None:
        def write_until_it_fails() -> None:
            with ff.DatasetWriter(tmp_path / "a" / "set", NUMBERS) as writer:
                for row in range(5000):
                    writer.write({"id": row, "blob": b"x" * 100})
                assert files_below(tmp_path / "a")
                raise RuntimeError("ours")

        with pytest.raises(RuntimeError, match="ours"):
            write_until_it_fails()
        assert files_below(tmp_path) == ["a"]

    def test_a_sample_that_does_not_fit_is_named_and_ends_the_writer(self, tmp_path: Path) -> None:
        writer = ff.DatasetWriter(tmp_path / "set", NUMBERS)
        for row in range(1500):
            writer.write({"id": row, "blob": b""})
        writer.write({"id": "five", "blob": b""})
        with pytest.raises(ConfigError, match=r"among samples 1024 to 1500.*'id', row 476.*str"):
            writer.close()
        with pytest.raises(ConfigError, match="has failed"):
            writer.write({"id": 1, "blob": b""})
        with pytest.raises(ConfigError, match="has failed"):
            writer.close()
        assert files_below(tmp_path) == []

    def test_closing_twice_commits_once_and_nothing_can_follow(self, tmp_path: Path) -> None:
        writer = ff.DatasetWriter(tmp_path / "set", NUMBERS)
        writer.write({"id": 1, "blob": b""})
        writer.close()
        writer.close()
        writer.abort()
        assert (writer.snapshot, writer.url) == (1, str(tmp_path / "set"))
        with pytest.raises(ConfigError, match="has closed"):
            writer.write({"id": 2, "blob": b""})
        assert len(ff.open(tmp_path / "set")) == 1
        assert files_below(tmp_path / "set" / "_feed") == sorted(
            [
                "index",
                "lock",
                "manifests",
                manifest_name(1).removeprefix("_feed/"),
                *(f"index/{p.name}" for p in (tmp_path / "set" / "_feed" / "index").iterdir()),
            ]
        )

    def test_an_aborted_writer_leaves_nothing(self, tmp_path: Path) -> None:
        writer = ff.TokenWriter(tmp_path / "set")
        writer.write([1, 2, 3])
        writer.abort()
        writer.abort()
        assert files_below(tmp_path) == []

    def test_an_existing_dataset_is_not_touched_without_overwrite(self, tmp_path: Path) -> None:
        write_numbers(tmp_path / "set", 10)
        before = files_below(tmp_path)
        with pytest.raises(ConfigError, match="there is a dataset already"):
            ff.DatasetWriter(tmp_path / "set", NUMBERS)
        assert files_below(tmp_path) == before

    def test_overwriting_makes_a_snapshot_and_the_old_one_stays_readable(self, tmp_path: Path) -> None:
        old = write_numbers(tmp_path / "set", 10)
        new = write_numbers(tmp_path / "set", 4, overwrite=True)
        assert (len(new), new.snapshot) == (4, 2)
        assert len(ff.open(tmp_path / "set", snapshot=1)) == 10
        assert old[9]["id"] == 9

    def test_of_two_writers_into_one_place_the_second_loses(self, tmp_path: Path) -> None:
        first, second = (ff.DatasetWriter(tmp_path / "set", NUMBERS) for _ in range(2))
        first.write({"id": 1, "blob": b""})
        second.write({"id": 2, "blob": b""})
        first.close()
        with pytest.raises(ConfigError, match="there is a dataset already"):
            second.close()
        assert [value["id"] for value in ff.open(tmp_path / "set")] == [1]


class TestArguments:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda place: ff.DatasetWriter(place, {"id": ff.Scalar("int64")}), "give a fastfeed.Schema"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, shard_size="63KiB"), "choose 64KiB to 16GiB"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, shard_size="17GiB"), "choose 64KiB to 16GiB"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, zstd_level=0), "zstd_level=0"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, metadata={"x": object()}), "JSON object"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, metadata={"x": float("nan")}), "JSON object"),
            (lambda place: ff.DatasetWriter(place, NUMBERS, metadata={"x": "\ud800"}), "JSON object"),
            (lambda place: ff.TokenWriter(place, dtype="int64"), "uint16 or uint32"),
        ],
    )
    def test_what_makes_no_sense_is_said_before_anything_is_made(
        self, tmp_path: Path, make: Callable[[Path], Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            make(tmp_path / "set")
        assert files_below(tmp_path) == []

    def test_a_sample_is_a_mapping(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="takes a mapping"), ff.DatasetWriter(tmp_path / "a", NUMBERS) as writer:
            writer.write([1, b""])  # type: ignore[arg-type]
        assert files_below(tmp_path) == []

    def test_a_table_is_no_record_batch(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="to_batches"), ff.DatasetWriter(tmp_path / "set", NUMBERS) as writer:
            writer.write_batch(pa.table({"id": [1]}))

    def test_tokens_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="70000"), ff.TokenWriter(tmp_path / "set", "uint16") as writer:
            writer.write([1, 70_000])


def staged_shard(storage: LocalStorage, rows: int = 3) -> SealedShard:
    folder = storage.staging()
    writer = ShardWriter(folder, NUMBERS)
    writer.add(SampleEncoder(NUMBERS).encode_samples([{"id": row, "blob": b"x"} for row in range(rows)]))
    return writer.finish(folder)


class TestCommit:
    def test_who_loses_the_race_takes_the_next_number(self, tmp_path: Path) -> None:
        storage, asked = LocalStorage(tmp_path), []

        def make(snapshot: int) -> bytes:
            asked.append(snapshot)
            if len(asked) < 3:
                storage.create(manifest_name(snapshot), b"another writer's")
            return b"ours"

        assert commit(storage, make) == 3
        assert asked == [1, 2, 3]
        assert snapshot_numbers(storage) == [1, 2, 3]
        assert bytes(storage.map(manifest_name(3))) == b"ours"

    def test_losing_again_and_again_is_an_error_with_the_count(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)

        def make(snapshot: int) -> bytes:
            storage.create(manifest_name(snapshot), b"another writer's")
            return b"ours"

        with pytest.raises(CommitConflictError, match=f"{COMMIT_ATTEMPTS_MAX} attempts"):
            commit(storage, make)

    def test_a_dataset_that_appears_while_we_write_is_not_replaced(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        shard = staged_shard(storage)

        class Late(FaultyStorage):
            """Another writer commits when our index has been published."""

            def publish(self, files: Any) -> None:
                super().publish(files)
                if any(name.startswith("_feed/index") for _, name in self.calls):
                    self.inner.create(manifest_name(1), b"another writer's")

        with pytest.raises(ConfigError, match="meanwhile"):
            commit_shards(Late(storage, {}), schema=NUMBERS, shards=[shard])

    def test_a_dictionary_that_was_not_given_is_named(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        shard = staged_shard(storage)
        shard.dictionaries["blob"] = bytes(16)
        with pytest.raises(ConfigError, match="uses dictionaries of blob"):
            commit_shards(storage, schema=NUMBERS, shards=[shard])
        assert snapshot_numbers(storage) == []

    @pytest.mark.parametrize("script", ["b", "a", ".b", ".a", "s", "..b"])
    def test_whatever_fails_before_the_manifest_readers_see_nothing_and_a_second_try_works(
        self, tmp_path: Path, script: str
    ) -> None:
        storage = LocalStorage(tmp_path)
        shards = [staged_shard(storage, 3), staged_shard(storage, 4)]
        with pytest.raises(OSError, match=r"Input/output error|No space left"):
            commit_shards(FaultyStorage(storage, {"publish": script}), schema=NUMBERS, shards=shards)
        with pytest.raises(ff.DatasetNotFoundError):
            ff.open(tmp_path)
        assert commit_shards(storage, schema=NUMBERS, shards=shards) == 1
        assert [value["id"] for value in ff.open(tmp_path)] == [0, 1, 2, 0, 1, 2, 3]

    def test_an_index_that_cannot_be_written_leaves_no_shard_with_a_name(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        shard = staged_shard(storage)
        in_the_way = shard.path.parent / "index.arrow"
        in_the_way.mkdir()
        with pytest.raises(OSError, match=r"index\.arrow"):
            commit_shards(storage, schema=NUMBERS, shards=[shard])
        assert not (tmp_path / "shards").exists()
        in_the_way.rmdir()
        assert commit_shards(storage, schema=NUMBERS, shards=[shard]) == 1

    def test_a_manifest_that_fails_is_not_there_and_one_whose_answer_was_lost_is(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        shards = [staged_shard(storage)]
        for script, seen in (("b", []), ("s", []), ("a", [1])):
            with pytest.raises(OSError, match=r"Input/output error|No space left"):
                commit_shards(FaultyStorage(storage, {"create": script}), schema=NUMBERS, shards=shards)
            assert snapshot_numbers(storage) == seen

    def test_steps_come_in_the_order_that_survives_a_crash(self, tmp_path: Path) -> None:
        storage = FaultyStorage(LocalStorage(tmp_path), {})
        shards = [staged_shard(LocalStorage(tmp_path))]
        commit_shards(storage, schema=NUMBERS, shards=shards, provenance={"by": "us"}, metadata={"k": 1})
        steps = [(operation, name.split("/")[0] + "/" + name.split("/")[1]) for operation, name in storage.calls]
        changes = [step for step in steps if step[0] != "list"]
        assert changes == [
            ("publish", f"shards/{shards[0].uid.hex()}.ffs"),
            ("publish", "_feed/index"),
            ("create", "_feed/manifests"),
        ]
        assert json.dumps(ff.open(tmp_path).provenance) == '{"by": "us"}'

    def test_other_files_among_the_manifests_are_not_snapshots(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path)
        for name in (".00000000000000000009.arrow.1-ab", "9.arrow", "00000000000000000003.arrow", "readme"):
            storage.create(f"_feed/manifests/{name}", b"")
        assert snapshot_numbers(storage) == [3]
