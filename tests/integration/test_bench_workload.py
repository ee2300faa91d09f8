"""`fastfeed bench --workload` with real processes: teams in step, and reports of small workloads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastfeed as ff
from fastfeed.bench.team import STEPS_MIN, Team
from fastfeed.cli.main import main
from fastfeed.errors import FastfeedError
from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT

MEMBER = ROOT / "tests" / "helpers" / "team_member.py"


def team(behaviours: list[str], folder: Path, step_s_max: float = 60.0) -> Team:
    def command(number: int, count: int, descriptor: int) -> list[str]:
        return [sys.executable, str(MEMBER), str(descriptor), behaviours[number], str(folder)]

    return Team(command, len(behaviours), unmeasured_environment(), step_s_max)


class TestTeam:
    def test_no_member_is_a_step_ahead_and_all_take_the_same_number(self, tmp_path: Path) -> None:
        with team(["works"] * 3, tmp_path) as members:
            reports = members.run(seconds=0.2)
        steps = {report["steps"] for report in reports}
        assert len(steps) == 1
        assert steps.pop() >= STEPS_MIN
        for report in reports:
            assert report["samples"] == report["steps"] + 1 == len(report["waits_s"]) + 1
            assert report["bytes"] == 10 * report["samples"]
            assert 0.001 * report["steps"] < report["seconds"] < report["all_s"]

    def test_takes_some_steps_however_short_the_time_and_output_stops_nobody(self, tmp_path: Path) -> None:
        with team(["chatters"], tmp_path) as members:
            assert members.run(seconds=1e-9)[0]["steps"] == STEPS_MIN

    @pytest.mark.parametrize(
        ("behaviour", "words"),
        [
            ("dies", "accelerator 1 of 2 has ended. Its last words:\nthis is why"),
            ("ends", "the loader ended after 2 steps; an accelerator needs one that does not end"),
            ("lies", "said something else than that it has finished a step"),
        ],
    )
    def test_a_member_that_fails_ends_the_run_with_its_last_words(
        self, behaviour: str, words: str, tmp_path: Path
    ) -> None:
        with pytest.raises(FastfeedError) as caught, team(["works", behaviour], tmp_path) as members:
            members.run(seconds=60)
        assert words in str(caught.value)

    def test_a_member_that_hangs_is_named_and_killed(self, tmp_path: Path) -> None:
        with (
            pytest.raises(FastfeedError, match="accelerator 0 of 1 took longer than 2 s for a step"),
            team(["hangs"], tmp_path, step_s_max=2.0) as members,
        ):
            members.run(seconds=60)
        # Leaving the block has ended it: tests/conftest.py looks for processes that are left.


def bench_json(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    assert main(["bench", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workloads")


class TestWorkload:
    def test_a_number_of_accelerators_is_fed_or_not_and_drawn(
        self, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small = ("--workload", "cosmoflow", "--data", data, "--data-size", "10MB", "--seconds", "0.2")
        report = bench_json(capsys, *small, "--accelerators", "2", "--accelerator", "a100", "--plot", data / "a.png")
        assert (report["accelerator"], report["step_s"], report["au_min"]) == ("a100", 0.00551, 0.7)
        assert not report["searched"]
        assert {run["accelerators"] for run in report["runs"]} == {2}
        best = max(run["au"] for run in report["runs"])
        assert 0 < best <= 1
        assert report["accelerators_fed"] == (2 if best >= 0.7 else 0)
        assert (data / "a.png").read_bytes().startswith(b"\x89PNG")
        dataset = ff.open(report["url"])
        assert len(dataset) == 4
        assert dataset.metadata["workload"] == "cosmoflow"
        assert len(dataset[0]["record"]) == pytest.approx(2_828_486, rel=0.2)

    def test_the_largest_number_is_searched_and_may_be_none(
        self, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A step of DLRM takes 0.375 ms and 16,384 rows: no machine that runs tests does that."""
        arguments = ["bench", "--workload", "dlrm", "--data", str(data), "--data-size", "1MB", "--seconds", "0.2",
                     "--cold"]
        assert main(arguments) == 0
        said = capsys.readouterr()
        assert "fed         0 accelerators: accelerator utilisation of at least 70%" in said.out
        assert "1 accelerator waited" in said.out
        assert "not an MLPerf result" in said.out
        assert "making the data of DLRM" in said.err
        assert "one loader, no compute: " in said.err
        assert ff.open(data / "mlperf-dlrm-16384")[0]["not_read"].shape == (601,)
        assert main([*arguments, "--quiet", "--accelerators", "1"]) == 0
        assert capsys.readouterr() == ("", "")

    def test_data_of_another_workload_is_not_taken(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with ff.DatasetWriter(tmp_path / "mlperf-cosmoflow-4", ff.Schema({"a": ff.Scalar("int8")})) as writer:
            writer.write({"a": 1})
        assert main(["bench", "--workload", "cosmoflow", "--data", str(tmp_path), "--data-size", "10MB"]) == 2
        assert "is not the 4 records of cosmoflow" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--accelerators", "2"], "--accelerators belongs to --workload"),
            (["--data-size", "2GB"], "--data-size belongs to --workload"),
            (["somewhere", "--workload", "flux"], "leave URL out"),
            (["--workload", "flux", "--batch-size", "2"], "leave --batch-size out"),
            (["--workload", "flux", "--accelerator", "h100"], "flux has times for b200"),
            (["--workload", "flux", "--data-size", "much"], "--data-size='much' is not a size"),
        ],
    )
    def test_options_that_mean_nothing_together_are_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", *arguments]) == 2
        assert message in capsys.readouterr().err

    def test_more_accelerators_than_fit_into_memory_are_refused(
        self, data: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", "--workload", "cosmoflow", "--data", str(data), "--data-size", "10MB",
                     "--accelerators", "100000"]) == 2
        assert "fit into the free memory of this machine" in capsys.readouterr().err


def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = unmeasured_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment['PYTHONPATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "fastfeed", "bench", "nowhere", "--plot", str(tmp_path / "a.png")],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'fastfeed[plot]'" in done.stderr
