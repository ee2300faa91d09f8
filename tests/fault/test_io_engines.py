"""Files that fail while they are read, by every engine; and a process that may not use io_uring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastfeed as ff
from fastfeed._native import cache
from fastfeed._native.feed import Reader
from fastfeed.errors import ConfigError, CorruptDataError
from tests.helpers.fake_node import FakeNode
from tests.helpers.programs import unmeasured_environment
from tests.helpers.raw_shards import BYTES, Col, Shards, row_shards

COLUMNS = [Col("data", BYTES)]
ROWS = 200
ROW_BYTES = 3_000
ENGINES = [("pread", False), ("uring", False), ("uring", True), ("auto", False), ("auto", True)]
# On x86-64 and arm64 alike.
IO_URING_SETUP, IO_URING_ENTER = 425, 426


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return row_shards(tmp_path, COLUMNS, [[[bytes([row]) * ROW_BYTES for row in range(ROWS)]]])


def reader_of(shards: Shards, engine: tuple[str, bool], **options: object) -> Reader:
    snapshot = shards.snapshot(io=engine[0], direct=engine[1])
    return Reader(snapshot, [column.output(i) for i, column in enumerate(COLUMNS)], **options)


def leave_page_cache(path: Path) -> None:
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("engine", ENGINES)
class TestWhatFailsWhileItIsRead:
    def test_a_file_that_is_cut_while_it_is_read_costs_the_rows_behind_the_cut(
        self, shards: Shards, engine: tuple[str, bool]
    ) -> None:
        reader = reader_of(shards, engine, on_error="skip")
        rows = np.arange(ROWS, dtype=np.int64)
        assert reader.take(rows).valid.all()
        path = shards.path(0)
        os.truncate(path, path.stat().st_size // 2)
        leave_page_cache(path)
        valid = reader.take(rows).valid
        cut = int(np.flatnonzero(~valid)[0])
        assert 0.4 * ROWS < cut < 0.6 * ROWS
        assert valid[:cut].all()
        assert not valid[cut:].any()
        assert "truncated" in reader.stats()["first_errors"][0]

    def test_a_bit_that_flips_on_disk_is_never_delivered(self, shards: Shards, engine: tuple[str, bool]) -> None:
        content = bytearray(shards.path(0).read_bytes())
        content[4096 + 10 * (ROW_BYTES + 8)] ^= 1
        shards.path(0).write_bytes(bytes(content))
        leave_page_cache(shards.path(0))
        with pytest.raises(CorruptDataError, match="crc32c"):
            reader_of(shards, engine).take(np.arange(ROWS, dtype=np.int64))

    def test_a_neighbours_fault_is_not_a_rows_own(self, shards: Shards, engine: tuple[str, bool]) -> None:
        content = bytearray(shards.path(0).read_bytes())
        content[4096 + 10 * (ROW_BYTES + 8)] ^= 1
        shards.path(0).write_bytes(bytes(content))
        leave_page_cache(shards.path(0))
        batch = reader_of(shards, engine, on_error="skip").take(np.arange(ROWS, dtype=np.int64))
        assert (~batch.valid).sum() == 1


READ = """
import json, sys
import fastfeed as ff
with ff.Loader(ff.open(sys.argv[1]), batch_size=4, io=sys.argv[2], rank=0, world_size=1) as loader:
    rows = sum(len(batch.valid) for batch in loader)
    print(json.dumps([rows, loader.stats()["io"]]))
"""


def run_without(call: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.helpers.without_io_uring", str(call), *arguments]
    return subprocess.run(command, env=unmeasured_environment(), capture_output=True, text=True, check=False,
                          timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with ff.DatasetWriter(tmp_path / "data", ff.Schema({"x": ff.Bytes()})) as writer:
        for row in range(20):
            writer.write({"x": bytes([row]) * 5_000})
    for path in (tmp_path / "data" / "shards").iterdir():
        leave_page_cache(path)
    return tmp_path / "data"


@pytest.mark.parametrize("call", [IO_URING_SETUP, IO_URING_ENTER])
class TestWhereIoUringIsForbidden:
    def test_auto_reads_with_pread_and_says_why(self, folder: Path, call: int) -> None:
        done = run_without(call, "-c", READ, str(folder), "auto")
        assert done.returncode == 0, done.stderr
        rows, io = json.loads(done.stdout)
        assert rows == 20
        assert io["name"] == "pread"
        assert "forbidden" in io["why"]

    def test_a_wish_for_it_is_an_error_with_a_remedy(self, folder: Path, call: int) -> None:
        done = run_without(call, "-c", READ, str(folder), "uring")
        assert done.returncode != 0
        assert "ConfigError: io='uring': io_uring cannot be used: forbidden" in done.stderr
        assert "Use 'pread', or 'auto'" in done.stderr

    def test_doctor_says_that_it_lacks(self, call: int) -> None:
        done = run_without(call, "-m", "fastfeed", "doctor", "--json")
        assert json.loads(done.stdout)["io_uring"].startswith("forbidden")


def test_a_wish_for_io_uring_is_refused_where_the_nodes_cache_reads(shards: Shards) -> None:
    node = FakeNode(shards.root, [shards.path(0).read_bytes()], slots=1)
    client = cache.CacheClient(deadline_s=5)
    try:
        node.connect(client, 1)
        with pytest.raises(ConfigError, match="is read through the node's cache"):
            shards.snapshot(cache=(client, 1), io="uring")
    finally:
        client.close()
        node.close()
