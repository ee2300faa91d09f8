"""Views of datasets on disk: select, filter, split, lanes; on every path that reads, over deletions, forks, pickles."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fastfeed as ff
import fastfeed.torch as fft
from fastfeed._native.checksum import crc32c
from fastfeed._native.selection import Selection
from fastfeed.dataset.delete import delete
from fastfeed.dataset.lanes import TOKEN_COUNT_LANE
from fastfeed.dataset.merge import merge
from fastfeed.dataset.row_map import Chosen
from fastfeed.errors import ConfigError, CorruptDataError
from fastfeed.format.layout import TRAILER_BYTES, SectionId, Trailer, unpack_directory
from fastfeed.loader.budget import Lengths
from fastfeed.loader.options import read_options
from fastfeed.loader.weights import WeightedSampler
from tests.helpers.loader_data import SCHEMA, sample_of, write_images, write_rows, write_tokens

ROWS = 900


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    return write_rows(tmp_path_factory.mktemp("views") / "data", ROWS)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> ff.Dataset:
    return write_tokens(tmp_path_factory.mktemp("views") / "tokens", 300)


def ids(view: ff.Dataset) -> list[int]:
    return [sample["id"] for sample in view]


class TestSelect:
    def test_rows_come_as_they_were_given(self, ds: ff.Dataset) -> None:
        assert ids(ds.select([5, 2, 2, -1])) == [5, 2, 2, ROWS - 1]
        assert ids(ds.select(np.array([7, 8, 500], np.uint16))) == [7, 8, 500]
        assert ids(ds.select(slice(None, None, -300))) == [899, 599, 299]
        assert ids(ds.select(range(4, 0, -2))) == [4, 2]
        assert ids(ds.select(np.arange(ROWS) % 200 == 3)) == [3, 203, 403, 603, 803]
        assert ids(ds.select([row == 1 for row in range(ROWS)])) == [1]
        assert ids(ds.select(Selection.from_rows([3, 8], ROWS))) == [3, 8]
        assert len(ds.select([])) == 0

    def test_every_way_of_reading_a_view_gives_its_rows(self, ds: ff.Dataset) -> None:
        view = ds.select(np.arange(0, ROWS, 3)).filter("id >= 300")
        expected = list(range(300, ROWS, 3))
        assert view[0]["id"] == 300
        assert view[-1]["id"] == 897
        assert [sample["id"] for sample in view[2:4]] == [306, 309]
        batch = view.take([3, -1, 3], columns=["id"])
        assert batch["id"].tolist() == [309, 897, 309]
        assert batch.rows.tolist() == [3, len(view) - 1, 3]
        with ff.Loader(view, batch_size=64, last="short", columns=["id"], threads=1) as loader:
            pairs = [pair for batch in loader for pair in zip(batch.rows.tolist(), batch["id"].tolist(), strict=True)]
        assert sorted(pairs) == list(enumerate(expected))
        mapped = fft.MapDataset(view, columns=["id"])
        assert [int(sample["id"]) for sample in mapped.__getitems__([0, 5])] == [300, 315]
        iterable = fft.IterableDataset(view, columns=["id"], shuffle=False)
        assert [int(sample["id"]) for sample in iterable] == expected
        with pytest.raises(IndexError, match="row 200 is outside Dataset"):
            view[len(view)]

    def test_what_selects_nothing_that_is_there_is_refused(self, ds: ff.Dataset) -> None:
        for rows in ([ROWS], [-ROWS - 1], range(ROWS - 1, ROWS + 2), range(2, -2, -1)):
            with pytest.raises(IndexError, match="outside Dataset"):
                ds.select(rows)
        with pytest.raises(ConfigError, match="a mask of shape \\(3,\\)"):
            ds.select([True, False, True])
        with pytest.raises(ConfigError, match="Selection\\(1 of 3 rows\\) for Dataset"):
            ds.select(Selection.from_rows([1], 3))
        with pytest.raises(ConfigError, match="flat sequence of integers"):
            ds.select([[1, 2]])

    def test_a_block_of_a_view_lies_in_as_many_bytes(self, ds: ff.Dataset) -> None:
        assert ds.select(slice(None)).block_rows == ds.block_rows
        assert ds.select(np.arange(0, ROWS, 2)).block_rows == ds.block_rows // 2
        assert ds.select([3]).block_rows == max(1, ds.block_rows // ROWS)
        assert ds.select(np.zeros(3 * ROWS, int)).block_rows == ds.block_rows
        assert ds.select([3]).physical_block_rows == ds.block_rows


class TestFilter:
    def test_rows_for_which_it_is_true_come_in_order(self, ds: ff.Dataset) -> None:
        view = ds.filter("weight is null and id < 30")
        assert ids(view) == [0, 5, 10, 15, 20, 25]
        assert repr(view).startswith(f"Dataset({ds.url!r}, snapshot 1, 6 rows of filter('weight is null and id < 30')")
        assert ids(ds.filter("text.bytes > 40 and boxes.bytes == 0").select([0, 1])) == [8, 20]

    def test_filters_of_lists_keep_the_lists_order(self, ds: ff.Dataset) -> None:
        assert ids(ds.select([9, 4, 400, 4]).filter("id < 100")) == [9, 4, 4]

    def test_filtering_in_one_go_or_in_two_is_the_same_view(self, ds: ff.Dataset) -> None:
        one, two = ds.filter("id >= 100 and id < 200"), ds.filter("id >= 100").filter("id < 200")
        assert one.fingerprint == two.fingerprint == ds.select(slice(100, 200)).filter("id >= 0").fingerprint
        assert one.fingerprint != ds.filter("id >= 100 and id < 201").fingerprint
        assert ds.filter("id >= 0").fingerprint == ds.fingerprint

    def test_only_shards_with_rows_of_the_view_are_read(self, ds: ff.Dataset, tmp_path: Path) -> None:
        copied = write_rows(tmp_path / "data", ROWS)
        shards = copied.shards()
        view = copied.select(slice(0, shards[0].rows))
        shards[1].path.unlink()
        assert len(view.filter("id < 10")) == 10
        assert len(view.lane("id")) == shards[0].rows
        with pytest.raises(FileNotFoundError):
            copied.filter("id < 10")

    def test_documents_of_a_stream_are_filtered_by_their_tokens(self, stream: ff.Dataset) -> None:
        view = stream.filter("tokens.count >= 8")
        assert [len(sample["tokens"]) for sample in view[:4]] == [8, 9, 8, 9]
        assert len(view) == 60


    def test_images_are_filtered_by_their_size(self, tmp_path: Path) -> None:
        images = write_images(tmp_path / "images", 20)
        assert images.lane("image.width").tolist() == [48] * 20
        assert len(images.filter("image.width == 48 and image.height < 41 and image.channels == 3")) == 20
        assert len(images.filter("image.width * image.height > 48 * 40 or image.bytes < 100")) == 0


class TestSplit:
    def test_parts_are_disjoint_and_cover_everything(self, ds: ff.Dataset) -> None:
        parts = ds.split({"train": 0.8, "val": 0.1, "test": 0.1}, seed=5)
        rows = sorted(row for part in parts.values() for row in ids(part))
        assert rows == list(range(ROWS))
        assert len(parts["train"]) == pytest.approx(0.8 * ROWS, rel=0.1)
        assert ids(ds.split({"a": 0, "b": 1})["b"]) == list(range(ROWS))
        other = ds.split({"train": 0.8, "val": 0.1, "test": 0.1}, seed=6)
        assert ids(other["val"]) != ids(parts["val"])

    def test_a_row_keeps_its_part_in_any_view(self, ds: ff.Dataset) -> None:
        whole = set(ids(ds.split({"train": 0.5, "val": 0.5})["val"]))
        view = ds.select([40, 3, 40, 7, 500]).split({"train": 0.5, "val": 0.5})
        assert ids(view["val"]) == [row for row in (40, 3, 40, 7, 500) if row in whole]
        filtered = ds.filter("id < 200").split({"train": 0.5, "val": 0.5})["val"]
        assert set(ids(filtered)) == {row for row in whole if row < 200}

    def test_a_row_keeps_its_part_when_others_come_and_go(self, tmp_path: Path) -> None:
        place, fractions = tmp_path / "data", {"train": 0.7, "val": 0.3}
        first = write_rows(place, 400)
        before = set(ids(first.split(fractions)["val"]))
        with ff.DatasetWriter(place, SCHEMA, shard_size="64KiB", append=True) as writer:
            for row in range(400, 700):
                writer.write(sample_of(row))
        longer = ff.open(place)
        grown = set(ids(longer.split(fractions)["val"]))
        assert {row for row in grown if row < 400} == before
        delete(longer, "id >= 100 and id < 300")
        fewer = ff.open(place)
        assert len(fewer) == 500
        assert set(ids(fewer.split(fractions)["val"])) == {row for row in grown if not 100 <= row < 300}
        other = tmp_path / "other"
        with ff.DatasetWriter(other, SCHEMA, shard_size="64KiB") as writer:
            for row in range(1000, 1100):
                writer.write(sample_of(row))
        merge(tmp_path / "merged", [ff.open(other), fewer])
        merged = set(ids(ff.open(tmp_path / "merged").split(fractions)["val"]))
        assert {row for row in merged if row < 1000} == {row for row in grown if not 100 <= row < 300}

    def test_windows_are_split_by_their_numbers(self, stream: ff.Dataset) -> None:
        windows = stream.windows(16)
        parts = windows.split({"train": 0.75, "val": 0.25}, seed=1)
        starts = sorted(int(sample["tokens"][0]) for part in parts.values() for sample in part)
        assert starts == [16 * number for number in range(len(windows))]
        assert int(parts["val"].select([-1])[0]["tokens"][0]) == int(parts["val"][-1]["tokens"][0])

    @pytest.mark.parametrize(
        ("fractions", "message"),
        [
            ({"train": 0.9, "val": 0.2}, "add up to 1.1"),
            ({"train": 0.9}, "add up to 0.9, not to 1: every row belongs to a part"),
            ({"train": 1.5, "val": -0.5}, "fraction of 'train' is 1.5"),
            ({"train": float("nan")}, "is nan"),
            ({"train": True}, "is True"),
            ({"train": "all"}, "is 'all'"),
            ({}, "names and fractions"),
            ([0.9, 0.1], "names and fractions"),
        ],
    )
    def test_fractions_of_no_whole_are_refused(self, ds: ff.Dataset, fractions: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            ds.split(fractions)

    def test_seeds_are_64_bit_numbers(self, ds: ff.Dataset) -> None:
        for seed in (-1, 2**64, "a"):
            with pytest.raises(ConfigError, match="split\\(seed="):
                ds.split({"a": 1}, seed=seed)  # type: ignore[arg-type]


class TestLanes:
    def test_a_lane_is_the_column_in_the_order_of_the_view(self, ds: ff.Dataset) -> None:
        assert ds.lane("id").tolist() == list(range(ROWS))
        assert ds.lane("text.bytes").dtype == np.uint32
        view = ds.select([800, 3, 3, 400])
        assert view.lane("id").tolist() == [800, 3, 3, 400]
        assert ds.select(slice(None, None, -1)).lane("id").tolist() == list(range(ROWS))[::-1]
        assert ds.filter("id in (5, 700)").lane("id").tolist() == [5, 700]
        assert ds.select([]).lane("id").tolist() == []

    def test_a_nullable_lane_is_masked(self, ds: ff.Dataset) -> None:
        weights = ds.select(slice(4, 7)).lane("weight")
        assert isinstance(weights, np.ma.MaskedArray)
        assert weights.tolist() == [2.0, None, 3.0]
        assert weights.dtype == np.float32

    def test_documents_have_their_token_counts(self, stream: ff.Dataset) -> None:
        assert stream.lane(TOKEN_COUNT_LANE).tolist() == [number % 10 for number in range(300)]
        assert stream.select([-1, 3]).lane(TOKEN_COUNT_LANE).tolist() == [9, 3]

    def test_what_is_no_lane_is_refused_with_those_there_are(self, ds: ff.Dataset, stream: ff.Dataset) -> None:
        with pytest.raises(ConfigError, match=r"no lane 'text': column 'text' itself is none, but it has .'text"):
            ds.lane("text")
        with pytest.raises(ConfigError, match=r"Lanes of this dataset: .'tokens.count'"):
            stream.lane("id")
        with pytest.raises(ConfigError, match="every window has 16 tokens"):
            stream.windows(16).lane(TOKEN_COUNT_LANE)
        with pytest.raises(ConfigError, match="a window has no lanes"):
            stream.windows(16).filter("tokens.count > 3")

    @pytest.mark.parametrize("where", ["trailer", "directory", "lanes", "length", "swapped"])
    def test_a_damaged_lane_is_an_error_and_never_a_value(self, tmp_path: Path, where: str) -> None:
        place = tmp_path / "data"
        copied = write_rows(place, ROWS)
        first, second = copied.shards()[0], copied.shards()[1]
        data = bytearray(first.path.read_bytes())
        trailer = Trailer.unpack(bytes(data[-TRAILER_BYTES:]), len(data), crc32c)
        directory = bytes(data[trailer.directory_offset : trailer.directory_offset + trailer.directory_bytes])
        sections = {each.id: each for each in unpack_directory(directory, trailer.directory_offset)}
        if where == "trailer":
            data[-40] ^= 1
        elif where == "directory":
            data[trailer.directory_offset + 9] ^= 1
        elif where == "lanes":
            data[sections[SectionId.LANES].offset + 700] ^= 1
        elif where == "length":
            del data[-8:]
        else:
            data = bytearray(second.path.read_bytes())
        first.path.unlink()
        first.path.write_bytes(data)
        for read in (lambda: copied.lane("id"), lambda: copied.filter("id < 10")):
            with pytest.raises(CorruptDataError, match=first.path.name):
                read()

    def test_a_damaged_document_index_is_an_error(self, tmp_path: Path) -> None:
        stream = write_tokens(tmp_path / "tokens", 300)
        shard = stream.shards()[0]
        data = bytearray(shard.path.read_bytes())
        trailer = Trailer.unpack(bytes(data[-TRAILER_BYTES:]), len(data), crc32c)
        directory = bytes(data[trailer.directory_offset : trailer.directory_offset + trailer.directory_bytes])
        sections = {each.id: each for each in unpack_directory(directory, trailer.directory_offset)}
        data[sections[SectionId.DOCUMENT_INDEX].offset + 5] ^= 1
        shard.path.unlink()
        shard.path.write_bytes(data)
        with pytest.raises(CorruptDataError, match="crc32c"):
            stream.lane(TOKEN_COUNT_LANE)


class TestDeletions:
    def test_views_lie_above_what_was_deleted(self, tmp_path: Path) -> None:
        place = tmp_path / "data"
        delete(write_rows(place, 300), [0, 7, 299])
        ds = ff.open(place)
        left = [row for row in range(300) if row not in (0, 7, 299)]
        assert ids(ds) == ds.lane("id").tolist() == left
        assert ids(ds.select([0, 6, -1])) == [1, 8, 298]
        assert ids(ds.filter("id < 9")) == [1, 2, 3, 4, 5, 6, 8]
        assert ds.block_rows == ff.open(place, snapshot=1).block_rows
        assert ds.fingerprint != ff.open(place, snapshot=1).fingerprint
        with ff.Loader(ds, batch_size=32, last="short", columns=["id"], threads=1) as loader:
            assert sorted(row for batch in loader for row in batch["id"].tolist()) == left

    def test_windows_of_a_stream_with_deletions_are_refused(self, tmp_path: Path) -> None:
        place = tmp_path / "tokens"
        delete(write_tokens(place, 300), [5])
        assert len(ff.open(place)) == 299
        with pytest.raises(ConfigError, match="windows cross documents"):
            ff.open(place).windows(16)


class TestMemory:
    """docs/views.md has the table."""

    def kept_bytes(self, make: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            made = make()
            assert made is not None
            return tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()

    def test_what_views_weights_and_budgets_keep_is_what_the_docs_say(self, tmp_path: Path) -> None:
        rows = 200_000
        with ff.DatasetWriter(tmp_path / "data", ff.Schema({"n": ff.Scalar("int32")}), shard_size="1MiB") as writer:
            writer.write_batch(pa.record_batch({"n": np.arange(rows, dtype=np.int32) % 100}))
        ds = ff.open(tmp_path / "data")
        weighted, packed = read_options({"batch_size": 1, "weights": "n"}), 1000
        slack = 20_000
        assert self.kept_bytes(lambda: ds.select(slice(None, None, 3))) < slack
        assert self.kept_bytes(lambda: ds.select(np.random.default_rng(0).permutation(rows))) < 2 * 8 * rows + slack
        assert self.kept_bytes(lambda: WeightedSampler(ds, weighted)) < 8 * rows + slack
        assert self.kept_bytes(lambda: Lengths([ds], "n", packed)) < 4 * rows + slack
        # A bitmap lies in native memory, which says itself how much it is.
        bits = self.kept_bytes(lambda: ds.filter("n < 50"))
        chosen = ds.filter("n < 50")._map
        assert isinstance(chosen, Chosen)
        assert bits + chosen.selection.memory_bytes < 1.15 * rows / 8 + slack


class TestElsewhere:
    def test_pickles_of_filters_and_splits_are_small_and_bring_the_same_rows(self, ds: ff.Dataset) -> None:
        view = ds.split({"train": 0.9, "val": 0.1}, seed=3)["train"].filter("id >= 100").select(slice(None, None, 2))
        pickled = pickle.dumps(view)
        assert len(pickled) < 1024
        again = pickle.loads(pickled)
        assert (ids(again), again.fingerprint, repr(again)) == (ids(view), view.fingerprint, repr(view))

    def test_pickles_of_selects_carry_their_rows(self, ds: ff.Dataset) -> None:
        for view in (ds.select([5, 2, 2]), ds.select(np.arange(ROWS) % 3 == 0)):
            assert ids(pickle.loads(pickle.dumps(view))) == ids(view)

    def test_a_forked_child_reads_a_view(self, ds: ff.Dataset) -> None:
        view = ds.filter("id >= 800")
        view[0]
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.write(write, str([view[3]["id"], *view.take([0, 1])["id"].tolist(), len(view)]).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read) as pipe:
            assert pipe.read() == "[803, 800, 801, 100]"

    def test_windows_come_first(self, stream: ff.Dataset) -> None:
        view = stream.windows(10).select([3, 1])
        assert [sample["tokens"][0] for sample in view] == [30, 10]
        assert [batch["tokens"][0, 0] for batch in [view.take([1])]] == [10]
        assert repr(view).startswith(f"Dataset({stream.url!r}, snapshot 1, 2 rows of windows(10, stride=10).select(2")
        with pytest.raises(ConfigError, match="take windows\\(\\) of the dataset itself"):
            stream.select([1, 2]).windows(10)
        with pytest.raises(ConfigError, match="is a view already"):
            view.windows(10)

