"""Writers that are killed or interrupted, as real processes: readers see a whole dataset or none."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastfeed as ff
from tests.helpers.programs import unmeasured_environment
from tests.helpers.repository import ROOT
from tests.helpers.writing_program import SCHEMA, sample

ROWS = 12_000


def start_writer(place: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.helpers.writing_program", str(place), str(ROWS)]
    return subprocess.Popen(program, cwd=ROOT, env=unmeasured_environment(), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"the writer ended without saying {wanted!r}")


def end(process: subprocess.Popen[str], sent: signal.Signals) -> str:
    """Send the signal, wait for the end, and return what the process said on stderr."""
    process.send_signal(sent)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return errors


@pytest.mark.parametrize("moment", ["0", "2000", "6000", "10000", "closing", "closed"])
def test_a_writer_that_is_killed_leaves_a_whole_dataset_or_none(tmp_path: Path, moment: str) -> None:
    place = tmp_path / "set"
    process = start_writer(place)
    wait_for_line(process, moment)
    end(process, signal.SIGKILL)
    try:
        dataset = ff.open(place)
    except ff.DatasetNotFoundError:
        assert moment != "closed"
        with ff.DatasetWriter(place, SCHEMA) as writer:  # what the dead one left is not in the way
            writer.write(sample(7))
        assert ff.open(place)[0] == sample(7)
    else:
        assert moment in ("closing", "closed")
        assert len(dataset) == ROWS
        assert [dataset[row]["id"] for row in (0, ROWS // 2, ROWS - 1)] == [0, ROWS // 2, ROWS - 1]


@pytest.mark.parametrize("moment", ["0", "6000"])
def test_control_c_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    process = start_writer(tmp_path / "set")
    wait_for_line(process, moment)
    errors = end(process, signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_that_exits_does_not_take_the_staging_folder_with_it(tmp_path: Path) -> None:
    program = f"""
import os, sys
import fastfeed as ff
from tests.helpers.writing_program import SCHEMA, sample
with ff.DatasetWriter({str(tmp_path / "set")!r}, SCHEMA) as writer:
    for row in range(3000):
        writer.write(sample(row))
    if os.fork() == 0:
        try:
            writer.write(sample(1))
        except ff.ConfigError as error:
            assert "another process" in str(error)
        sys.stdout.close()
        sys.exit(0)  # runs the exit handlers that the parent registered
    os.wait()
    writer.write(sample(3000))
print([one["id"] for one in ff.open({str(tmp_path / "set")!r})] == list(range(3001)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr
