"""What users do with an open dataset: samples, slices, batches, windows, and what opening says when there is none."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.utils.data

import fastfeed as ff
from fastfeed.dataset.folder import manifest_name
from fastfeed.dataset.snapshot import open_listed
from fastfeed.errors import ConfigError, CorruptDataError, DatasetNotFoundError
from fastfeed.storage.local import LocalStorage
from tests.helpers.hostile import altered, with_value

SCHEMA = ff.Schema(
    {
        "id": ff.Scalar("int64"),
        "text": ff.Text(codec="zstd"),
        "meta": ff.Json(nullable=True),
        "vector": ff.Tensor("float16", (3,)),
        "boxes": ff.Array("float32", (None, 4)),
        "blob": ff.Bytes(nullable=True),
    }
)
ROWS = 300


def sample(row: int) -> dict[str, Any]:
    return {
        "id": row,
        "text": f"sample {row} é",
        "meta": None if row % 3 == 0 else {"row": [row]},
        "vector": np.full(3, row % 100, np.float16),
        "boxes": np.full((row % 4, 4), row, np.float32),
        "blob": None if row % 5 == 0 else b"x" * (row % 700),
    }


def same(left: Any, right: Any) -> bool:
    """Whether two samples (or values) are equal, with arrays of the same type and shape."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool((left == right).all())
    return type(left) is type(right) and left == right


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data") / "set"
    with ff.DatasetWriter(place, SCHEMA, shard_size="64KiB", metadata={"classes": ["a"]}) as writer:
        for row in range(ROWS):
            writer.write(sample(row))
    assert writer.snapshot == 1
    return place


@pytest.fixture(scope="module")
def ds(place: Path) -> ff.Dataset:
    return ff.open(place)


DOCUMENTS = [np.arange(length, dtype=np.uint16) + length for length in (40_000, 0, 7, 30_000, 1)]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    place = tmp_path_factory.mktemp("data") / "tokens"
    with ff.TokenWriter(place, "uint16", shard_size="64KiB") as writer:
        for document in DOCUMENTS:
            writer.write(document)
    return ff.open(place)


class TestSamples:
    def test_every_row_is_what_was_written(self, ds: ff.Dataset) -> None:
        assert len(ds) == ROWS
        assert len(ds.shards()) > 1
        assert all(same(value, sample(row)) for row, value in enumerate(ds))

    def test_rows_count_from_both_ends_and_may_be_numpy_integers(self, ds: ff.Dataset) -> None:
        assert same(ds[-1], sample(ROWS - 1))
        assert same(ds[-ROWS], sample(0))
        assert same(ds[np.int32(17)], sample(17))

    @pytest.mark.parametrize("row", [ROWS, -ROWS - 1, 1 << 70])
    def test_past_the_end_is_an_index_error_with_values(self, ds: ff.Dataset, row: int) -> None:
        with pytest.raises(IndexError, match=f"row {row} is outside .*snapshot 1, 300 rows"):
            ds[row]

    def test_a_row_is_an_integer(self, ds: ff.Dataset) -> None:
        with pytest.raises(TypeError):
            ds["id"]  # type: ignore[call-overload]

    @pytest.mark.parametrize("part", [slice(3, 6), slice(-2, None), slice(6, 3), slice(10, 0, -4), slice(298, 900)])
    def test_a_slice_is_a_list_of_samples(self, ds: ff.Dataset, part: slice) -> None:
        assert [value["id"] for value in ds[part]] == list(range(ROWS))[part]

    def test_a_data_loader_of_torch_asks_for_lists_of_rows(self, ds: ff.Dataset) -> None:
        assert [value["id"] for value in ds.__getitems__([5, -1])] == [5, 299]
        loader = torch.utils.data.DataLoader(
            ds, batch_size=64, collate_fn=lambda samples: [one["id"] for one in samples]
        )  # type: ignore[arg-type]
        assert [row for batch in loader for row in batch] == list(range(ROWS))


class TestTake:
    def test_rows_come_in_the_order_asked_for(self, ds: ff.Dataset) -> None:
        batch = ds.take([5, 2, -1, 5])
        assert batch.rows.tolist() == [5, 2, 299, 5]
        assert batch["id"].tolist() == [5, 2, 299, 5]
        assert batch.valid.all()
        assert batch.to_dict()["meta"] == [{"row": [5]}, {"row": [2]}, {"row": [299]}, {"row": [5]}]
        assert batch.nulls["blob"].tolist() == [True, False, False, True]
        assert batch["blob"][0] is None
        assert [boxes.shape for boxes in batch["boxes"]] == [(1, 4), (2, 4), (3, 4), (1, 4)]

    def test_only_the_columns_asked_for_are_made(self, ds: ff.Dataset) -> None:
        assert ds.take(np.array([1, 2]), columns=["text", "id"]).keys() == ["text", "id"]
        for columns in (
            ["id"],
            ["text"],
            ["meta"],
            ["vector"],
            ["boxes"],
            ["blob"],
            ["id", "text"],
            ["id", "blob"],
            ["id", "meta"],
        ):
            assert ds.take([7], columns=columns).keys() == columns

    def test_no_rows_give_an_empty_batch(self, ds: ff.Dataset) -> None:
        batch = ds.take([])
        assert len(batch) == 0
        assert batch["vector"].shape == (0, 3)

    @pytest.mark.parametrize(
        ("rows", "columns", "error", "message"),
        [
            ([1, 300], None, IndexError, "row 300 is outside"),
            ([-301], None, IndexError, "row -301 is outside"),
            (np.array([1 << 63], np.uint64), None, IndexError, "row 9223372036854775808"),
            ([[1]], None, ConfigError, "flat sequence of integers"),
            ([1.5], None, ConfigError, "flat sequence of integers"),
            ([1], ["image"], ConfigError, r"no columns \['image'\]"),
            ([1], "id", ConfigError, r"like \['id'\]"),
            ([1], [], ConfigError, "at least one"),
            ([1], ["id", "id"], ConfigError, "each once"),
        ],
    )
    def test_what_cannot_be_taken_is_said(
        self, ds: ff.Dataset, rows: Any, columns: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            ds.take(rows, columns)


class TestWhatItIs:
    def test_it_says_what_it_is(self, ds: ff.Dataset, place: Path) -> None:
        assert (ds.url, ds.snapshot, ds.layout, ds.tokens, ds.window) == (str(place), 1, "rows", 0, None)
        assert ds.schema == SCHEMA
        assert ds.metadata == {"classes": ["a"]}
        assert ds.provenance["command"] == "DatasetWriter"
        assert repr(ds) == f"Dataset({str(place)!r}, snapshot 1, 300 rows, columns {list(SCHEMA)})"

    def test_a_block_is_about_four_mebibytes(self, ds: ff.Dataset) -> None:
        payload_bytes = sum(shard.payload_end - 4096 for shard in ds.shards())
        assert ds.block_rows == (4 << 20) * ROWS // payload_bytes

    def test_the_fingerprint_is_of_the_rows_and_not_of_place_or_time(self, ds: ff.Dataset, tmp_path: Path) -> None:
        for name, rows in (("again", ROWS), ("fewer", ROWS - 1)):
            with ff.DatasetWriter(tmp_path / name, SCHEMA, shard_size="64KiB") as writer:
                for row in range(rows):
                    writer.write(sample(row))
        assert len(ds.fingerprint) == 32
        assert ff.open(tmp_path / "again").fingerprint == ds.fingerprint
        assert ff.open(tmp_path / "fewer").fingerprint != ds.fingerprint

    def test_shards_are_listed_with_what_the_index_says(self, ds: ff.Dataset) -> None:
        shards = ds.shards()
        assert [shard.number for shard in shards] == list(range(len(shards)))
        assert sum(shard.rows for shard in shards) == ROWS
        assert shards[-1].first_row + shards[-1].rows == ROWS
        assert [shard.uid for shard in shards[:2]] == [shards[0].uid, shards[1].uid]
        for shard in shards:
            assert shard.path.stat().st_size == shard.bytes
            assert shard.row_index is not None
            assert len(shard.row_index) == shard.rows
            assert shard.row_index[0] == 512
            assert shard.page_checksums is None
        with pytest.raises(IndexError, match="shard 99 of"):
            shards[99]


class TestProcesses:
    def test_it_pickles_small_and_pins_its_snapshot(self, ds: ff.Dataset) -> None:
        pickled = pickle.dumps(ds)
        assert len(pickled) < 1024
        again = pickle.loads(pickled)
        assert (again.snapshot, again.url, len(again)) == (1, ds.url, ROWS)
        assert same(again[3], sample(3))

    def test_a_forked_child_reads_what_its_parent_has_read(self, ds: ff.Dataset) -> None:
        assert same(ds[5], sample(5))
        child = os.fork()
        if child == 0:
            good = same(ds[5], sample(5)) and ds.take([7, 8]).rows.tolist() == [7, 8]
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert same(ds[6], sample(6))

    def test_the_native_snapshot_is_made_once_a_process(self, ds: ff.Dataset) -> None:
        assert ds.native_snapshot() is ds.native_snapshot()
        assert len(ds.native_snapshot()) == ROWS

    def test_workers_of_a_data_loader_read_it(self, ds: ff.Dataset) -> None:
        assert ds[0]["id"] == 0
        loader = torch.utils.data.DataLoader(ds, batch_size=100, num_workers=2, collate_fn=len)  # type: ignore[arg-type]
        assert list(loader) == [100, 100, 100]


class TestStreams:
    def test_a_row_of_a_stream_is_a_document(self, stream: ff.Dataset) -> None:
        assert (stream.layout, len(stream), stream.tokens) == ("stream", 5, sum(map(len, DOCUMENTS)))
        for row, document in enumerate(DOCUMENTS):
            assert same(stream[row]["tokens"], document)
        assert stream.take([2, 1, 4])["tokens"].tolist() == [DOCUMENTS[2].tolist(), [], [1]]
        assert "5 documents" in repr(stream)

    @pytest.mark.parametrize(("length", "stride"), [(2049, 2048), (1000, None), (5, 20_000), (70_008, 1), (1, 1)])
    def test_windows_are_slices_of_all_tokens(self, stream: ff.Dataset, length: int, stride: int | None) -> None:
        everything = np.concatenate(DOCUMENTS)
        view = stream.windows(length, stride)
        step = stride or length
        assert len(view) == (len(everything) - length) // step + 1
        for row in {0, len(view) // 2, len(view) - 1}:
            assert same(view[row]["tokens"], everything[row * step : row * step + length])
        rows = np.linspace(0, len(view) - 1, 5, dtype=np.int64)
        assert view.take(rows)["tokens"].tolist() == [everything[row * step :][:length].tolist() for row in rows]

    def test_windows_longer_than_the_stream_are_none(self, stream: ff.Dataset) -> None:
        assert len(stream.windows(70_009)) == 0
        with pytest.raises(IndexError):
            stream.windows(70_009)[0]

    def test_a_view_says_what_it_is_and_pickles(self, stream: ff.Dataset) -> None:
        view = stream.windows(2049, stride=2048)
        again = pickle.loads(pickle.dumps(view))
        assert again.fingerprint == view.fingerprint != stream.fingerprint
        assert same(again[3], view[3])
        assert "windows(2049, stride=2048)" in repr(view)
        assert view.block_rows == (4 << 20) // (2048 * 2)
        assert view.window is not None
        assert stream.windows(1 << 25).block_rows == 1

    def test_windows_are_checked(self, stream: ff.Dataset, ds: ff.Dataset) -> None:
        for length, stride in ((0, None), (5, 0), (1 << 30, None)):
            with pytest.raises(ConfigError, match=r"windows\("):
                stream.windows(length, stride)
        with pytest.raises(ConfigError, match="no token stream"):
            ds.windows(10)
        with pytest.raises(ConfigError, match="already"):
            stream.windows(10).windows(5)

    def test_stream_shards_have_documents_and_pages(self, stream: ff.Dataset) -> None:
        shard = stream.shards()[0]
        assert shard.row_index is not None
        assert shard.row_index.tolist()[0] == 0
        assert shard.page_checksums is not None
        assert len(shard.page_checksums) == (shard.payload_end - 4096) // 4096


class TestOpening:
    def test_a_snapshot_can_be_pinned(self, place: Path) -> None:
        assert len(ff.open(str(place), snapshot=1, cache="off")) == ROWS
        assert len(ff.open(place.as_uri())) == ROWS
        with pytest.raises(DatasetNotFoundError, match=r"no snapshot 99\. Those that exist: 1\."):
            ff.open(place, snapshot=99)

    def test_no_dataset_says_what_is_there(self, place: Path, tmp_path: Path) -> None:
        (tmp_path / "photos" / "cats").mkdir(parents=True)
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "begun" / "_feed").mkdir(parents=True)
        for name, message in {
            "photo": "no such folder.* is it one of these",
            "gone/set": "no such folder.*gone is not there either",
            "photos": r"it holds cats.*fastfeed convert",
            "empty": "is an empty folder",
            "file": "is a file",
            "begun": "no snapshot yet",
        }.items():
            with pytest.raises(DatasetNotFoundError, match=message):
                ff.open(tmp_path / name)
        with pytest.raises(DatasetNotFoundError, match="holds some: set"):
            ff.open(place.parent)
        with pytest.raises(FileNotFoundError):
            ff.open(tmp_path / "photo")

    @pytest.mark.parametrize("cache", ["auto", "off", "/run/no/daemon.sock"])
    def test_data_on_this_machine_is_read_in_place_whatever_the_cache_is(self, place: Path, cache: str) -> None:
        assert len(ff.open(place, cache=cache)) == len(ff.open(place))

    def test_a_cache_or_a_scheme_that_does_not_exist_is_refused(self, place: Path) -> None:
        with pytest.raises(ConfigError, match="'auto', 'off', or the path"):
            ff.open(place, cache="redis")
        with pytest.raises(ConfigError, match="unknown scheme gopher://"):
            ff.open("gopher://bucket/set")


class TestDamage:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> LocalStorage:
        with ff.DatasetWriter(tmp_path / "set", ff.Schema({"text": ff.Text()})) as writer:
            for row in range(10):
                writer.write({"text": f"row {row}"})
        return LocalStorage(tmp_path / "set")

    def rewrite(self, storage: LocalStorage, **changes: Any) -> None:
        name = manifest_name(1)
        data = altered(bytes(storage.map(name)), **changes)
        os.unlink(storage.root / name)
        storage.create(name, data)

    def test_a_damaged_manifest_is_named(self, copy: LocalStorage) -> None:
        path = copy.root / manifest_name(1)
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptDataError, match=f"{path}: xxh3"):
            ff.open(copy.root)

    def test_a_manifest_under_another_number_is_corrupt(self, copy: LocalStorage) -> None:
        copy.create(manifest_name(2), bytes(copy.map(manifest_name(1))))
        with pytest.raises(CorruptDataError, match="says that it is snapshot 1"):
            ff.open(copy.root)

    def test_a_missing_or_other_index_is_named(self, copy: LocalStorage) -> None:
        folder = copy.root / "_feed" / "index"
        (index,) = folder.iterdir()
        data = index.read_bytes()
        index.write_bytes(data[:-8])
        with pytest.raises(CorruptDataError, match=index.name):
            ff.open(copy.root)
        index.unlink()
        with pytest.raises(CorruptDataError, match="which is missing"):
            ff.open(copy.root)

    def test_a_shard_that_is_elsewhere_is_read_there(self, copy: LocalStorage, tmp_path: Path) -> None:
        (shard,) = (copy.root / "shards").iterdir()
        moved = shard.rename(tmp_path / "moved.ffs")
        self.rewrite(copy, columns={"path": with_value(str(moved))})  # type: ignore[arg-type]
        assert ff.open(copy.root)[9] == {"text": "row 9"}

    def test_a_flipped_byte_of_a_shard_is_found_when_its_row_is_read(self, copy: LocalStorage) -> None:
        (shard,) = (copy.root / "shards").iterdir()
        data = bytearray(shard.read_bytes())
        data[4096 + 9] ^= 1
        shard.write_bytes(data)
        ds = ff.open(copy.root)
        assert ds[1] == {"text": "row 1"}
        for read in (lambda: ds[0], lambda: ds.take([0])):
            with pytest.raises(CorruptDataError, match=shard.name):
                read()


class StaleListing(LocalStorage):
    """Lists, the first so many times, a snapshot that was collected since."""

    def __init__(self, root: Path, stale: int) -> None:
        super().__init__(root)
        self.stale = stale

    def list(self, folder: str) -> Any:
        self.stale -= 1
        gone = [Path(manifest_name(9)).name] if self.stale >= 0 else []
        return [*super().list(folder), *gone]


def test_a_snapshot_that_is_collected_between_listing_and_opening_is_looked_for_again(tmp_path: Path) -> None:
    with ff.DatasetWriter(tmp_path, ff.Schema({"id": ff.Scalar("int64")})) as writer:
        writer.write({"id": 1})
    assert open_listed(StaleListing(tmp_path, 2), None).manifest.snapshot == 1
    with pytest.raises(ff.DatasetNotFoundError, match="no snapshot 9"):
        open_listed(StaleListing(tmp_path, 1), 9)
    with pytest.raises(ff.DatasetNotFoundError):
        open_listed(StaleListing(tmp_path, 9), None)
