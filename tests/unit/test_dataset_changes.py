"""Appending, merging and deleting: what the next snapshot has, what stays as it was, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastfeed as ff
from fastfeed._native.selection import Selection
from fastfeed.dataset.folder import PRESENT_FOLDER, REFERRER_FOLDER, snapshot_numbers
from fastfeed.dataset.present import all_bits, clear_rows, join_bits, pack_present, read_present, slice_bits
from fastfeed.errors import CommitConflictError, ConfigError, CorruptDataError, DatasetNotFoundError, FormatVersionError
from fastfeed.format import reference
from fastfeed.format.arrow_tail import open_sealed
from fastfeed.storage.local import LocalStorage
from tests.helpers.hostile import altered

NUMBERS = ff.Schema({"id": ff.Scalar("int64"), "blob": ff.Bytes()})
TEXTS = ff.Schema({"text": ff.Text(codec="zstd"), "id": ff.Scalar("int64")})


def write(place: Path, ids: Iterable[int], **options: Any) -> ff.Dataset:
    """Three rows a shard."""
    schema = None if options.get("append") else NUMBERS
    with ff.DatasetWriter(place, schema, shard_size="64KiB", **options) as writer:
        for number in ids:
            writer.write({"id": number, "blob": bytes(20_000)})
    return ff.open(place)


def ids(place: Path | ff.Dataset, snapshot: int | None = None) -> list[int]:
    """By three ways that must agree."""
    dataset = place if isinstance(place, ff.Dataset) else ff.open(place, snapshot=snapshot)
    found: list[int] = dataset.take(range(len(dataset)))["id"].tolist()
    assert [dataset[row]["id"] for row in range(len(dataset))] == found
    if not isinstance(place, ff.Dataset):
        assert [one["id"] for one in reference.read_dataset(place, snapshot)] == found
    return found


def shard_files(place: Path) -> dict[str, tuple[int, int]]:
    """Name -> inode and time of the shards in a folder."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (place / "shards").glob("*.ffs")}


class TestAppend:
    def test_rows_come_after_those_that_are_there_and_the_old_snapshot_stays(self, tmp_path: Path) -> None:
        old = write(tmp_path / "a", range(7), metadata={"classes": ["x"], "k": 1})
        before = shard_files(tmp_path / "a")
        new = write(tmp_path / "a", [20, 21], append=True, metadata={"k": 2})
        assert ids(tmp_path / "a") == [*range(7), 20, 21]
        assert ids(old) == ids(tmp_path / "a", snapshot=1) == list(range(7))
        assert before.items() <= shard_files(tmp_path / "a").items()
        assert (new.snapshot, new.metadata) == (2, {"classes": ["x"], "k": 2})
        assert len(new.opened.manifest.index_files) == 2
        assert old.fingerprint != new.fingerprint

    def test_rows_a_block_are_those_of_the_first_rows_and_stay(self, tmp_path: Path) -> None:
        write(tmp_path / "a", [])
        first = write(tmp_path / "a", range(3), append=True)
        with ff.DatasetWriter(tmp_path / "a", append=True) as writer:
            for number in range(3000):
                writer.write({"id": number, "blob": b""})
        assert 200 < first.block_rows < 215
        assert ff.open(tmp_path / "a").block_rows == first.block_rows
        ff.delete(tmp_path / "a", range(1000))
        assert ff.open(tmp_path / "a").block_rows == first.block_rows

    def test_where_no_dataset_is_a_schema_begins_one(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetNotFoundError, match="no dataset to append to"):
            ff.DatasetWriter(tmp_path / "a", append=True)
        with ff.DatasetWriter(tmp_path / "a", NUMBERS, append=True) as writer:
            writer.write({"id": 1, "blob": b""})
        assert ids(tmp_path / "a") == [1]

    @pytest.mark.parametrize(
        ("schema", "message"),
        [
            (ff.Schema({"id": ff.Scalar("int32"), "blob": ff.Bytes()}), r"'id' is Scalar\(.*int64.*\) there"),
            (ff.Schema({"id": ff.Scalar("int64")}), "'blob' is Bytes"),
            (ff.Schema({**NUMBERS, "more": ff.Text()}), "'more' is not there"),
            (ff.Schema({"blob": ff.Bytes(), "id": ff.Scalar("int64")}), "order there is id, blob"),
        ],
    )
    def test_another_schema_is_refused_and_the_difference_named(
        self, tmp_path: Path, schema: ff.Schema, message: str
    ) -> None:
        write(tmp_path / "a", range(2))
        with pytest.raises(ConfigError, match=message):
            ff.DatasetWriter(tmp_path / "a", schema, append=True)
        with pytest.raises(ConfigError, match="give one"):
            ff.DatasetWriter(tmp_path / "a", NUMBERS, append=True, overwrite=True)
        assert snapshot_numbers(LocalStorage(tmp_path / "a")) == [1]

    def test_a_schema_that_changes_while_a_writer_writes_is_refused_at_its_commit(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(2))
        writer = ff.DatasetWriter(tmp_path / "a", append=True)
        writer.write({"id": 1, "blob": b""})
        with ff.DatasetWriter(tmp_path / "a", TEXTS, overwrite=True):
            pass
        with pytest.raises(ConfigError, match="has another schema"):
            writer.close()

    def test_writers_that_write_at_once_come_in_the_order_of_their_commits(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(2))
        writers = [ff.DatasetWriter(tmp_path / "a", append=True) for _ in range(3)]
        for number, writer in enumerate(writers):
            writer.write({"id": 10 + number, "blob": b""})
        for number in (2, 0, 1):
            writers[number].close()
        assert ids(tmp_path / "a") == [0, 1, 12, 10, 11]
        assert [writer.snapshot for writer in writers] == [3, 4, 2]

    def test_two_writers_may_begin_a_dataset_together(self, tmp_path: Path) -> None:
        writers = [ff.DatasetWriter(tmp_path / "a", NUMBERS, append=True) for _ in range(2)]
        for number, writer in enumerate(writers):
            writer.write({"id": number, "blob": b""})
        for writer in reversed(writers):
            writer.close()
        assert ids(tmp_path / "a") == [1, 0]
        assert ids(tmp_path / "a", snapshot=1) == [1]

    def test_the_same_rows_again_are_the_same_shard_named_twice(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(3))
        write(tmp_path / "a", range(3), append=True)
        assert ids(tmp_path / "a") == [0, 1, 2, 0, 1, 2]
        assert len(shard_files(tmp_path / "a")) == 1
        assert len(ff.open(tmp_path / "a").opened.manifest.index_files) == 1

    def test_many_commits_need_not_many_descriptors(self, tmp_path: Path) -> None:
        for number in range(12):
            write(tmp_path / "a", [number], append=True) if number else write(tmp_path / "a", [number])
        before = len(os.listdir("/proc/self/fd"))
        dataset = ff.open(tmp_path / "a")
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        assert len(dataset.opened.index_maps) == 12
        assert ids(dataset) == list(range(12))

    def test_dictionaries_are_those_of_the_dataset(self, tmp_path: Path) -> None:
        def write_texts(place: Path, rows: int, **options: Any) -> ff.Dataset:
            with ff.DatasetWriter(place, TEXTS, **options) as writer:
                for row in range(rows):
                    writer.write({"text": f"The quick brown fox number {row} jumps over the dog {row * 7}.", "id": row})
            return ff.open(place)

        first = write_texts(tmp_path / "a", 3000)
        dictionary = first.shards()[0].dictionaries["text"]
        added = write_texts(tmp_path / "a", 5, append=True)
        assert added.shards()[1].dictionaries == {"text": dictionary}
        assert len(added.opened.manifest.dictionary_sets) == 1
        assert added[3004]["text"].endswith("dog 28.")
        # Where there is none yet, one is trained.
        small = write_texts(tmp_path / "b", 5)
        assert small.shards()[0].dictionaries == {}
        assert "text" in write_texts(tmp_path / "b", 3000, append=True).shards()[1].dictionaries

    def test_token_streams_go_on(self, tmp_path: Path) -> None:
        with ff.TokenWriter(tmp_path / "a", "uint32") as writer:
            writer.write(np.arange(10))
        with ff.TokenWriter(tmp_path / "a", append=True) as writer:
            writer.write([70_000, 70_001])
        dataset = ff.open(tmp_path / "a")
        assert (len(dataset), dataset.tokens) == (2, 12)
        assert dataset.windows(4)[2]["tokens"].tolist() == [8, 9, 70_000, 70_001]
        for make in (
            lambda: ff.TokenWriter(tmp_path / "a", "uint16", append=True),
            lambda: ff.DatasetWriter(tmp_path / "a", append=True),
            lambda: ff.DatasetWriter(tmp_path / "a", NUMBERS, append=True),
        ):
            with pytest.raises(ConfigError, match=r"uint32|with a TokenWriter"):
                make()
        write(tmp_path / "b", [1])
        with pytest.raises(ConfigError, match="no stream of tokens"):
            ff.TokenWriter(tmp_path / "b", append=True)
        with ff.TokenWriter(tmp_path / "c", append=True) as writer:
            writer.write([1])
        assert ff.open(tmp_path / "c").schema["tokens"].dtype == "uint16"


class TestDelete:
    @pytest.mark.parametrize(
        "rows",
        [[3, 0, 3, -1], np.array([0, 3, 9]), Selection.from_rows([0, 3, 9], 10), "id == 0 or id == 3 or id == 9"],
    )
    def test_rows_are_gone_and_no_payload_is_written(self, tmp_path: Path, rows: Any) -> None:
        old = write(tmp_path / "a", range(10))
        before = shard_files(tmp_path / "a")
        assert ff.delete(tmp_path / "a", rows) == 2
        assert ids(tmp_path / "a") == [1, 2, 4, 5, 6, 7, 8]
        assert ids(old) == list(range(10))
        assert shard_files(tmp_path / "a") == before
        new = ff.open(tmp_path / "a")
        assert new.fingerprint != old.fingerprint
        assert (new.provenance["command"], new.provenance["rows"]) == ("delete", 3)

    def test_deleting_composes_with_itself_appending_and_views(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(10))
        ff.delete(tmp_path / "a", [0, 1])
        write(tmp_path / "a", [20, 21, 22], append=True)
        assert ff.delete(tmp_path / "a", [0, 8]) == 4  # rows of the newest snapshot: ids 2 and 20
        assert ids(tmp_path / "a") == [3, 4, 5, 6, 7, 8, 9, 21, 22]
        dataset = ff.open(tmp_path / "a")
        ff.delete(dataset.select([8, 0]), [1])  # row 1 of the view is row 0 of the dataset
        assert ids(tmp_path / "a") == [4, 5, 6, 7, 8, 9, 21, 22]
        assert ids(ff.open(tmp_path / "a").filter("id > 20")) == [21, 22]

    def test_shards_without_rows_are_not_listed_any_more(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(9))
        write(tmp_path / "a", [20], append=True)
        ff.delete(tmp_path / "a", [3, 4, 5, 9])
        manifest = ff.open(tmp_path / "a").opened.manifest
        assert (len(manifest.shards), len(manifest.index_files), manifest.present) == (2, 1, None)
        assert ids(tmp_path / "a") == [0, 1, 2, 6, 7, 8]
        ff.delete(tmp_path / "a", range(6))
        assert ids(tmp_path / "a") == []
        assert ids(write(tmp_path / "a", [5], append=True)) == [5]

    def test_where_nothing_is_meant_nothing_is_committed(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(3))
        assert ff.delete(tmp_path / "a", []) == ff.delete(tmp_path / "a", "id > 5") == 1
        assert snapshot_numbers(LocalStorage(tmp_path / "a")) == [1]

    def test_rows_of_an_older_snapshot_are_found_in_the_newest(self, tmp_path: Path) -> None:
        old = write(tmp_path / "a", range(10))
        write(tmp_path / "a", [20], append=True)
        ff.delete(tmp_path / "a", [0])
        assert ff.delete(old, [0, 2]) == 4  # row 0 is gone already
        assert ids(tmp_path / "a") == [1, *range(3, 10), 20]

    def test_rows_of_a_snapshot_whose_shards_are_gone_are_a_conflict(self, tmp_path: Path) -> None:
        old = write(tmp_path / "a", range(4))
        write(tmp_path / "a", [8, 9], overwrite=True)
        with pytest.raises(CommitConflictError, match="snapshot 2 has other shards than snapshot 1"):
            ff.delete(old, [0])
        assert snapshot_numbers(LocalStorage(tmp_path / "a")) == [1, 2]

    def test_documents_can_be_deleted_and_windows_then_refuse(self, tmp_path: Path) -> None:
        with ff.TokenWriter(tmp_path / "a") as writer:
            for number in range(4):
                writer.write([number] * 3)
        ff.delete(tmp_path / "a", [1])
        dataset = ff.open(tmp_path / "a")
        assert [one["tokens"].tolist() for one in dataset] == [[0] * 3, [2] * 3, [3] * 3]
        assert [one["tokens"].tolist() for one in reference.read_dataset(tmp_path / "a")] == [[0] * 3, [2] * 3, [3] * 3]
        with pytest.raises(ConfigError, match="windows cross documents"):
            dataset.windows(2)
        with pytest.raises(ConfigError, match="view of windows"):
            ff.delete(ff.open(tmp_path / "a", snapshot=1).windows(2), [0])

    def test_what_means_no_rows_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        for rows, error in (([4], IndexError), ([0.5], ConfigError), (Selection.from_rows([0], 3), ConfigError)):
            with pytest.raises(error):
                ff.delete(tmp_path / "a", rows)
        assert snapshot_numbers(LocalStorage(tmp_path / "a")) == [1]

    def test_a_reader_that_does_not_know_deletions_refuses(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        ff.delete(tmp_path / "a", [1])
        path = tmp_path / "a" / "_feed" / "manifests" / f"{2:020d}.arrow"
        assert "'fastfeed.incompatible_flags': b'1'" in str(newest_texts(path))
        data = altered(path.read_bytes(), texts={"fastfeed.incompatible_flags": "3"})
        path.write_bytes(data)
        with pytest.raises(FormatVersionError, match="0x3"):
            ff.open(tmp_path / "a")

    @pytest.mark.parametrize(
        ("texts", "message"),
        [
            ({"fastfeed.incompatible_flags": "0"}, "know of no deletions"),
            ({"fastfeed.present": None}, "fastfeed.present is missing"),
            ({"fastfeed.present": "x"}, "fastfeed.present is 'x'"),
            ({"fastfeed.present": f"{'0' * 32}.bits 33 {'1' * 32} 3"}, "fastfeed.present is"),
            ({"fastfeed.present": f"{'0' * 32}.bits 34 {'0' * 32} 3"}, "bitmap file of 34 bytes"),
            ({"fastfeed.present": f"{'0' * 32}.bits 33 {'0' * 32} 5"}, "with 5 rows for 4"),
            ({"fastfeed.present": f"{'0' * 32}.bits 33 {'0' * 32} 3"}, "bitmap file .*, which is missing"),
        ],
    )
    def test_a_manifest_that_names_its_bitmap_wrongly_is_corrupt(
        self, tmp_path: Path, texts: dict[str, str | None], message: str
    ) -> None:
        write(tmp_path / "a", range(4))
        ff.delete(tmp_path / "a", [1])
        path = tmp_path / "a" / "_feed" / "manifests" / f"{2:020d}.arrow"
        data = altered(path.read_bytes(), texts=texts)
        path.write_bytes(data)
        with pytest.raises(CorruptDataError, match=message):
            ff.open(tmp_path / "a")


def newest_texts(path: Path) -> Any:
    metadata = pa.ipc.open_file(open_sealed(path.read_bytes(), str(path))).schema.metadata
    return {key.decode(): value for key, value in metadata.items()}


class TestBitmaps:
    def test_every_changed_byte_of_a_bitmap_file_is_noticed(self) -> None:
        file, data = pack_present(Selection.from_rows([0, 3, 9], 11))
        assert len(read_present(memoryview(data), file, 11, "x")) == 3
        for at in range(len(data)):
            damaged = bytearray(data)
            damaged[at] ^= 1
            with pytest.raises(CorruptDataError, match=r"^x: "):
                read_present(memoryview(bytes(damaged)), file, 11, "x")
        for rows in (9, 17):
            with pytest.raises(CorruptDataError, match="is no bitmap of"):
                read_present(memoryview(data), file, rows, "x")
        other, _ = pack_present(Selection.from_rows([0, 3], 11))
        with pytest.raises(CorruptDataError, match="the manifest wants"):
            read_present(memoryview(data), other, 11, "x")

    def test_joining_slicing_and_clearing_are_those_of_lists(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(300):
            masks = [rng.random(rng.integers(0, 40)) < 0.5 for _ in range(rng.integers(1, 5))]
            parts = [(np.packbits(mask, bitorder="little"), len(mask)) for mask in masks]
            whole = np.concatenate(masks)
            joined = join_bits(parts)
            assert joined.tolist() == np.packbits(whole, bitorder="little").tolist()
            start, stop = sorted(rng.integers(0, len(whole) + 1, 2).tolist())
            expected = np.packbits(whole[start:stop], bitorder="little")
            assert slice_bits(joined, start, stop).tolist() == expected.tolist()
            rows = np.flatnonzero(rng.random(len(whole)) < 0.3)
            cleared = np.packbits(np.where(np.isin(np.arange(len(whole)), rows), False, whole), bitorder="little")
            assert clear_rows(joined, rows).tolist() == cleared.tolist()
            assert all_bits(len(whole)).tolist() == np.packbits(np.ones(len(whole), bool), bitorder="little").tolist()


class TestMerge:
    def test_a_new_dataset_names_the_shards_where_they_are(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4), metadata={"of": "a", "k": 1})
        b = write(tmp_path / "b", [10, 11], metadata={"of": "b"})
        write(tmp_path / "b", [12], append=True)
        assert ff.merge(tmp_path / "c", [tmp_path / "a", b, str(tmp_path / "a")], metadata={"k": 2}) == 1
        merged = ff.open(tmp_path / "c")
        assert ids(tmp_path / "c") == [0, 1, 2, 3, 10, 11, 0, 1, 2, 3]  # b at the snapshot that was opened
        assert not (tmp_path / "c" / "shards").exists()
        assert merged.metadata == {"of": "a", "k": 2}
        assert [each["snapshot"] for each in merged.provenance["sources"]] == [1, 1, 1]
        assert len(list((tmp_path / "a" / REFERRER_FOLDER).iterdir())) == 1

    def test_merging_into_a_dataset_appends_to_it_with_its_deletions_and_those_of_the_sources(
        self, tmp_path: Path
    ) -> None:
        write(tmp_path / "a", range(10))
        write(tmp_path / "b", range(20, 25))
        ff.delete(tmp_path / "a", [0])
        ff.delete(tmp_path / "b", [1, 2])
        block_rows = ff.open(tmp_path / "a").block_rows
        assert ff.merge(tmp_path / "a", [tmp_path / "b"]) == 3
        assert ids(tmp_path / "a") == [*range(1, 10), 20, 23, 24]
        assert ff.open(tmp_path / "a").block_rows == block_rows
        ff.delete(tmp_path / "a", "id >= 20")
        assert ids(tmp_path / "a") == list(range(1, 10))

    def test_a_dataset_merged_with_itself_has_its_rows_twice(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        ff.merge(tmp_path / "a", [tmp_path / "a"])
        assert ids(tmp_path / "a") == [*range(4), *range(4)]
        assert not (tmp_path / "a" / REFERRER_FOLDER).exists()
        assert not ff.open(tmp_path / "a").opened.manifest.shards.path(1).startswith("/")

    def test_owners_are_told_also_where_the_source_was_merged_itself(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        ff.merge(tmp_path / "b", [tmp_path / "a"])
        ff.merge(tmp_path / "c", [tmp_path / "b"])
        assert ids(tmp_path / "c") == list(range(4))
        assert len(list((tmp_path / "a" / REFERRER_FOLDER).iterdir())) == 2

    def test_views_that_keep_the_order_are_merged_as_what_they_show(self, tmp_path: Path) -> None:
        dataset = write(tmp_path / "a", range(10))
        ff.merge(tmp_path / "c", [dataset.filter("id >= 7"), dataset.select([1, 4])])
        assert ids(tmp_path / "c") == [7, 8, 9, 1, 4]
        with pytest.raises(ConfigError, match="in the order of their dataset"):
            ff.merge(tmp_path / "d", [dataset.select([4, 1])])
        assert not (tmp_path / "d").exists()

    def test_schemas_that_differ_are_named(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        with ff.DatasetWriter(tmp_path / "b", TEXTS):
            pass
        with pytest.raises(ConfigError, match=r"'blob' is Bytes.*'text' is not there"):
            ff.merge(tmp_path / "c", [tmp_path / "a", tmp_path / "b"])
        with pytest.raises(ConfigError, match=f"{tmp_path}/a: has another schema"):
            ff.merge(tmp_path / "a", [tmp_path / "b"])
        assert not (tmp_path / "c").exists()

    def test_what_cannot_be_merged_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        with ff.TokenWriter(tmp_path / "t") as writer:
            writer.write([1, 2, 3])
        for sources in ([], tmp_path / "a", str(tmp_path / "a")):
            with pytest.raises(ConfigError, match="takes a list"):
                ff.merge(tmp_path / "c", sources)
        with pytest.raises(ConfigError, match="view of windows"):
            ff.merge(tmp_path / "c", [ff.open(tmp_path / "t").windows(2)])
        with pytest.raises(ConfigError, match="UTF-8"):
            ff.merge(tmp_path / os.fsdecode(b"\xff"), [tmp_path / "a"])

    def test_token_streams_are_merged_as_streams(self, tmp_path: Path) -> None:
        for name, start in (("a", 0), ("b", 100)):
            with ff.TokenWriter(tmp_path / name) as writer:
                writer.write(np.arange(start, start + 5))
        ff.merge(tmp_path / "c", [tmp_path / "a", tmp_path / "b"])
        assert ff.open(tmp_path / "c").windows(10)[0]["tokens"].tolist() == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]

    def test_a_shard_that_is_missing_is_named_before_anything_is_committed(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        gone = next((tmp_path / "a" / "shards").iterdir())
        gone.unlink()
        with pytest.raises(CorruptDataError, match=gone.name):
            ff.merge(tmp_path / "c", [tmp_path / "a"])
        assert snapshot_numbers(LocalStorage(tmp_path / "c")) == []

    def test_a_damaged_index_is_not_copied(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        index = next((tmp_path / "a" / "_feed" / "index").iterdir())
        data = bytearray(index.read_bytes())
        data[len(data) // 2] ^= 1
        dataset = ff.open(tmp_path / "a")
        index.write_bytes(bytes(data))
        with pytest.raises(CorruptDataError, match=index.name):
            ff.merge(tmp_path / "c", [dataset])

    def test_a_source_that_cannot_be_told_is_an_error_with_a_way_to_go_on(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        # In the way of the folder of records: nobody can write there, not even root.
        (tmp_path / "a" / REFERRER_FOLDER).write_text("in the way")
        with pytest.raises(ConfigError, match=r"cannot be told.*register_sources=False"):
            ff.merge(tmp_path / "c", [tmp_path / "a"])
        assert ff.merge(tmp_path / "c", [tmp_path / "a"], register_sources=False) == 1
        assert ids(tmp_path / "c") == list(range(4))

    def test_shards_outside_of_any_dataset_have_nobody_to_tell(self, tmp_path: Path) -> None:
        write(tmp_path / "a", range(4))
        ff.merge(tmp_path / "b", [tmp_path / "a"])
        (tmp_path / "a" / "_feed").rename(tmp_path / "elsewhere")
        with pytest.raises(ConfigError, match="holds shards and no dataset"):
            ff.merge(tmp_path / "c", [tmp_path / "b"])


def test_a_bitmap_is_stored_once_whoever_needs_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, range(4))
    for _ in range(2):
        ff.delete(ff.open(tmp_path / "a", snapshot=1), [1])
    assert len(list((tmp_path / "a" / PRESENT_FOLDER).iterdir())) == 1

