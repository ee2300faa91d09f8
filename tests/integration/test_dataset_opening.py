"""What opening costs: memory of a snapshot of 100,000 shards, and modules of a bare import."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import fastfeed as ff
from tests.helpers.repository import ROOT
from tests.helpers.synthetic import write_snapshot

SHARDS, ROWS_PER_SHARD = 100_000, 1_000
PRIVATE_BYTES_MAX = 50_000_000
# A hundred times what it takes: only reading the index, or a loop over the shards, could be as slow.
OPEN_S_MAX = 5.0


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("large") / "set"
    write_snapshot(place, SHARDS, ROWS_PER_SHARD)
    return place


def test_a_hundred_million_rows_open_in_little_memory(large: Path) -> None:
    program = [sys.executable, "-m", "tests.helpers.opening", str(large)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert measured["rows"] == SHARDS * ROWS_PER_SHARD
    assert measured["private_bytes"] < PRIVATE_BYTES_MAX
    assert measured["open_s"] + measured["native_s"] < OPEN_S_MAX


def test_the_benchmark_of_opening_names_the_machine_and_both_figures() -> None:
    program = [sys.executable, str(ROOT / "benchmarks" / "bench_open.py"), "--quick"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "machine: " in done.stdout
    assert " ms, " in done.stdout
    assert "MB of private memory" in done.stdout


def test_however_large_it_is_it_pickles_in_less_than_a_kibibyte(large: Path) -> None:
    dataset = ff.open(large)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1024
    again = pickle.loads(pickled)
    assert (len(again), again.snapshot, again.fingerprint) == (100_000_000, 1, dataset.fingerprint)


def test_importing_fastfeed_brings_neither_torch_nor_arrow_nor_numpy() -> None:
    program = "import sys, fastfeed; print([name for name in ('torch', 'pyarrow', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_in_dir() -> None:
    assert set(ff.__all__) <= set(dir(ff))
    for name in ff.__all__:
        assert getattr(ff, name) is getattr(ff, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ff.nothing
