"""The benchmarks that are programs run in their quick mode, so that they cannot rot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT

BENCHMARKS = ROOT / "benchmarks"
# Between these lines of a page stands what the comparison with peers writes.
BEGIN, END = "<!-- make bench-peers: begin -->", "<!-- make bench-peers: end -->"


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, program, *arguments],
        env=unmeasured_environment(),  # its workers and those of peers break the data files of coverage
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_images_measures_every_contender() -> None:
    rates = json.loads(run(BENCHMARKS / "scenario_images.py", "--quick", "--json").splitlines()[-1])
    assert set(rates) == {"plain DataLoader, Pillow", "Pillow's decoder alone", "fastfeed.torch.Loader"}
    assert all(len(values) == 1 and values[0] > 0 for values in rates.values())


def test_the_time_that_a_batch_holds_the_gil_is_measured_for_arrays_and_tensors() -> None:
    told = json.loads(run(BENCHMARKS / "gil_held.py", "--quick", "--json"))
    assert set(told) == {f"{work}, {kind}" for work in ("small, 512", "tokens, 16") for kind in ("arrays", "tensors")}
    assert all(0 < times["lowest_us"] <= times["median_us"] for times in told.values())


def test_the_import_benchmark_names_the_machine() -> None:
    said = run(BENCHMARKS / "bench_import.py")
    assert "machine: " in said
    assert "import fastfeed: 0." in said


def test_the_tables_of_the_deal_are_printed() -> None:
    lines = run(BENCHMARKS / "deal_quality.py", "--quick").splitlines()
    assert len(lines) == 2 + 9
    assert lines[-1].startswith("| 512 | 256 | 0.975 | 0.9")


def test_the_tables_of_shuffle_quality_compare_the_shuffles() -> None:
    lines = run(BENCHMARKS / "shuffle_quality.py", "--quick").splitlines()
    medians = {cells[1].strip(): float(cells[4]) for line in lines[3:9] if (cells := line.split("|"))}
    assert list(medians) == ["fastfeed, window", "WebDataset, buffer 1,000", "HF iterable, buffer 1,000", "LitData",
                             "Streaming py1e", "a true shuffle"]
    assert medians["fastfeed, window"] < 1.25 < 2 < medians["LitData"]
    assert run(BENCHMARKS / "shuffle_quality.py", "--small").count("|") == 6 * 6


def test_convert_measures_every_contender_and_the_disk() -> None:
    program = BENCHMARKS / "scenario_convert.py"
    rates = json.loads(run(program, "--quick", "--json", "--peers", "webdataset").splitlines()[-1])
    assert set(rates) == {"images", "records"}
    for found in rates.values():
        assert set(found) == {"fastfeed", "webdataset", "disk"}
        assert all(len(values) == 1 and values[0] > 0 for values in found.values())


def test_memory_of_a_conversion_is_bounded_whatever_its_input_is() -> None:
    """A small version of `scenario_convert.py --memory 3GB`; it exits with 1 where a process needs more than it may."""
    said = run(BENCHMARKS / "scenario_convert.py", "--memory", "20MB", "--kinds", "jsonl")
    assert "limit: 256 MiB of PSS a process: kept" in said
    assert {line.split()[0] for line in said.splitlines() if "peak PSS" in line} == {"jsonl"}


def test_policies_hit_what_was_measured_elsewhere_and_two_jobs_more_than_resident() -> None:
    """`resident`, MIN and LRU within half a point in nine cases; two jobs through windows, by the real order."""
    told = json.loads(run(BENCHMARKS / "cache_policy.py", "--quick", "--json"))
    assert len(told["cases"]) == 9
    for case in told["cases"]:
        assert {policy: case["hits"][policy] for policy in case["expected"]} == pytest.approx(
            case["expected"], abs=0.005
        ), case["case"]
    two_jobs = told["windows"]["2 jobs, a quarter, blocks of 16 MiB"]
    assert two_jobs["MIN"] >= 0.45 > 0.25 > two_jobs["RESIDENT"] > two_jobs["LRU"]


def test_accelerators_are_fed_by_every_loader() -> None:
    told = json.loads(run(BENCHMARKS / "scenario_mlperf.py", "--quick", "--json").splitlines()[-1])
    assert [result["workload"] for result in told] == ["cosmoflow"]
    assert set(told[0]["peaks"]) == set(told[0]["fed"]) == {"fastfeed", "files", "webdataset"}
    for found in told[0]["fed"].values():
        assert all(0 < each["au"] <= 1 for each in found["runs"])


def test_the_comparison_with_peers_checks_and_measures_every_contender(tmp_path: Path) -> None:
    """Two peers that are installed here stand for all; who delivers a wrong byte is not measured."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nearlier figures\n{END}\nafter\n")
    works = "images-center,small,points,resume"
    program = BENCHMARKS / "scenario_peers.py"
    said = run(program, "--quick", "--data", str(tmp_path), "--peers", "files,memmap", "--works", works,
               "--page", str(page))
    assert "FAILED" not in said
    text = page.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("-->\nafter\n")
    assert "earlier figures" not in text
    steps = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all(step["once"] for step in steps if step["step"] == "check")
    measured = {(step["work"], step["contender"]) for step in steps if step["step"] == "round"}
    assert {("images-center", "files, DataLoader"), ("small", "fastfeed, records as bytes"), ("points", "fastfeed"),
            ("small", "limit: pread of the page cache"), ("resume", "numpy.memmap, DataLoader")} <= measured
    for row in ("| small | ", "| point reads, single | ", "| resume, seconds | "):
        assert row in text
    again = run(program, "--quick", "--data", str(tmp_path), "--peers", "files,memmap", "--works", works)
    assert "check " not in again, "a step that was done is done again"


def test_the_cache_scenarios_measure_every_side() -> None:
    def told(name: str, *arguments: str) -> Any:
        said = run(BENCHMARKS / f"scenario_cache_{name}.py", "--quick", "--json", *arguments)
        return json.loads(said.splitlines()[-1])

    warm = told("warm")
    assert set(warm["rates"]) == {"local", "cached"}
    assert warm["messages"] == 0 < warm["slab_reads"]
    assert set(told("cold")) == {"line", "off", "cached", "cached, no line", "a core"}
    first = told("first_batch", "--delay-ms", "10")
    assert 0 < first["first_s"][0] < 10
    assert len(told("two_jobs")["hits"]) == 1
    peers = told("peers", "--peers", "fastfeed,webdataset")
    assert [[epoch["epoch"] for epoch in rounds[0]] for rounds in peers.values()] == [[1, 2], [1, 2]]


def test_data_larger_than_memory_is_measured_beside_the_disk(tmp_path: Path) -> None:
    said = run(BENCHMARKS / "scenario_cold_disk.py", "--quick", "--data", str(tmp_path), "--peers", "memmap",
               "--works", "small")
    assert "| fastfeed | " in said
    assert "| numpy.memmap, DataLoader | " in said
    assert "of what the device gives: " in said
