"""What every source of `fastfeed convert` keeps. The inputs are made, and read back, by the libraries of their
formats.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastfeed.convert.detect import source_of
from fastfeed.convert.imagefolder import ImageFolder
from fastfeed.convert.jsonl import Jsonl
from fastfeed.convert.parquet import Parquet
from fastfeed.convert.source import Source
from fastfeed.convert.wanted import Wanted
from fastfeed.convert.webdataset import WebDataset
from fastfeed.errors import ConfigError, CorruptDataError, FastfeedError
from tests.helpers.image_folders import encoded, write_files
from tests.helpers.sources import Sample, compressed, read_by_webdataset, tar_of, written

ROWS = 23


class SourceContract:
    """Subclasses say how an input is made, read by others, and damaged; the tests are the contract."""

    columns: ClassVar[tuple[str, str]]  # two of the columns, not in their order
    kind: ClassVar[str]

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """An input of ROWS samples in several items."""
        raise NotImplementedError

    def source(self, root: Path, wanted: Wanted | None = None) -> Source:
        """The source, with small items."""
        raise NotImplementedError

    def read_by_others(self, root: Path) -> list[Sample]:
        """The samples as the format's own library reads them, in order."""
        raise NotImplementedError

    def damage(self, root: Path) -> tuple[int, str]:
        """Break one sample; return its row, and what a message must say about where it is."""
        raise NotImplementedError

    def change(self, root: Path) -> None:
        """Make another input of it, in which a sample that was scanned is no more what it was."""
        raise NotImplementedError

    # --- plans ---

    def test_it_is_what_auto_finds_and_what_is_seen_says_how_much(self, root: Path) -> None:
        source = source_of("auto", root)
        assert source.kind == self.kind
        assert str(ROWS) in source.plan(None).seen

    def test_two_plans_of_one_input_are_equal(self, root: Path) -> None:
        assert self.source(root).plan(None) == self.source(root).plan(None)

    def test_source_and_plan_pickle(self, root: Path) -> None:
        source = self.source(root)
        plan = source.plan(None)
        assert pickle.loads(pickle.dumps(source)) == source
        assert pickle.loads(pickle.dumps(plan)) == plan

    def test_items_and_metadata_are_json_and_name_files_below_the_folder(self, root: Path) -> None:
        source = self.source(root)
        plan = source.plan(None)
        json.dumps([plan.metadata, [item.values for item in plan.items]])
        assert all((source.folder / item.name).is_file() for item in plan.items)

    def test_there_are_several_items_and_they_count_all_rows(self, root: Path) -> None:
        items = self.source(root).plan(None).items
        assert len(items) > 1
        assert sum(item.rows for item in items) == ROWS
        assert all(item.size_bytes > 0 for item in items)

    def test_options_are_json_and_equal_for_equal_sources(self, root: Path) -> None:
        options = self.source(root).options()
        assert json.loads(json.dumps(options)) == options == self.source(root).options()
        wanted = Wanted(columns=self.columns, rename=((self.columns[0], "other"),), image_size=7)
        others = [
            self.source(root, dataclasses.replace(wanted, **{name: default})).options()
            for name, default in (("columns", None), ("rename", ()), ("image_size", None))
        ]
        found = [json.dumps(each) for each in [options, self.source(root, wanted).options(), *others]]
        assert len(set(found)) == len(found)

    # --- rows ---

    def test_rows_are_those_that_the_formats_library_reads_in_order(self, root: Path, tmp_path: Path) -> None:
        assert written(self.source(root), tmp_path).samples == self.read_by_others(root)

    def test_items_one_by_one_give_the_same_rows(self, root: Path, tmp_path: Path) -> None:
        source = self.source(root)
        plan = source.plan(None)
        parts = [written(source, tmp_path, schema=plan.schema, items=[item]).samples for item in plan.items]
        assert list(map(len, parts)) == [item.rows for item in plan.items]
        assert [sample for part in parts for sample in part] == self.read_by_others(root)

    def test_items_from_the_middle_give_their_rows(self, root: Path, tmp_path: Path) -> None:
        source = self.source(root)
        plan = source.plan(None)
        before, count = plan.items[0].rows, sum(item.rows for item in plan.items[1:-1])
        found = written(source, tmp_path, schema=plan.schema, items=plan.items[1:-1])
        assert found.samples == self.read_by_others(root)[before : before + count]

    @pytest.mark.parametrize("limit", [1, 2, ROWS - 1, ROWS, ROWS + 1])
    def test_a_limit_takes_the_first_rows(self, root: Path, tmp_path: Path, limit: int) -> None:
        plan = self.source(root).plan(limit)
        assert sum(item.rows for item in plan.items) == min(limit, ROWS)
        found = written(self.source(root), tmp_path, limit_rows=limit).samples
        rows = self.read_by_others(root)[:limit]
        assert [{name: sample.get(name) for name in self.columns} for sample in found] == [
            {name: sample.get(name) for name in self.columns} for sample in rows
        ]

    # --- columns ---

    def test_columns_are_chosen_in_the_order_asked_for_and_renamed(self, root: Path, tmp_path: Path) -> None:
        first, second = self.columns
        wanted = Wanted(columns=self.columns, rename=((first, second), (second, first)))
        source = self.source(root, wanted)
        assert source.plan(None).schema.names == [second, first]
        assert written(source, tmp_path).samples == [
            {second: sample[first], first: sample[second]} for sample in self.read_by_others(root)
        ]

    def test_a_column_that_is_not_there_is_an_error_that_names_those_that_are(self, root: Path) -> None:
        for wanted in (Wanted(columns=("nothing",)), Wanted(rename=(("nothing", "x"),))):
            with pytest.raises(ConfigError, match=rf"'nothing'.*It has .*{self.columns[1]!r}"):
                self.source(root, wanted).plan(None)

    def test_two_columns_of_one_name_are_an_error(self, root: Path) -> None:
        with pytest.raises(ConfigError, match="would both be"):
            self.source(root, Wanted(rename=(self.columns,))).plan(None)

    # --- damage ---

    def test_damage_stops_with_the_file_and_the_place(self, root: Path, tmp_path: Path) -> None:
        _, where = self.damage(root)
        with pytest.raises(CorruptDataError, match=where) as caught:
            written(self.source(root), tmp_path)
        assert str(caught.value).startswith(str(self.source(root).folder))

    def test_skipping_rejects_exactly_the_bad_sample(self, root: Path, tmp_path: Path) -> None:
        before = self.read_by_others(root)
        row, where = self.damage(root)
        found = written(self.source(root), tmp_path, on_error="skip")
        assert found.samples == before[:row] + before[row + 1 :]
        assert len(found.rejected) == 1
        with pytest.raises(CorruptDataError, match=where):
            raise found.rejected[0].error(self.source(root).folder)

    def test_an_input_that_changed_since_its_plan_is_an_error(self, root: Path, tmp_path: Path) -> None:
        source = self.source(root)
        plan = source.plan(None)
        self.change(root)
        with pytest.raises(ConfigError, match=r"has changed since|when the folder was scanned"):
            written(source, tmp_path, schema=plan.schema, items=plan.items)

    @pytest.mark.parametrize("seed", range(8))
    def test_whatever_bytes_change_the_end_is_rows_or_an_error_that_says_what(
        self, root: Path, tmp_path: Path, seed: int
    ) -> None:
        draw = random.Random(seed)
        file = draw.choice(sorted(path for path in root.rglob("*") if path.is_file()))
        content = bytearray(file.read_bytes())
        for _ in range(3):
            content[draw.randrange(self.changeable_bytes(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
        try:
            rows = len(written(self.source(root), tmp_path, on_error="skip").samples)
        except FastfeedError:
            rows = 0
        assert rows <= ROWS

    def changeable_bytes(self, content: bytes) -> int:
        """How many of the first bytes of a file may be anything."""
        return len(content)

    def test_an_empty_folder_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError, match="empty"):
            self.source(tmp_path / "empty").plan(None)


class TestImageFolder(SourceContract):
    kind = "imagefolder"
    columns = ("path", "label")

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        names = [f"{'cat' if at % 2 else 'dog'}/{at:02}.jpg" for at in range(ROWS)]
        files = {name: encoded("chelsea", at, "JPEG", (24, 16)) for at, name in enumerate(names)}
        return write_files(tmp_path / "in", files)

    def source(self, root: Path, wanted: Wanted | None = None) -> Source:
        return ImageFolder(root=root, wanted=wanted or Wanted())

    def read_by_others(self, root: Path) -> list[Sample]:
        files = sorted(root.glob("*/*.jpg"))
        classes = sorted({file.parent.name for file in files})
        return [
            {
                "image": file.read_bytes(),
                "label": classes.index(file.parent.name),
                "path": f"{file.parent.name}/{file.name}",
            }
            for file in files
        ]

    def damage(self, root: Path) -> tuple[int, str]:
        file = root / "cat" / "05.jpg"
        file.write_bytes(file.read_bytes()[:-30])
        return 2, r"cat/05\.jpg"

    def change(self, root: Path) -> None:
        file = root / "cat" / "05.jpg"
        file.write_bytes(file.read_bytes() + b"more")


def tar_samples() -> list[Sample]:
    """Samples with several members each, some of them missing."""
    samples = []
    for at in range(ROWS):
        sample: Sample = {
            "__key__": f"part/{at:03}",
            "jpg": encoded("chelsea", at, "JPEG", (24, 16)),
            "seg.png": encoded("coffee", at, "PNG", (8, 8)),
            "cls": at - 3,
            "txt": f"caption {at} ä",
            "json": {"at": at, "boxes": [[1.5, at]]},
            "emb.npy": np.full((2, 3), at, np.float16),
            "points.npy": np.arange(at * 2, dtype=np.int32).reshape(at, 2),
            "bin": b"\0bytes %d" % at,
        }
        if at % 5 == 0:
            del sample["txt"]
        samples.append(sample)
    return samples


class TestWebDataset(SourceContract):
    kind = "webdataset"
    columns = ("txt", "cls")
    suffix = ".tar"

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        samples = tar_samples()
        plain, root = tmp_path / "plain", tmp_path / "in"
        for part, (start, stop) in enumerate([(0, 10), (10, 16), (16, ROWS)]):
            content = tar_of(samples[start:stop])
            write_files(plain, {f"{part}.tar": content})
            write_files(root, {f"{part}{self.suffix}": compressed(content, self.suffix)})
        return root

    def source(self, root: Path, wanted: Wanted | None = None) -> Source:
        return WebDataset(root=root, wanted=wanted or Wanted(), item_bytes=6000)

    def read_by_others(self, root: Path) -> list[Sample]:
        decode = webdataset_decoders()
        samples = []
        for file in sorted((root.parent / "plain").glob("*.tar")):
            for stored in read_by_webdataset(file):
                sample = {"__key__": stored["__key__"], **dict.fromkeys(decode)}
                samples.append(sample | {name: decode[name](stored[name]) for name in decode if name in stored})
        return samples

    def rewrite(self, root: Path, name: str, samples: Sequence[Sample]) -> None:
        (root / f"{name}{self.suffix}").write_bytes(compressed(tar_of(samples), self.suffix))

    def damage(self, root: Path) -> tuple[int, str]:
        samples = tar_samples()[10:16]
        samples[3]["jpg"] = samples[3]["jpg"][:-30]
        self.rewrite(root, "1", samples)
        return 13, rf"1\.{self.suffix[1:]}: sample part/013"

    def change(self, root: Path) -> None:
        samples = tar_samples()[10:16]
        samples[2]["__key__"] = "another"
        self.rewrite(root, "1", samples)


class TestGzippedWebDataset(TestWebDataset):
    suffix = ".tar.gz"


class TestZstdWebDataset(TestWebDataset):
    suffix = ".tar.zst"


def webdataset_decoders() -> dict[str, Any]:
    """webdataset's own decoders for the suffixes of tar_samples(), in the order in which its writer writes them."""
    from webdataset.autodecode import basichandlers

    def array(suffix: str) -> Any:
        return lambda content: basichandlers(suffix, content).tolist()

    return {
        "bin": bytes,
        "cls": lambda content: basichandlers("cls", content),
        "emb.npy": array("emb.npy"),
        "jpg": bytes,
        "json": lambda content: basichandlers("json", content),
        "points.npy": array("points.npy"),
        "seg.png": bytes,
        "txt": lambda content: basichandlers("txt", content),
    }


class TestParquet(SourceContract):
    kind = "parquet"
    columns = ("text", "id")

    def table(self) -> pa.Table:
        at = list(range(ROWS))
        return pa.table(
            {
                "id": pa.array(at, pa.int32()),
                "ok": pa.array([number % 2 == 0 for number in at]),
                "score": pa.array([None if number % 4 == 0 else number / 8 for number in at], pa.float64()),
                "text": [f"text {number} ä" for number in at],
                "data": [b"\0%d" % number * 30 for number in at],
                "image": [{"bytes": encoded("chelsea", number, "JPEG", (24, 16)), "path": None} for number in at],
                "emb": pa.array([[number, 0.5] for number in at], pa.list_(pa.float32(), 2)),
                "words": pa.array([list(range(number)) for number in at], pa.list_(pa.int64())),
                "meta": [{"a": number, "b": ["x", None]} for number in at],
            }
        )

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "in"
        root.mkdir()
        pq.write_table(self.table().slice(0, 15), root / "0.parquet", row_group_size=10, write_page_checksum=True)
        pq.write_table(self.table().slice(15), root / "1.parquet", row_group_size=10, write_page_checksum=True)
        return root

    def source(self, root: Path, wanted: Wanted | None = None) -> Source:
        return Parquet(root=root, wanted=wanted or Wanted(), item_bytes=3000)

    def read_by_others(self, root: Path) -> list[Sample]:
        samples = pa.concat_tables([pq.read_table(file) for file in sorted(root.glob("*.parquet"))]).to_pylist()
        return [{**sample, "image": sample["image"]["bytes"]} for sample in samples]

    def damage(self, root: Path) -> tuple[int, str]:
        table = self.table().slice(15)
        images = table.column("image").to_pylist()
        images[2]["bytes"] = images[2]["bytes"][:-30]
        table = table.set_column(table.schema.get_field_index("image"), "image", pa.array(images))
        pq.write_table(table, root / "1.parquet", row_group_size=10)
        return 17, r"1\.parquet: row 2: column 'image'"

    def changeable_bytes(self, content: bytes) -> int:
        """All but the footer: some footers make pyarrow 26 end the process (C++ terminate)."""
        return len(content) - 8 - int.from_bytes(content[-8:-4], "little")

    def change(self, root: Path) -> None:
        pq.write_table(self.table().slice(14), root / "1.parquet", row_group_size=10)


class TestJsonl(SourceContract):
    kind = "jsonl"
    columns = ("text", "id")
    suffix = ".jsonl"

    def samples(self) -> list[Sample]:
        return [
            {
                "id": at,
                "text": f"line {at} ä \u2028 \U0001f600",
                "score": at / 8 if at % 2 else at,
                "ok": at % 3 == 0,
                "emb": [at, 0.5],
                "boxes": [[at, 1], [2, 3]][: at % 3],
                "meta": {"tags": ["x", at], "none": None},
                "maybe": None if at % 4 else "there",
            }
            for at in range(ROWS)
        ]

    def text(self, samples: Sequence[Sample]) -> str:
        return "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "in"
        root.mkdir()
        self.rewrite(root, "0", self.samples()[:15])
        self.rewrite(root, "1", self.samples()[15:])
        return root

    def rewrite(self, root: Path, name: str, samples: Sequence[Sample]) -> None:
        (root / f"{name}{self.suffix}").write_bytes(compressed(self.text(samples).encode(), self.suffix))

    def source(self, root: Path, wanted: Wanted | None = None) -> Source:
        return Jsonl(root=root, wanted=wanted or Wanted(), item_bytes=700)

    def read_by_others(self, root: Path) -> list[Sample]:
        return [json.loads(line) for line in self.text(self.samples()).split("\n") if line]

    def damage(self, root: Path) -> tuple[int, str]:
        lines = self.text(self.samples()[15:]).replace('"id": 18,', '"id": 18').encode()
        (root / f"1{self.suffix}").write_bytes(compressed(lines, self.suffix))
        return 18, rf"1\{self.suffix}: line 4: is not JSON"

    def change(self, root: Path) -> None:
        samples = self.samples()[15:]
        samples[0]["id"] = 16
        self.rewrite(root, "1", samples)


class TestGzippedJsonl(TestJsonl):
    suffix = ".jsonl.gz"


class TestZstdJsonl(TestJsonl):
    suffix = ".jsonl.zst"
