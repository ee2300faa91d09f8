"""Hostile manifests, index files, bitmaps and shards: refused with the errors that users know, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.parser_fuzz import TARGETS
from tests.helpers.repository import ROOT

EXECUTIONS = 200  # a target; `python -m tests.helpers.parser_fuzz --executions 100000` is the long run


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files_are_refused_by_name(target: str) -> None:
    command = [sys.executable, "-m", "tests.helpers.parser_fuzz", "--executions", str(EXECUTIONS), "--only", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert f"{EXECUTIONS} executions" in done.stdout
