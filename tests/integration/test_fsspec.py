"""Other people's tools over the node's cache: pandas, pyarrow, WebDataset, torch.load, fsspec itself. A real daemon."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from webdataset.gopen import gopen_schemes

import fastfeed.fsspec as fffs
from fastfeed.errors import ConfigError, OriginError
from fastfeed.wire.messages import Command
from fastfeed.wire.sessions import close_sessions, place_for, session_at
from tests.helpers.cache_daemon import CacheDaemon
from tests.helpers.faulty_http import FaultyHttp
from tests.helpers.programs import unmeasured_environment

BYTES = np.random.default_rng(9).bytes(3_500_000)
TABLE = pa.table({"x": np.arange(50_000), "y": np.random.default_rng(2).normal(size=50_000)})


class Shelf:
    """What the web server serves, and how it is reached through the cache."""

    def __init__(self, root: Path, url: str, socket: Path, origin: FaultyHttp) -> None:
        self.root, self.url, self.origin = root, url, origin
        self.options = {"cache": str(socket)}
        self.fs = fffs.FastfeedFileSystem(**self.options)

    def at(self, name: str) -> str:
        return f"fastfeed://{self.url}/{name}"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    root = tmp_path_factory.mktemp("www")
    (root / "plain.bin").write_bytes(BYTES)
    (root / "text.txt").write_text("grüße\nund mehr\n", encoding="utf-8")
    (root / "empty").touch()
    (root / "tables").mkdir()
    for part in range(3):
        pq.write_table(TABLE.slice(part * 10_000, 10_000), root / "tables" / f"{part}.parquet")
    torch.save({"weight": torch.arange(1000)}, root / "model.pt")
    with tarfile.open(root / "samples.tar", "w") as tar:
        for number in range(20):
            for suffix, data in (("txt", f"text {number}".encode()), ("cls", str(number).encode())):
                member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with FaultyHttp(root) as origin, CacheDaemon(tmp_path_factory.mktemp("node"), limit="64MiB") as daemon:
        yield Shelf(root, origin.url, daemon.socket, origin)
        close_sessions()


class TestFiles:
    def test_any_range_is_right_and_the_second_time_costs_the_origin_nothing(self, shelf: Shelf) -> None:
        with shelf.fs.open(shelf.at("plain.bin")) as file:
            assert file.read() == BYTES
        settled(shelf)
        before = shelf.origin.counts()["bytes"]
        with shelf.fs.open(shelf.at("plain.bin"), cache_type="none") as file:
            for offset, length in np.random.default_rng(3).integers(0, len(BYTES), (50, 2)).tolist():
                file.seek(offset)
                assert file.read(length % 5000) == BYTES[offset : offset + length % 5000]
            file.seek(-7, os.SEEK_END)
            assert file.read() == BYTES[-7:]
        assert shelf.origin.counts()["bytes"] == before
        assert session(shelf).open_url(f"{shelf.url}/plain.bin").client.stats()["crc_failures"] == 0

    def test_cat_takes_ranges_from_either_end(self, shelf: Shelf) -> None:
        name = shelf.at("plain.bin")
        assert shelf.fs.cat_file(name, 10, 20) == BYTES[10:20]
        assert shelf.fs.cat_file(name, -5, None) == BYTES[-5:]
        assert shelf.fs.cat_file(name, 5, 2) == b""
        assert shelf.fs.cat_ranges([name, name], [0, 100], [4, 105]) == [BYTES[:4], BYTES[100:105]]
        assert shelf.fs.cat_file(shelf.at("empty")) == b""

    def test_a_file_is_opened_without_fsspec_in_the_url(self, shelf: Shelf) -> None:
        with fffs.open(f"{shelf.url}/text.txt", "r", **shelf.options) as file:
            assert file.read() == "grüße\nund mehr\n"
        with fffs.open(f"{shelf.url}/plain.bin", **shelf.options) as file:
            assert file.read(100) == BYTES[:100]

    def test_a_closed_file_says_so(self, shelf: Shelf) -> None:
        file = shelf.fs.open(shelf.at("plain.bin"))
        file.close()
        file.close()
        with pytest.raises(ValueError, match="closed"):
            file._fetch_range(0, 1)

    def test_a_file_that_is_replaced_while_it_is_open_is_an_error(self, shelf: Shelf) -> None:
        path = shelf.root / "changing.bin"
        path.write_bytes(bytes(3 << 20))
        with shelf.fs.open(shelf.at("changing.bin"), cache_type="none") as file:
            assert file.read(10) == bytes(10)
            path.write_bytes(b"\1" * (3 << 20))
            os.utime(path, (1, 1))
            file.seek(2 << 20)
            with pytest.raises(OriginError, match="replaced"):
                file.read(10)
        with shelf.fs.open(shelf.at("changing.bin")) as file:
            assert file.read(3) == b"\1\1\1"


class TestFolders:
    def test_what_is_there_is_listed(self, shelf: Shelf) -> None:
        root = shelf.url
        assert {f"{root}/plain.bin", f"{root}/tables"} <= set(shelf.fs.ls(root, detail=False))
        kinds = {entry["name"]: entry["type"] for entry in shelf.fs.ls(root)}
        assert kinds[f"{root}/tables"] == "directory"
        assert shelf.fs.find(f"{root}/tables") == [f"{root}/tables/{part}.parquet" for part in range(3)]
        found = [f"fastfeed://{name}" for name in shelf.fs.find(f"{root}/tables")]
        assert shelf.fs.glob(f"fastfeed://{root}/tables/*.parquet") == found
        assert shelf.fs.ls(shelf.at("plain.bin"), detail=False) == [f"{root}/plain.bin"]
        assert shelf.fs.isdir(shelf.at("tables"))
        assert shelf.fs.isfile(shelf.at("plain.bin"))

    def test_what_is_known_of_a_file_is_told(self, shelf: Shelf) -> None:
        info = shelf.fs.info(shelf.at("plain.bin"))
        assert (info["size"], info["type"], info["name"]) == (len(BYTES), "file", f"{shelf.url}/plain.bin")
        assert shelf.fs.checksum(shelf.at("plain.bin")) == info["ETag"]
        modified_s = (shelf.root / "plain.bin").stat().st_mtime
        assert shelf.fs.modified(shelf.at("plain.bin")) == pytest.approx(modified_s, abs=2)

    def test_what_is_not_there_is_a_file_not_found(self, shelf: Shelf) -> None:
        for ask in (shelf.fs.info, shelf.fs.ls, shelf.fs.open, shelf.fs.cat_file):
            with pytest.raises(FileNotFoundError):
                ask(shelf.at("nothing"))
        assert not shelf.fs.exists(shelf.at("nothing"))

    @pytest.mark.parametrize("act", [
        lambda fs, url: fs.open(url, "wb"), lambda fs, url: fs.rm(url), lambda fs, url: fs.touch(url),
        lambda fs, url: fs.mkdir(url), lambda fs, url: fs.pipe_file(url, b"x"),
    ])  # fmt: skip
    def test_nothing_can_be_written(self, shelf: Shelf, act: Any) -> None:
        with pytest.raises(ConfigError, match="is for reading"):
            act(shelf.fs, shelf.at("plain.bin"))

    def test_a_path_without_a_scheme_and_options_that_nobody_reads_are_refused(self, shelf: Shelf) -> None:
        with pytest.raises(ConfigError, match="write the whole URL"):
            shelf.fs.info("fastfeed://bucket/key")
        with pytest.raises(ConfigError, match="'key'"):
            fffs.FastfeedFileSystem(target_protocol="s3", target_options={"key": 1}, fo="b/k")


class TestTools:
    def test_pandas_reads_parquet_and_text(self, shelf: Shelf) -> None:
        frame = pd.read_parquet(shelf.at("tables/1.parquet"), storage_options=shelf.options)
        assert frame["x"].tolist() == list(range(10_000, 20_000))
        text = pd.read_csv(shelf.at("text.txt"), storage_options=shelf.options)
        assert text.columns.tolist() == ["grüße"]

    def test_pyarrow_reads_a_folder_of_parquet_files(self, shelf: Shelf) -> None:
        found = pyarrow.dataset.dataset(f"{shelf.url}/tables", filesystem=shelf.fs, format="parquet")
        table = found.to_table(filter=pyarrow.dataset.field("x") > 25_000)
        assert table["x"].to_pylist() == list(range(25_001, 30_000))

    def test_torch_loads_a_checkpoint(self, shelf: Shelf) -> None:
        with fffs.open(f"{shelf.url}/model.pt", **shelf.options) as file:
            assert torch.load(file, weights_only=True)["weight"].tolist() == list(range(1000))

    def test_webdataset_reads_its_tars(self, shelf: Shelf) -> None:
        schemes = {**gopen_schemes}
        gopen_schemes["fastfeed"] = lambda url, mode, bufsize: fffs.open(url, mode, **shelf.options)
        try:
            samples = list(webdataset.WebDataset(shelf.at("samples.tar"), shardshuffle=False))
        finally:
            gopen_schemes.clear()
            gopen_schemes.update(schemes)
        assert [sample["txt"] for sample in samples] == [f"text {number}".encode() for number in range(20)]

    def test_fsspec_finds_it_by_its_name_and_in_a_chain(self, shelf: Shelf) -> None:
        with fsspec.open(shelf.at("text.txt"), "r", **shelf.options) as file:
            assert file.readline() == "grüße\n"
        chained = fffs.FastfeedFileSystem(target_protocol="http", fo=f"{shelf.url}/text.txt", **shelf.options)
        assert chained.cat_file("") == (shelf.root / "text.txt").read_bytes()
        assert fffs.FastfeedFileSystem._parent(shelf.at("tables/1.parquet")) == f"{shelf.url}/tables"


def session(shelf: Shelf) -> Any:
    return session_at(place_for(shelf.options["cache"]))


def settled(shelf: Shelf) -> None:
    """Until all that was fetched is in its slots."""
    deadline_s = time.monotonic() + 30
    while session(shelf).command(Command.STATUS, {})["pools"][0]["used_bytes"] < len(BYTES):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_hugging_face_datasets_reads_parquet_and_json_lines(shelf: Shelf, tmp_path: Path) -> None:
    """In a process of its own, which asks nobody on the network and whose own cache is here."""
    rows = (f'{{"id": {number}, "word": "w{number}"}}' for number in range(99))
    (shelf.root / "lines.jsonl").write_text("\n".join(rows))
    program = (
        "import sys, datasets, fastfeed.fsspec\n"
        "options = {'cache': sys.argv[2]}\n"
        "for kind, files, column in (('parquet', 'tables/*.parquet', 'x'), ('json', 'lines.jsonl', 'id')):\n"
        "    for streaming in (True, False):\n"
        "        rows = datasets.load_dataset(kind, data_files=f'fastfeed://{sys.argv[1]}/{files}', split='train',\n"
        "                                     streaming=streaming, storage_options=options)\n"
        "        print(kind, streaming, sum(1 for _ in rows), sum(row[column] for row in rows))\n"
    )
    environment = {**unmeasured_environment(), "HF_HOME": str(tmp_path), "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    result = subprocess.run(
        [sys.executable, "-c", program, shelf.url, shelf.options["cache"]],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    table = f"30000 {sum(range(30_000))}"
    lines = f"99 {sum(range(99))}"
    assert result.stdout.splitlines() == [
        f"parquet True {table}", f"parquet False {table}", f"json True {lines}", f"json False {lines}",
    ]  # fmt: skip
